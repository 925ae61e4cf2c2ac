import { describe, expect, test } from 'vitest';
import { initialBudget, mayRetry, nextRetryAt, sentFirst, spend } from '../src/routing/budget.ts';
import { afterSend, defaultRetryPolicy, type RetryPolicy } from '../src/routing/retry.ts';
import { type Arrival, arrivalsOf } from '../src/simulator/arrivals.ts';
import { EventQueue } from '../src/simulator/event-queue.ts';
import { milliseconds } from '../src/simulator/quantity.ts';
import { streamOf } from '../src/simulator/random.ts';
import type { World } from '../src/simulator/scenario.ts';
import { simulate } from '../src/simulator/simulate.ts';
import { Target, type TargetOutcome } from '../src/simulator/target.ts';

/**
 * A PACS that serves ten instances a second, of which six a second come in; for one minute it serves two a second. A
 * sender waits for two seconds, and the PACS goes on with what was given up.
 */
const WORLD = {
  lasts: '30 min',
  arrivals: [{ label: 'live', perHour: 21_600 }],
  targets: {
    pacs: {
      servers: 1,
      perRequest: '0 ms',
      perInstance: '100 ms',
      perMegabyte: '0 ms',
      timeout: '2 s',
      maxInstances: 1,
      canLookUp: false,
      canReadBack: false,
      speed: [
        ['5 min', 1],
        ['301 s', 0.2],
        ['361 s', 0.2],
        ['362 s', 1],
      ],
    },
  },
} as const satisfies World;
const UNBOUNDED: RetryPolicy = {
  ...defaultRetryPolicy,
  retriesPerSend: 1e6,
  retriesPerMinute: 1e6,
  maxSavedRetries: 1e6,
};
const CAPACITY = 10;
const LOAD = 6;
/** As common clients do; then the instance is given up. */
const MAX_RETRIES = 3;

/** Answered a second, sent a second, and given up, in the last ten minutes. */
interface Late {
  readonly answered: number;
  readonly sent: number;
  readonly givenUp: number;
}

/**
 * Sends each instance as soon as retry and its budget allow, without circuit breaker and without a bound on what is in
 * flight, so that nothing but the budget stands between the PACS and its senders.
 */
function withoutOtherBounds(policy: RetryPolicy, seed: number): Late {
  const queue = new EventQueue();
  const endMs = milliseconds(WORLD.lasts);
  const lateFrom = endMs - 600_000;
  const target = new Target(WORLD.targets.pacs, queue, streamOf(seed, 'target'), endMs);
  const random = streamOf(seed, 'sender');
  const view = { verify: 'answered', canLookUp: false, canReadBack: false, canCommit: false } as const;
  let budget = initialBudget(policy, 0);
  let stored = 0;
  const late = { answered: 0, sent: 0, givenUp: 0 };
  const count = (what: keyof Late) => {
    if (queue.now >= lateFrom) late[what] += 1;
  };
  const waiting: (() => void)[] = [];
  let isTrickling = false;
  const letGo = () => {
    while (waiting.length > 0 && mayRetry(budget, queue.now, policy)) {
      budget = spend(budget, queue.now, 1, policy);
      waiting.shift()?.();
    }
    if (waiting.length === 0 || isTrickling) return;
    isTrickling = true;
    queue.at(nextRetryAt(budget, queue.now, policy), () => {
      isTrickling = false;
      letGo();
    });
  };
  const start = (arrival: Arrival) => {
    let delivery = { attempts: 0, furtherVersion: false, answeredAt: null };
    let trouble = { failures: 0, whileOthersStored: 0 };
    let storedBefore = stored;
    let sends = 0;
    const send = () => {
      count('sent');
      sends += 1;
      let isOver = false;
      const end = (outcome: TargetOutcome) => {
        if (isOver) return;
        isOver = true;
        if (outcome.kind === 'stored') stored += 1;
        else {
          const whileOthersStored = trouble.whileOthersStored + (stored > storedBefore ? 1 : 0);
          trouble = { failures: trouble.failures + 1, whileOthersStored };
          storedBefore = stored;
        }
        const request = { alone: true, othersStored: false };
        const decision = afterSend({ ...delivery, trouble }, outcome, view, request, random(), policy);
        if (decision.do === 'settle' && decision.state === 'verified') count('answered');
        else if (sends > MAX_RETRIES) count('givenUp');
        else {
          if (decision.do === 'settle') delivery = { ...delivery, attempts: decision.attempts };
          queue.at(queue.now + (decision.do === 'settle' ? decision.delayMs : 0), () => {
            waiting.push(send);
            letGo();
          });
        }
      };
      queue.at(queue.now + 2_000, () => end({ kind: 'ambiguous', reason: 'no answer in time' }));
      target.send([arrival], ([outcome]) => outcome !== undefined && end(outcome));
    };
    budget = sentFirst(budget, 1, policy);
    send();
    letGo();
  };
  for (const arrival of arrivalsOf(WORLD, seed)) queue.at(arrival.at, () => start(arrival));
  queue.runUntil(endMs);
  return { answered: late.answered / 600, sent: late.sent / 600, givenUp: late.givenUp };
}

describe.each([1, 2, 3])(
  'a PACS at six tenths of its capacity after a minute at two tenths of its speed (seed %i)',
  (seed) => {
    test('without the budget its own retries keep it overloaded for good', () => {
      const late = withoutOtherBounds(UNBOUNDED, seed);
      expect(late.sent).toBeGreaterThan(CAPACITY);
      expect(late.answered).toBeLessThan(LOAD / 4);
    });

    test('with the budget it recovers', () => {
      const late = withoutOtherBounds(defaultRetryPolicy, seed);
      expect(late.sent).toBeLessThan(LOAD * 1.2);
      expect(late.answered).toBeGreaterThan(LOAD * 0.95);
      expect(late.givenUp).toBe(0);
    });

    test('with all of the default policy it recovers, and nothing is put aside', () => {
      const { destinations, series } = simulate({ name: 'overload', why: 'as above', world: WORLD }, { seed });
      const { pacs } = destinations;
      expect(pacs).toMatchObject({ lost: 0, invented: 0, quarantined: 0 });
      const samples = (series.pacs ?? []).slice(-40);
      const answered = samples.reduce((sum, { instancesPerSecond }) => sum + instancesPerSecond, 0) / samples.length;
      expect(answered).toBeGreaterThan(LOAD * 0.9);
      expect(samples.at(-1)?.backlog.reduce((sum, count) => sum + count, 0)).toBeLessThan(100);
    });
  },
);
