import type { Clock } from './domain/clock.ts';

/** Keeps a long piece of work to a rate, so that what matters more has the disk. */
export class Pacer {
  readonly #clock: Clock;
  readonly #perSecond: number;
  readonly #signal: AbortSignal;
  #freeAt: number;

  /** @param signal - Ends every wait at once. */
  constructor(clock: Clock, perSecond: number, signal: AbortSignal) {
    this.#clock = clock;
    this.#perSecond = perSecond;
    this.#signal = signal;
    this.#freeAt = clock.now();
  }

  /** Resolves when so much more may be done. */
  async spend(amount: number): Promise<void> {
    const now = this.#clock.now();
    const takesMs = (amount / this.#perSecond) * 1000;
    // Time in which nothing was asked for is not saved up, and a clock that was put back makes nobody wait for it.
    this.#freeAt = Math.min(Math.max(this.#freeAt, now), now + takesMs) + takesMs;
    const waitMs = this.#freeAt - now;
    if (waitMs < 1 || this.#signal.aborted) return;
    await pause(this.#clock, waitMs, this.#signal);
  }
}

/** Resolves after `ms`, or as soon as the signal aborts. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = () => {
      cancel();
      signal.removeEventListener('abort', end);
      resolve();
    };
    const cancel = clock.schedule(ms, end);
    signal.addEventListener('abort', end, { once: true });
  });
}
