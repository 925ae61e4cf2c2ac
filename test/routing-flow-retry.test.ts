import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EVIDENCE, type VerifyLevel } from '../src/domain/delivery.ts';
import type { EpisodeRecord } from '../src/domain/episode.ts';
import { initialDestination, slots, stepDestination } from '../src/routing/destination.ts';
import { defaultFlowPolicy, type FlowState, initialFlow, stepFlow } from '../src/routing/flow.ts';
import { referenceInstant } from '../src/routing/order.ts';
import {
  afterLookUp,
  afterSend,
  type Decision,
  defaultRetryPolicy,
  type EvidenceView,
  type LookUpResult,
  neededEvidence,
  type OutcomeView,
  type TroubleView,
} from '../src/routing/retry.ts';

const AT = 1_000_000;
const { maxConcurrency, maxPushBackPauseMs, pushBackPauseMs } = defaultFlowPolicy;
const success = { type: 'success' } as const;
const pushBack = { type: 'push-back' } as const;

function afterSuccesses(state: FlowState, count: number, at = AT): FlowState {
  return Array.from({ length: count }).reduce<FlowState>((flow) => stepFlow(flow, success, at, 0.5), state);
}

describe('flow', () => {
  test('slow start: from one, one more for each answer, up to the ceiling', () => {
    const limits = Array.from({ length: maxConcurrency + 2 }, (_, count) => afterSuccesses(initialFlow(), count).limit);
    expect(limits).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 8, 8]);
  });

  test('after push-back it grows by about one a round', () => {
    const halved = stepFlow(afterSuccesses(initialFlow(), 99), pushBack, AT, 0.5);
    expect(halved.limit).toBe(4);
    const later = AT + maxPushBackPauseMs;
    expect(afterSuccesses(halved, 1, later).limit).toBe(4.25);
    expect(Math.floor(afterSuccesses(halved, 4, later).limit)).toBe(4);
    expect(Math.floor(afterSuccesses(halved, 5, later).limit)).toBe(5);
    expect(afterSuccesses(halved, 200, later).limit).toBe(maxConcurrency);
  });

  test.each([0, 0.3, 0.999])('a round of push-back at one instant halves once (random %d)', (random) => {
    let flow = afterSuccesses(initialFlow(), 99);
    for (let answer = 0; answer < maxConcurrency; answer += 1) flow = stepFlow(flow, pushBack, AT, random);
    expect(flow).toMatchObject({ limit: maxConcurrency / 2, pushBacksInARow: 1 });
    expect(flow.pausedUntil).toBeGreaterThan(AT);
  });

  test('what was in flight when the pause began changes nothing; what is refused after it halves again', () => {
    const once = stepFlow(afterSuccesses(initialFlow(), 99), pushBack, AT, 0.5);
    expect(stepFlow(once, pushBack, once.pausedUntil - 1, 0.5)).toEqual(once);
    expect(stepFlow(once, pushBack, once.pausedUntil, 0.5).limit).toBe(2);
  });

  test('pauses double while push-back goes on, within the policy, and begin anew after an answer', () => {
    let flow = initialFlow();
    const ceilings: number[] = [];
    for (let round = 0, at = AT; round < 40; round += 1, at = flow.pausedUntil) {
      flow = stepFlow(flow, pushBack, at, 0.999_999_9);
      ceilings.push(flow.pausedUntil - at);
    }
    expect(ceilings.slice(0, 3)).toEqual([pushBackPauseMs, 2 * pushBackPauseMs, 4 * pushBackPauseMs]);
    expect(ceilings.at(-1)).toBe(maxPushBackPauseMs);
    const answered = stepFlow(flow, success, flow.pausedUntil, 0.5);
    expect(stepFlow(answered, pushBack, AT * 10, 0.999_999_9).pausedUntil).toBe(AT * 10 + pushBackPauseMs);
  });

  test('a pause that the destination names is kept, unless it is beyond reason', () => {
    const until = (retryAfterMs: number) => stepFlow(initialFlow(), { ...pushBack, retryAfterMs }, AT, 0.5).pausedUntil;
    expect(until(120_000)).toBe(AT + 120_000);
    expect(until(10 * 365 * 86_400_000)).toBe(AT + 3_600_000);
    expect(until(Number.POSITIVE_INFINITY)).toBe(AT + 3_600_000);
    expect(until(0)).toBeGreaterThan(AT);
  });

  test('its limit stays within [1, ceiling], whatever happens and whatever the ceiling', () => {
    const step = fc.tuple(fc.boolean(), fc.nat(1_000), fc.double({ min: 0, max: 0.999, noNaN: true }));
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 64 }), fc.array(step, { maxLength: 200 }), (ceiling, steps) => {
        const policy = { ...defaultFlowPolicy, maxConcurrency: ceiling };
        let flow = initialFlow(policy);
        let at = AT;
        for (const [isSuccess, afterMs, random] of steps) {
          at += afterMs;
          const next = stepFlow(flow, isSuccess ? success : pushBack, at, random, policy);
          expect(stepFlow(structuredClone(flow), isSuccess ? success : pushBack, at, random, policy)).toEqual(next);
          expect(next.limit).toBeGreaterThanOrEqual(1);
          expect(next.limit).toBeLessThanOrEqual(ceiling);
          expect(next.limit - flow.limit).toBeLessThanOrEqual(1);
          expect(next.limit).toBeGreaterThanOrEqual(flow.limit / 2);
          flow = next;
        }
      }),
    );
  });

  test('a destination: push-back pauses it and says when to come back, and recovery begins with one', () => {
    let state = initialDestination(AT, 'up', '');
    for (let count = 0; count < 20; count += 1) state = stepDestination(state, success, AT, 0.5).state;
    expect(slots(state, AT)).toBe(maxConcurrency);
    const paused = stepDestination(state, pushBack, AT, 0.5);
    const { pausedUntil } = paused.state.flow;
    expect(paused.effects).toEqual([{ type: 'wake', at: pausedUntil }]);
    expect([slots(paused.state, pausedUntil - 1), slots(paused.state, pausedUntil)]).toEqual([0, 4]);

    const failure = { type: 'failure', reason: '' } as const;
    const probed = { type: 'probe-ended', alive: true, reason: '' } as const;
    const tried = { type: 'trial-ended', alive: true, reason: '' } as const;
    for (const event of [failure, failure, probed, tried]) state = stepDestination(state, event, AT, 0.5).state;
    expect(slots(state, AT)).toBe(1);
  });
});

const OUTCOMES: readonly OutcomeView[] = [
  { kind: 'stored' },
  { kind: 'refused', reason: 'r', mayRetry: true },
  { kind: 'refused', reason: 'r', mayRetry: false },
  ...(['duplicate', 'push-back', 'unreachable', 'ambiguous', 'unanswered'] as const).map((kind) => ({
    kind,
    reason: 'r',
  })),
];
const VERIFY: readonly VerifyLevel[] = ['answered', 'found', 'compared'];
const RESULTS: readonly LookUpResult[] = ['found', 'equal', 'different', 'absent', 'unknown'];
const booleans = [false, true];
const VIEWS: readonly EvidenceView[] = VERIFY.flatMap((verify) =>
  booleans.flatMap((canLookUp) => booleans.map((canReadBack) => ({ verify, canLookUp, canReadBack }))),
);
const DELIVERIES = booleans.flatMap((furtherVersion) => [0, 1, 3, 7].map((attempts) => ({ furtherVersion, attempts })));

/** What holds for every decision. */
function assertSound(decision: Decision, before: number, needed: VerifyLevel): void {
  if (decision.do === 'requeue') return;
  const { state, evidence, attempts, reason, delayMs } = decision;
  if (state === 'verified') expect(EVIDENCE.indexOf(evidence)).toBeGreaterThanOrEqual(EVIDENCE.indexOf(needed));
  if (state === 'quarantined') expect(reason).toBeTruthy();
  if (state === 'pending') expect(delayMs).toBeGreaterThan(0);
  expect([before, before + 1]).toContain(attempts);
}

const NO_TROUBLE: TroubleView = { failures: 0, whileOthersStored: 0 };
const TROUBLES: readonly TroubleView[] = [
  { failures: 1, whileOthersStored: 0 },
  { failures: 50, whileOthersStored: 0 },
  { failures: 2, whileOthersStored: 1 },
  { failures: 9, whileOthersStored: 8 },
];
const REQUESTS = booleans.flatMap((alone) => booleans.map((othersStored) => ({ alone, othersStored })));
const IN_COMPANY = { alone: false, othersStored: false };
const ALONE = { alone: true, othersStored: false };

describe('after a send', () => {
  test('every outcome × what is asked × version × attempts × trouble is decided soundly', () => {
    for (const outcome of OUTCOMES) {
      for (const view of VIEWS) {
        for (const delivery of DELIVERIES) {
          for (const trouble of TROUBLES) {
            for (const request of REQUESTS) {
              const decision = afterSend({ ...delivery, trouble }, outcome, view, request);
              assertSound(decision, delivery.attempts, neededEvidence(delivery, view));
              if (delivery.furtherVersion && decision.do === 'settle') expect(decision.state).not.toBe('verified');
            }
          }
        }
      }
    }
  });

  test('nothing is put aside, and no budget spent, for what may be the trouble of the destination alone', () => {
    const trouble = { failures: 1_000, whileOthersStored: 0 };
    for (const outcome of OUTCOMES.filter(({ kind }) => kind !== 'stored' && kind !== 'duplicate')) {
      if (outcome.kind === 'refused' && !outcome.mayRetry) continue;
      for (const request of REQUESTS) {
        const view: EvidenceView = { verify: 'found', canLookUp: true, canReadBack: true };
        const decision = afterSend({ attempts: 1_000, furtherVersion: false, trouble }, outcome, view, request);
        if (decision.do === 'settle') expect(decision.state).toBe('pending');
        if (outcome.kind === 'push-back' && decision.do === 'settle') expect(decision.attempts).toBe(1_000);
        if (outcome.kind === 'unreachable') {
          expect(decision).toEqual({ do: 'requeue', lookUpFirst: false, company: 'any' });
        }
      }
    }
  });

  const can = { canLookUp: true, canReadBack: true };
  const cannot = { canLookUp: false, canReadBack: false };
  const first = { attempts: 0, furtherVersion: false, trouble: NO_TROUBLE };
  const further = { ...first, furtherVersion: true };
  const [stored, mayRetry, forGood, duplicate] = OUTCOMES as [OutcomeView, OutcomeView, OutcomeView, OutcomeView];
  const unanswered: OutcomeView = { kind: 'unanswered', reason: 'r' };
  const ambiguous: OutcomeView = { kind: 'ambiguous', reason: 'r' };
  const pushBack: OutcomeView = { kind: 'push-back', reason: 'r' };
  const asked: EvidenceView = { verify: 'found', ...can };

  test.each<[string, Decision, object]>([
    [
      'stored is verified where an answer is enough',
      afterSend(first, stored, { verify: 'answered', ...cannot }, IN_COMPANY),
      { state: 'verified', evidence: 'answered', attempts: 0, reason: null },
    ],
    [
      'stored waits for a query',
      afterSend(first, stored, { verify: 'found', ...can }, IN_COMPANY),
      { state: 'sent', evidence: 'answered', attempts: 0 },
    ],
    [
      'stored waits for a comparison',
      afterSend(first, stored, { verify: 'compared', ...can }, IN_COMPANY),
      { state: 'sent', evidence: 'answered' },
    ],
    [
      'a further version waits for a comparison, even where an answer is enough',
      afterSend(further, stored, { verify: 'answered', ...can }, IN_COMPANY),
      { state: 'sent', evidence: 'answered' },
    ],
    [
      'a further version that cannot be compared is put aside',
      afterSend(further, stored, { verify: 'answered', canLookUp: true, canReadBack: false }, IN_COMPANY),
      { state: 'quarantined', reason: 'destination may hold another version' },
    ],
    [
      'a duplicate is asked about',
      afterSend(first, duplicate, { verify: 'answered', ...can }, IN_COMPANY),
      { state: 'sent', evidence: 'accepted' },
    ],
    [
      'a duplicate that cannot be asked about is put aside',
      afterSend(first, duplicate, { verify: 'answered', ...cannot }, IN_COMPANY),
      { state: 'quarantined', evidence: 'accepted' },
    ],
    [
      'a duplicate of a further version needs a comparison',
      afterSend(further, duplicate, { verify: 'found', canLookUp: true, canReadBack: false }, IN_COMPANY),
      { state: 'quarantined' },
    ],
    [
      'a refusal that may pass is tried again later',
      afterSend({ ...first, trouble: { failures: 1, whileOthersStored: 0 } }, mayRetry, asked, ALONE),
      { state: 'pending', attempts: 1, delayMs: defaultRetryPolicy.retryMs },
    ],
    [
      'and later still while the destination stores nothing else',
      afterSend({ ...first, trouble: { failures: 3, whileOthersStored: 0 } }, mayRetry, asked, ALONE),
      { state: 'pending', delayMs: defaultRetryPolicy.retryMs * 4 },
    ],
    [
      'but within a bound',
      afterSend({ ...first, trouble: { failures: 400, whileOthersStored: 0 } }, mayRetry, asked, ALONE),
      { state: 'pending', delayMs: defaultRetryPolicy.maxRetryMs },
    ],
    [
      'refused again though others were stored in between is for good',
      afterSend({ ...first, trouble: { failures: 2, whileOthersStored: 1 } }, mayRetry, asked, ALONE),
      { state: 'quarantined', reason: 'r' },
    ],
    [
      'a refusal for good is not retried',
      afterSend(first, forGood, asked, IN_COMPANY),
      { state: 'quarantined', attempts: 1, reason: 'r' },
    ],
    [
      'push-back to one instance of a request that stored others defers that one, at no cost',
      afterSend(first, pushBack, asked, { alone: false, othersStored: true }),
      { state: 'pending', attempts: 0, delayMs: defaultRetryPolicy.retryMs },
    ],
    [
      'and so does push-back to one alone while others are stored',
      afterSend({ ...first, trouble: { failures: 2, whileOthersStored: 1 } }, pushBack, asked, ALONE),
      { state: 'pending', attempts: 0 },
    ],
    [
      'one of several unanswered goes alone, at no cost',
      afterSend(first, unanswered, asked, IN_COMPANY),
      { do: 'requeue', company: 'alone', lookUpFirst: true },
    ],
    [
      'a lost connection costs nothing',
      afterSend({ ...first, trouble: { failures: 7, whileOthersStored: 0 } }, ambiguous, asked, ALONE),
      { do: 'requeue', company: 'alone', lookUpFirst: true },
    ],
    [
      'unless others were stored in between: then it waits',
      afterSend({ ...first, trouble: { failures: 2, whileOthersStored: 1 } }, ambiguous, asked, ALONE),
      { state: 'pending', attempts: 1 },
    ],
    [
      'and is put aside when that happens again and again',
      afterSend({ ...first, trouble: { failures: 9, whileOthersStored: 3 } }, ambiguous, asked, ALONE),
      { state: 'quarantined', reason: 'never answered: r' },
    ],
    [
      'unanswered alone is tried again later',
      afterSend({ ...first, trouble: { failures: 1, whileOthersStored: 0 } }, unanswered, asked, ALONE),
      { state: 'pending', attempts: 1 },
    ],
  ])('%s', (_, decision, expected) => {
    expect(decision).toMatchObject(expected);
  });
});

describe('what cannot be read here', () => {
  const view = { verify: 'found', canLookUp: true, canReadBack: true } as const;
  const request = { alone: true, othersStored: false };
  const trouble = { failures: 0, whileOthersStored: 0 };
  const decide = (attempts: number, isLost: boolean) =>
    afterSend(
      { attempts, furtherVersion: false, trouble },
      { kind: 'unreadable', reason: 'cannot be read here', isLost },
      view,
      request,
      defaultRetryPolicy,
    );

  test('is put aside at once where it is gone or damaged', () => {
    expect(decide(0, true)).toMatchObject({ do: 'settle', state: 'quarantined', reason: 'cannot be read here' });
  });

  test('is tried again, less and less often, for some hours, and then put aside', () => {
    let attempts = 0;
    let hours = 0;
    for (;;) {
      const decision = decide(attempts, false);
      if (decision.do !== 'settle') throw new Error(decision.do);
      if (decision.state === 'quarantined') break;
      expect(decision).toMatchObject({ state: 'pending', attempts: attempts + 1 });
      attempts = decision.attempts;
      hours += decision.delayMs / 3_600_000;
    }
    expect(hours).toBeGreaterThan(2);
    expect(hours).toBeLessThan(12);
  });
});

describe('after a look-up', () => {
  test('every result × version × attempts is decided soundly; a query never settles a further version', () => {
    for (const result of RESULTS) {
      for (const delivery of DELIVERIES) {
        for (const evidence of ['accepted', 'answered'] as const) {
          const decision = afterLookUp({ ...delivery, evidence }, result);
          assertSound(decision, delivery.attempts, delivery.furtherVersion ? 'compared' : 'found');
          if (decision.do !== 'settle') expect.fail('a look-up is always settled');
          const isProof = result === 'equal' || (result === 'found' && !delivery.furtherVersion);
          expect(decision.state === 'verified').toBe(isProof);
          if (isProof) expect(decision).toMatchObject({ attempts: delivery.attempts, reason: null });
          if (result === 'different') expect(['sent', 'quarantined']).toContain(decision.state);
        }
      }
    }
  });

  test.each([0, 1, 2])(
    'absent for ever (%i attempts before): asked again and again, sent again once, then put aside',
    (attempts) => {
      let delivery = { attempts, furtherVersion: false, evidence: 'answered' as (typeof EVIDENCE)[number] };
      const states: string[] = [];
      for (let count = 0; count < 100; count += 1) {
        const decision = afterLookUp(delivery, 'absent');
        if (decision.do !== 'settle') expect.fail('a look-up is always settled');
        states.push(decision.state);
        if (decision.state === 'quarantined') {
          expect(decision.reason).toContain('shows nothing');
          break;
        }
        expect(decision.delayMs).toBeGreaterThanOrEqual(defaultRetryPolicy.lookUpMs);
        delivery = { ...delivery, attempts: decision.attempts, evidence: 'answered' };
      }
      expect(states.length).toBeLessThanOrEqual(defaultRetryPolicy.maxLookUps);
      expect(states.filter((state) => state === 'pending')).toHaveLength(1);
      expect(states.at(-1)).toBe('quarantined');
    },
  );

  test('another version is believed only when it stays', () => {
    const states = Array.from({ length: defaultRetryPolicy.maxDifferent }, (_, attempts) => {
      const decision = afterLookUp({ attempts, furtherVersion: true, evidence: 'answered' }, 'different');
      return decision.do === 'settle' ? decision.state : decision.do;
    });
    expect(states).toEqual([...Array.from({ length: states.length - 1 }, () => 'sent'), 'quarantined']);
  });

  test('what cannot be asked is never sent again for that, and ends in quarantine', () => {
    const states = Array.from({ length: defaultRetryPolicy.maxLookUps }, (_, attempts) => {
      const decision = afterLookUp({ attempts, furtherVersion: false, evidence: 'answered' }, 'unknown');
      return decision.do === 'settle' ? decision.state : decision.do;
    });
    expect(states).toEqual([...Array.from({ length: states.length - 1 }, () => 'sent'), 'quarantined']);
  });
});

describe('the instant that ages count from', () => {
  const episode = (endedAt: number | null, drainedAt: number | null): EpisodeRecord => ({
    id: 1,
    destinationId: 'pacs',
    cause: '',
    startedAt: 1,
    detectedAt: 2,
    endedAt,
    drainedAt,
    closedAt: null,
    pendingAtStart: 0,
  });
  test.each([
    ['without an outage it is now', [], 900],
    ['while one lasts it is now', [episode(null, null)], 900],
    ['while its backlog is sent it is its end', [episode(500, null)], 500],
    ['once that is sent it is now', [episode(500, 600)], 900],
    ['of several ends it is the latest', [episode(500, null), episode(700, null), episode(800, 850)], 700],
    ['a new outage makes it now again', [episode(500, null), episode(null, null)], 900],
  ])('%s', (_, episodes, expected) => {
    expect(referenceInstant(episodes, 900, 'outage-end')).toBe(expected);
  });

  test.each([
    ['without an outage it is now', [], 900],
    ['while one lasts it is its start', [episode(null, null)], 1],
    ['while its backlog is sent it is its start', [episode(500, null)], 1],
    ['once that is sent it is now', [episode(500, 600)], 900],
    ['of several it is the earliest', [{ ...episode(500, null), startedAt: 400 }, episode(700, null)], 1],
  ])('from the start of the outage: %s', (_, episodes, expected) => {
    expect(referenceInstant(episodes, 900, 'outage-start')).toBe(expected);
  });

  test('now, or an instant, whatever the outages', () => {
    expect(referenceInstant([episode(500, null)], 900, 'now')).toBe(900);
    expect(referenceInstant([episode(500, null)], 900, 123)).toBe(123);
  });
});
