import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type DestinationState,
  defaultDestinationPolicy,
  initialDestination,
  slots,
  startableAt,
  stepDestination,
} from '../src/routing/destination.ts';
import {
  defaultFlowPolicy,
  type FlowEvent,
  type FlowPolicy,
  type FlowState,
  initialFlow,
  stepFlow,
} from '../src/routing/flow.ts';

const AT = 1_000_000;
const { maxConcurrency, maxLagMs, maxPushBackPauseMs, pushBackPauseMs } = defaultFlowPolicy;
const pushBack = { type: 'push-back' } as const;
const SECOND_MS = 1_000;

/** Requests of 50 ms each, so many in flight as the limit says, for a while. */
function sentFor(state: FlowState, ms: number, from: number, policy: FlowPolicy = defaultFlowPolicy): FlowState {
  let flow = state;
  for (let at = from + 50; at <= from + ms; at += 50) {
    const { limit } = flow.concurrency;
    for (let answer = 0; answer < limit; answer += 1) {
      const measure = { bytes: 500_000, instances: 1, elapsedMs: 50, inFlight: limit };
      flow = stepFlow(flow, { type: 'success', measure }, at, 0.5, policy);
    }
  }
  return flow;
}

describe('concurrency', () => {
  const grown = sentFor(initialFlow(), 10 * SECOND_MS, AT);

  test('begins with one and grows to the ceiling as long as that pays', () => {
    expect(initialFlow().concurrency.limit).toBe(1);
    expect(sentFor(initialFlow(), SECOND_MS, AT).concurrency.base).toBe(maxConcurrency);
  });

  test('an answer that says nothing of its time changes nothing but the rows of what went before', () => {
    const pushed = stepFlow(initialFlow(), pushBack, AT, 0.5);
    const answered = stepFlow(pushed, { type: 'success' }, AT, 0.5);
    expect(answered).toEqual({ ...pushed, pushBacksInARow: 0, storedSinceLoss: 1 });
  });

  test.each([0, 0.3, 0.999])('a round of push-back at one instant halves once (random %d)', (random) => {
    let flow = grown;
    for (let answer = 0; answer < maxConcurrency; answer += 1) flow = stepFlow(flow, pushBack, AT * 2, random);
    expect(flow.concurrency.limit).toBe(maxConcurrency / 2);
    expect(flow.pushBacksInARow).toBe(1);
    expect(flow.pausedUntil).toBeGreaterThan(AT * 2);
  });

  test('what was in flight when the pause began changes nothing; what is refused after it halves again', () => {
    const once = stepFlow(grown, pushBack, AT * 2, 0.5);
    expect(stepFlow(once, pushBack, once.pausedUntil - 1, 0.5)).toEqual(once);
    expect(stepFlow(once, pushBack, once.pausedUntil, 0.5).concurrency.limit).toBe(maxConcurrency / 4);
  });

  test('push-back where more was only tried out leads back to what is known to do', () => {
    const wall = stepFlow(sentFor(initialFlow(), SECOND_MS, AT), pushBack, AT + SECOND_MS, 0.5);
    expect(wall.concurrency.limit).toBe(4);
    let flow = wall;
    let at = wall.pausedUntil;
    while (flow.concurrency.limit === 4) {
      flow = sentFor(flow, 50, at);
      at += 50;
    }
    expect(flow.concurrency.limit).toBeGreaterThan(4);
    expect(stepFlow(flow, pushBack, at, 0.5).concurrency.limit).toBe(4);
  });

  test('requests that were in flight while this process stood still say nothing of the destination', () => {
    let flow = sentFor(initialFlow(), 20 * SECOND_MS, AT);
    const at = AT + 80 * SECOND_MS;
    flow = stepFlow(flow, { type: 'stall', from: AT + 20 * SECOND_MS, to: at }, at, 0.5);
    const before = flow.concurrency;
    for (let answer = 0; answer < 50; answer += 1) {
      const measure = { bytes: 500_000, instances: 1, elapsedMs: 60_000, inFlight: 8 };
      flow = stepFlow(flow, { type: 'success', measure }, at, 0.5);
    }
    expect(flow.concurrency).toEqual(before);
  });

  test('a process that stands still again and again comes to the ceiling all the same', () => {
    let flow = initialFlow();
    for (let round = 0; round < 400; round += 1) {
      const at = AT + round * 200;
      flow = stepFlow(flow, { type: 'stall', from: at - 120, to: at }, at, 0.5);
      for (let answer = 0; answer < flow.concurrency.limit; answer += 1) {
        const measure = { bytes: 500_000, instances: 1, elapsedMs: 180, inFlight: flow.concurrency.limit };
        flow = stepFlow(flow, { type: 'success', measure }, at + 70, 0.5);
      }
    }
    expect(flow.concurrency.base).toBe(maxConcurrency);
  });

  test.each([1, 20 * SECOND_MS])(
    'a clock that went back by a day, of which nobody told (after %i ms), holds up nothing',
    (ms) => {
      const tryOut = { tryOutMs: 3_600_000, maxTryOutMs: 3_600_000, maxRefusedTryOutMs: 3_600_000 };
      const policy = { ...defaultFlowPolicy, ...tryOut, maxConcurrency: 4 };
      const before = sentFor(initialFlow(policy), ms, AT * 1_000, policy);
      // What waits for an hour by the new clock would wait for a day by the old one.
      const after = sentFor(before, 1_500 * SECOND_MS, AT * 1_000 - 86_400_000, { ...policy, maxConcurrency: 8 });
      expect(after.concurrency.base).toBeGreaterThanOrEqual(4);
      expect(after.concurrency.nextTryOutAt).toBeLessThan(AT * 1_000);
    },
  );

  test('where there is little to send nothing is concluded from it', () => {
    for (const [start, expected] of [
      [initialFlow(), 2],
      [grown, maxConcurrency],
    ] as const) {
      let flow = start;
      for (let at = AT * 2; at < AT * 2 + 600 * SECOND_MS; at += 100) {
        const measure = { bytes: 500_000, instances: 1, elapsedMs: 90, inFlight: 1 };
        flow = stepFlow(flow, { type: 'success', measure }, at, 0.5);
      }
      expect(flow.concurrency.base).toBe(expected);
    }
  });
});

describe('pauses after push-back', () => {
  test('double while it goes on, within the policy, and begin anew after an answer', () => {
    let flow = initialFlow();
    const ceilings: number[] = [];
    for (let round = 0, at = AT; round < 40; round += 1, at = flow.pausedUntil) {
      flow = stepFlow(flow, pushBack, at, 0.999_999_9);
      ceilings.push(flow.pausedUntil - at);
    }
    expect(ceilings.slice(0, 3)).toEqual([pushBackPauseMs, 2 * pushBackPauseMs, 4 * pushBackPauseMs]);
    expect(ceilings.at(-1)).toBe(maxPushBackPauseMs);
    const answered = stepFlow(flow, { type: 'success' }, flow.pausedUntil, 0.5);
    expect(stepFlow(answered, pushBack, AT * 10, 0.999_999_9).pausedUntil).toBe(AT * 10 + pushBackPauseMs);
  });

  test('one that the destination names is kept, unless it is beyond reason', () => {
    const until = (retryAfterMs: number) => stepFlow(initialFlow(), { ...pushBack, retryAfterMs }, AT, 0.5).pausedUntil;
    expect(until(120_000)).toBe(AT + 120_000);
    expect(until(10 * 365 * 86_400_000)).toBe(AT + 3_600_000);
    expect(until(Number.POSITIVE_INFINITY)).toBe(AT + 3_600_000);
    expect(until(0)).toBeGreaterThan(AT);
  });

  test('a destination: it says when to come back, and recovery begins with one', () => {
    let state: DestinationState = initialDestination(AT, 'up', '');
    state = { ...state, flow: sentFor(state.flow, 10 * SECOND_MS, AT) };
    const at = AT + 11 * SECOND_MS;
    expect(slots(state, at)).toBe(maxConcurrency);
    const paused = stepDestination(state, pushBack, at, 0.5);
    const { pausedUntil } = paused.state.flow;
    expect(paused.effects).toEqual([{ type: 'wake', at: pausedUntil }]);
    expect([slots(paused.state, pausedUntil - 1), slots(paused.state, pausedUntil)]).toEqual([0, 4]);

    const failure = { type: 'failure', reason: '' } as const;
    const probed = { type: 'probe-ended', alive: true, reason: '' } as const;
    const tried = { type: 'trial-ended', alive: true, reason: '' } as const;
    for (const event of [failure, failure, probed, tried]) state = stepDestination(state, event, at, 0.5).state;
    expect(slots(state, at)).toBe(1);
  });
});

describe('evidence that lags behind', () => {
  const lag = (flow: FlowState, lagMs: number, at: number) => stepFlow(flow, { type: 'lag', lagMs }, at, 0.5);
  const policy = defaultDestinationPolicy;
  const slotsOf = (flow: FlowState, at: number) => slots({ ...initialDestination(AT, 'up', ''), flow }, at, policy);

  test('halves, once in an interval, down to one; then one more in each', () => {
    let flow = sentFor(initialFlow(), 10 * SECOND_MS, AT);
    let at = AT + 10 * SECOND_MS;
    const seen: number[] = [];
    for (const lagMs of [maxLagMs + 1, maxLagMs + 1, maxLagMs + 1, maxLagMs + 1, 0, 0, 0]) {
      at += 30 * SECOND_MS;
      flow = lag(lag(flow, lagMs, at), lagMs, at + 1);
      seen.push(slotsOf(flow, at));
    }
    expect(seen).toEqual([4, 2, 1, 1, 1, 1, 1]);
    expect(flow.lag.ceiling).toBe(4);
    expect(sentFor(flow, 20 * SECOND_MS, at).concurrency.base).toBe(4);
  });

  test('within the bound changes nothing', () => {
    const flow = sentFor(initialFlow(), 10 * SECOND_MS, AT);
    expect(lag(flow, maxLagMs, AT * 2).concurrency).toEqual(flow.concurrency);
  });
});

describe('bytes a second', () => {
  const having = (flow: Partial<FlowPolicy>) => ({
    ...defaultDestinationPolicy,
    flow: { ...defaultFlowPolicy, ...flow },
  });

  test('a second of them may go at once, what is larger goes too and is paid for afterwards', () => {
    const policy = having({ maxBytesPerSecond: 1_000_000 });
    let state = initialDestination(AT, 'up', '', policy);
    const send = (bytes: number, at: number) => {
      state = stepDestination(state, { type: 'started', bytes }, at, 0.5, policy).state;
      return startableAt(state, at, policy) - at;
    };
    expect(startableAt(state, AT, policy)).toBe(AT);
    expect(send(600_000, AT)).toBe(0);
    expect(send(1_400_000, AT)).toBe(1_000);
    expect(send(3_000_000, AT + 2_000)).toBe(2_000);
    // Nothing is saved up beyond a second.
    expect(send(3_000_000, AT + 3_600_000)).toBe(2_000);
  });

  test('over any long run no more than that', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 3_000_000 }), { minLength: 20, maxLength: 200 }), (sizes) => {
        const policy = having({ maxBytesPerSecond: 1_000_000 });
        let state = initialDestination(AT, 'up', '', policy);
        let at = AT;
        let sent = 0;
        for (const bytes of sizes) {
          at = Math.max(at, startableAt(state, at, policy));
          expect(startableAt(state, at, policy)).toBe(at);
          // One second's worth, and the request that goes beyond.
          expect(sent).toBeLessThanOrEqual(1_000_000 + ((at - AT) / 1_000) * 1_000_000 + sizes.length);
          state = stepDestination(state, { type: 'started', bytes }, at, 0.5, policy).state;
          sent += bytes;
        }
      }),
    );
  });

  test('the pace bounds the backlog by what arrives, and never what is live', () => {
    const policy = having({ pace: { timesArrivals: 2, minBytesPerSecond: 1_000 } });
    let state = initialDestination(AT, 'up', '', policy);
    const started = { type: 'started', bytes: 10_000_000, lane: 'backlog' } as const;
    const waitAfter = (from: DestinationState, at: number) => {
      const { state: after } = stepDestination(from, started, at, 0.5, policy);
      expect(startableAt(after, at, policy, 'live')).toBe(at);
      return startableAt(after, at, policy, 'backlog') - at;
    };
    // Nothing has arrived: the least.
    expect(waitAfter(state, AT)).toBeGreaterThan(9_000_000);
    let at = AT;
    for (; at < AT + 3 * 3_600_000; at += 1_000) {
      state = stepDestination(state, { type: 'arrived', bytes: 500_000 }, at, 0.5, policy).state;
    }
    // 0.5 MB/s arrive, so 1 MB/s go, one second's worth of 10 MB at once.
    expect(waitAfter(state, at)).toBeGreaterThan(8_900);
    expect(waitAfter(state, at)).toBeLessThan(9_100);
  });

  test('a window bounds a lane or all of them, and its end is not overslept', () => {
    const night = { from: '07:00', to: '19:00', timeZone: 'UTC' } as const;
    const policy = having({
      windows: [
        { ...night, lane: 'history', maxConcurrency: 0 },
        { ...night, lane: 'backlog', maxBytesPerSecond: 1_000 },
        { ...night, maxConcurrency: 1 },
      ],
    });
    const noon = Date.UTC(2026, 0, 5, 12);
    const evening = Date.UTC(2026, 0, 5, 19);
    let state = initialDestination(noon, 'up', '', policy);
    state = { ...state, flow: sentFor(state.flow, 10 * SECOND_MS, noon, policy.flow) };
    const slotsAt = (at: number) => [slots(state, at, policy), slots(state, at, policy, 'history')];
    expect(slotsAt(noon)).toEqual([1, 0]);
    expect(slotsAt(evening)).toEqual([maxConcurrency, maxConcurrency]);
    state = stepDestination(state, { type: 'started', bytes: 2e9, lane: 'backlog' }, noon, 0.5, policy).state;
    expect(startableAt(state, noon, policy, 'backlog')).toBe(evening);
    expect(startableAt(state, noon, policy, 'live')).toBe(noon);
    expect(startableAt(state, evening, policy, 'backlog')).toBe(evening);
  });
});

describe('whatever happens', () => {
  const size = fc.oneof(fc.nat(10_000), fc.integer({ min: 0, max: 4_000_000_000 }));
  const measure = fc.record({
    bytes: size,
    instances: fc.integer({ min: 0, max: 50 }),
    elapsedMs: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 100_000, noNaN: true })),
    inFlight: fc.integer({ min: 0, max: 64 }),
  });
  const event: fc.Arbitrary<FlowEvent> = fc.oneof(
    { weight: 8, arbitrary: fc.record({ type: fc.constant('success' as const), measure }) },
    fc.constant<FlowEvent>({ type: 'success' }),
    fc.record({ type: fc.constant('push-back' as const), retryAfterMs: fc.option(fc.nat(90_000), { nil: undefined }) }),
    fc.record({
      type: fc.constant('started' as const),
      bytes: size,
      lane: fc.constantFrom(undefined, 'live', 'backlog', 'history'),
    }),
    fc.record({ type: fc.constant('arrived' as const), bytes: size }),
    fc.record({ type: fc.constant('lag' as const), lagMs: fc.nat(2 * maxLagMs) }),
    fc.nat(90_000).map((ms) => ({ type: 'stall' as const, from: AT, to: AT + ms })),
    fc.record({ type: fc.constant('clock-back' as const), byMs: fc.nat(90_000) }),
  );
  const history = fc.array(
    fc.tuple(event, fc.oneof(fc.nat(50), fc.nat(100_000)), fc.double({ min: 0, max: 0.999, noNaN: true })),
    {
      maxLength: 300,
    },
  );
  const policies = fc.record({
    maxConcurrency: fc.integer({ min: 1, max: 64 }),
    maxBytesPerSecond: fc.constantFrom(Number.POSITIVE_INFINITY, 100_000),
    pace: fc.constantFrom(null, { timesArrivals: 3, minBytesPerSecond: 1_000 }),
  });

  function played(changes: Partial<FlowPolicy>, steps: readonly (readonly [FlowEvent, number, number])[]) {
    const policy = { ...defaultFlowPolicy, ...changes };
    let flow = initialFlow(policy);
    let at = AT;
    for (const [one, afterMs, random] of steps) {
      at += afterMs;
      if (one.type === 'clock-back') at -= one.byMs;
      const stalled = one.type === 'stall' ? { ...one, to: at } : one;
      const next = stepFlow(flow, stalled, at, random, policy);
      expect(stepFlow(structuredClone(flow), stalled, at, random, policy)).toEqual(next);
      flow = next;
      const { limit, base } = flow.concurrency;
      expect(Number.isInteger(limit) && limit >= 1 && limit <= policy.maxConcurrency).toBe(true);
      expect(Number.isInteger(base) && base >= 1 && base <= policy.maxConcurrency).toBe(true);
      expect(flow.lag.ceiling >= 1 && flow.lag.ceiling <= policy.maxConcurrency).toBe(true);
      expect(numbersIn(flow).some(Number.isNaN)).toBe(false);
    }
    return { flow, at, policy };
  }

  function numbersIn(value: unknown): number[] {
    if (typeof value === 'number') return [value];
    return typeof value === 'object' && value !== null ? Object.values(value).flatMap(numbersIn) : [];
  }

  test('the limit stays within [1, ceiling], no number is none, the same events lead to the same state', () => {
    fc.assert(fc.property(policies, history, (changes, steps) => void played(changes, steps)));
  });

  test('a destination that stays good is given all that it bears in the end', () => {
    fc.assert(
      fc.property(policies, history, ({ maxConcurrency: ceiling }, steps) => {
        const { flow, at, policy } = played({ maxConcurrency: Math.min(ceiling, 16) }, steps);
        let next = flow;
        let now = Math.max(at, flow.pausedUntil);
        const until = now + 4 * 3_600_000;
        for (; next.concurrency.base < policy.maxConcurrency; now += 30_000) {
          expect(now, JSON.stringify(next.concurrency)).toBeLessThan(until);
          next = stepFlow(next, { type: 'lag', lagMs: 0 }, now, 0.5, policy);
          next = sentFor(next, 3_000, now, policy);
        }
      }),
      { numRuns: 60 },
    );
  });
});
