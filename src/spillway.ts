import type { AbortableOptions } from './domain/abort.ts';
import type { Clock } from './domain/clock.ts';
import type { Delivery, DeliveryFilter, VersionRecord } from './domain/delivery.ts';
import type { EpisodeRecord } from './domain/episode.ts';
import type { LogEntry } from './domain/log.ts';
import type { Receipt } from './domain/receipt.ts';
import type { SpillwayEvents } from './events.ts';
import type { ExportOptions, ExportSummary } from './folders/export-studies.ts';
import type { ImportOptions, ImportSummary } from './folders/import-studies.ts';
import type { AcceptOptions, Route } from './intake.ts';
import type { InstanceSource } from './intake-source.ts';
import { OpenedSpillway } from './opened-spillway.ts';
import { resolveOptions } from './options.ts';
import { assertNoOrphans } from './orphaned-backlog.ts';
import type { Reclassification } from './replay/backlog-ranking.ts';
import type { DiscardOptions, RedriveOptions, RedriveReport } from './replay/decisions.ts';
import type { DestinationStatus } from './replay/events.ts';
import type { Reconciliation } from './replay/reconciliation.ts';
import type { ReverifyOptions, ReverifyReport } from './replay/reverify.ts';
import type { RetentionOptions } from './retention/policy.ts';
import type { StorageStatus } from './retention/store-keeper.ts';
import type { VerifyOptions, VerifyReport } from './retention/verify.ts';
import type { ReferenceInstant } from './routing/order.ts';
import type { HourlyTotal, StudyFilter, StudyRecord } from './storage/catalog.ts';
import type { Store } from './storage/store.ts';
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
  /** How long verified studies stay, and what goes first where there is no room. */
  readonly retention?: RetentionOptions | undefined;
  /** Rows and files that the walk after each opening looks at in a second. @default 2,000 */
  readonly checksPerSecond?: number | undefined;
  /**
   * The catalog is copied so often, in ms; where it is lost, what came since is known from its files alone.
   * @default 3,600,000: an hour
   */
  readonly snapshotIntervalMs?: number | undefined;
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

/** A planned downtime of a destination. */
export interface PlannedOutageOptions {
  readonly destinationId: string;
  /** Why, for people; it is the cause of the episode. No patient data. */
  readonly reason: string;
  /** A person's name, or the program that decides; it stays on record. */
  readonly by: string;
  /** When it should be over, ms since the epoch. @default nobody knows */
  readonly expectedEndAt?: number | null | undefined;
}

/** How everything stands. */
export interface SpillwayStatus {
  readonly destinations: readonly DestinationStatus[];
  readonly storage: StorageStatus;
}

/** Who says where instances go that only their files tell of. */
export interface Confirmation extends AbortableOptions {
  /** Which, by arrival id. @default all that are unconfirmed */
  readonly arrivalIds?: readonly string[] | undefined;
  /** Ids of the destinations that they go to. @default as `route` says; it is given no source */
  readonly destinations?: readonly string[] | undefined;
  /** A person's name, or the program that decides; it stays on record. */
  readonly by: string;
}

/** A delivery that was put aside, with its reason. */
export type QuarantinedDelivery = Delivery;

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

  /**
   * Everything of an episode's set that is not verified: pending and sent, quarantined, discarded. One that moves
   * meanwhile may come twice. `deliveriesCsv` makes lines of it.
   *
   * @throws SpillwayError `SPILLWAY_NOT_FOUND`
   */
  notVerified(episodeId: number): AsyncIterable<Delivery>;

  /**
   * Deliveries that a destination refused for good, by destination, oldest first.
   *
   * @throws SpillwayError `SPILLWAY_OPTION_INVALID`, `SPILLWAY_NOT_FOUND` for a destination that was never known
   */
  quarantined(filter?: DeliveryFilter): AsyncIterable<QuarantinedDelivery>;

  /**
   * Has quarantined deliveries tried again, as if they had just been accepted, in the order of their rank; those that are
   * refused again come back. Only to destinations in use. It refuses to guess: without a filter or arrival ids it wants
   * `all: true`. Works page by page; aborting leaves standing what was done.
   *
   * @throws SpillwayError `SPILLWAY_OPTION_INVALID`, `SPILLWAY_NOT_FOUND`, `SPILLWAY_ABORTED`
   */
  redrive(options: RedriveOptions): Promise<RedriveReport>;

  /**
   * Gives deliveries up for good, quarantined ones or (`state: 'open'`) those still owed, and returns how many: they are
   * sent no more, also after a rebuild of the catalog. Requests in flight that carry them are waited for, which the signal
   * may abort; what was verified by one of these stays so. When it resolves, nothing of what was given up can still leave.
   * The reason and the person's name stay on record. Which, as for `redrive`.
   *
   * @throws SpillwayError `SPILLWAY_OPTION_INVALID`, `SPILLWAY_NOT_FOUND`, `SPILLWAY_ABORTED`
   */
  discard(options: DiscardOptions): Promise<number>;

  /**
   * Asks a destination again, newest first and at a bounded rate, whether it holds what was verified there, for instance
   * after it was restored from a backup (`rollback-suspected`). What it does not hold, or holds as another version,
   * returns to the backlog; so does what was deleted there on purpose. What cannot be asked about stays verified and is
   * counted as `unknown`. A query shows a UID, so that an earlier version is noticed only where a delivery was `compared`.
   *
   * A destination that stops answering, or is down or in a planned outage, ends it early, with a report that says so
   * (`isComplete`); `until: reachedBackTo` goes on from there. Aborting leaves standing what was found.
   *
   * @throws SpillwayError `SPILLWAY_OPTION_INVALID`, also where the transport neither looks up nor reads back;
   * `SPILLWAY_NOT_FOUND`, `SPILLWAY_BUSY` while another is under way there, `SPILLWAY_ABORTED`
   */
  reverify(options: ReverifyOptions): Promise<ReverifyReport>;

  /**
   * Gives up a destination for good: its open deliveries are discarded with the reason and the person's name, which
   * stay on record. Afterwards it may be left out at the next opening. Until then it receives nothing more. What was open
   * there is owed to its standbys, if it has any.
   *
   * @throws SpillwayError `SPILLWAY_NOT_FOUND`, `SPILLWAY_OPTION_INVALID`
   */
  retireDestination(retirement: { readonly id: string; readonly reason: string; readonly by: string }): Promise<void>;

  /**
   * Declares a planned downtime: from now on nothing is sent to the destination and it is not asked, until `endOutage` is
   * called, also by a later process. Requests in flight end by themselves. It is an episode like any other; an outage
   * under way becomes a planned one. Declaring again changes what was said. Past its expected end, it is told once
   * (`overdue`), and nothing else happens: only a person knows whether the work there is done.
   *
   * @throws SpillwayError `SPILLWAY_OPTION_INVALID`, `SPILLWAY_NOT_FOUND`
   */
  declareOutage(outage: PlannedOutageOptions): Promise<EpisodeRecord>;

  /**
   * Ends a planned downtime: the destination is asked, one real instance is tried, and its backlog is sent once it stores.
   *
   * @throws SpillwayError `SPILLWAY_OPTION_INVALID`, `SPILLWAY_NOT_FOUND` where none was declared
   */
  endOutage(end: { readonly destinationId: string; readonly by: string }): Promise<void>;

  /**
   * Starts no more requests to a destination, or to all. What is in flight ends by itself and counts; resolves when nothing
   * is. Instances are taken in as ever, and outages are still noticed. It ends with `resume`, or with the process.
   *
   * @throws SpillwayError `SPILLWAY_NOT_FOUND`
   */
  pause(which?: { readonly destinationId?: string }): Promise<void>;

  /** Takes up sending again. What was not paused is left as it is. */
  resume(which?: { readonly destinationId?: string }): void;

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

  /** Studies that are held, evicted ones left out, by study UID. */
  studies(filter?: Omit<StudyFilter, 'after' | 'limit'>): AsyncIterable<StudyRecord>;

  /**
   * Instances that only their files told of, since the catalog was lost or power failed between two syncs. They are kept
   * and can be read, and are delivered nowhere until they are confirmed, or come again.
   */
  unconfirmed(): AsyncIterable<VersionRecord>;

  /**
   * Has unconfirmed instances delivered, and returns how many. What a person has discarded stays so.
   *
   * @throws SpillwayError `SPILLWAY_OPTION_INVALID`, `SPILLWAY_ROUTE_INVALID`, `SPILLWAY_ABORTED`
   */
  confirm(confirmation: Confirmation): Promise<number>;

  /**
   * Reads everything that is held again, at a bounded rate, and compares its digests; follows the chain of the event log.
   * What is not what it was is set aside and `missing` from then on: it is quarantined where it was still to be delivered,
   * and taken again when it comes again.
   *
   * @throws SpillwayError `SPILLWAY_ABORTED`
   */
  verify(options?: VerifyOptions): Promise<VerifyReport>;

  /** The event log, oldest first: outages, quarantine, retirement, evictions, rebuilds. Its entries are chained by hashes. */
  log(filter?: { readonly afterId?: number }): AsyncIterable<LogEntry>;

  /** What was received by hour and modality, from `from` to before `to` (ms since the epoch); evicted studies included. */
  hourlyTotals(span: { readonly from: number; readonly to: number }): AsyncIterable<HourlyTotal>;

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
