import type { Delivery, DeliveryState, Evidence, Presence, VersionRecord } from '../domain/delivery.ts';
import type { EpisodeCounts, EpisodeRecord } from '../domain/episode.ts';
import type { LogDetail, LogEntry } from '../domain/log.ts';
import type { Rank, Urgency } from '../domain/rank.ts';

/** One instance whose bytes are durable, offered to the catalog. */
export interface Acceptance {
  readonly version: VersionRecord;
  /** Header values that later reading needs, by keyword (PS3.6); no pixel data. */
  readonly attributes: Readonly<Record<string, string>>;
  /** What the caller said about where the instance came from. */
  readonly source: string | null;
  /** What the caller said of the order; null when nothing. */
  readonly urgency: Urgency | null;
  /** The route as decided, with the rank of the instance at each destination. Destinations must be registered. */
  readonly deliveries: readonly { readonly destinationId: string; readonly rank: Rank }[];
}

/** What became of one acceptance. */
export interface AcceptanceResult {
  /**
   * `created`: first data set under this SOP Instance UID. `version`: another one stands under it already.
   * `identical`: SOP Instance UID, transfer syntax and digest are known; nothing was recorded. `restored`: they are, but
   * its bytes were not here, or nobody had confirmed it: now it is kept, and delivered as routed.
   */
  readonly outcome: 'created' | 'identical' | 'version' | 'restored';
  /** The version that stands: the one offered, or for `identical` and `restored` the one that was there. */
  readonly version: VersionRecord;
  /** Where it is delivered to because of this acceptance. */
  readonly destinations: readonly string[];
}

/** A study of which something is held: what a search answers with. Values are those of the last version that had one. */
export interface StudyRecord {
  readonly studyInstanceUid: string;
  readonly patientId: string | null;
  /** As in the data set, component groups included (PS3.5 section 6.2.1). */
  readonly patientName: string | null;
  readonly accessionNumber: string | null;
  /** DA: YYYYMMDD. */
  readonly studyDate: string | null;
  readonly studyDescription: string | null;
  /** Of all its instances, ascending. */
  readonly modalities: readonly string[];
  /** Versions whose bytes are here. */
  readonly instances: number;
  readonly bytes: number;
  /** Open deliveries of the study, to all destinations. */
  readonly openDeliveries: number;
  /** ms since the epoch. */
  readonly firstReceivedAt: number;
  readonly lastReceivedAt: number;
}

/** What a search for studies goes by; all that is given must hold. */
export interface StudyFilter {
  readonly studyInstanceUid?: string;
  readonly patientId?: string;
  /** Case-insensitive; `*` stands for any text, `?` for one character (PS3.4 section C.2.2.2.4). */
  readonly patientName?: string;
  readonly accessionNumber?: string;
  /** DA: YYYYMMDD, both ends included. */
  readonly studyDate?: { readonly from?: string; readonly to?: string };
  /** One of the study's modalities. */
  readonly modality?: string;
  /** Studies from after this study UID. */
  readonly after?: string;
  readonly limit: number;
}

/** What must hold of a study before it may be evicted, besides that all of it is verified. */
export interface EvictionTerms {
  /** Every verified delivery has at least this evidence. */
  readonly evidence: Evidence;
  /** Nothing of it was received at or after this instant, ms since the epoch. */
  readonly receivedBefore: number;
}

/** How much a catalog knows to be held. */
export interface Holdings {
  /** Versions whose bytes are here. */
  readonly instances: number;
  readonly bytes: number;
  /** Of them, those that only their files told of. */
  readonly unconfirmed: number;
  /** Versions whose bytes are gone, and nobody has evicted them. */
  readonly missing: number;
}

/** A study that is being evicted: its rows say so, its bytes are to be removed. */
export interface Eviction {
  readonly studyInstanceUid: string;
  readonly bytes: number;
  readonly blobRefs: readonly string[];
}

/** Why studies may not be evicted; a study counts once, under the first that holds. */
export interface EvictionBlock {
  /**
   * `pending`: a delivery is still open. `unverified`: quarantined or discarded at a destination in use. `unrouted`: an
   * instance is verified nowhere, since it is delivered nowhere or its destination was retired. `evidence`: verified by
   * less than asked for. `recent`: received too lately. `none`: it may be evicted.
   */
  readonly reason: 'pending' | 'unverified' | 'unrouted' | 'evidence' | 'recent' | 'none';
  readonly studies: number;
  readonly bytes: number;
}

/** What was received in one hour of one modality. Outlives eviction. */
export interface HourlyTotal {
  /** Its beginning, ms since the epoch. */
  readonly hour: number;
  /** Modality (0008,0060); empty where the instance says none. */
  readonly modality: string;
  /** Studies that had none of this modality before. */
  readonly studies: number;
  readonly instances: number;
  readonly bytes: number;
}

/** A request for storage commitment (PS3.4 annex J) that has not been answered. */
export interface CommitmentTransaction {
  readonly transactionUid: string;
  readonly destinationId: string;
  /** ms since the epoch. */
  readonly requestedAt: number;
  /** What it asks about. */
  readonly deliveryIds: readonly number[];
}

/** An instance that only its file tells of, as a walk through the blobs found it. */
export interface FoundInstance {
  readonly version: VersionRecord;
  readonly attributes: Readonly<Record<string, string>>;
}

/** A study × destination that was leased. */
export interface LeasedStudy {
  readonly studyInstanceUid: string;
  readonly rank: Rank;
  /** The fencing token: settling needs it. */
  readonly lease: number;
  /** It was leased before and never released, so some of its sends may have arrived. */
  readonly interrupted: boolean;
}

/** What happened to one leased delivery. */
export interface Settlement {
  readonly deliveryId: number;
  readonly lease: number;
  readonly state: DeliveryState;
  readonly evidence: Evidence;
  readonly attempts: number;
  readonly reason: string | null;
  /** For `pending` and `sent`: when it is due again, ms since the epoch; 0 is at once. */
  readonly notBefore: number;
  /** When it was decided, ms since the epoch. */
  readonly at: number;
}

/** A destination as the catalog knows it, with counts of its deliveries by state. */
export interface DestinationRecord {
  readonly destinationId: string;
  /** ms since the epoch; null while it is in use. */
  readonly retiredAt: number | null;
  readonly retiredReason: string | null;
  readonly retiredBy: string | null;
  /** By what its whole backlog is ranked, as `markRanked` said last; null where that is not known. */
  readonly rankedBy: string | null;
  readonly pending: number;
  readonly sent: number;
  readonly verified: number;
  readonly quarantined: number;
  readonly discarded: number;
}

/** A study with open deliveries, and its rank. */
export interface RankedStudy {
  readonly studyInstanceUid: string;
  readonly rank: Rank;
  /** The arrival id of the version of the study that was accepted last, wherever it was routed; not always the greatest. */
  readonly lastArrivalId: string;
}

/** What a version's rank was judged by. */
export interface RankingFacts {
  readonly arrivalId: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** ms since the epoch. */
  readonly receivedAt: number;
  readonly urgency: Urgency | null;
}

/** Open deliveries of one tier; `tier` is the index into the policy. */
export interface TierBacklog {
  readonly tier: number;
  readonly studies: number;
  readonly instances: number;
  readonly bytes: number;
}

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
   * Deliveries of a further version under a SOP Instance UID are marked `furtherVersion`.
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
   * all former leases, and what they had leased comes back as `interrupted` until it has been leased once.
   */
  leaseStudies(request: {
    readonly destinationId: string;
    readonly now: number;
    readonly limit: number;
  }): Promise<readonly LeasedStudy[]>;

  /** Ends leases. Open deliveries are due at `deferUntil` at the earliest, where given. A stale lease is ignored. */
  releaseStudies(release: {
    readonly destinationId: string;
    readonly leases: readonly number[];
    readonly deferUntil?: number;
  }): Promise<void>;

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
   * Records what happened to leased deliveries. One whose lease is no longer the study's, or which is final already,
   * is left as it is; their ids are returned.
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

  /** Deliveries in one state, ascending by id from after `afterId`. */
  deliveries(page: {
    readonly destinationId: string;
    readonly state: DeliveryState;
    readonly afterId: number;
    readonly limit: number;
  }): Promise<readonly Delivery[]>;

  /** Opens an episode; its set begins with what is open now. */
  openEpisode(episode: {
    readonly destinationId: string;
    readonly cause: string;
    readonly startedAt: number;
    readonly detectedAt: number;
  }): Promise<EpisodeRecord>;

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

  /** Counts an episode's set from the deliveries' own rows, whole and by the studies' present tier. */
  countEpisode(episodeId: number): Promise<{
    readonly total: EpisodeCounts;
    /** Without `received`, which belongs to no tier: a study's tier may change while it waits. */
    readonly tiers: readonly (Omit<EpisodeCounts, 'received'> & { readonly tier: number })[];
  }>;

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
   * catalog itself logs, in the transaction that makes it so: quarantine, retirement, episodes, evictions, what is taken
   * up, restored or missing.
   */
  appendLog(entry: { readonly at: number; readonly kind: string; readonly detail: LogDetail }): Promise<LogEntry>;

  /** The event log, oldest first, from after `afterId`. */
  log(page: { readonly afterId: number; readonly limit: number }): Promise<readonly LogEntry[]>;

  /** Waits for what is under way, then lets go of everything. Idempotent. */
  close(): Promise<void>;
}
