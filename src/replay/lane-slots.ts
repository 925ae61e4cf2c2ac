import type { Lane } from '../domain/delivery.ts';
import { type DestinationPolicy, type DestinationState, slots, startableAt } from '../routing/destination.ts';
import { charge, costOf, initialShare, lanesInOrder, type ShareState } from '../routing/share.ts';
import { nextChangeAt } from '../routing/windows.ts';
import type { LaneTurn } from './lane-windows.ts';
import type { WorkBatch } from './replay-window.ts';

/** Which lane a free slot is given to: by the parts that lanes have, their ceilings, and the rate of questions. */
export class LaneSlots {
  readonly #policy: DestinationPolicy;
  readonly #inFlight: Record<Lane, number> = { live: 0, backlog: 0, history: 0 };
  #share: ShareState = initialShare();
  #nextLookUpAt = 0;

  constructor(policy: DestinationPolicy) {
    this.#policy = policy;
  }

  /** Lanes and whether anything of each may be sent now, the one most behind its part first. */
  inOrder(state: DestinationState, now: number): readonly LaneTurn[] {
    return lanesInOrder(this.#share, this.#policy.share).map((lane) => {
      const isFree = this.#inFlight[lane] < slots(state, now, this.#policy, lane);
      return { lane, maySend: isFree && startableAt(state, now, this.#policy, lane) <= now };
    });
  }

  /** Whether a question may be asked now. A wait longer than any means that the clock has gone back. */
  mayLookUp(now: number): boolean {
    const left = this.#nextLookUpAt - now;
    return left <= 0 || left > this.#lookUpIntervalMs;
  }

  /** When a lane that may start nothing now may do so, or a question may be asked again, ms since the epoch; null: never. */
  nextChangeAt(state: DestinationState, now: number): number | null {
    const lanes = lanesInOrder(this.#share, this.#policy.share);
    const instants = lanes.map((lane) => startableAt(state, now, this.#policy, lane)).filter((at) => at > now);
    const windows = nextChangeAt(this.#policy.flow.windows, now);
    if (windows !== null) instants.push(windows);
    if (!this.mayLookUp(now)) instants.push(this.#nextLookUpAt);
    return instants.length === 0 ? null : Math.min(...instants);
  }

  entered({ study: { lane }, kind, deliveries }: WorkBatch, now: number): void {
    this.#inFlight[lane] += 1;
    if (kind === 'look-up') {
      this.#nextLookUpAt = now + this.#lookUpIntervalMs;
      return;
    }
    const bytes = deliveries.reduce((sum, delivery) => sum + delivery.bytes, 0);
    const cost = costOf({ bytes, instances: deliveries.length });
    this.#share = charge(this.#share, lane, cost, this.#policy.share);
  }

  left({ study: { lane } }: WorkBatch): void {
    this.#inFlight[lane] -= 1;
  }

  get #lookUpIntervalMs(): number {
    return 1000 / this.#policy.retry.maxLookUpsPerSecond;
  }
}
