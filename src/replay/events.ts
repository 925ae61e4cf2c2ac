import type { DeliveryState, Evidence } from '../domain/delivery.ts';
import type { EpisodeRecord } from '../domain/episode.ts';
import type { InstanceIdentity } from '../domain/identity.ts';
import type { HealthPhase, HealthStatus } from '../routing/health.ts';
import type { Reconciliation } from './reconciliation.ts';

/** What still has to reach the evidence that a destination asks for. */
export interface Backlog {
  readonly studies: number;
  readonly instances: number;
  readonly bytes: number;
}

/** How one destination stands. */
export interface DestinationStatus {
  readonly destinationId: string;
  readonly health: HealthStatus;
  readonly backlog: Backlog & {
    /** Most urgent first; every tier of the policy, empty ones too. */
    readonly tiers: readonly (Backlog & { readonly tier: string })[];
  };
  /** What it answered for, over the last 30 seconds. */
  readonly rate: { readonly instancesPerSecond: number; readonly bytesPerSecond: number };
  /** ms until the backlog is sent at this rate; null while there is no rate to judge by. */
  readonly estimatedDrainMs: number | null;
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

/** Events by name, each with what its listeners are given. Instants are ms since the epoch. */
export interface ReplayEvents {
  /** A destination's health changed. */
  readonly health: HealthEventDetail;
  /** An outage was declared: once an episode. */
  readonly outage: EpisodeRecord;
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
  /** Something failed that no call reports, such as a listener that threw. Nothing was lost. */
  readonly fault: { readonly error: unknown };
}

/** Tells whoever listens. */
export type Emit = <Name extends keyof ReplayEvents>(name: Name, detail: ReplayEvents[Name]) => void;
