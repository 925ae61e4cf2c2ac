import type { DestinationStatus, Reconciliation } from '../../src/index.ts';

/** Requests that the gateway has in flight at the most, and instances in each. */
export const MAX_CONCURRENCY = 4;
export const MAX_INSTANCES_PER_REQUEST = 8;

/** What the gateway tells the demo. */
export type GatewayMessage =
  | { readonly type: 'listening'; readonly port: number }
  | { readonly type: 'outage'; readonly cause: string }
  | { readonly type: 'recovery' }
  | { readonly type: 'drained' }
  | { readonly type: 'closed'; readonly reconciliation: Reconciliation }
  | { readonly type: 'answered'; readonly sopInstanceUid: string }
  | { readonly type: 'quarantine'; readonly sopInstanceUid: string; readonly reason: string }
  | { readonly type: 'fault'; readonly message: string }
  | { readonly type: 'status'; readonly status: DestinationStatus };
