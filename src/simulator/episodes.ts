import type { DeliveryState } from '../domain/delivery.ts';
import { type ReferenceInstant, referenceInstant } from '../routing/order.ts';
import type { SimulatedDelivery } from './backlog.ts';
import type { Balance } from './result.ts';

/** One outage; instants are of the gateway's clock. */
interface SimulatedEpisode {
  readonly startedAt: number;
  planned: boolean;
  expectedEndAt: number | null;
  endedAt: number | null;
  drainedAt: number | null;
  /** What was open at its beginning, and what was accepted until its end. */
  readonly set: Set<SimulatedDelivery>;
  pending: number;
  open: number;
}

/** The episodes of one destination, durable. */
export class Episodes {
  readonly #reference: ReferenceInstant;
  /** Not closed, by their beginning. */
  #open: SimulatedEpisode[] = [];

  constructor(reference: ReferenceInstant) {
    this.#reference = reference;
  }

  /** Whether an outage is under way. */
  get isOutage(): boolean {
    return this.#open.some(({ endedAt }) => endedAt === null);
  }

  /** The latest that is not closed. */
  get current(): Pick<SimulatedEpisode, 'endedAt' | 'planned' | 'expectedEndAt'> | null {
    return this.#open.at(-1) ?? null;
  }

  referenceAt(now: number): number {
    return referenceInstant(this.#open, now, this.#reference);
  }

  begin(
    episode: Pick<SimulatedEpisode, 'startedAt' | 'planned' | 'expectedEndAt'>,
    open: ReadonlySet<SimulatedDelivery>,
  ): void {
    const pending = [...open].filter(({ state }) => state === 'pending').length;
    this.#open.push({ ...episode, endedAt: null, drainedAt: null, set: new Set(open), pending, open: open.size });
  }

  /** A person takes over the outage that is under way, if one is. */
  plan(expectedEndAt: number | null): void {
    for (const episode of this.#open) {
      if (episode.endedAt === null) Object.assign(episode, { planned: true, expectedEndAt });
    }
  }

  accepted(delivery: SimulatedDelivery): void {
    for (const episode of this.#open) {
      if (episode.endedAt !== null) continue;
      episode.set.add(delivery);
      episode.pending += 1;
      episode.open += 1;
    }
  }

  changed(delivery: SimulatedDelivery, from: DeliveryState): void {
    const isFinal = delivery.state !== 'pending' && delivery.state !== 'sent';
    for (const episode of this.#open) {
      if (!episode.set.has(delivery)) continue;
      episode.pending += Number(delivery.state === 'pending') - Number(from === 'pending');
      if (isFinal) episode.open -= 1;
    }
  }

  end(at: number): void {
    for (const episode of this.#open) episode.endedAt ??= at;
  }

  /** Marks what is drained or closed by now, and says so. */
  advance(at: number): { readonly drained: number; readonly closed: readonly Balance[] } {
    let drained = 0;
    const closed: Balance[] = [];
    for (const episode of this.#open) {
      if (episode.endedAt === null || episode.pending > 0) continue;
      if (episode.drainedAt === null) {
        episode.drainedAt = at;
        drained += 1;
      }
      if (episode.open === 0) closed.push(balanceOf(episode.set));
    }
    if (closed.length > 0) {
      this.#open = this.#open.filter(({ endedAt, pending, open }) => endedAt === null || pending > 0 || open > 0);
    }
    return { drained, closed };
  }
}

function balanceOf(set: ReadonlySet<SimulatedDelivery>): Balance {
  let [verified, quarantined] = [0, 0];
  for (const { state } of set) {
    if (state === 'verified') verified += 1;
    if (state === 'quarantined') quarantined += 1;
  }
  return { received: set.size, verified, quarantined };
}
