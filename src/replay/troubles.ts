import type { TroubleView } from '../routing/retry.ts';
import type { SendResult } from './destination-sender.ts';

/** How deliveries have failed by themselves, held against what the destination has stored meanwhile. */
export class Troubles {
  /** `stored` is the count of stored ones at the last failure. */
  readonly #troubles = new Map<number, TroubleView & { readonly stored: number }>();
  /** How many may go in one request with a delivery that may have spoiled one, itself included. */
  readonly #company = new Map<number, number>();
  /** Deliveries of which bytes have gone out before. */
  readonly #sentBefore = new Set<number>();
  /** Instances that the destination has stored. */
  #stored = 0;

  storedMore(instances: number): void {
    this.#stored += instances;
  }

  /** Whether it has failed, and nothing has been stored since. */
  isUnexplained(deliveryId: number): boolean {
    return this.#troubles.get(deliveryId)?.stored === this.#stored;
  }

  has(deliveryId: number): boolean {
    return this.#troubles.has(deliveryId) || this.#company.has(deliveryId);
  }

  of(deliveryId: number): TroubleView | undefined {
    return this.#troubles.get(deliveryId);
  }

  /** Counts a failure that may be the delivery's own; what fails in company or with the destination does not count. */
  note(deliveryId: number, outcome: SendResult['outcome'], alone: boolean): TroubleView {
    const { kind } = outcome;
    if (['ambiguous', 'unanswered', 'refused'].includes(kind)) this.#sentBefore.add(deliveryId);
    const before = this.#troubles.get(deliveryId) ?? { failures: 0, whileOthersStored: 0, stored: this.#stored };
    const counts = kind === 'refused' || (alone && ['push-back', 'ambiguous', 'unanswered'].includes(kind));
    if (!counts) return before;
    const trouble = {
      failures: before.failures + 1,
      whileOthersStored: before.whileOthersStored + (this.#stored > before.stored ? 1 : 0),
      stored: this.#stored,
    };
    this.#troubles.set(deliveryId, trouble);
    this.#company.set(deliveryId, 1);
    return trouble;
  }

  /** Whether sending it once more may cost the destination a second time. */
  isRetry(deliveryId: number): boolean {
    return this.#sentBefore.has(deliveryId);
  }

  /** How many may go in one request with this delivery, itself included. */
  companyOf(deliveryId: number): number {
    return this.#company.get(deliveryId) ?? Number.POSITIVE_INFINITY;
  }

  limitCompany(deliveryId: number, company: number): void {
    this.#company.set(deliveryId, company);
  }

  forget(deliveryId: number): void {
    this.#company.delete(deliveryId);
    this.#troubles.delete(deliveryId);
    this.#sentBefore.delete(deliveryId);
  }
}
