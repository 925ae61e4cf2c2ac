import type { Clock } from '../domain/clock.ts';

/** A beat that comes later than this after its time means that the process did not run. */
const SLACK_MS = 2_000;
const BEAT_MS = 2_000;

/** Time in which the process itself did not run, or by which the clock was put: none of it may count against a peer. */
export type Lapse =
  | { readonly type: 'stall'; readonly from: number; readonly to: number }
  | { readonly type: 'clock-back'; readonly byMs: number };

/** Watches by a steady beat whether the process runs: a blocked event loop, a suspended machine, a clock that jumps. */
export class ProcessWatch {
  readonly #clock: Clock;
  readonly #onLapse: (lapse: Lapse) => void;
  #last: number;
  #cancel = () => {};

  constructor(clock: Clock, onLapse: (lapse: Lapse) => void) {
    this.#clock = clock;
    this.#onLapse = onLapse;
    this.#last = clock.now();
  }

  start(): void {
    this.#last = this.#clock.now();
    this.#beat();
  }

  /**
   * Reports a lapse since the last beat. To be called before anything is judged by time: after a stall, time-outs of
   * sockets may be told before the beat that is overdue.
   */
  check(): void {
    const now = this.#clock.now();
    const [from, due] = [this.#last, this.#last + BEAT_MS];
    if (now < from) {
      this.#last = now;
      this.#onLapse({ type: 'clock-back', byMs: from - now });
    } else if (now > due + SLACK_MS) {
      this.#last = now;
      this.#onLapse({ type: 'stall', from, to: now });
    }
  }

  stop(): void {
    this.#cancel();
  }

  #beat(): void {
    this.#cancel = this.#clock.schedule(BEAT_MS, () => {
      this.check();
      this.#last = this.#clock.now();
      this.#beat();
    });
  }
}
