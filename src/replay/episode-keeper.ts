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

  async begin(cause: string, startedAt: number, detectedAt: number): Promise<EpisodeRecord> {
    const episode = await this.#catalog.openEpisode({
      destinationId: this.#destinationId,
      cause,
      startedAt,
      detectedAt,
    });
    this.#open = [...this.#open, episode];
    return episode;
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

  /** Marks what is drained or closed by now, and says which. */
  async advance(at: number): Promise<{
    readonly drained: readonly EpisodeRecord[];
    readonly closed: readonly Reconciliation[];
  }> {
    const drained: EpisodeRecord[] = [];
    const closed: Reconciliation[] = [];
    for (const episode of this.#open) {
      if (episode.endedAt === null) continue;
      const remains = await this.#catalog.episodeRemains(episode.id);
      if (remains.pending) continue;
      if (episode.drainedAt === null) {
        const record = await this.#catalog.markEpisode({ episodeId: episode.id, as: 'drained', at });
        this.#replace(record);
        drained.push(record);
      }
      if (remains.open) continue;
      const record = await this.#catalog.markEpisode({ episodeId: episode.id, as: 'closed', at });
      this.#open = this.#open.filter(({ id }) => id !== record.id);
      closed.push(await reconcile(this.#catalog, record, this.#ranking().policy));
    }
    return { drained, closed };
  }

  #replace(record: EpisodeRecord): void {
    this.#open = this.#open.map((episode) => (episode.id === record.id ? record : episode));
  }
}
