import type {
  Delivery,
  DeliveryFilter,
  DeliveryState,
  Evidence,
  Lane,
  Presence,
  VersionRecord,
} from '../domain/delivery.ts';
import type { EpisodeCounts, EpisodeRecord, EpisodeTierCounts } from '../domain/episode.ts';
import type { LogDetail, LogEntry } from '../domain/log.ts';
import type { Urgency } from '../domain/rank.ts';
import type {
  Acceptance,
  AcceptanceResult,
  CommitmentTransaction,
  DestinationRecord,
  Eviction,
  EvictionBlock,
  EvictionTerms,
  FoundInstance,
  Holdings,
  HourlyTotal,
  LeasedStudy,
  RankedStudy,
  RankingFacts,
  Settlement,
  StudyFilter,
  StudyRecord,
  TierBacklog,
} from './catalog-records.ts';

export type * from './catalog-records.ts';

/**
 * Identities, deliveries, leases and episodes. The catalog is the truth: what it has committed survives a crash of the
 * process, of the operating system and of the power (`durable` says whether the adapter can promise that).
 *
 * Every method is one transaction: it happens whole or not at all, and its effects are seen by every later call.
 * Methods that return a promise resolve only when the change is durable. Calls may overlap; the adapter orders them.
 * Pages are by key and bounded by `limit`; no method holds anything open between calls. Failures are `SpillwayError`s:
 * `SPILLWAY_STORE_FULL` when there was no room, otherwise `SPILLWAY_STORE_FAILED`.
 *
 * A delivery is *open* while it is `pending` or `sent`, and final afterwards.
 */
export interface Catalog {
  /** False for adapters whose contents end with the process. */
  readonly durable: boolean;

  /** The greatest arrival id ever committed, or null. */
  lastArrivalId(): Promise<string | null>;

  /** Whether a version with this arrival id has its bytes here (`kept` or `unconfirmed`). */
  hasArrival(arrivalId: string): Promise<boolean>;

  /** The version with this SOP Instance UID, transfer syntax and digest, if there is one. */
  findVersion(key: {
    readonly sopInstanceUid: string;
    readonly transferSyntaxUid: string;
    readonly digest: string;
  }): Promise<VersionRecord | null>;

  /**
   * Commits acceptances in the given order, all in one transaction, each with its deliveries `pending` with evidence
   * `accepted`, and merges each rank into its study's (`mergeRank`). The result has one entry for each acceptance.
   * A version that is known and `kept` changes nothing (`identical`), also when the earlier one is in the same batch.
   * One that is known otherwise (`Presence`) is `restored`: it keeps its arrival id, its bytes are where the reference
   * offered says, and it is delivered as routed, except where a delivery of it is open (whose study's rank is merged all
   * the same) or was discarded. One that is `evicting` is refused (`SPILLWAY_STORE_FAILED`), and the batch with it.
   * Deliveries of a further version under a SOP Instance UID are marked `furtherVersion`. What a person had discarded in a
   * catalog that was rebuilt since is accepted, and not delivered where it was discarded.
   */
  accept(batch: readonly Acceptance[]): Promise<readonly AcceptanceResult[]>;

  /**
   * The caller said more of the order of a version that stands: it counts if it is more urgent than what was known, in
   * `rankingFacts` and for the ranks of its study at every destination that it goes to. Returns whether it does.
   */
  restateUrgency(restatement: { readonly arrivalId: string; readonly urgency: Urgency }): Promise<boolean>;

  /** Versions by arrival, of one study or of all: those in one state, or by default those whose bytes are here. */
  versions(page: {
    readonly studyInstanceUid?: string;
    readonly presence?: Presence;
    readonly afterArrivalId?: string;
    readonly limit: number;
  }): Promise<readonly VersionRecord[]>;

  /** Studies of which bytes are here, by study UID. */
  studies(filter: StudyFilter): Promise<readonly StudyRecord[]>;

  /** How much is held. */
  held(): Promise<Holdings>;

  /** Hours from `from` to before `to`, ms since the epoch, ascending, then by modality; from after the entry `after`. */
  hourlyTotals(page: {
    readonly from: number;
    readonly to: number;
    readonly after?: Pick<HourlyTotal, 'hour' | 'modality'>;
    readonly limit: number;
  }): Promise<readonly HourlyTotal[]>;

  /**
   * Studies that may be evicted, least recently received first: every version whose bytes are here is verified at each
   * destination in use that it was routed to, and at one at least, by the evidence asked for.
   */
  evictable(page: EvictionTerms & { readonly limit: number }): Promise<readonly StudyRecord[]>;

  /** All studies by whether and why not they may be evicted; empty reasons are left out. May take long: O(studies). */
  evictionBlocks(terms: EvictionTerms): Promise<readonly EvictionBlock[]>;

  /** Marks a whole study `evicting`, or returns null when it may not be evicted (any more). Nobody reads it from then on. */
  beginEviction(
    eviction: EvictionTerms & { readonly studyInstanceUid: string; readonly at: number },
  ): Promise<Eviction | null>;

  /** The bytes of a study that was `evicting` are gone: it is `evicted`, and what it said of its patient is forgotten. */
  endEviction(eviction: { readonly studyInstanceUid: string; readonly at: number }): Promise<void>;

  /** Evictions that began and have not ended, such as at a crash. */
  evictions(page: { readonly limit: number }): Promise<readonly Eviction[]>;

  /** Those of the arrival ids, at most 1,000, that belong to no version that is `kept`, `unconfirmed` or `evicting`. */
  unknownArrivals(arrivalIds: readonly string[]): Promise<readonly string[]>;

  /**
   * Records instances that only their files tell of as `unconfirmed` (`taken`): they can be read, and are delivered
   * nowhere until they are accepted again (`restored`). Decisions that were made about one stand. Where the version is
   * `missing` or `evicted`, its bytes are back (`taken` as well): it is `kept` under its own arrival id, or
   * `unconfirmed` where no delivery of it is open or verified, so that accepting it again delivers it. `known`: these
   * bytes are here. `duplicate`: the version is here under another arrival id; these bytes are not needed.
   */
  takeUp(found: {
    readonly instances: readonly FoundInstance[];
    readonly at: number;
  }): Promise<readonly ('taken' | 'known' | 'duplicate')[]>;

  /** The bytes of a version are gone without an eviction. Returns false, and does nothing, unless it was held. */
  markMissing(missing: { readonly arrivalId: string; readonly at: number }): Promise<boolean>;

  /** Header values, source and urgency as they were accepted; null for what is unknown or evicted. */
  acceptanceOf(arrivalId: string): Promise<Omit<Acceptance, 'deliveries'> | null>;

  /** Makes a destination known, and takes back its retirement. Idempotent. */
  registerDestination(destinationId: string): Promise<void>;

  /** Every destination ever registered, by id. */
  destinations(): Promise<readonly DestinationRecord[]>;

  /** Marks it retired and discards its open deliveries with the reason. Leases on them are void. */
  retireDestination(retirement: {
    readonly destinationId: string;
    readonly reason: string;
    readonly by: string;
    readonly at: number;
  }): Promise<void>;

  /**
   * Leases up to `limit` studies that have open deliveries due at `now` and are not leased, most urgent first
   * (`compareRank`, then study UID). A lease lasts until it is released or the catalog is opened anew; opening voids
   * all former leases, and what they had leased comes back as `interrupted` until such a lease is released with `clarified`.
   *
   * A study is of the backlog when it had open deliveries while an episode of the destination had neither ended nor
   * been closed, or when that episode was opened; it is live again with the first delivery that it receives once nothing of it
   * is open and no such episode is. What `returnToBacklog` returns is of the backlog, too. `lane` asks for those of one
   * kind (`history`: of the backlog, and of the tier `historyTier` or a later one, which `backlog` leaves out then);
   * without it for all.
   */
  leaseStudies(request: {
    readonly destinationId: string;
    readonly now: number;
    readonly limit: number;
    readonly lane?: Lane;
    /** The index of the tier that is a lane of its own; without it there is no such lane. */
    readonly historyTier?: number;
  }): Promise<readonly LeasedStudy[]>;

  /**
   * Ends leases. Open deliveries are due at `deferUntil` at the earliest, where given. A stale lease is ignored.
   * `clarified`: true where what an interrupted send may have brought there has been asked for, so that these are
   * interrupted no more; false where some of it may have arrived and has not been asked for, so that they are.
   */
  releaseStudies(release: {
    readonly destinationId: string;
    readonly leases: readonly number[];
    readonly deferUntil?: number;
    readonly clarified?: boolean;
  }): Promise<void>;

  /** No open delivery of the destination is due later than `latest`: the clock may have gone back. */
  boundDelays(bound: { readonly destinationId: string; readonly latest: number }): Promise<void>;

  /**
   * Open deliveries of a leased study that are due at `now`, ascending by id from after `afterId`. A further version
   * is held back until every earlier delivery of its SOP Instance UID to the destination is final.
   */
  dueDeliveries(page: {
    readonly destinationId: string;
    readonly studyInstanceUid: string;
    readonly now: number;
    readonly afterId: number;
    readonly limit: number;
  }): Promise<readonly Delivery[]>;

  /**
   * Records what happened to leased deliveries. One whose lease is no longer the study's, which is final already, or
   * which has to wait since an earlier version was redriven, is left as it is; their ids are returned.
   */
  settle(settlements: readonly Settlement[]): Promise<readonly number[]>;

  /** When the next open delivery that is not due at `now` falls due (ms since the epoch), or null. */
  nextDueAt(request: { readonly destinationId: string; readonly now: number }): Promise<number | null>;

  /** Ranks of the studies with open deliveries, by study UID from after `afterStudy`. */
  rankedStudies(page: {
    readonly destinationId: string;
    readonly afterStudy?: string;
    readonly limit: number;
  }): Promise<readonly RankedStudy[]>;

  /**
   * What the ranks of a study's versions were judged by, of those with a delivery to the destination in any state, in the
   * order in which they were accepted, from after the version `afterArrivalId`. Evicted ones have nothing to say.
   */
  rankingFacts(page: {
    readonly destinationId: string;
    readonly studyInstanceUid: string;
    readonly afterArrivalId?: string;
    readonly limit: number;
  }): Promise<readonly RankingFacts[]>;

  /**
   * Replaces the ranks of studies, for instance when the reference instant or the policy has changed. A study that has
   * received a version since `lastArrivalId` was read keeps its rank, so that no arrival's rank is lost; the UIDs of
   * those are returned. One that the destination does not have is ignored.
   */
  setRanks(change: {
    readonly destinationId: string;
    readonly ranks: readonly RankedStudy[];
  }): Promise<readonly string[]>;

  /**
   * Notes by which policy the whole backlog of a destination is ranked. Null: by more than one from now on; ranks of
   * studies without open deliveries are of no use then, and what such a study receives next is ranked by itself.
   */
  markRanked(mark: { readonly destinationId: string; readonly rankedBy: string | null }): Promise<void>;

  /** Open deliveries by tier, ascending; tiers without any are left out. */
  backlog(destinationId: string): Promise<readonly TierBacklog[]>;

  /**
   * Deliveries to a destination in one state, ascending by id from after `afterId`, and where to go on: a page may hold
   * fewer than `limit`, or none, though more follow, so that no call looks at more than a bounded number of rows.
   * `next` is null at the end.
   */
  deliveries(
    page: DeliveryFilter & {
      readonly destinationId: string;
      readonly state: DeliveryState;
      readonly afterId: number;
      readonly limit: number;
    },
  ): Promise<{ readonly deliveries: readonly Delivery[]; readonly next: number | null }>;

  /**
   * Quarantined deliveries are tried again: they are pending with evidence `accepted` and no attempts, and have never
   * been answered. One is left as it is when it is not quarantined, when its bytes are not here, or when a later version
   * under its SOP Instance UID is `sent` or `verified` there, or was answered, wherever it stands (`superseded`: the later
   * one would be put back), and is not redriven by the same call. A later one that is pending waits for it. What open
   * commitment transactions asked about them counts no more. Durable as a decision, so that no rebuild puts them aside
   * again. The destination must be in use. At most 1,000.
   */
  redrive(redrive: {
    readonly destinationId: string;
    readonly deliveryIds: readonly number[];
    readonly by: string;
    readonly at: number;
  }): Promise<{ readonly redriven: readonly number[]; readonly superseded: readonly number[] }>;

  /**
   * A person gives deliveries up, quarantined or open ones; others are left as they are. Leased ones settle nothing any
   * more. The decision carries what identifies the version (SOP Instance UID, transfer syntax, digest), so that no
   * rebuild delivers it, under whatever arrival id it is taken up. Returns those that were given up. At most 1,000.
   */
  discard(discard: {
    readonly destinationId: string;
    readonly deliveryIds: readonly number[];
    readonly reason: string;
    readonly by: string;
    readonly at: number;
  }): Promise<readonly number[]>;

  /**
   * Evidence that comes by itself, without a lease, such as a storage commitment: `evidence` is raised, never lowered,
   * and what is not discarded is `verified` where `settles`. Late evidence counts: for what is pending (to be sent again)
   * and quarantined too. What proves no more than a UID (`found`, `committed`) does nothing for a further version, nor
   * where another version has been sent there. Returns those that became verified. At most 1,000.
   */
  raiseEvidence(raise: {
    readonly destinationId: string;
    readonly deliveryIds: readonly number[];
    readonly evidence: Evidence;
    readonly settles: boolean;
    /** The commitment transaction that it answers: only for what that one still asks about. */
    readonly transactionUid?: string;
    readonly at: number;
  }): Promise<readonly number[]>;

  /**
   * What became verified last at a destination and whose bytes are here, newest first, from before `before` (an earlier
   * answer's `next`), each the last version under its SOP Instance UID that was sent there (`superseded` of `redrive`). Looks
   * at a bounded number of rows, so that a page may hold fewer than `limit` (or more, where an older store had settled many
   * at once); `next` is null at the end. `evicted` counts those passed over since their bytes made room, `unavailable`
   * those whose bytes are missing.
   */
  recentlyVerified(page: {
    readonly destinationId: string;
    readonly before?: number;
    /**
     * Leaves out what was settled before this instant, ms since the epoch (not where an older store did not write it
     * down), and ends (`next` null) where all that is older was.
     */
    readonly since?: number;
    readonly limit: number;
  }): Promise<{
    readonly deliveries: readonly Delivery[];
    readonly evicted: number;
    readonly unavailable: number;
    readonly next: number | null;
  }>;

  /**
   * Verified deliveries that the destination is found not to hold are owed again: pending, with evidence `accepted`. What
   * they had reached stays in the event log, and what open commitment transactions asked about them counts no more. One
   * that is not verified, whose bytes are not here, or that a later version supersedes (`superseded` of `redrive`), is left
   * as it is (later ones of the same call come first). Durable as a decision. The destination must be in use. Returns those that
   * are owed. At most 1,000.
   */
  returnToBacklog(lost: {
    readonly destinationId: string;
    readonly deliveryIds: readonly number[];
    readonly reason: string;
    readonly at: number;
  }): Promise<readonly number[]>;

  /**
   * A standby takes over: what is open at `from` and was never routed to `to` is owed to `to` as well, with the rank that
   * its study has at `from`. A version is passed over where `to` was offered a later one under its SOP Instance UID, which
   * it would put back. From after the delivery `afterId`; `next` is null at the end.
   */
  copyOpenDeliveries(copy: {
    readonly from: string;
    readonly to: string;
    readonly afterId: number;
    readonly limit: number;
  }): Promise<{ readonly copied: number; readonly next: number | null }>;

  /** When the answered delivery that was accepted first, of those that wait for evidence, was answered; null without any. */
  oldestAnswerAt(destinationId: string): Promise<number | null>;

  /** Opens an episode; its set begins with what is open now, which becomes backlog (`leaseStudies`). */
  openEpisode(episode: {
    readonly destinationId: string;
    readonly cause: string;
    readonly startedAt: number;
    readonly detectedAt: number;
    readonly planned?: boolean;
    readonly expectedEndAt?: number | null;
    /** Who declared it; goes into the event log. */
    readonly by?: string;
  }): Promise<EpisodeRecord>;

  /**
   * A person declares that an outage under way is planned, or changes what was said of it; that the plan was ended is taken
   * back. Returns it as it stands.
   */
  planEpisode(plan: {
    readonly episodeId: number;
    readonly cause: string;
    readonly expectedEndAt: number | null;
    readonly by: string;
    readonly at: number;
  }): Promise<EpisodeRecord>;

  /** A person says that a planned outage is over, and the destination may be asked. Returns it as it stands. */
  endPlan(end: { readonly episodeId: number; readonly by: string; readonly at: number }): Promise<EpisodeRecord>;

  /**
   * Sets an instant of an episode that is still null. `ended` also fixes its set: what is accepted later is live.
   * Setting one that is set already changes nothing. Returns the episode as it stands.
   */
  markEpisode(mark: {
    readonly episodeId: number;
    readonly as: 'ended' | 'drained' | 'closed';
    readonly at: number;
  }): Promise<EpisodeRecord>;

  /** Episodes by id, of one destination or of all, open ones only where asked. */
  episodes(filter: {
    readonly destinationId?: string;
    readonly openOnly?: boolean;
    readonly afterId?: number;
    readonly limit: number;
  }): Promise<readonly EpisodeRecord[]>;

  /** Whether an ended episode's set still has pending, and still has open deliveries. Cheap at any backlog. */
  episodeRemains(episodeId: number): Promise<{ readonly pending: boolean; readonly open: boolean }>;

  /**
   * Counts an episode's set from the deliveries' own rows, whole and by the studies' present tier, ascending; `received` of
   * the whole is counted where deliveries come in. A delivery that was final when the episode began is not of its set,
   * whether or not it is owed again later. Other calls go on meanwhile.
   */
  countEpisode(episodeId: number): Promise<{
    readonly total: EpisodeCounts;
    readonly tiers: readonly EpisodeTierCounts[];
  }>;

  /**
   * Deliveries of an episode's set that are not verified, in one state, ascending by id from after `afterId`; `next` as
   * in `deliveries`.
   */
  episodeDeliveries(page: {
    readonly episodeId: number;
    readonly state: Exclude<DeliveryState, 'verified'>;
    readonly afterId: number;
    readonly limit: number;
  }): Promise<{ readonly deliveries: readonly Delivery[]; readonly next: number | null }>;

  /** Records a request for commitment before it is sent. A UID that is there already is `SPILLWAY_STORE_FAILED`. */
  openCommitment(transaction: CommitmentTransaction): Promise<void>;

  /** Open commitment transactions, oldest first: one by its UID, those of one destination, or all. */
  commitments(filter: {
    readonly transactionUid?: string;
    readonly destinationId?: string;
    readonly limit: number;
  }): Promise<readonly CommitmentTransaction[]>;

  /** It was answered, or is given up. Unknown ones are ignored. */
  closeCommitment(transactionUid: string): Promise<void>;

  /**
   * Appends to the event log, whose entries are chained by their hashes (`hashOf` of log entries) and never change. The
   * catalog itself logs, in the transaction that makes it so: quarantine, and what leaves it, discards, what is returned to
   * the backlog, retirement, episodes, evictions, what is taken up, restored or missing.
   */
  appendLog(entry: { readonly at: number; readonly kind: string; readonly detail: LogDetail }): Promise<LogEntry>;

  /** The event log, oldest first, from after `afterId`. */
  log(page: { readonly afterId: number; readonly limit: number }): Promise<readonly LogEntry[]>;

  /** Waits for what is under way, then lets go of everything. Idempotent. */
  close(): Promise<void>;
}
