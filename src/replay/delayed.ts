import type { Clock } from '../domain/clock.ts';

export interface DelayedOptions {
  readonly clock: Clock;
  readonly delayMs: number;
  readonly run: () => Promise<void>;
  readonly onFault: (error: unknown) => void;
}

/** Runs something a while after it was asked for, once however often that was. */
export class Delayed {
  readonly #options: DelayedOptions;
  #cancel: (() => void) | undefined;
  #isStopped = false;

  constructor(options: DelayedOptions) {
    this.#options = options;
  }

  ask(): void {
    if (this.#cancel !== undefined || this.#isStopped) return;
    const { clock, delayMs, run, onFault } = this.#options;
    this.#cancel = clock.schedule(delayMs, () => {
      this.#cancel = undefined;
      run().catch((error) => this.#isStopped || onFault(error));
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel?.();
  }
}
