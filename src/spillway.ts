import type { AbortableOptions } from './domain/abort.ts';
import type { Clock } from './domain/clock.ts';
import type { Delivery } from './domain/delivery.ts';
import type { EpisodeRecord } from './domain/episode.ts';
import type { Receipt } from './domain/receipt.ts';
import { SpillwayError } from './errors.ts';
import { type ExportOptions, type ExportSummary, exportStudies } from './folders/export-studies.ts';
import { type ImportOptions, type ImportSummary, importStudies } from './folders/import-studies.ts';
import { GuardedEmitter } from './guarded-emitter.ts';
import { type AcceptOptions, Intake, type Route } from './intake.ts';
import type { InstanceSource } from './intake-source.ts';
import { changedRanking, checkAcceptOptions, type ResolvedOptions, resolveOptions } from './options.ts';
import { assertNoOrphans } from './orphaned-backlog.ts';
import type { Ranking, Reclassification } from './replay/backlog-ranking.ts';
import { DestinationReplayer } from './replay/destination-replayer.ts';
import type { DestinationStatus, SpillwayEvents } from './replay/events.ts';
import { type Reconciliation, reconcile } from './replay/reconciliation.ts';
import { defaultDestinationPolicy } from './routing/destination.ts';
import type { ReferenceInstant } from './routing/order.ts';
import { defaultRetryPolicy } from './routing/retry.ts';
import type { OpenStore, Store } from './storage/store.ts';
import type { TierPolicy } from './tiers/policy.ts';
import type { Destination } from './transports/transport.ts';

/** What `openSpillway` is given. */
export interface SpillwayOptions {
  /** Where instances are kept: `fileStore({ directory })`, or `memoryStore()` for trials. */
  readonly store: Store;
  /** The peers that must receive instances. One that still has a backlog must not be left out. */
  readonly destinations: readonly Destination[];
  /** Which destinations must receive an instance; decided and recorded when it is accepted. @default all */
  readonly route?: Route | undefined;
  /** @default last 24 hours, last week, historical */
  readonly tiers?: TierPolicy | undefined;
  /**
   * IANA time zone of the site, such as `Europe/Vienna`, for instances that state none.
   * @default none: their dates are read towards urgent
   */
  readonly timeZone?: string | undefined;
  /**
   * The instant that ages count from: `'outage-end'` (until the outage ends, now), `'outage-start'`, `'now'`, or one in
   * ms since the epoch. @default 'outage-end': no study slides out of its tier while it waits
   */
  readonly reference?: ReferenceInstant | undefined;
  /** Largest instance that is taken, in bytes. @default 4 GiB */
  readonly maxInstanceBytes?: number | undefined;
  /** Instances being taken in at once; further calls of `accept` wait, their sources unread. @default 64 */
  readonly maxConcurrentAccepts?: number | undefined;
  /** A source that gives nothing for so long is given up, in ms: a dead sender must not hold its place. @default 120,000 */
  readonly sourceIdleTimeoutMs?: number | undefined;
  /** How long `close` waits for instances being taken in, and then for requests in flight, in ms. @default 10,000 */
  readonly closeTimeoutMs?: number | undefined;
  /** @default the system's */
  readonly clock?: Clock | undefined;
}

/** What `reclassify` may change. */
export interface ReclassifyOptions extends AbortableOptions {
  readonly tiers?: TierPolicy | undefined;
  /** See `SpillwayOptions`. */
  readonly timeZone?: string | undefined;
  readonly reference?: ReferenceInstant | undefined;
}

/** How everything stands. */
export interface SpillwayStatus {
  readonly destinations: readonly DestinationStatus[];
}

/** A delivery that was put aside, with its reason. */
export type QuarantinedDelivery = Delivery;

const PAGE_SIZE = 500;
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Opens a spillway on a store and starts delivering what is pending in it.
 *
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID`, `SPILLWAY_BACKLOG_ORPHANED` when a destination with a backlog was
 * left out, or an error of the store: `SPILLWAY_STORE_LOCKED`, `SPILLWAY_STORE_FORMAT`, `SPILLWAY_STORE_FAILED`
 */
export async function openSpillway(options: SpillwayOptions): Promise<Spillway> {
  const resolved = resolveOptions(options);
  const store = await resolved.store.open();
  try {
    await assertNoOrphans(store, resolved.destinations);
    for (const { id } of resolved.destinations) await store.catalog.registerDestination(id);
    await store.blobs.recover((arrivalId) => store.catalog.hasArrival(arrivalId));
    const spillway = new OpenedSpillway(store, resolved, await store.catalog.lastArrivalId());
    await spillway.start();
    return spillway;
  } catch (error) {
    await store.close().catch(() => {});
    throw error;
  }
}

/** An open spillway. All of its methods reject with `SPILLWAY_CLOSED` after `close`. */
export interface Spillway extends AsyncDisposable {
  /**
   * Takes an instance in. Resolves only when it survives a crash of the process, of the operating system and of the
   * power; from then on it is delivered, or stands in quarantine with a reason. When it rejects, nothing of the
   * instance is kept; only where the store fails in the middle of a commit (`SPILLWAY_STORE_FAILED`) may it be there all
   * the same after the next opening. Send it again then: the same instance is accepted once.
   *
   * Aborting stops the reading of the source; an instance that has been read whole is still accepted.
   *
   * @throws SpillwayError `SPILLWAY_NOT_DICOM`, `SPILLWAY_IDENTITY_MISSING`, `SPILLWAY_UID_UNSAFE`,
   * `SPILLWAY_INCOMPLETE`, `SPILLWAY_TOO_LARGE`, `SPILLWAY_ROUTE_INVALID`, `SPILLWAY_STORE_FULL`,
   * `SPILLWAY_STORE_FAILED`, `SPILLWAY_OPTION_INVALID`, `SPILLWAY_ABORTED`
   */
  accept(source: InstanceSource, options?: AcceptOptions): Promise<Receipt>;

  /** How every destination stands: health and why, backlog by tier, rate, estimated time to drained. */
  status(): Promise<SpillwayStatus>;

  /** Episodes, oldest first, of one destination or of all. */
  episodes(filter?: { readonly destinationId?: string }): AsyncIterable<EpisodeRecord>;

  /**
   * What became of everything that an episode held up, counted now from the deliveries themselves.
   *
   * @throws SpillwayError `SPILLWAY_NOT_FOUND`
   */
  reconciliation(episodeId: number): Promise<Reconciliation>;

  /** Deliveries that a destination refused for good, oldest first. */
  quarantined(filter?: { readonly destinationId?: string }): AsyncIterable<QuarantinedDelivery>;

  /**
   * Gives up a destination for good: its open deliveries are discarded with the reason and the person's name, which
   * stay on record. Afterwards it may be left out at the next opening. Until then it receives nothing more.
   *
   * @throws SpillwayError `SPILLWAY_NOT_FOUND`, `SPILLWAY_OPTION_INVALID`
   */
  retireDestination(retirement: { readonly id: string; readonly reason: string; readonly by: string }): Promise<void>;

  /**
   * Changes by what studies are ranked, and ranks the whole backlog anew, in bounded batches, from what the instances
   * said when they came. Sending goes on meanwhile; what is in flight is not touched, and what is taken next goes by the
   * ranks of that moment. What is not given stays as it is. The next opening is to be given the same, or ranks everything by what it is given.
   *
   * Aborting leaves the new policy in force and a part of the backlog ranked by the old one, until the next call or
   * opening.
   *
   * @throws SpillwayError `SPILLWAY_OPTION_INVALID`, `SPILLWAY_ABORTED`
   */
  reclassify(change?: ReclassifyOptions): Promise<Reclassification>;

  /**
   * Resolves when no destination has anything pending or unverified. An outage makes it wait; quarantined deliveries
   * do not. Aborting ends the waiting only.
   */
  drained(options?: AbortableOptions): Promise<void>;

  /**
   * Copies what the store holds at this moment to plain folders that any DICOM tool reads, byte for byte:
   * `<study>/<series>/<instance>.dcm`, and earlier versions of an instance as `<instance>.<arrival id>.dcm` beside it. Each
   * file is compared with the digest of what was accepted, and durable before it is counted. At the end a listing with
   * digests is written, `manifest.tsv`. Nothing is ever overwritten: exporting again to the same directory goes on.
   *
   * An instance that is damaged, missing or unreadable in the store, or whose name something else has, is reported, and
   * the rest goes on. Aborting ends it after the chunks in hand; files that were written stay, without a listing. A kill
   * may leave `.spillway-export-*.part` in the directory, which nothing takes for an instance and anybody may remove.
   *
   * @throws SpillwayError `SPILLWAY_OPTION_INVALID`, `SPILLWAY_NOT_FOUND` for a study that is not in the store (before
   * anything is written), `SPILLWAY_DIRECTORY_FAILED`, `SPILLWAY_STORE_FAILED`, `SPILLWAY_ABORTED`
   */
  exportStudies(options: ExportOptions): Promise<ExportSummary>;

  /**
   * Takes in every instance in a tree of folders, as `accept` does: of an export, a medium, or the `studies/` of a store
   * whose catalog is lost. What is no DICOM, a DICOMDIR, an unfinished file and links are skipped; what is refused is
   * reported, and the rest goes on. A store that is full or fails ends it with that error, which says how far it
   * came; importing again goes on, since what was taken is `identical`. So does aborting; what is being read is dropped.
   *
   * Versions of one instance are taken in the order of their arrival where their names are those of an export or a
   * store, in one folder; otherwise in any.
   *
   * @throws SpillwayError as `accept`, and `SPILLWAY_DIRECTORY_FAILED` when the directory cannot be read
   */
  importStudies(options: ImportOptions): Promise<ImportSummary>;

  /** Calls `listener` at each event. A listener that throws breaks nothing; it is reported as `fault`. */
  on<Name extends keyof SpillwayEvents>(name: Name, listener: (detail: SpillwayEvents[Name]) => void): this;

  /** Calls `listener` no more. */
  off<Name extends keyof SpillwayEvents>(name: Name, listener: (detail: SpillwayEvents[Name]) => void): this;

  /**
   * Takes nothing more in, lets what is being taken in end, then requests in flight, each for at most `closeTimeoutMs`,
   * and lets go of the store. An instance still being read then is refused (`SPILLWAY_CLOSED`); a request that is aborted
   * leaves its deliveries pending, to be looked up before they are sent again. Idempotent.
   */
  close(): Promise<void>;
}

class OpenedSpillway implements Spillway {
  readonly #store: OpenStore;
  readonly #options: ResolvedOptions;
  readonly #intake: Intake;
  readonly #replayers: ReadonlyMap<string, DestinationReplayer>;
  readonly #retired = new Set<string>();
  readonly #emitter = new GuardedEmitter();
  readonly #waiting = new Set<() => void>();
  readonly #closed = new AbortController();
  #ranking: Ranking;
  #closing: Promise<void> | undefined;

  constructor(store: OpenStore, options: ResolvedOptions, lastArrivalId: string | null) {
    this.#store = store;
    this.#options = options;
    const { clock } = options;
    this.#ranking = options.ranking;
    this.#replayers = new Map(
      options.destinations.map((destination) => {
        const flow = { ...defaultDestinationPolicy.flow };
        if (destination.maxConcurrency !== undefined) flow.maxConcurrency = destination.maxConcurrency;
        const replayer = new DestinationReplayer({
          destination,
          catalog: store.catalog,
          blobs: store.blobs,
          ranking: () => this.#ranking,
          policy: { ...defaultDestinationPolicy, flow },
          retry: defaultRetryPolicy,
          clock,
          random: Math.random,
          emit: (name, detail) => this.#emit(name, detail),
        });
        return [destination.id, replayer];
      }),
    );
    this.#intake = new Intake(
      {
        store,
        route: options.route,
        isRetired: (id) => this.#retired.has(id),
        destinationIds: options.destinations.map(({ id }) => id),
        ranking: () => this.#ranking,
        maxInstanceBytes: options.maxInstanceBytes,
        maxConcurrentAccepts: options.maxConcurrentAccepts,
        sourceIdleTimeoutMs: options.sourceIdleTimeoutMs,
        clock,
        referenceAt: (id, now) => this.#replayers.get(id)?.referenceAt(now) ?? now,
        onRestated: (study, urgency) => {
          for (const replayer of this.#replayers.values()) replayer.restated(study, urgency);
        },
        onAccepted: (version, ranks) => {
          for (const [id, rank] of ranks) this.#replayers.get(id)?.accepted(version.identity.studyInstanceUid, rank);
        },
        onFault: (error) => this.#emit('fault', { error }),
      },
      lastArrivalId,
    );
  }

  async start(): Promise<void> {
    for (const replayer of this.#replayers.values()) await replayer.start();
  }

  async accept(source: InstanceSource, options: AcceptOptions = {}): Promise<Receipt> {
    this.#assertOpen();
    checkAcceptOptions(options);
    return this.#intake.accept(source, options);
  }

  async status(): Promise<SpillwayStatus> {
    this.#assertOpen();
    const replayers = [...this.#replayers.values()].filter(({ id }) => !this.#retired.has(id));
    return { destinations: await Promise.all(replayers.map((replayer) => replayer.status())) };
  }

  async *episodes(filter: { readonly destinationId?: string } = {}): AsyncGenerator<EpisodeRecord> {
    for (let afterId = 0; ; ) {
      this.#assertOpen();
      const page = await this.#store.catalog.episodes({ ...filter, afterId, limit: PAGE_SIZE });
      yield* page;
      if (page.length < PAGE_SIZE) return;
      afterId = page.at(-1)?.id ?? afterId;
    }
  }

  async reconciliation(episodeId: number): Promise<Reconciliation> {
    this.#assertOpen();
    const [episode] = await this.#store.catalog.episodes({ afterId: episodeId - 1, limit: 1 });
    if (episode?.id !== episodeId) {
      throw new SpillwayError('SPILLWAY_NOT_FOUND', `Expected the id of an episode, got ${episodeId}.`);
    }
    return reconcile(this.#store.catalog, episode, this.#ranking.policy);
  }

  async *quarantined(filter: { readonly destinationId?: string } = {}): AsyncGenerator<QuarantinedDelivery> {
    this.#assertOpen();
    const known = await this.#store.catalog.destinations();
    for (const { destinationId } of known) {
      if (filter.destinationId !== undefined && filter.destinationId !== destinationId) continue;
      for (let afterId = 0; ; ) {
        this.#assertOpen();
        const page = await this.#store.catalog.deliveries({
          destinationId,
          state: 'quarantined',
          afterId,
          limit: PAGE_SIZE,
        });
        yield* page;
        if (page.length < PAGE_SIZE) break;
        afterId = page.at(-1)?.id ?? afterId;
      }
    }
  }

  async retireDestination(retirement: {
    readonly id: string;
    readonly reason: string;
    readonly by: string;
  }): Promise<void> {
    this.#assertOpen();
    const { id, reason, by } = retirement;
    for (const [name, value] of Object.entries({ id, reason, by })) {
      if (typeof value === 'string' && value.trim() !== '') continue;
      throw new SpillwayError(
        'SPILLWAY_OPTION_INVALID',
        `Expected retireDestination({ id, reason, by }) with a text for ${name}, got ${JSON.stringify(value)}.`,
      );
    }
    const known = (await this.#store.catalog.destinations()).some(({ destinationId }) => destinationId === id);
    if (!known) throw new SpillwayError('SPILLWAY_NOT_FOUND', `Expected the id of a destination, got "${id}".`);
    this.#retired.add(id);
    // What was routed to it before is committed first.
    await this.#intake.flush();
    try {
      await this.#store.catalog.retireDestination({ destinationId: id, reason, by, at: this.#options.clock.now() });
    } catch (error) {
      this.#retired.delete(id);
      throw error;
    }
    // What is still in flight settles nothing any more.
    await this.#replayers.get(id)?.stop(this.#options.closeTimeoutMs);
  }

  async reclassify(change: ReclassifyOptions = {}): Promise<Reclassification> {
    this.#assertOpen();
    this.#ranking = changedRanking(this.#ranking, change);
    // What was judged by the old policy is committed first, so that it is judged again.
    await this.#intake.flush();
    const replayers = [...this.#replayers.values()].filter(({ id }) => !this.#retired.has(id));
    const ranked = await Promise.all(replayers.map((replayer) => replayer.reclassify(change.signal)));
    const sum = (key: keyof Reclassification) => ranked.reduce((total, backlog) => total + backlog[key], 0);
    return { studies: sum('studies'), changed: sum('changed') };
  }

  async drained(options: AbortableOptions = {}): Promise<void> {
    // The clock's timers keep no process alive, and an outage may leave nothing else that does.
    const alive = setInterval(() => {}, MAX_TIMER_MS);
    try {
      await this.#untilDrained(options.signal);
    } finally {
      clearInterval(alive);
    }
  }

  async #untilDrained(signal: AbortSignal | undefined): Promise<void> {
    for (;;) {
      if (signal?.aborted) {
        throw new SpillwayError('SPILLWAY_ABORTED', 'Waiting was aborted by its signal.', { cause: signal.reason });
      }
      let wake = () => {};
      // Before looking, so that nothing that moves meanwhile is missed.
      const moved = new Promise<void>((resolve) => {
        wake = resolve;
      });
      this.#waiting.add(wake);
      signal?.addEventListener('abort', wake, { once: true });
      try {
        const { destinations } = await this.status();
        if (destinations.every(({ backlog }) => backlog.instances === 0)) return;
        await moved;
      } finally {
        this.#waiting.delete(wake);
        signal?.removeEventListener('abort', wake);
      }
    }
  }

  async exportStudies(options: ExportOptions): Promise<ExportSummary> {
    this.#assertOpen();
    return exportStudies({ ...this.#store, closed: this.#closed.signal }, options);
  }

  async importStudies(options: ImportOptions): Promise<ImportSummary> {
    this.#assertOpen();
    return importStudies({ accept: (path, how) => this.accept(path, how) }, options);
  }

  on<Name extends keyof SpillwayEvents>(name: Name, listener: (detail: SpillwayEvents[Name]) => void): this {
    this.#emitter.on(name, listener);
    return this;
  }

  off<Name extends keyof SpillwayEvents>(name: Name, listener: (detail: SpillwayEvents[Name]) => void): this {
    this.#emitter.off(name, listener);
    return this;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    this.#wakeWaiting();
    this.#closed.abort(new SpillwayError('SPILLWAY_CLOSED', 'The spillway was closed.'));
    await this.#intake.close(this.#options.closeTimeoutMs);
    await Promise.all([...this.#replayers.values()].map((replayer) => replayer.stop(this.#options.closeTimeoutMs)));
    await this.#store.close();
    this.#emitter.removeAllListeners();
  }

  #emit<Name extends keyof SpillwayEvents>(name: Name, detail: SpillwayEvents[Name]): void {
    this.#emitter.emit(name, detail);
    if (name === 'progress') this.#wakeWaiting();
  }

  #wakeWaiting(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) throw new SpillwayError('SPILLWAY_CLOSED', 'The spillway is closed.');
  }
}
