import type { Delivery, DeliveryState, Evidence, VersionRecord } from '../domain/delivery.ts';
import type { EpisodeCounts, EpisodeRecord } from '../domain/episode.ts';
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
   * `identical`: SOP Instance UID, transfer syntax and digest are known; nothing was recorded.
   */
  readonly outcome: 'created' | 'identical' | 'version';
  /** The version that stands: the one offered, or for `identical` the one that was there. */
  readonly version: VersionRecord;
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
   * A version that is known already changes nothing (`identical`), also when the earlier one is in the same batch.
   * Deliveries of a further version under a SOP Instance UID are marked `furtherVersion`.
   */
  accept(batch: readonly Acceptance[]): Promise<readonly AcceptanceResult[]>;

  /**
   * The caller said more of the order of a version that stands: it counts if it is more urgent than what was known, in
   * `rankingFacts` and for the ranks of its study at every destination that it goes to. Returns whether it does.
   */
  restateUrgency(restatement: { readonly arrivalId: string; readonly urgency: Urgency }): Promise<boolean>;

  /** Versions by arrival, of one study or of all. */
  versions(page: {
    readonly studyInstanceUid?: string;
    readonly afterArrivalId?: string;
    readonly limit: number;
  }): Promise<readonly VersionRecord[]>;

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
   * order in which they were accepted, from after the version `afterArrivalId`.
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

  /** Waits for what is under way, then lets go of everything. Idempotent. */
  close(): Promise<void>;
}
