import type { Delivery } from '../domain/delivery.ts';
import { SpillwayError } from '../errors.ts';

/**
 * Keeps deliveries from being begun while a person gives them up: nothing of them leaves afterwards, and no later version
 * overtakes one that is still on its way.
 */
export class Withholding {
  /** By how many calls each is withheld. */
  readonly #withheld = new Map<number, number>();
  /** In a request that is not settled. */
  readonly #begun = new Set<number>();
  readonly #waiting = new Set<() => void>();

  has(deliveryId: number): boolean {
    return this.#withheld.has(deliveryId);
  }

  /** A request with these goes out. */
  begin(deliveries: readonly Delivery[]): void {
    for (const { id } of deliveries) this.#begun.add(id);
  }

  /** Their request is over, and what it came to is recorded. */
  end(deliveries: readonly Delivery[]): void {
    for (const { id } of deliveries) this.#begun.delete(id);
    for (const look of this.#waiting) look();
  }

  /**
   * Runs `change` while none of these is in flight or begun.
   *
   * @throws SpillwayError `SPILLWAY_ABORTED` when the signal aborts the waiting for requests in flight; nothing was changed
   */
  async during<T>(
    deliveryIds: readonly number[],
    signal: AbortSignal | undefined,
    change: () => Promise<T>,
  ): Promise<T> {
    for (const id of deliveryIds) this.#withheld.set(id, (this.#withheld.get(id) ?? 0) + 1);
    try {
      await this.#whenOver(deliveryIds, signal);
      return await change();
    } finally {
      for (const id of deliveryIds) {
        const left = (this.#withheld.get(id) ?? 1) - 1;
        if (left === 0) this.#withheld.delete(id);
        else this.#withheld.set(id, left);
      }
    }
  }

  /** Bounded by the transport, which ends every request, and by the end of sending. */
  async #whenOver(deliveryIds: readonly number[], signal: AbortSignal | undefined): Promise<void> {
    const isOver = () => !deliveryIds.some((id) => this.#begun.has(id));
    if (isOver()) return;
    const over = Promise.withResolvers<void>();
    const look = () => {
      if (isOver()) over.resolve();
    };
    const abort = () => over.reject(aborted(signal));
    this.#waiting.add(look);
    signal?.addEventListener('abort', abort, { once: true });
    if (signal?.aborted) abort();
    try {
      await over.promise;
    } finally {
      this.#waiting.delete(look);
      signal?.removeEventListener('abort', abort);
    }
  }
}

function aborted(signal: AbortSignal | undefined): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_ABORTED',
    'Giving up was aborted by its signal while it waited for requests in flight. What was given up before stands.',
    { cause: signal?.reason },
  );
}
