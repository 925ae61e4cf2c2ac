/** The knobs of flow, each with the reason for its default. */
export interface FlowPolicy {
  /** Requests in flight at the most. */
  readonly maxConcurrency: number;
  /** First and greatest pause after push-back that names none; it doubles while push-back goes on, with full jitter. */
  readonly pushBackPauseMs: number;
  readonly maxPushBackPauseMs: number;
  /** A pause that push-back names is kept up to this: a wrong clock at the peer must not hold it up for good. */
  readonly maxRetryAfterMs: number;
}

export const defaultFlowPolicy: FlowPolicy = {
  maxConcurrency: 8,
  pushBackPauseMs: 500,
  maxPushBackPauseMs: 30_000,
  maxRetryAfterMs: 3_600_000,
};

/** How many requests a destination is given at once. */
export interface FlowState {
  /** Allowed in flight; grows by fractions, floored where it is used, never below 1. */
  readonly limit: number;
  /** Above it the limit grows by one a round, below it by one an answer (slow start). */
  readonly threshold: number;
  readonly pausedUntil: number;
  readonly pushBacksInARow: number;
}

/** Begins with one request in flight, as after every recovery. */
export function initialFlow(policy: FlowPolicy = defaultFlowPolicy): FlowState {
  return { limit: 1, threshold: policy.maxConcurrency, pausedUntil: 0, pushBacksInARow: 0 };
}

/** Whether nothing may be started for now. A pause longer than any can be means that the clock has gone back. */
export function isPaused(state: FlowState, at: number, policy: FlowPolicy = defaultFlowPolicy): boolean {
  const left = state.pausedUntil - at;
  return left > 0 && left <= Math.max(policy.maxRetryAfterMs, policy.maxPushBackPauseMs);
}

/** Additive increase, multiplicative decrease, slow start: a recovering PACS is asked for more only as it answers. */
export function stepFlow(
  state: FlowState,
  event: { readonly type: 'success' } | { readonly type: 'push-back'; readonly retryAfterMs?: number | undefined },
  at: number,
  random: number,
  policy: FlowPolicy = defaultFlowPolicy,
): FlowState {
  if (event.type === 'success') {
    const growth = state.limit < state.threshold ? 1 : 1 / state.limit;
    return { ...state, limit: Math.min(policy.maxConcurrency, state.limit + growth), pushBacksInARow: 0 };
  }
  // Answers to requests that were in flight before the pause began tell nothing new.
  if (isPaused(state, at, policy)) return state;
  const limit = Math.max(1, state.limit / 2);
  const ceiling = Math.min(
    policy.maxPushBackPauseMs,
    policy.pushBackPauseMs * 2 ** Math.min(state.pushBacksInARow, 20),
  );
  // Never 0: what else comes at this instant is of the same round.
  const pauseMs = Math.max(1, Math.min(event.retryAfterMs ?? Math.round(ceiling * random), policy.maxRetryAfterMs));
  return { limit, threshold: limit, pausedUntil: at + pauseMs, pushBacksInARow: state.pushBacksInARow + 1 };
}
