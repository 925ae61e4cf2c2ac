import { defaultFlowPolicy, type FlowPolicy, type FlowState, initialFlow, isPaused, stepFlow } from './flow.ts';
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

export interface DestinationPolicy {
  readonly health: HealthPolicy;
  readonly flow: FlowPolicy;
}

export const defaultDestinationPolicy: DestinationPolicy = { health: defaultHealthPolicy, flow: defaultFlowPolicy };

/** All that is decided about one destination. */
export interface DestinationState {
  readonly health: HealthState;
  readonly flow: FlowState;
}

export type DestinationEvent =
  | HealthEvent
  /** The destination asked for less; that is no failure. */
  | { readonly type: 'push-back'; readonly retryAfterMs?: number | undefined };

export type DestinationEffect = HealthEffect;

export function initialDestination(
  at: number,
  phase: 'up' | 'down' | 'recovering',
  reason: string,
  policy: DestinationPolicy = defaultDestinationPolicy,
): DestinationState {
  return { health: initialHealth(at, phase, reason), flow: initialFlow(policy.flow) };
}

/** How many requests may be in flight at `at`; 0 while it is not to be sent to. */
export function slots(
  state: DestinationState,
  at: number,
  policy: DestinationPolicy = defaultDestinationPolicy,
): number {
  return mayStart(state.health) && !isPaused(state.flow, at, policy.flow) ? Math.floor(state.flow.limit) : 0;
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
  if (event.type === 'push-back') {
    const flow = stepFlow(state.flow, event, at, random, policy.flow);
    return { state: { ...state, flow }, effects: [{ type: 'wake', at: flow.pausedUntil }] };
  }
  const { state: health, effects } = stepHealth(state.health, event, at, random, policy.health);
  const revived = !mayStart(state.health) && mayStart(health);
  const flow = revived
    ? initialFlow(policy.flow)
    : event.type === 'success'
      ? stepFlow(state.flow, event, at, random, policy.flow)
      : state.flow;
  return { state: { health, flow }, effects };
}
