/** One retry, but for rounding. */
const ONE = 1 - 1e-9;
const MINUTE_MS = 60_000;

/** The part of `RetryPolicy` that bounds retries to a part of first sends. */
export interface RetryBudgetPolicy {
  /**
   * Retries allowed for each first send.
   * @default 0.1: an overloaded PACS that fails at full cost recovers up to a load of 1 / 1.1; with three retries each
   * it stays down from a quarter of its capacity on
   */
  readonly retriesPerSend: number;
  /** Retries allowed a minute besides. @default 30: a backlog of nothing but retries ends, slowly */
  readonly retriesPerMinute: number;
  /** Unused retries that are kept. @default 20: a study's worth of refusals is tried again at once */
  readonly maxSavedRetries: number;
}

/** What may be tried again. */
export interface RetryBudget {
  /** Retries that are left, at `at`. */
  readonly left: number;
  readonly at: number;
}

export function initialBudget(policy: RetryBudgetPolicy, at: number): RetryBudget {
  return { left: policy.maxSavedRetries, at };
}

/** `count` instances were sent for the first time. */
export function sentFirst(budget: RetryBudget, count: number, policy: RetryBudgetPolicy): RetryBudget {
  return { ...budget, left: Math.min(policy.maxSavedRetries, budget.left + count * policy.retriesPerSend) };
}

/** Whether one may be tried again now. */
export function mayRetry(budget: RetryBudget, at: number, policy: RetryBudgetPolicy): boolean {
  return leftAt(budget, at, policy) >= ONE;
}

/** `count` were tried again, in one request; more than was left is paid for afterwards. */
export function spend(budget: RetryBudget, at: number, count: number, policy: RetryBudgetPolicy): RetryBudget {
  return { left: leftAt(budget, at, policy) - count, at };
}

/** When one may be tried again at the latest, without any first send meanwhile; `at` when now. */
export function nextRetryAt(budget: RetryBudget, at: number, policy: RetryBudgetPolicy): number {
  const missing = ONE - leftAt(budget, at, policy);
  return missing <= 0 ? at : at + Math.ceil((missing / policy.retriesPerMinute) * MINUTE_MS);
}

function leftAt(budget: RetryBudget, at: number, policy: RetryBudgetPolicy): number {
  const passedMs = at - budget.at;
  // The clock was put back: what was saved is not known any more.
  if (passedMs < -MINUTE_MS) return policy.maxSavedRetries;
  const trickle = (Math.max(0, passedMs) / MINUTE_MS) * policy.retriesPerMinute;
  return Math.min(policy.maxSavedRetries, budget.left + trickle);
}
