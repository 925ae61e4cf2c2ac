import type { Clock } from '../domain/clock.ts';
import type { EpisodeRecord } from '../domain/episode.ts';
import type { Catalog } from '../storage/catalog.ts';
import type { DestinationSender } from './destination-sender.ts';
import type { RollbackSuspicion } from './events.ts';
import { Reverifier, type ReverifyOptions, type ReverifyReport } from './reverify.ts';
import { RollbackSampler } from './rollback-sample.ts';

const PAGE_SIZE = 100;

export interface DestinationEvidenceOptions {
  readonly catalog: Catalog;
  readonly destinationId: string;
  readonly sender: DestinationSender;
  readonly clock: Clock;
  /** Whether it is down, or said to be: it is not asked then. */
  readonly isDown: () => boolean;
  readonly onSuspected: (suspicion: RollbackSuspicion) => void;
  /** Deliveries are owed again. */
  readonly onReturned: () => void;
  readonly onFault: (error: unknown) => void;
}

/** Whether one destination still holds what it was verified to hold. */
export class DestinationEvidence {
  readonly #options: DestinationEvidenceOptions;
  readonly #ending = new AbortController();
  readonly #reverifier: Reverifier;
  readonly #sampler: RollbackSampler;

  constructor(options: DestinationEvidenceOptions) {
    this.#options = options;
    this.#reverifier = new Reverifier({ ...options, signal: this.#ending.signal });
    this.#sampler = new RollbackSampler({ ...options, signal: this.#ending.signal });
  }

  /** The sample of an outage may have been broken off by the end of the process. */
  async start(): Promise<void> {
    const { catalog, destinationId } = this.#options;
    let last: EpisodeRecord | undefined;
    for (let afterId = 0; ; ) {
      const page = await catalog.episodes({ destinationId, openOnly: true, afterId, limit: PAGE_SIZE });
      last = page.at(-1) ?? last;
      if (page.length < PAGE_SIZE) break;
      afterId = last?.id ?? afterId;
    }
    if (last !== undefined && last.endedAt !== null) this.sampleAfterOutage(last);
  }

  reverify(options: ReverifyOptions): Promise<ReverifyReport> {
    return this.#reverifier.run(options);
  }

  /** Asks in the background about some of what was verified before the outage. */
  sampleAfterOutage(episode: EpisodeRecord): void {
    this.#sampler.sampleAfterOutage(episode);
  }

  /** Ends what is under way. */
  async stop(): Promise<void> {
    this.#ending.abort();
    await Promise.all([this.#reverifier.idle(), this.#sampler.idle()]);
  }
}
