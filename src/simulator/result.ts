import type { DeliveryState, Evidence, Lane } from '../domain/delivery.ts';

/** Something that happened, `at` milliseconds since the beginning. */
export type SimulationEvent = { readonly at: number } & (
  | {
      readonly type: 'accepted';
      readonly destination: string;
      readonly label: string;
      readonly study: string;
      readonly uid: string;
      readonly tier: number;
      readonly lane: Lane;
    }
  /** Work was begun; `lane` is null for a trial, which belongs to none. */
  | {
      readonly type: 'begun';
      readonly kind: 'send' | 'look-up' | 'trial';
      readonly destination: string;
      readonly study: string;
      readonly uids: readonly string[];
      readonly tier: number;
      readonly lane: Lane | null;
      /** Some of it was sent before. */
      readonly isRetry: boolean;
    }
  | {
      readonly type: 'settled';
      readonly destination: string;
      readonly label: string;
      readonly study: string;
      readonly uid: string;
      readonly state: DeliveryState;
      readonly evidence: Evidence;
      readonly reason: string | null;
      readonly tier: number;
    }
  /** Between being down and being asked it goes to and fro; that is not told. */
  | { readonly type: 'health'; readonly destination: string; readonly phase: string; readonly reason: string }
  | {
      readonly type: 'outage';
      readonly destination: string;
      readonly cause: string;
      readonly planned: boolean;
      readonly pending: number;
    }
  | { readonly type: 'recovery' | 'overdue' | 'drained'; readonly destination: string }
  | ({ readonly type: 'closed'; readonly destination: string } & Balance)
  /** A study's tier is another one now. */
  | { readonly type: 'ranked'; readonly destination: string; readonly study: string; readonly tier: number }
  | { readonly type: 'gateway'; readonly what: string }
);

/** What became of an episode's set. */
export interface Balance {
  readonly received: number;
  readonly verified: number;
  readonly quarantined: number;
}

/** What a destination was like at an instant. */
export interface SimulationSample {
  /** Milliseconds since the beginning. */
  readonly at: number;
  /** Requests that might be in flight, and those that were. */
  readonly slots: number;
  readonly inFlight: number;
  /** Answered for since the sample before, a second. */
  readonly instancesPerSecond: number;
  readonly bytesPerSecond: number;
  /** Instances not yet final, by tier. */
  readonly backlog: readonly number[];
}

export interface DestinationFigures {
  /** Instances that are owed to it. */
  readonly accepted: number;
  readonly verified: number;
  readonly quarantined: number;
  /** Pending, or waiting for evidence. */
  readonly open: number;
  /** Accepted, neither open nor in quarantine, and not there; those called verified that it never took, too. */
  readonly lost: number;
  /** There, and never accepted. */
  readonly invented: number;
  /** Instances in requests that a target took or might have taken. */
  readonly attempts: number;
  /** Stored by the target though it held them. */
  readonly duplicates: number;
  readonly outages: number;
  readonly recoveries: number;
  /** Requests in flight at the most, by the gateway's count, and at the target, those given up included. */
  readonly mostInFlight: number;
  readonly mostAtTarget: number;
  /** When the first and the last of each tier was verified, by the tier it had then; ms since the beginning. */
  readonly firstVerifiedAt: readonly (number | null)[];
  readonly lastVerifiedAt: readonly (number | null)[];
}

/** Plain data: the same scenario, seed and policy give the same, byte for byte. */
export interface SimulationResult {
  readonly history: readonly SimulationEvent[];
  /** By destination, evenly spaced. */
  readonly series: Readonly<Record<string, readonly SimulationSample[]>>;
  readonly destinations: Readonly<Record<string, DestinationFigures>>;
}
