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
import { examineForReplacement } from './retention/examine.ts';
import type { BlobWriter } from './storage/blob-store.ts';
import type { Acceptance, AcceptanceResult } from './storage/catalog.ts';
import { GroupCommit } from './storage/group-commit.ts';
import type { OpenStore } from './storage/store.ts';
import { type Classifiable, type Classification, classify } from './tiers/classify.ts';

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

/** Where instances are put, and what keeps room for them. */
export interface IntakeRoom {
  /** A writer for an instance of so many bytes, if that is known; evicts for it what may go, or refuses. */
  create(expectedBytes: number | undefined): Promise<BlobWriter>;
  /** So many bytes were taken. */
  taken(bytes: number): void;
  /** Resolves when a study that is being evicted has been. */
  evicted(studyInstanceUid: string): Promise<void>;
}

export interface IntakeOptions {
  readonly store: OpenStore;
  readonly route: Route;
  readonly destinationIds: readonly string[];
  /** Whether a destination, one of those that `route` named, receives now: a retired one and an idle standby do not. */
  readonly receives: (destinationId: string, routed: readonly string[]) => boolean;
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
  readonly room: IntakeRoom;
  /** The bytes of a version are gone, or not what they were: afterwards it is `missing`, and its reference free. */
  readonly onDamaged: (version: VersionRecord) => Promise<unknown>;
  /** Something went wrong that no caller is told of. */
  readonly onFault: (error: unknown) => void;
}

/** What was taken in, and what is still known as in flight though it is committed. */
interface Accepted {
  readonly receipt: Receipt;
  readonly trace: BlobWriter | null;
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
  /** Arrival ids whose bytes may be placed, and which are not committed yet; those among them of which nobody knows stay. */
  readonly #placing = new Set<string>();
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
    return new Promise<Receipt>((resolve, reject) => {
      // The place is taken until the trace is gone too; the sender need not wait for that.
      const run = async () => {
        const { receipt, trace } = await this.#take(source, signal, options);
        resolve(receipt);
        this.#options.room.taken(receipt.bytes);
        await trace?.release().catch(this.#options.onFault);
      };
      this.#slots.add(run).catch(reject);
    });
  }

  async #take(source: InstanceSource, signal: AbortSignal, options: AcceptOptions): Promise<Accepted> {
    if (signal.aborted) throw abortedError(signal);
    const writer = await this.#options.room.create(options.expectedBytes);
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
  }

  #sourceOptions() {
    return { clock: this.#options.clock, idleTimeoutMs: this.#options.sourceIdleTimeoutMs };
  }

  /** Whether bytes under this arrival id are being placed: no row knows them yet. */
  isPlacing(arrivalId: string): boolean {
    return this.#placing.has(arrivalId);
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

  async #record(instance: DigestedInstance, writer: BlobWriter, options: AcceptOptions): Promise<Accepted> {
    const { clock } = this.#options;
    const { header, digest, bytes } = instance;
    const { identity } = header;
    const receivedAt = clock.now();
    const judged = this.#judge({ attributes: header.attributes, receivedAt, urgency: options.urgency });
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
    // Null where the bytes were here before.
    let blob: BlobWriter | null;
    let placing: string | undefined;
    try {
      // Almost always the instance is new: what is asked of the catalog need not be waited for first.
      writer.beginSync();
      const { standing, isSound } = await this.#examined(identity, digest);
      if (standing?.presence === 'kept' && isSound) {
        await this.#abandon(writer);
        await this.#restate(standing, options.urgency);
        return { receipt: receipt('identical', standing.arrivalId, []), trace: null };
      }
      const source = options.source ?? null;
      const destinations = this.#route({ identity, attributes: header.attributes }, source);
      const deliveries = this.#deliveries(destinations, judged.rank, receivedAt);
      // Of the others the file may be here too: only it told of it, or it has come back.
      const isHere = standing !== null && isSound;
      const arrivalId = standing?.arrivalId ?? this.#nextArrivalId(receivedAt);
      placing = arrivalId;
      this.#placing.add(arrivalId);
      const placed = isHere
        ? { blobRef: standing.blobRef, bytes: standing.bytes }
        : { blobRef: await writer.place({ identity, arrivalId, digest }), bytes };
      const { oddities } = header;
      const version = { arrivalId, identity, digest, ...placed, receivedAt, oddities, presence: 'kept' } as const;
      acceptance = { version, attributes: header.attributes, source, urgency: options.urgency ?? null, deliveries };
      blob = isHere ? null : writer;
      if (isHere) await this.#abandon(writer);
    } catch (error) {
      await this.#abandon(writer);
      if (placing !== undefined) this.#placing.delete(placing);
      throw error;
    }
    const { arrivalId } = acceptance.version;
    const accepted = await this.#accepted(acceptance, blob);
    this.#placing.delete(arrivalId);
    const trace = accepted.outcome === 'identical' ? null : blob;
    return { receipt: receipt(accepted.outcome, accepted.version.arrivalId, accepted.destinations), trace };
  }

  /** Commits, and tells those who deliver. */
  async #accepted(acceptance: Acceptance, blob: BlobWriter | null): Promise<AcceptanceResult> {
    const result = await this.#commit(acceptance, blob);
    const { version, destinations } = result;
    const ranks = acceptance.deliveries.filter(({ destinationId }) => destinations.includes(destinationId));
    if (ranks.length > 0) this.#options.onAccepted(version, new Map(ranks.map((d) => [d.destinationId, d.rank])));
    return result;
  }

  #judge(instance: Classifiable): Classification {
    const { policy, timeZone } = this.#options.ranking();
    return classify(instance, { asOf: instance.receivedAt, policy, timeZone });
  }

  #deliveries(destinationIds: readonly string[], rank: Rank, now: number): Acceptance['deliveries'] {
    const { policy } = this.#options.ranking();
    return destinationIds.map((destinationId) => {
      const asOf = this.#options.referenceAt(destinationId, now);
      return { destinationId, rank: rankAt(rank, policy, asOf) };
    });
  }

  /**
   * Accepts what only its file told of, for the destinations given, or as `route` says; returns false where there is no
   * such instance any more.
   */
  async confirm(arrivalId: string, destinationIds: readonly string[] | undefined): Promise<boolean> {
    const { catalog } = this.#options.store;
    const known = await catalog.acceptanceOf(arrivalId);
    if (known === null) return false;
    return this.#inTurn(known.version.identity.sopInstanceUid, async () => {
      const standing = await catalog.acceptanceOf(arrivalId);
      if (standing?.version.presence !== 'unconfirmed') return false;
      const { version, attributes, source, urgency } = standing;
      const { identity, receivedAt } = version;
      const destinations = destinationIds ?? this.#route({ identity, attributes }, source);
      const { rank } = this.#judge({ attributes, receivedAt, urgency: urgency ?? undefined });
      const deliveries = this.#deliveries(destinations, rank, this.#options.clock.now());
      await this.#accepted({ version, attributes, source, urgency, deliveries }, null);
      return true;
    });
  }

  /** The version that stands for these bytes, and whether they are here: a row is no promise kept where its bytes are not. */
  async #examined(
    identity: InstanceIdentity,
    digest: string,
  ): Promise<{ readonly standing: VersionRecord | null; readonly isSound: boolean }> {
    const standing = await this.#standing(identity, digest);
    if (standing === null) return { standing, isSound: false };
    const found = await examineForReplacement(this.#options.store.blobs, standing);
    if (found === 'sound') return { standing, isSound: true };
    // What was evicted or missing leaves its name free, unless a damaged file has it.
    const isHeld = standing.presence === 'kept' || standing.presence === 'unconfirmed';
    if (isHeld || found === 'damaged') await this.#options.onDamaged(standing);
    // Missing from now on; unless it was being evicted, which must be over before these bytes take that place.
    return { standing: await this.#standing(identity, digest), isSound: false };
  }

  /** The version that stands for these bytes; one that is being evicted is waited for. */
  async #standing(identity: InstanceIdentity, digest: string): Promise<VersionRecord | null> {
    const { catalog } = this.#options.store;
    const standing = await catalog.findVersion({ ...identity, digest });
    if (standing?.presence !== 'evicting') return standing;
    await this.#options.room.evicted(identity.studyInstanceUid);
    const since = await catalog.findVersion({ ...identity, digest });
    if (since?.presence !== 'evicting') return since;
    // Its files could not be removed. What were placed now would go with them.
    throw new SpillwayError(
      'SPILLWAY_STORE_FAILED',
      `The version ${standing.arrivalId} is being evicted, and that has failed. Send it again later.`,
    );
  }

  /** An order may become urgent after its images came: who says so by sending them again is heard. */
  async #restate({ arrivalId, identity }: VersionRecord, urgency: Urgency | undefined): Promise<void> {
    if (urgency === undefined || urgency === 'unknown') return;
    const counts = await this.#options.store.catalog.restateUrgency({ arrivalId, urgency });
    if (counts) this.#options.onRestated(identity.studyInstanceUid, urgency);
  }

  /**
   * Commits. When that fails but for want of room, the row may come back with the next opening, even if it is not to be
   * seen now (a commit whose sync failed may be on the disk all the same). So the blob stays, in flight, and the next
   * opening decides by the catalog.
   */
  async #commit(acceptance: Acceptance, writer: BlobWriter | null): Promise<AcceptanceResult> {
    let result: AcceptanceResult;
    try {
      result = await this.#commits.submit(acceptance);
    } catch (error) {
      if (error instanceof SpillwayError && error.code === 'SPILLWAY_STORE_FULL') {
        if (writer !== null) await this.#abandon(writer);
        this.#placing.delete(acceptance.version.arrivalId);
        throw error;
      }
      // Unless it stands it goes on being placed, as far as the walk is concerned: the next opening knows.
      const { arrivalId, identity, digest } = acceptance.version;
      const stands = await this.#options.store.catalog.findVersion({ ...identity, digest }).catch(() => null);
      if (stands?.arrivalId !== arrivalId || stands.presence !== 'kept') throw error;
      result = { outcome: 'created', version: acceptance.version, destinations: destinationsOf(acceptance) };
    }
    if (writer === null) return result;
    if (result.outcome === 'identical') await this.#abandon(writer);
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
    return [...new Set(ids)].filter((id) => this.#options.receives(id, ids));
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

function destinationsOf({ deliveries }: Acceptance): readonly string[] {
  return deliveries.map(({ destinationId }) => destinationId);
}
