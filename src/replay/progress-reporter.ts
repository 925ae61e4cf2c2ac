import type { Clock } from '../domain/clock.ts';
import type { EpisodeRecord } from '../domain/episode.ts';
import { type DestinationPolicy, type DestinationState, slots } from '../routing/destination.ts';
import type { Catalog } from '../storage/catalog.ts';
import type { TierPolicy } from '../tiers/policy.ts';
import { Delayed } from './delayed.ts';
import type { DestinationStatus, Emit } from './events.ts';
import { RateMeter } from './rate-meter.ts';
import { describeStatus } from './status.ts';

const INTERVAL_MS = 1_000;

/** What a destination's status is made of, besides what the catalog knows. */
export interface ReplayView {
  readonly state: DestinationState;
  readonly isPaused: boolean;
  /** Requests in flight. */
  readonly inFlight: number;
  /** The latest episode that is not closed. */
  readonly episode: EpisodeRecord | null;
}

export interface ProgressReporterOptions {
  readonly destinationId: string;
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly policy: DestinationPolicy;
  readonly tiers: () => TierPolicy;
  readonly view: () => ReplayView;
  /** How long the deliveries had waited for evidence, in ms, that got it of late: the one that had waited least. */
  readonly onLag: (lagMs: number) => void;
  readonly emit: Emit;
  readonly isStopping: () => boolean;
  readonly onFault: (error: unknown) => void;
}

/** Tells how a destination stands: when it is asked, and at most once a second while something moves. */
export class ProgressReporter {
  readonly #options: ProgressReporterOptions;
  readonly #meter = new RateMeter();
  readonly #delayed: Delayed;
  #lagMs = 0;
  /** The shortest wait for evidence since the last report. One that waits long may be sick; where all do, the PACS is. */
  #leastWaitMs: number | null = null;

  constructor(options: ProgressReporterOptions) {
    this.#options = options;
    const { clock, onFault } = options;
    this.#delayed = new Delayed({ clock, delayMs: INTERVAL_MS, run: () => this.#report(), onFault });
  }

  /** The destination answered for an instance. */
  answered(tier: number, bytes: number): void {
    this.#meter.add(this.#options.clock.now(), tier, bytes);
  }

  /** A delivery got its evidence. */
  proven(waitedMs: number): void {
    this.#leastWaitMs = Math.min(waitedMs, this.#leastWaitMs ?? waitedMs);
  }

  /** Something moved. */
  moved(): void {
    this.#delayed.ask();
  }

  stop(): void {
    this.#delayed.stop();
  }

  async status(): Promise<DestinationStatus> {
    const { destinationId, catalog, clock, policy, tiers, view } = this.#options;
    const [backlog, destinations] = await Promise.all([catalog.backlog(destinationId), catalog.destinations()]);
    const now = clock.now();
    const seen = view();
    return describeStatus({
      ...seen,
      destinationId,
      backlog,
      record: destinations.find((record) => record.destinationId === destinationId),
      meter: this.#meter,
      now,
      lagMs: this.#lagMs,
      limit: slots(seen.state, now, policy),
      tiers: tiers(),
    });
  }

  async #report(): Promise<void> {
    const { destinationId, catalog, clock, onLag, emit, isStopping } = this.#options;
    const oldest = await catalog.oldestAnswerAt(destinationId);
    if (isStopping()) return;
    this.#lagMs = oldest === null ? 0 : Math.max(0, clock.now() - oldest);
    if (this.#leastWaitMs !== null) onLag(this.#leastWaitMs);
    this.#leastWaitMs = null;
    const status = await this.status();
    if (!isStopping()) emit('progress', status);
  }
}
