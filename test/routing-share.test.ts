import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Lane } from '../src/domain/delivery.ts';
import {
  initialBudget,
  mayRetry,
  nextRetryAt,
  type RetryBudget,
  type RetryBudgetPolicy,
  sentFirst,
  spend,
} from '../src/routing/budget.ts';
import { defaultRetryPolicy } from '../src/routing/retry.ts';
import {
  charge,
  costOf,
  defaultSharePolicy,
  initialShare,
  lanesInOrder,
  type SharePolicy,
} from '../src/routing/share.ts';

const LANES: readonly Lane[] = ['live', 'backlog', 'history'];

/** Serves `count` requests from those lanes that have work; what each was given. */
function served(
  policy: SharePolicy,
  count: number,
  costs: (index: number) => number,
  hasWork: (lane: Lane, index: number) => boolean,
) {
  let share = initialShare();
  const given = { live: 0, backlog: 0, history: 0 };
  for (let index = 0; index < count; index += 1) {
    const lane = lanesInOrder(share, policy).find((one) => hasWork(one, index));
    if (lane === undefined) continue;
    const cost = costs(index);
    share = charge(share, lane, cost, policy);
    given[lane] += cost;
  }
  return { given, share };
}

describe('share', () => {
  test('by default live and backlog take turns, and the history is no lane of its own', () => {
    expect(lanesInOrder(initialShare())).toEqual(['live', 'backlog']);
    const first = charge(initialShare(), 'live', 100);
    expect(lanesInOrder(first)).toEqual(['backlog', 'live']);
    expect(lanesInOrder(charge(first, 'backlog', 100))).toEqual(['live', 'backlog']);
  });

  test('an instance costs more than its bytes', () => {
    expect(costOf({ bytes: 2_000, instances: 50 })).toBeGreaterThan(costOf({ bytes: 2_000_000, instances: 1 }));
  });

  const policies = fc
    .tuple(fc.double({ min: 0.05, max: 0.9, noNaN: true }), fc.double({ min: 0.02, max: 0.9, noNaN: true }))
    .filter(([live, history]) => live + history < 0.95)
    .map(([live, history]) => ({ live, history }));
  const costs = fc.array(fc.integer({ min: 1, max: 1_000 }), { minLength: 50, maxLength: 300 });

  test('where all wait, each is given its part, but for one request', () => {
    fc.assert(
      fc.property(policies, costs, (policy, sizes) => {
        const { given } = served(
          policy,
          sizes.length,
          (index) => sizes[index] ?? 1,
          () => true,
        );
        const all = given.live + given.backlog + given.history;
        const parts = { live: policy.live, backlog: 1 - policy.live - policy.history, history: policy.history };
        for (const lane of LANES)
          expect(Math.abs(given[lane] - all * parts[lane])).toBeLessThanOrEqual(2 * Math.max(...sizes));
      }),
    );
  });

  test('what is idle is borrowed, and saves up nothing', () => {
    fc.assert(
      fc.property(policies, costs, costs, fc.constantFrom(...LANES), (policy, before, after, idle) => {
        const count = before.length + after.length;
        const sizes = [...before, ...after];
        const isIdle = (lane: Lane, index: number) => lane === idle && index < before.length;
        const { given } = served(
          policy,
          count,
          (index) => sizes[index] ?? 1,
          (lane, index) => !isIdle(lane, index),
        );
        expect(given.live + given.backlog + given.history).toBe(sizes.reduce((sum, one) => sum + one, 0));
        const parts = { live: policy.live, backlog: 1 - policy.live - policy.history, history: policy.history };
        const since = after.reduce((sum, one) => sum + one, 0);
        expect(given[idle]).toBeLessThanOrEqual(since * parts[idle] + 3 * Math.max(...sizes));
      }),
    );
  });

  test('its numbers stay small, however long it runs', () => {
    const { share } = served(
      { live: 0.5, history: 0.1 },
      20_000,
      () => 1e9,
      () => true,
    );
    for (const lane of LANES) expect(share[lane]).toBeLessThan(1e9 / 0.1 + 1);
    expect(Math.min(...LANES.map((lane) => share[lane]))).toBe(0);
  });

  test('a lane that is given up in mid-run comes back as if it had just begun', () => {
    let share = initialShare();
    for (let count = 0; count < 100; count += 1) share = charge(share, 'live', 1_000, defaultSharePolicy);
    // It was never the backlog's turn to have work: one request ahead at the most.
    share = charge(share, 'backlog', 1, defaultSharePolicy);
    share = charge(share, 'backlog', 2_001, defaultSharePolicy);
    expect(lanesInOrder(share)).toEqual(['live', 'backlog']);
  });
});

describe('the budget of retries', () => {
  const policy: RetryBudgetPolicy = defaultRetryPolicy;
  const AT = 1_000_000;
  const step = fc.record({
    afterMs: fc.nat(5_000),
    first: fc.nat(20),
    wanted: fc.nat(30),
    batch: fc.integer({ min: 1, max: 20 }),
  });

  test('retries are bounded by the part of first sends, the trickle, and what is saved up', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        let budget: RetryBudget = initialBudget(policy, AT);
        let at = AT;
        let firsts = 0;
        let retries = 0;
        for (const { afterMs, first, wanted, batch } of steps) {
          at += afterMs;
          budget = sentFirst(budget, first, policy);
          firsts += first;
          for (let tries = 0; tries < wanted && mayRetry(budget, at, policy); tries += 1) {
            budget = spend(budget, at, batch, policy);
            retries += batch;
          }
          const trickle = ((at - AT) / 60_000) * policy.retriesPerMinute;
          expect(retries).toBeLessThanOrEqual(firsts * policy.retriesPerSend + trickle + policy.maxSavedRetries + 20);
          expect(mayRetry(budget, at, policy)).toBe(nextRetryAt(budget, at, policy) === at);
        }
      }),
    );
  });

  test('a backlog of nothing but retries ends, slowly', () => {
    let budget = initialBudget(policy, AT);
    let at = AT;
    for (let left = 1_000; left > 0; left -= 1) {
      at = nextRetryAt(budget, at, policy);
      expect(mayRetry(budget, at, policy)).toBe(true);
      budget = spend(budget, at, 1, policy);
    }
    const minutes = (at - AT) / 60_000;
    expect(minutes).toBeGreaterThan(30);
    expect(minutes).toBeLessThan(35);
  });

  test('a clock that goes back does not hold retries up', () => {
    let budget = initialBudget(policy, AT * 10);
    budget = spend(budget, AT * 10, 100, policy);
    expect(mayRetry(budget, AT * 10, policy)).toBe(false);
    expect(mayRetry(budget, AT, policy)).toBe(true);
    expect(mayRetry(budget, AT * 10 - 100, policy)).toBe(false);
  });
});
