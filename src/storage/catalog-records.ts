import type { DeliveryState, Evidence, VersionRecord } from '../domain/delivery.ts';
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
  /** When it was decided, ms since the epoch. The first settlement as `sent` is when it was answered (`answeredAt`). */
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
