import type { Backlog } from './backlog.ts';
import type { EventQueue } from './event-queue.ts';
import type { DestinationFigures, SimulationEvent, SimulationSample } from './result.ts';
import type { Target } from './target.ts';

type News = SimulationEvent extends infer Event ? (Event extends SimulationEvent ? Omit<Event, 'at'> : never) : never;

/** Writes down what happens. */
export class Recorder {
  readonly history: SimulationEvent[] = [];
  readonly #queue: EventQueue;

  constructor(queue: EventQueue) {
    this.#queue = queue;
  }

  note(news: News): void {
    this.history.push({ at: this.#queue.now, ...news });
  }
}

/** Counts what happens at one destination. */
export class DestinationMeter {
  readonly samples: SimulationSample[] = [];
  readonly #tiers: number;
  readonly #first: (number | null)[];
  readonly #last: (number | null)[];
  #answered = 0;
  #answeredBytes = 0;
  #sampledAt = 0;
  attempts = 0;
  outages = 0;
  recoveries = 0;
  mostInFlight = 0;

  constructor(tiers: number) {
    this.#tiers = tiers;
    this.#first = Array.from({ length: tiers }, () => null);
    this.#last = Array.from({ length: tiers }, () => null);
  }

  answered(bytes: number): void {
    this.#answered += 1;
    this.#answeredBytes += bytes;
  }

  verified(tier: number, at: number): void {
    this.#first[tier] ??= at;
    this.#last[tier] = at;
  }

  sample(at: number, slots: number, inFlight: number, backlog: Backlog): void {
    const counts: number[] = Array.from({ length: this.#tiers }, () => 0);
    for (const { study } of backlog.open) counts[study.rank.tier] = (counts[study.rank.tier] ?? 0) + 1;
    const seconds = Math.max(at - this.#sampledAt, 1) / 1_000;
    this.samples.push({
      at,
      slots,
      inFlight,
      instancesPerSecond: this.#answered / seconds,
      bytesPerSecond: this.#answeredBytes / seconds,
      backlog: counts,
    });
    this.#sampledAt = at;
    this.#answered = 0;
    this.#answeredBytes = 0;
  }

  /** Counted anew from the deliveries and from what the target holds. */
  figures(backlog: Backlog, target: Target): DestinationFigures {
    const { deliveries } = backlog;
    const inState = (state: string) => deliveries.filter((delivery) => delivery.state === state);
    const known = new Set(deliveries.map(({ uid }) => uid));
    const [verified, quarantined] = [inState('verified'), inState('quarantined')];
    const open = inState('pending').length + inState('sent').length;
    return {
      accepted: deliveries.length,
      verified: verified.length,
      quarantined: quarantined.length,
      open,
      lost:
        deliveries.length -
        verified.length -
        quarantined.length -
        open +
        verified.filter(({ uid }) => !target.held.has(uid)).length,
      invented: [...target.held.keys()].filter((uid) => !known.has(uid)).length,
      attempts: this.attempts,
      duplicates: target.duplicates,
      outages: this.outages,
      recoveries: this.recoveries,
      mostInFlight: this.mostInFlight,
      mostAtTarget: target.mostActive,
      firstVerifiedAt: this.#first,
      lastVerifiedAt: this.#last,
    };
  }
}
