import { checkDeliveryFilter, checkDiscard, checkRedrive, checkReverify } from './decision-options.ts';
import { DestinationGroup } from './destination-group.ts';
import { checkedFile } from './dicom/checked-file.ts';
import type { AbortableOptions } from './domain/abort.ts';
import type { Delivery, DeliveryFilter, VersionRecord } from './domain/delivery.ts';
import type { EpisodeRecord } from './domain/episode.ts';
import type { LogEntry } from './domain/log.ts';
import type { Receipt } from './domain/receipt.ts';
import { SpillwayError } from './errors.ts';
import type { SpillwayEvents } from './events.ts';
import { type ExportOptions, type ExportSummary, exportStudies } from './folders/export-studies.ts';
import { type ImportOptions, type ImportSummary, importStudies } from './folders/import-studies.ts';
import { GuardedEmitter } from './guarded-emitter.ts';
import { type AcceptOptions, Intake } from './intake.ts';
import { abortedError, type InstanceSource } from './intake-source.ts';
import {
  changedRanking,
  checkAcceptOptions,
  checkConfirmation,
  checkListing,
  checkOutageEnd,
  checkPlannedOutage,
  checkSpan,
  checkStudyFilter,
  checkVerifyOptions,
  policyOf,
  type ResolvedOptions,
} from './options.ts';
import type { Ranking, Reclassification } from './replay/backlog-ranking.ts';
import {
  type DecisionContext,
  type DiscardOptions,
  deliveriesOf,
  discard,
  type RedriveOptions,
  type RedriveReport,
  redrive,
} from './replay/decisions.ts';
import { DestinationReplayer } from './replay/destination-replayer.ts';
import { notVerifiedOf } from './replay/not-verified.ts';
import { type Reconciliation, reconcile } from './replay/reconciliation.ts';
import type { ReverifyOptions, ReverifyReport } from './replay/reverify.ts';
import type { PlacedBytes } from './retention/examine.ts';
import { StoreKeeper } from './retention/store-keeper.ts';
import type { VerifyOptions, VerifyReport } from './retention/verify.ts';
import type {
  Confirmation,
  PlannedOutageOptions,
  QuarantinedDelivery,
  ReclassifyOptions,
  Spillway,
  SpillwayStatus,
} from './spillway.ts';
import type { HourlyTotal, StudyFilter, StudyRecord } from './storage/catalog.ts';
import type { OpenStore } from './storage/store.ts';

const PAGE_SIZE = 500;
const MAX_TIMER_MS = 2 ** 31 - 1;

/** A spillway that is open: joins intake, replay and what looks after the store. */
export class OpenedSpillway implements Spillway {
  readonly #store: OpenStore;
  readonly #options: ResolvedOptions;
  readonly #intake: Intake;
  readonly #keeper: StoreKeeper;
  readonly #destinations: DestinationGroup;
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
    this.#destinations = new DestinationGroup({
      destinations: options.destinations,
      catalog: store.catalog,
      replayer: (destination) =>
        new DestinationReplayer({
          destination,
          catalog: store.catalog,
          read: (delivery) => checkedFile(store.blobs.read(delivery.blobRef), delivery, () => this.#damaged(delivery)),
          ranking: () => this.#ranking,
          policy: policyOf(destination),
          clock,
          random: Math.random,
          emit: (name, detail) => this.#emit(name, detail),
          takeOver: () => this.#destinations.takeOver(destination.id),
        }),
      flush: () => this.#intake.flush(),
      isClosing: () => this.#closing !== undefined,
    });
    this.#keeper = new StoreKeeper({
      store,
      clock,
      policy: options.retention,
      checksPerSecond: options.checksPerSecond,
      snapshotIntervalMs: options.snapshotIntervalMs,
      isAnyDown: () => this.#destinations.isAnyDown,
      isPlacing: (arrivalId) => this.#intake.isPlacing(arrivalId),
      emit: (name, detail) => this.#emit(name, detail),
      onFault: (error) => this.#emit('fault', { error }),
    });
    this.#intake = new Intake(
      {
        room: this.#keeper.evictor,
        onDamaged: (version) => this.#keeper.damaged(version, true),
        store,
        route: options.route,
        receives: (id, routed) => this.#destinations.receives(id, routed),
        destinationIds: options.destinations.map(({ id }) => id),
        ranking: () => this.#ranking,
        maxInstanceBytes: options.maxInstanceBytes,
        maxConcurrentAccepts: options.maxConcurrentAccepts,
        sourceIdleTimeoutMs: options.sourceIdleTimeoutMs,
        clock,
        referenceAt: (id, now) => this.#destinations.get(id)?.referenceAt(now) ?? now,
        onRestated: (study, urgency) => {
          for (const replayer of this.#destinations.all) replayer.restated(study, urgency);
        },
        onAccepted: (version, ranks) => {
          for (const [id, rank] of ranks) {
            this.#destinations.get(id)?.accepted(version.identity.studyInstanceUid, rank, version.bytes);
          }
        },
        onFault: (error) => this.#emit('fault', { error }),
      },
      lastArrivalId,
    );
  }

  async start(): Promise<void> {
    for (const replayer of this.#destinations.all) await replayer.start();
    this.#keeper.start();
  }

  async accept(source: InstanceSource, options: AcceptOptions = {}): Promise<Receipt> {
    this.#assertOpen();
    checkAcceptOptions(options);
    return this.#intake.accept(source, options);
  }

  async status(): Promise<SpillwayStatus> {
    this.#assertOpen();
    const replayers = this.#destinations.inUse;
    const [destinations, storage] = await Promise.all([
      Promise.all(replayers.map((replayer) => replayer.status())),
      this.#keeper.status(),
    ]);
    return { destinations, storage };
  }

  async *studies(filter: Omit<StudyFilter, 'after' | 'limit'> = {}): AsyncGenerator<StudyRecord> {
    checkStudyFilter(filter);
    yield* this.#pages<StudyRecord>((last) =>
      this.#store.catalog.studies({ ...filter, after: last?.studyInstanceUid ?? '', limit: PAGE_SIZE }),
    );
  }

  async *unconfirmed(): AsyncGenerator<VersionRecord> {
    yield* this.#pages<VersionRecord>((last) => {
      const afterArrivalId = last?.arrivalId ?? '';
      return this.#store.catalog.versions({ presence: 'unconfirmed', afterArrivalId, limit: PAGE_SIZE });
    });
  }

  /** @param read - The page from after the last of the one before. */
  async *#pages<T>(read: (last: T | undefined) => Promise<readonly T[]>): AsyncGenerator<T> {
    for (let last: T | undefined; ; ) {
      this.#assertOpen();
      const page = await read(last);
      yield* page;
      if (page.length < PAGE_SIZE) return;
      last = page.at(-1);
    }
  }

  async confirm(confirmation: Confirmation): Promise<number> {
    this.#assertOpen();
    const { arrivalIds, destinations, by, signal } = checkConfirmation(
      confirmation,
      this.#destinations.inUse.map(({ id }) => id),
    );
    let confirmed = 0;
    const confirmOne = async (arrivalId: string) => {
      if (signal?.aborted) throw abortedError(signal);
      confirmed += Number(await this.#intake.confirm(arrivalId, destinations));
    };
    try {
      if (arrivalIds !== undefined) for (const arrivalId of arrivalIds) await confirmOne(arrivalId);
      else for await (const { arrivalId } of this.unconfirmed()) await confirmOne(arrivalId);
    } finally {
      const at = this.#options.clock.now();
      if (confirmed > 0)
        await this.#store.catalog.appendLog({ at, kind: 'confirmed', detail: { by, instances: confirmed } });
    }
    return confirmed;
  }

  async verify(options: VerifyOptions = {}): Promise<VerifyReport> {
    this.#assertOpen();
    return this.#keeper.verify(checkVerifyOptions(options));
  }

  async *log(filter: { readonly afterId?: number } = {}): AsyncGenerator<LogEntry> {
    checkListing('log', filter, ['afterId']);
    yield* this.#pages<LogEntry>((last) =>
      this.#store.catalog.log({ afterId: last?.id ?? filter.afterId ?? 0, limit: PAGE_SIZE }),
    );
  }

  async *hourlyTotals(span: { readonly from: number; readonly to: number }): AsyncGenerator<HourlyTotal> {
    checkSpan(span);
    yield* this.#pages<HourlyTotal>((last) => {
      const key = last === undefined ? {} : { after: { hour: last.hour, modality: last.modality } };
      return this.#store.catalog.hourlyTotals({ ...span, ...key, limit: PAGE_SIZE });
    });
  }

  async *episodes(filter: { readonly destinationId?: string } = {}): AsyncGenerator<EpisodeRecord> {
    checkListing('episodes', filter, ['destinationId']);
    yield* this.#pages<EpisodeRecord>((last) =>
      this.#store.catalog.episodes({ ...filter, afterId: last?.id ?? 0, limit: PAGE_SIZE }),
    );
  }

  async reconciliation(episodeId: number): Promise<Reconciliation> {
    this.#assertOpen();
    return reconcile(this.#store.catalog, await this.#episode(episodeId), this.#ranking.policy);
  }

  async #episode(episodeId: number): Promise<EpisodeRecord> {
    const [episode] = await this.#store.catalog.episodes({ afterId: episodeId - 1, limit: 1 });
    if (episode?.id === episodeId) return episode;
    throw new SpillwayError('SPILLWAY_NOT_FOUND', `Expected the id of an episode, got ${episodeId}.`);
  }

  async *notVerified(episodeId: number): AsyncGenerator<Delivery> {
    this.#assertOpen();
    await this.#episode(episodeId);
    for await (const delivery of notVerifiedOf(this.#store.catalog, episodeId)) {
      this.#assertOpen();
      yield delivery;
    }
  }

  async *quarantined(filter: DeliveryFilter = {}): AsyncGenerator<QuarantinedDelivery> {
    this.#assertOpen();
    const which = checkDeliveryFilter(filter);
    for (const destinationId of await this.#known(which.destinationId)) {
      for await (const page of deliveriesOf(this.#store.catalog, destinationId, 'quarantined', which)) {
        this.#assertOpen();
        yield* page;
      }
    }
  }

  async redrive(options: RedriveOptions): Promise<RedriveReport> {
    this.#assertOpen();
    const checked = checkRedrive(options);
    // To one that is not sent to they would be owed for ever.
    const { destinationId } = checked;
    const destinationIds = this.#destinations
      .which(destinationId === undefined ? {} : { destinationId })
      .map(({ id }) => id);
    return redrive(this.#deciding(destinationIds), checked);
  }

  async discard(options: DiscardOptions): Promise<number> {
    this.#assertOpen();
    const checked = checkDiscard(options);
    return discard(this.#deciding(await this.#known(checked.destinationId)), checked);
  }

  #deciding(destinationIds: readonly string[]): DecisionContext {
    return {
      catalog: this.#store.catalog,
      destinationIds,
      now: () => this.#options.clock.now(),
      onOwed: (id) => this.#destinations.get(id)?.owesAgain(),
      givingUp: (id, deliveryIds, signal, giveUp) =>
        this.#destinations.get(id)?.giveUp(deliveryIds, signal, giveUp) ?? giveUp(),
    };
  }

  /** The destination of this id, or all that were ever known. */
  async #known(destinationId: string | undefined): Promise<readonly string[]> {
    const ids = (await this.#store.catalog.destinations()).map((known) => known.destinationId);
    if (destinationId === undefined) return ids;
    if (ids.includes(destinationId)) return [destinationId];
    throw new SpillwayError('SPILLWAY_NOT_FOUND', `Expected the id of a destination, got "${destinationId}".`);
  }

  async reverify(options: ReverifyOptions): Promise<ReverifyReport> {
    this.#assertOpen();
    const checked = checkReverify(options, this.#options.clock.now());
    return this.#destinations.require(checked.destination).evidence.reverify(checked);
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
    this.#destinations.retire(id);
    // What was routed to it before is committed first.
    await this.#intake.flush();
    try {
      // It is down for good, and its standbys receive from now on.
      await this.#destinations.takeOver(id);
      await this.#store.catalog.retireDestination({ destinationId: id, reason, by, at: this.#options.clock.now() });
    } catch (error) {
      this.#destinations.unretire(id);
      throw error;
    }
    this.#keeper.evictor.mayEvictMore();
    // What is still in flight settles nothing any more.
    await this.#destinations.get(id)?.retire(this.#options.closeTimeoutMs);
    this.#wakeWaiting();
  }

  async declareOutage(outage: PlannedOutageOptions): Promise<EpisodeRecord> {
    this.#assertOpen();
    const { destinationId, reason, by, expectedEndAt = null } = checkPlannedOutage(outage, this.#options.clock.now());
    return this.#destinations.require(destinationId).declareOutage({ reason, by, expectedEndAt });
  }

  async endOutage(end: { readonly destinationId: string; readonly by: string }): Promise<void> {
    this.#assertOpen();
    const { destinationId, by } = checkOutageEnd(end);
    await this.#destinations.require(destinationId).endOutage(by);
  }

  async pause(which: { readonly destinationId?: string } = {}): Promise<void> {
    this.#assertOpen();
    await Promise.all(this.#destinations.which(which).map((replayer) => replayer.pause()));
  }

  resume(which: { readonly destinationId?: string } = {}): void {
    this.#assertOpen();
    for (const replayer of this.#destinations.which(which)) replayer.resume();
  }

  async reclassify(change: ReclassifyOptions = {}): Promise<Reclassification> {
    this.#assertOpen();
    this.#ranking = changedRanking(this.#ranking, change);
    // What was judged by the old policy is committed first, so that it is judged again.
    await this.#intake.flush();
    const replayers = this.#destinations.inUse;
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
    // The clock's timers keep no process alive, and may be all that there is to wait for.
    const alive = setInterval(() => {}, MAX_TIMER_MS);
    try {
      await this.#end();
    } finally {
      clearInterval(alive);
    }
  }

  async #end(): Promise<void> {
    this.#wakeWaiting();
    this.#closed.abort(new SpillwayError('SPILLWAY_CLOSED', 'The spillway was closed.'));
    await this.#intake.close(this.#options.closeTimeoutMs);
    await Promise.all([...this.#destinations.all].map((replayer) => replayer.stop(this.#options.closeTimeoutMs)));
    await this.#keeper.close();
    await this.#store.close();
    this.#emitter.removeAllListeners();
  }

  #emit(name: keyof SpillwayEvents, detail: SpillwayEvents[keyof SpillwayEvents]): void {
    this.#emitter.emit(name, detail);
    if (name === 'progress') this.#wakeWaiting();
    if (name === 'delivery') this.#keeper.evictor.mayEvictMore();
  }

  #damaged(version: PlacedBytes): void {
    this.#keeper.damaged(version).catch((error) => this.#emit('fault', { error }));
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
