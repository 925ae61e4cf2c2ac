import type { Clock } from '../domain/clock.ts';
import type { EpisodeRecord } from '../domain/episode.ts';
import { SpillwayError } from '../errors.ts';
import type { DestinationEffect } from '../routing/destination.ts';
import type { Catalog } from '../storage/catalog.ts';
import type { Ranking } from './backlog-ranking.ts';
import type { Changes } from './changes.ts';
import { Coalesced } from './coalesced.ts';
import { EpisodeKeeper } from './episode-keeper.ts';
import type { Emit } from './events.ts';

/** A planned outage, as a person declares it. */
export interface PlannedOutage {
  readonly reason: string;
  /** ms since the epoch. */
  readonly expectedEndAt: number | null;
  readonly by: string;
}

export interface OutageRecorderOptions {
  readonly destinationId: string;
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly ranking: () => Ranking;
  readonly changes: Changes;
  readonly emit: Emit;
  /** The standbys of the destination take over what is open. */
  readonly takeOver: () => Promise<void>;
  /** The backlog is to be made ready before anything of it is sent. */
  readonly prepare: (at: number) => Promise<void>;
  readonly onRecovered: (episode: EpisodeRecord) => void;
  readonly isStopping: () => boolean;
  readonly onFault: (error: unknown) => void;
}

/** Puts on record what health and people say of a destination's outages, and tells it once. */
export class OutageRecorder {
  readonly #options: OutageRecorderOptions;
  readonly #episodes: EpisodeKeeper;
  /** Every settlement asks whether an episode is drained or closed. */
  readonly #advance: Coalesced;
  /** Who declared the outage that is about to be put on record. */
  #declaredBy: string | undefined;

  constructor(options: OutageRecorderOptions) {
    this.#options = options;
    const { catalog, destinationId, ranking, changes, onFault } = options;
    this.#episodes = new EpisodeKeeper({ catalog, destinationId, ranking });
    this.#advance = new Coalesced(() => changes.inTurn(() => this.#close()), onFault);
  }

  /** Takes up where the catalog stands. */
  async load(): Promise<void> {
    await this.#episodes.load();
    if (this.#episodes.underWay !== null) this.#options.changes.insist(this.#options.takeOver);
  }

  /** The latest episode that is not closed. */
  get current(): EpisodeRecord | null {
    return this.#episodes.current;
  }

  /** The instant that ages count from. */
  referenceAt(now: number): number {
    return this.#episodes.referenceAt(now);
  }

  began({ cause, startedAt, planned, expectedEndAt }: DestinationEffect & { type: 'outage' }, at: number): void {
    const { changes, emit, takeOver } = this.#options;
    const by = planned && this.#declaredBy !== undefined ? { by: this.#declaredBy } : {};
    changes.insist(async () => {
      const episode = { cause, startedAt, detectedAt: at, planned, expectedEndAt, ...by };
      emit('outage', await this.#episodes.begin(episode));
    });
    changes.insist(takeOver);
  }

  /**
   * A person declares an outage.
   *
   * @param dispatch - Has health hear of it: what that begins is put on record first.
   */
  declare({ reason, expectedEndAt, by }: PlannedOutage, dispatch: () => void): Promise<EpisodeRecord> {
    const { changes, clock, destinationId } = this.#options;
    this.#declaredBy = by;
    dispatch();
    return changes.inTurn(async () => {
      const episode = this.#episodes.underWay;
      if (episode === null) throw notOnRecord(destinationId);
      const { planned, planEndedAt, cause } = episode;
      const isSaid = planned && planEndedAt === null && cause === reason && episode.expectedEndAt === expectedEndAt;
      if (isSaid) return episode;
      const plan = { episodeId: episode.id, cause: reason, expectedEndAt, by, at: clock.now() };
      return this.#episodes.plan(plan);
    });
  }

  /** A person says that a planned outage is over. */
  async declareEnd(by: string): Promise<void> {
    const { changes, clock } = this.#options;
    await changes.inTurn(() => this.#episodes.endPlan(by, clock.now()));
  }

  overdue(): void {
    if (this.current !== null) this.#options.emit('overdue', this.current);
  }

  recovered(at: number): void {
    const { changes, prepare, emit, onRecovered } = this.#options;
    let episode: EpisodeRecord | null = null;
    changes.insist(async () => {
      // It has ended already where what follows has failed.
      episode = (await this.#episodes.end(at)) ?? episode;
      await prepare(at);
      if (episode !== null) {
        emit('recovery', episode);
        onRecovered(episode);
      }
      this.moved();
    });
  }

  /** The destination was given up: its outages are over. Nothing else is under way any more. */
  giveUp(): Promise<void> {
    const { changes, clock } = this.#options;
    return changes.inTurn(async () => {
      await this.#episodes.end(clock.now());
      await this.#tellClosed();
    });
  }

  /** Something was settled: an episode may be drained or closed. */
  moved(): void {
    if (this.current !== null && !this.#options.isStopping()) this.#advance.ask();
  }

  async #close(): Promise<void> {
    if (!this.#options.isStopping()) await this.#tellClosed();
  }

  async #tellClosed(): Promise<void> {
    const { clock, emit } = this.#options;
    await this.#episodes.advance(clock.now(), {
      onDrained: (episode) => emit('drained', episode),
      onClosed: (reconciliation) => emit('closed', reconciliation),
    });
  }
}

function notOnRecord(destinationId: string): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_CLOSED',
    `Expected the outage of "${destinationId}" to be on record, but the spillway was closed before it was. Declare it again.`,
  );
}
