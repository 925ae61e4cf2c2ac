import type { DeliveryState, Evidence } from '../domain/delivery.ts';
import type { EpisodeRecord } from '../domain/episode.ts';
import type { InstanceIdentity } from '../domain/identity.ts';
import type { DrainEstimate } from '../routing/estimate.ts';
import type { HealthPhase, HealthStatus } from '../routing/health.ts';
import type { Reconciliation } from './reconciliation.ts';

/** What still has to reach the evidence that a destination asks for. */
export interface Backlog {
  readonly studies: number;
  readonly instances: number;
  readonly bytes: number;
}

/** What a destination answered for, over the last 30 seconds. */
export interface Rate {
  readonly instancesPerSecond: number;
  readonly bytesPerSecond: number;
}

/** What waits in one tier. */
export interface TierStatus extends Backlog {
  readonly tier: string;
  readonly rate: Rate;
  /** Until this tier and the more urgent ones are sent; null while there is no rate to judge by. */
  readonly drain: DrainEstimate | null;
}

/** How one destination stands. */
export interface DestinationStatus {
  readonly destinationId: string;
  readonly health: HealthStatus;
  /** Sending to it was paused by a call of `pause`. */
  readonly isPaused: boolean;
  /** Tiers most urgent first; every tier of the policy, empty ones too. */
  readonly backlog: Backlog & { readonly tiers: readonly TierStatus[] };
  readonly rate: Rate;
  /** Until the backlog is sent at the rates of the last 30 seconds; null while there is none to judge by. */
  readonly drain: DrainEstimate | null;
  /** What was answered and waits for evidence, and for how long the first of it has waited, in ms. */
  readonly verification: { readonly instances: number; readonly lagMs: number };
  /** Requests in flight, and how many are allowed now. */
  readonly concurrency: { readonly inFlight: number; readonly limit: number };
  /** Deliveries that have ended, since the store was made. */
  readonly verified: number;
  readonly quarantined: number;
  readonly discarded: number;
  /** The latest episode that is not closed. */
  readonly episode: EpisodeRecord | null;
}

/** A change of a destination's health. */
export interface HealthEventDetail {
  readonly destinationId: string;
  readonly from: HealthPhase;
  readonly to: HealthPhase;
  readonly reason: string;
  readonly at: number;
}

/** A delivery that moved. */
export interface DeliveryEvent {
  readonly destinationId: string;
  readonly arrivalId: string;
  readonly identity: InstanceIdentity;
  readonly state: DeliveryState;
  readonly evidence: Evidence;
  readonly reason: string | null;
}

/**
 * A destination came back from an outage without what it had confirmed before, as after a restored backup. `missing` is
 * owed again by itself; what else is lost, only `reverify({ destination, since })` finds out.
 */
export interface RollbackSuspicion {
  readonly destinationId: string;
  readonly episodeId: number;
  /** Instances that it had confirmed before and was asked about. */
  readonly sampled: number;
  /** Of them, those that it does not hold, or not as it was confirmed. */
  readonly missing: readonly InstanceIdentity[];
  /** From when on to verify again, as far as the sample tells, ms since the epoch. */
  readonly since: number;
}

/** Events by name, each with what its listeners are given. Instants are ms since the epoch. */
export interface ReplayEvents {
  /** A destination's health changed. */
  readonly health: HealthEventDetail;
  /** An outage was found, or declared by a person: once an episode. */
  readonly outage: EpisodeRecord;
  /** A planned outage has passed its expected end, and nobody has ended it: once an episode. Nothing is sent until then. */
  readonly overdue: EpisodeRecord;
  /** The destination stores again: once an episode. Replay begins. */
  readonly recovery: EpisodeRecord;
  /** A delivery was answered (`sent`) or reached its evidence (`verified`). */
  readonly delivery: DeliveryEvent;
  /** A delivery was put aside for good; the rest goes on. */
  readonly quarantine: DeliveryEvent;
  /** How a destination stands: at most once a second, while something moves. */
  readonly progress: DestinationStatus;
  /** Everything of an episode's set has been sent. */
  readonly drained: EpisodeRecord;
  /** Everything of an episode's set is verified, quarantined or discarded. */
  readonly closed: Reconciliation;
  /** It seems that a destination was set back while it was away: once an episode, some minutes after its end. */
  readonly 'rollback-suspected': RollbackSuspicion;
  /** Something failed that no call reports, such as a listener that threw. Nothing was lost. */
  readonly fault: { readonly error: unknown };
}

/** Tells whoever listens. */
export type Emit = <Name extends keyof ReplayEvents>(name: Name, detail: ReplayEvents[Name]) => void;
