import { setMaxListeners } from 'node:events';
import PQueue from 'p-queue';
import { type DigestedInstance, readAndDigest } from './dicom/data-set-digest.ts';
import type { AbortableOptions } from './domain/abort.ts';
import type { Clock } from './domain/clock.ts';
import type { VersionRecord } from './domain/delivery.ts';
import type { InstanceIdentity } from './domain/identity.ts';
import type { Rank, Urgency } from './domain/rank.ts';
import type { Receipt } from './domain/receipt.ts';
import { formatBytes } from './domain/units.ts';
import { messageOf, SpillwayError } from './errors.ts';
import { abortedError, type InstanceSource, openSource } from './intake-source.ts';
import { type Ranking, rankAt } from './replay/backlog-ranking.ts';
import type { BlobWriter } from './storage/blob-store.ts';
import type { Acceptance, AcceptanceResult } from './storage/catalog.ts';
import { GroupCommit } from './storage/group-commit.ts';
import type { OpenStore } from './storage/store.ts';
import { classify } from './tiers/classify.ts';

/** What `route` is given. */
export interface RoutedInstance {
  readonly identity: InstanceIdentity;
  /** Header values by DICOM keyword. */
  readonly attributes: Readonly<Record<string, string>>;
}

/**
 * Decides which destinations must receive an instance, by their ids. Pure: it may be asked again for the same instance.
 * An empty answer means that the instance is only kept.
 */
export type Route = (instance: RoutedInstance, source: string | null) => readonly string[];

export interface AcceptOptions extends AbortableOptions {
  /** Where the instance comes from, for `route` and the record; no patient data. @default null */
  readonly source?: string | undefined;
  /** What the caller knows of the order; `unknown` is as good as none. @default what header and rules say, mostly `unknown` */
  readonly urgency?: Urgency | undefined;
  /** Length that the transport promised, such as Content-Length. @default the file's size for a path, otherwise none */
  readonly expectedBytes?: number | undefined;
  /**
   * Transfer syntax UID of a data set that comes without file meta, as from a C-STORE, where the presentation context
   * names it. File meta, where there is some, counts before it. @default judged by the data set's first element
   */
  readonly transferSyntaxUid?: string | undefined;
}

export interface IntakeOptions {
  readonly store: OpenStore;
  readonly route: Route;
  readonly destinationIds: readonly string[];
  /** Whether a destination was retired since; it receives nothing more. */
  readonly isRetired: (destinationId: string) => boolean;
  /** As it is at present. */
  readonly ranking: () => Ranking;
  readonly maxInstanceBytes: number;
  readonly maxConcurrentAccepts: number;
  readonly sourceIdleTimeoutMs: number;
  readonly clock: Clock;
  /** The instant that ages count from at a destination. */
  readonly referenceAt: (destinationId: string, now: number) => number;
  /** What is known of the order of a study is more urgent than it was. */
  readonly onRestated: (studyInstanceUid: string, urgency: Urgency) => void;
  readonly onAccepted: (version: VersionRecord, ranks: ReadonlyMap<string, Rank>) => void;
  /** Something went wrong that no caller is told of. */
  readonly onFault: (error: unknown) => void;
}

const MAX_COMMIT_BATCH = 256;

/** Takes instances in: blob durable, then catalog committed, then acknowledged. */
export class Intake {
  readonly #options: IntakeOptions;
  readonly #slots: PQueue;
  readonly #commits: GroupCommit<Acceptance, AcceptanceResult>;
  readonly #known: ReadonlySet<string>;
  /** Versions of one SOP Instance UID are placed and committed one after another, so that arrival has an order. */
  readonly #turns = new Map<string, Promise<unknown>>();
  readonly #closing = new AbortController();
  #lastArrival: bigint;

  constructor(options: IntakeOptions, lastArrivalId: string | null) {
    this.#options = options;
    // Every instance being read listens to it, and `maxConcurrentAccepts` bounds them.
    setMaxListeners(0, this.#closing.signal);
    this.#slots = new PQueue({ concurrency: options.maxConcurrentAccepts });
    this.#commits = new GroupCommit((batch) => options.store.catalog.accept(batch), MAX_COMMIT_BATCH);
    this.#known = new Set(options.destinationIds);
    this.#lastArrival = lastArrivalId === null ? 0n : BigInt(`0x${lastArrivalId}`);
  }

  /** Resolves once the instance is durable; see `Spillway.accept`. */
  async accept(source: InstanceSource, options: AcceptOptions): Promise<Receipt> {
    const closing = this.#closing.signal;
    const signal = options.signal === undefined ? closing : AbortSignal.any([options.signal, closing]);
    return this.#slots.add(async () => {
      if (signal.aborted) throw abortedError(signal);
      const writer = await this.#options.store.blobs.create();
      let instance: DigestedInstance;
      try {
        const chunks = await openSource(source, {
          ...this.#sourceOptions(),
          expectedBytes: options.expectedBytes,
          signal,
        });
        instance = await this.#receive(chunks, writer, options.transferSyntaxUid);
      } catch (error) {
        await this.#abandon(writer);
        throw error;
      }
      return this.#inTurn(instance.header.identity.sopInstanceUid, () => this.#record(instance, writer, options));
    });
  }

  #sourceOptions() {
    return { clock: this.#options.clock, idleTimeoutMs: this.#options.sourceIdleTimeoutMs };
  }

  /** Resolves when every instance that has been read whole by now is accepted or refused. */
  async flush(): Promise<void> {
    await Promise.allSettled([...this.#turns.values()]);
  }

  /** Lets what is being taken in end, for at most `graceMs`; what is still being read then is refused. */
  async close(graceMs: number): Promise<void> {
    const cancel = this.#options.clock.schedule(graceMs, () => {
      this.#closing.abort(new SpillwayError('SPILLWAY_CLOSED', 'The spillway was closed while the instance was read.'));
    });
    await this.#slots.onIdle();
    cancel();
  }

  async #receive(
    chunks: AsyncIterable<Uint8Array>,
    writer: BlobWriter,
    transferSyntaxUid: string | undefined,
  ): Promise<DigestedInstance> {
    const { maxInstanceBytes } = this.#options;
    let bytes = 0;
    const onFile = async (chunk: Uint8Array) => {
      bytes += chunk.byteLength;
      if (bytes > maxInstanceBytes) {
        throw new SpillwayError(
          'SPILLWAY_TOO_LARGE',
          `Expected an instance of at most ${formatBytes(maxInstanceBytes)}, got more. Nothing of it was kept; ` +
            'raise maxInstanceBytes if such instances are meant to be taken.',
        );
      }
      await writer.write(chunk);
    };
    return readAndDigest(chunks, { transferSyntaxUid, onFile });
  }

  async #record(instance: DigestedInstance, writer: BlobWriter, options: AcceptOptions): Promise<Receipt> {
    const { store, clock } = this.#options;
    const { policy, timeZone } = this.#options.ranking();
    const { header, digest, bytes } = instance;
    const { identity } = header;
    const receivedAt = clock.now();
    const judged = classify(
      { attributes: header.attributes, receivedAt, urgency: options.urgency },
      { asOf: receivedAt, policy, timeZone },
    );
    const receipt = (outcome: Receipt['outcome'], arrivalId: string, destinations: readonly string[]): Receipt => ({
      outcome,
      identity,
      arrivalId,
      digest,
      bytes,
      tier: judged.tier,
      urgency: judged.urgency,
      tierReason: judged.explanation,
      destinations,
      oddities: [...header.oddities, ...judged.oddities],
    });

    let acceptance: Acceptance;
    try {
      const standing = await store.catalog.findVersion({ ...identity, digest });
      if (standing !== null) {
        if (await store.blobs.has(standing.blobRef)) await this.#abandon(writer);
        else await this.#restore(standing, writer);
        await this.#restate(standing, options.urgency);
        return receipt('identical', standing.arrivalId, []);
      }
      const source = options.source ?? null;
      const destinations = this.#route({ identity, attributes: header.attributes }, source);
      const deliveries = destinations.map((destinationId) => {
        const asOf = this.#options.referenceAt(destinationId, receivedAt);
        return { destinationId, rank: rankAt(judged.rank, policy, asOf) };
      });
      const arrivalId = this.#nextArrivalId(receivedAt);
      const blobRef = await writer.place({ identity, arrivalId, digest });
      const version = { arrivalId, identity, digest, bytes, blobRef, receivedAt, oddities: header.oddities };
      const urgency = options.urgency ?? null;
      acceptance = { version, attributes: header.attributes, source, urgency, deliveries };
    } catch (error) {
      await this.#abandon(writer);
      throw error;
    }
    const { outcome, version } = await this.#commit(acceptance, writer);
    if (outcome !== 'identical') {
      this.#options.onAccepted(version, new Map(acceptance.deliveries.map((d) => [d.destinationId, d.rank])));
    }
    const destinations = outcome === 'identical' ? [] : acceptance.deliveries.map((d) => d.destinationId);
    return receipt(outcome, version.arrivalId, destinations);
  }

  /** An order may become urgent after its images came: who says so by sending them again is heard. */
  async #restate({ arrivalId, identity }: VersionRecord, urgency: Urgency | undefined): Promise<void> {
    if (urgency === undefined || urgency === 'unknown') return;
    const counts = await this.#options.store.catalog.restateUrgency({ arrivalId, urgency });
    if (counts) this.#options.onRestated(identity.studyInstanceUid, urgency);
  }

  /** A row whose bytes are gone is no promise kept: the same bytes, come again, take their place. */
  async #restore({ identity, arrivalId, digest }: VersionRecord, writer: BlobWriter): Promise<void> {
    await writer.place({ identity, arrivalId, digest });
    await writer.release();
  }

  /**
   * Commits. When that fails but for want of room, the row may come back with the next opening, even if it is not to be
   * seen now (a commit whose sync failed may be on the disk all the same). So the blob stays, in flight, and the next
   * opening decides by the catalog.
   */
  async #commit(acceptance: Acceptance, writer: BlobWriter): Promise<AcceptanceResult> {
    let result: AcceptanceResult;
    try {
      result = await this.#commits.submit(acceptance);
    } catch (error) {
      if (error instanceof SpillwayError && error.code === 'SPILLWAY_STORE_FULL') {
        await this.#abandon(writer);
        throw error;
      }
      const { arrivalId } = acceptance.version;
      const committed = await this.#options.store.catalog.hasArrival(arrivalId).catch(() => false);
      if (!committed) throw error;
      result = { outcome: 'created', version: acceptance.version };
    }
    if (result.outcome === 'identical') await this.#abandon(writer);
    else await writer.release().catch(this.#options.onFault);
    return result;
  }

  #route(instance: RoutedInstance, source: string | null): readonly string[] {
    let ids: readonly string[];
    try {
      ids = this.#options.route(instance, source);
      // An async route is refused below; its rejection must not end the process.
      if (ids instanceof Promise) ids.catch(() => {});
    } catch (error) {
      throw new SpillwayError('SPILLWAY_ROUTE_INVALID', `route threw: ${messageOf(error)}. Nothing was kept.`, {
        cause: error,
      });
    }
    const wrong = Array.isArray(ids) ? ids.find((id) => !this.#known.has(id)) : ids;
    if (!Array.isArray(ids) || wrong !== undefined) {
      throw new SpillwayError(
        'SPILLWAY_ROUTE_INVALID',
        `Expected route to return ids among ${[...this.#known].map((id) => `"${id}"`).join(', ')}, ` +
          `got ${JSON.stringify(wrong)}. Nothing was kept.`,
      );
    }
    return [...new Set(ids)].filter((id) => !this.#options.isRetired(id));
  }

  /** 16 hex digits: ms since the epoch, then a count. Ascending even when the clock goes back. */
  #nextArrivalId(now: number): string {
    const byClock = BigInt(now) << 16n;
    this.#lastArrival = byClock > this.#lastArrival ? byClock : this.#lastArrival + 1n;
    return this.#lastArrival.toString(16).padStart(16, '0');
  }

  async #abandon(writer: BlobWriter): Promise<void> {
    await writer.abort().catch(this.#options.onFault);
  }

  async #inTurn<T>(key: string, run: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(key) ?? Promise.resolve();
    const turn = before.then(run, run);
    this.#turns.set(key, turn);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(key) === turn) this.#turns.delete(key);
    }
  }
}
