import type { Lane } from '../domain/delivery.ts';
import {
  defaultFlowPolicy,
  type FlowEvent,
  type FlowPolicy,
  type FlowState,
  flowSlots,
  flowStartableAt,
  initialFlow,
  narrowFlow,
  restartFlow,
  stepFlow,
} from './flow.ts';
import {
  defaultHealthPolicy,
  type HealthEffect,
  type HealthEvent,
  type HealthPolicy,
  type HealthState,
  initialHealth,
  mayStart,
  stepHealth,
} from './health.ts';
import { defaultRetryPolicy, type RetryPolicy } from './retry.ts';
import { defaultSharePolicy, type SharePolicy } from './share.ts';

/**
 * The rules by which a destination is sent to. Each of the four is a value that is replaced as a whole, such as
 * `{ flow: { ...defaultFlowPolicy, maxBytesPerSecond: 5_000_000 } }`.
 */
export interface DestinationPolicy {
  /** When it counts as down, and as there again. */
  readonly health: HealthPolicy;
  /** How much it is sent at once. */
  readonly flow: FlowPolicy;
  /** Who goes first between what an outage held up and what comes after it. */
  readonly share: SharePolicy;
  /** What becomes of what it did not take. */
  readonly retry: RetryPolicy;
}

/** Each of its rules has its default and the reason for it beside it. */
export const defaultDestinationPolicy: DestinationPolicy = {
  health: defaultHealthPolicy,
  flow: defaultFlowPolicy,
  share: defaultSharePolicy,
  retry: defaultRetryPolicy,
};

/** All that is decided about one destination. */
export interface DestinationState {
  readonly health: HealthState;
  readonly flow: FlowState;
}

export type DestinationEvent = HealthEvent | FlowEvent;

export type DestinationEffect = HealthEffect;

/** @param expectedEndAt - Of a planned outage, ms since the epoch; null where nobody said. */
export function initialDestination(
  at: number,
  phase: 'up' | 'down' | 'recovering' | 'planned',
  reason: string,
  policy: DestinationPolicy = defaultDestinationPolicy,
  expectedEndAt: number | null = null,
): DestinationState {
  return { health: initialHealth(at, phase, reason, expectedEndAt), flow: initialFlow(policy.flow) };
}

/**
 * How many requests may be in flight at `at`; 0 while it is not to be sent to.
 *
 * @param lane - Of this lane, where a time window bounds it; without it of all lanes together.
 */
export function slots(
  state: DestinationState,
  at: number,
  policy: DestinationPolicy = defaultDestinationPolicy,
  lane: Lane | null = null,
): number {
  return mayStart(state.health) ? flowSlots(state.flow, at, policy.flow, lane) : 0;
}

/**
 * The earliest instant at which another request may start by byte rate and pace; `at` when now. Where a time window
 * changes before that, it is to be asked again then.
 *
 * @param lane - Of this lane; without it by the bounds of all lanes together, which are never the pace.
 */
export function startableAt(
  state: DestinationState,
  at: number,
  policy: DestinationPolicy = defaultDestinationPolicy,
  lane: Lane | null = null,
): number {
  return flowStartableAt(state.flow, at, policy.flow, lane);
}

/**
 * The routing core for one destination: same state, same event, same instant, same random number: same effects.
 *
 * @param random - In [0, 1), for jitter.
 */
export function stepDestination(
  state: DestinationState,
  event: DestinationEvent,
  at: number,
  random: number,
  policy: DestinationPolicy = defaultDestinationPolicy,
): { readonly state: DestinationState; readonly effects: readonly DestinationEffect[] } {
  switch (event.type) {
    case 'push-back': {
      const flow = stepFlow(state.flow, event, at, random, policy.flow);
      return { state: { ...state, flow }, effects: [{ type: 'wake', at: flow.pausedUntil }] };
    }
    case 'started':
    case 'arrived':
    case 'lag':
      return { state: { ...state, flow: stepFlow(state.flow, event, at, random, policy.flow) }, effects: [] };
    default: {
      const { state: health, effects, crowded } = stepHealth(state.health, event, at, random, policy.health);
      // Where a request that was in flight has shown that it stores, there is nothing to recover from.
      const revived = event.type !== 'success' && !mayStart(state.health) && mayStart(health);
      const flow = flowAfter(state.flow, event, at, random, revived, policy.flow);
      const narrowed = crowded === undefined ? flow : narrowFlow(flow, crowded, at, policy.flow);
      return { state: { health, flow: narrowed }, effects };
    }
  }
}

function flowAfter(
  flow: FlowState,
  event: HealthEvent | FlowEvent,
  at: number,
  random: number,
  revived: boolean,
  policy: FlowPolicy,
): FlowState {
  if (revived) return restartFlow(flow, at, policy);
  const concerns = event.type === 'success' || event.type === 'stall' || event.type === 'clock-back';
  return concerns ? stepFlow(flow, event, at, random, policy) : flow;
}
