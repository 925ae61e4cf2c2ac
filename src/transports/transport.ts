import type { VerifyLevel } from '../domain/delivery.ts';
import type { InstanceIdentity } from '../domain/identity.ts';
import type { DestinationPolicy } from '../routing/destination.ts';

/** An instance to send. */
export interface OutgoingInstance {
  readonly identity: InstanceIdentity;
  /** Length of what `open` gives. */
  readonly bytes: number;
  /**
   * The Part 10 file as it came, in chunks. May be called more than once. What is kept of a chunk must be copied: once it has
   * been sent, its memory may be given back.
   */
  open(): AsyncIterable<Uint8Array>;
}

/**
 * What a destination made of one instance.
 *
 * - `stored`: it says so of this very instance (`warning` where it coerced or discarded elements).
 * - `duplicate`: it says that it holds the SOP Instance UID already.
 * - `refused`: it refuses this instance; `mayRetry` where the status allows one more try.
 * - `push-back`: it asks for less, or for later; nothing was stored.
 * - `unreachable`: it was not reached, or is set up wrongly; nothing was stored.
 * - `ambiguous`: the connection or the answer was lost after bytes had gone out; it may be stored.
 * - `unanswered`: it answered the request, but said nothing of this instance; it may be stored.
 */
export type SendOutcome =
  | { readonly kind: 'stored'; readonly warning?: string }
  | { readonly kind: 'duplicate'; readonly reason: string }
  | { readonly kind: 'refused'; readonly reason: string; readonly mayRetry: boolean }
  | { readonly kind: 'push-back'; readonly reason: string; readonly retryAfterMs?: number }
  | { readonly kind: 'unreachable'; readonly reason: string }
  | { readonly kind: 'ambiguous'; readonly reason: string }
  | { readonly kind: 'unanswered'; readonly reason: string };

/** Whether the listener answers, or why it does not. */
export type ProbeOutcome = { readonly alive: true } | { readonly alive: false; readonly reason: string };

/**
 * How to talk to one destination. A transport keeps no memory of deliveries, decides nothing, and never retries: it
 * reports. Methods reject only when `signal` aborts or for a defect; whatever the peer does is an outcome.
 */
export interface Transport {
  /** Whether `lookUp` and `readBack` can be asked, and commitment requested. */
  readonly supports: { readonly lookUp: boolean; readonly readBack: boolean; readonly commitment?: boolean };
  /** Bounds of one `send`. A single larger instance is sent alone. */
  readonly batch: { readonly maxInstances: number; readonly maxBytes: number };

  /** Sends instances of one study; the result has one outcome for each, in order. */
  send(instances: readonly OutgoingInstance[], signal: AbortSignal): Promise<readonly SendOutcome[]>;

  /** Whether the listener answers; it proves nothing about storage. */
  probe(signal: AbortSignal): Promise<ProbeOutcome>;

  /** Which of the instances (of one study) a query shows, as SOP Instance UIDs; null when it could not be asked. */
  lookUp(instances: readonly InstanceIdentity[], signal: AbortSignal): Promise<ReadonlySet<string> | null>;

  /**
   * Retrieves an instance and digests its data set (SHA-256, hex). `absent` when the destination says that it does
   * not have it; null when it could not be asked.
   */
  readBack(
    instance: InstanceIdentity,
    signal: AbortSignal,
  ): Promise<{ readonly digest: string; readonly transferSyntaxUid: string } | 'absent' | null>;

  /**
   * Asks the destination to commit itself to instances that it has answered for (PS3.4 annex J). `requested`: it will
   * report, perhaps much later, perhaps over another connection; null when it could not be asked. Present where
   * `supports.commitment`.
   */
  requestCommitment?(request: CommitmentRequest, signal: AbortSignal): Promise<'requested' | null>;

  /** Calls back at each report, from now on. Present where `supports.commitment`; called once, before anything is sent. */
  onCommitmentReport?(listener: (report: CommitmentReport) => void): void;

  close(): Promise<void>;
}

/** What a destination is asked to commit itself to. */
export interface CommitmentRequest {
  /** Names the request; the report bears it. */
  readonly transactionUid: string;
  readonly instances: readonly InstanceIdentity[];
}

/** A destination's answer to a request for commitment. It may come twice, late, or for a request of an earlier process. */
export interface CommitmentReport {
  readonly transactionUid: string;
  /** SOP Instance UIDs for which it takes responsibility. */
  readonly committed: readonly string[];
  /** Those for which it does not. */
  readonly failed: readonly { readonly sopInstanceUid: string; readonly reason: string }[];
}

/** One peer that must receive instances. */
export interface Destination {
  /** Names it in routes, events and the catalog; never reuse one for another peer. */
  readonly id: string;
  readonly transport: Transport;
  /** @default 'found' where the transport can look up, otherwise 'answered' */
  readonly verify?: VerifyLevel;
  /** Requests in flight at the most; the flow finds out how many of them pay. @default 8 */
  readonly maxConcurrency?: number;
  /**
   * Evidence that stays out for so long after the answer puts a delivery into quarantine, in ms.
   * @default 86,400,000: a day
   */
  readonly evidenceTimeoutMs?: number;
  /**
   * It receives only while the destination of this id is down: what is accepted then, and what was pending there when
   * that outage was declared. What it is owed it gets, also when the other one is back.
   * @default none: it receives always
   */
  readonly standbyFor?: string;
  /** Replaces some of the rules by which it is sent to. @default `defaultDestinationPolicy` */
  readonly policy?: Partial<DestinationPolicy>;
}
