import type { Clock } from '../domain/clock.ts';

const MAX_WAIT_MS = 60_000;

/** Calls back at instants, each once however often it is asked for. */
export class Alarms {
  readonly #clock: Clock;
  readonly #onAlarm: () => void;
  readonly #pending = new Map<number, () => void>();
  #stopped = false;

  constructor(clock: Clock, onAlarm: () => void) {
    this.#clock = clock;
    this.#onAlarm = onAlarm;
  }

  /**
   * Calls back at `at` (ms since the epoch), and now and then before: the way there is made in steps, since the clock
   * may be put right meanwhile, and a timer may fire a little early.
   */
  set(at: number): void {
    if (this.#stopped || this.#pending.has(at)) return;
    const wait = Math.min(Math.max(0, at - this.#clock.now()), MAX_WAIT_MS);
    const cancel = this.#clock.schedule(wait, () => {
      this.#pending.delete(at);
      if (this.#clock.now() < at) this.set(at);
      this.#onAlarm();
    });
    this.#pending.set(at, cancel);
  }

  /** No alarm comes any more. */
  stop(): void {
    this.#stopped = true;
    for (const cancel of this.#pending.values()) cancel();
    this.#pending.clear();
  }
}
