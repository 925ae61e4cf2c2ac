import type { EpisodeRecord } from '../domain/episode.ts';
import { referenceInstant } from '../routing/order.ts';
import type { Catalog } from '../storage/catalog.ts';
import type { Ranking } from './backlog-ranking.ts';
import { type Reconciliation, reconcile } from './reconciliation.ts';

const PAGE_SIZE = 100;

/**
 * Keeps the episodes of one destination: opens, ends, and closes them when their sets are done. Calls that change
 * something must not overlap.
 */
export class EpisodeKeeper {
  readonly #catalog: Catalog;
  readonly #destinationId: string;
  readonly #ranking: () => Ranking;
  /** Not closed, by id. */
  #open: readonly EpisodeRecord[] = [];

  constructor(options: {
    readonly catalog: Catalog;
    readonly destinationId: string;
    readonly ranking: () => Ranking;
  }) {
    this.#catalog = options.catalog;
    this.#destinationId = options.destinationId;
    this.#ranking = options.ranking;
  }

  async load(): Promise<void> {
    const open: EpisodeRecord[] = [];
    for (let afterId = 0; ; ) {
      const page = await this.#catalog.episodes({
        destinationId: this.#destinationId,
        openOnly: true,
        afterId,
        limit: PAGE_SIZE,
      });
      open.push(...page);
      if (page.length < PAGE_SIZE) break;
      afterId = page.at(-1)?.id ?? afterId;
    }
    this.#open = open;
  }

  /** The latest that is not closed. */
  get current(): EpisodeRecord | null {
    return this.#open.at(-1) ?? null;
  }

  /** The instant that ages count from. */
  referenceAt(now: number): number {
    return referenceInstant(this.#open, now, this.#ranking().reference);
  }

  /** The one that has not ended: what is accepted now belongs to its set. */
  get underWay(): EpisodeRecord | null {
    return this.#open.find((episode) => episode.endedAt === null) ?? null;
  }

  async begin(episode: Omit<Parameters<Catalog['openEpisode']>[0], 'destinationId'>): Promise<EpisodeRecord> {
    const record = await this.#catalog.openEpisode({ destinationId: this.#destinationId, ...episode });
    this.#open = [...this.#open, record];
    return record;
  }

  /** The outage under way is a planned one from now on. */
  async plan(plan: Parameters<Catalog['planEpisode']>[0]): Promise<EpisodeRecord> {
    const record = await this.#catalog.planEpisode(plan);
    this.#replace(record);
    return record;
  }

  /** A person has ended the plan of the outage under way. */
  async endPlan(by: string, at: number): Promise<void> {
    const episode = this.underWay;
    if (episode !== null) this.#replace(await this.#catalog.endPlan({ episodeId: episode.id, by, at }));
  }

  /** Ends the outage. */
  async end(at: number): Promise<EpisodeRecord | null> {
    let ended: EpisodeRecord | null = null;
    for (const { id } of this.#open.filter((episode) => episode.endedAt === null)) {
      ended = await this.#catalog.markEpisode({ episodeId: id, as: 'ended', at });
      this.#replace(ended);
    }
    return ended;
  }

  /** Marks what is drained or closed by now, and tells it once it is on record. */
  async advance(
    at: number,
    told: {
      readonly onDrained: (episode: EpisodeRecord) => void;
      readonly onClosed: (reconciliation: Reconciliation) => void;
    },
  ): Promise<void> {
    for (const episode of this.#open) {
      if (episode.endedAt === null) continue;
      const remains = await this.#catalog.episodeRemains(episode.id);
      if (remains.pending) continue;
      let record = episode;
      if (episode.drainedAt === null) {
        record = await this.#catalog.markEpisode({ episodeId: episode.id, as: 'drained', at });
        this.#replace(record);
        told.onDrained(record);
      }
      if (remains.open) continue;
      // Counted first: should that fail, it is closed, and told, by the next look.
      const reconciliation = await reconcile(this.#catalog, record, this.#ranking().policy);
      const closed = await this.#catalog.markEpisode({ episodeId: episode.id, as: 'closed', at });
      this.#open = this.#open.filter(({ id }) => id !== closed.id);
      told.onClosed({ ...reconciliation, episode: closed });
    }
  }

  #replace(record: EpisodeRecord): void {
    this.#open = this.#open.map((episode) => (episode.id === record.id ? record : episode));
  }
}
