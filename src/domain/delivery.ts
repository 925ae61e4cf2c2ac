import type { InstanceIdentity } from './identity.ts';

/** How far it is proven that a destination holds a version, weakest first. */
export const EVIDENCE = ['accepted', 'answered', 'found', 'committed', 'compared'] as const;

/**
 * `accepted`: durable here. `answered`: the destination said success. `found`: a query shows it. `committed`: storage
 * commitment. `compared`: retrieved, its digest is equal.
 */
export type Evidence = (typeof EVIDENCE)[number];

/** Whether it proves that something is there under a SOP Instance UID, and not which version. */
export function isOfUid(evidence: Evidence): boolean {
  return evidence === 'found' || evidence === 'committed';
}

/** How far evidence must go before a delivery counts as verified. */
export type VerifyLevel = Exclude<Evidence, 'accepted'>;

/**
 * `pending`: still to be sent. `sent`: answered, waits for the evidence that its destination asks for. The others are
 * final: `verified` has that evidence, `quarantined` was refused for good (with a reason), `discarded` was given up by
 * a person's call.
 */
export type DeliveryState = 'pending' | 'sent' | 'verified' | 'quarantined' | 'discarded';

/**
 * Whether the bytes of a version are here. `kept`: they are. `unconfirmed`: they are, but only the file tells of it, so
 * that nobody knows where it goes. `evicting`, `evicted`: they were verified everywhere and made room. `missing`: they are
 * gone, and nobody has evicted them.
 */
export type Presence = 'kept' | 'unconfirmed' | 'evicting' | 'evicted' | 'missing';

/** One distinct data set received under a SOP Instance UID. */
export interface VersionRecord {
  /** Sorts by arrival; unique in a store. */
  readonly arrivalId: string;
  readonly identity: InstanceIdentity;
  /** SHA-256 (hex) of the data set as encoded, without preamble and file meta. */
  readonly digest: string;
  /** Length of the stored file. */
  readonly bytes: number;
  /** Where the bytes are; opaque to everything but the blob store that gave it. */
  readonly blobRef: string;
  /** ms since the epoch. */
  readonly receivedAt: number;
  /** What was odd about the instance as it came; see `Oddity`. */
  readonly oddities: readonly string[];
  readonly presence: Presence;
}

/** One version × one destination: what replay works on. */
export interface Delivery {
  /** Sequence number in the catalog, ascending by acceptance. */
  readonly id: number;
  readonly destinationId: string;
  readonly arrivalId: string;
  readonly identity: InstanceIdentity;
  readonly digest: string;
  readonly bytes: number;
  readonly blobRef: string;
  readonly state: DeliveryState;
  readonly evidence: Evidence;
  /** Refusals, answers that said nothing, and questions that brought no evidence; outages and push-back never count. */
  readonly attempts: number;
  /**
   * Other versions were offered under the same SOP Instance UID before it was, or before it was owed anew, so that only
   * `compared` can settle it.
   */
  readonly furtherVersion: boolean;
  /** The last refusal or the reason of quarantine or discard; null when there is none. */
  readonly reason: string | null;
  /** When the destination first said success, ms since the epoch; null before, and again once it is to be sent anew. */
  readonly answeredAt: number | null;
  /** When it became final, ms since the epoch; null while it is open, and for what an older store did not write down. */
  readonly settledAt: number | null;
}

/**
 * What a slot may be given to, apart from urgency. `backlog`: what an outage held up. `live`: what came after it.
 * `history`: the last tier of the backlog, where it has a share of its own.
 */
export type Lane = 'live' | 'backlog' | 'history';

/** Which deliveries; all that is given must hold. */
export interface DeliveryFilter {
  readonly destinationId?: string;
  readonly studyInstanceUid?: string;
  readonly sopInstanceUid?: string;
  readonly sopClassUid?: string;
  /** Some of the text of the reason, in any case. */
  readonly reason?: string;
  /** Accepted from this instant on, ms since the epoch. */
  readonly receivedFrom?: number;
  /** Accepted before this instant, ms since the epoch. */
  readonly receivedBefore?: number;
}
