import type { Clock } from '../domain/clock.ts';
import { Turns } from './turns.ts';

export interface ChangesOptions {
  readonly clock: Clock;
  /** Ends the waiting for another try. */
  readonly signal: AbortSignal;
  readonly retryAfterMs: number;
  readonly isStopping: () => boolean;
  readonly onFault: (error: unknown) => void;
  /** One of those insisted on has ended. */
  readonly onDone: () => void;
}

/** Changes of what is on record of a destination, one after another, each tried until it holds. */
export class Changes {
  readonly #options: ChangesOptions;
  readonly #turns = new Turns();
  #underWay = 0;

  constructor(options: ChangesOptions) {
    this.#options = options;
  }

  /** Whether one that is insisted on has not ended. */
  get areUnderWay(): boolean {
    return this.#underWay > 0;
  }

  /**
   * Tries until it holds, or all stops: an outage that is not on record would be forgotten by the next opening, and
   * nothing is sent meanwhile.
   */
  insist(change: () => Promise<void>): void {
    this.#underWay += 1;
    void this.inTurn(() => this.#untilItHolds(change)).finally(() => {
      this.#underWay -= 1;
      this.#options.onDone();
    });
  }

  /** Tries once, when those before have ended. */
  inTurn<T>(run: () => Promise<T>): Promise<T> {
    return this.#turns.run(run);
  }

  idle(): Promise<void> {
    return this.#turns.idle();
  }

  async #untilItHolds(change: () => Promise<void>): Promise<void> {
    const { clock, signal, retryAfterMs, isStopping, onFault } = this.#options;
    for (;;) {
      try {
        await change();
        return;
      } catch (error) {
        onFault(error);
      }
      if (isStopping()) return;
      await new Promise<void>((resolve) => {
        const cancel = clock.schedule(retryAfterMs, () => {
          signal.removeEventListener('abort', end);
          resolve();
        });
        const end = () => {
          cancel();
          resolve();
        };
        signal.addEventListener('abort', end, { once: true });
      });
      if (isStopping()) return;
    }
  }
}
