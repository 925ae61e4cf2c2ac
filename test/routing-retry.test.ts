import { describe, expect, test } from 'vitest';
import { EVIDENCE, type Evidence, type VerifyLevel } from '../src/domain/delivery.ts';
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

const AT = 1_000_000_000;
const RANDOM = 0.5;
const { evidenceTimeoutMs, lookUpAfterLossMs, lookUpMs, maxRetryMs, minLookUps, resendAtLookUp, retryMs } =
  defaultRetryPolicy;
const OUTCOMES: readonly OutcomeView[] = [
  { kind: 'stored' },
  { kind: 'refused', reason: 'r', mayRetry: true },
  { kind: 'refused', reason: 'r', mayRetry: false },
  ...(['duplicate', 'push-back', 'unreachable', 'ambiguous', 'unanswered'] as const).map((kind) => ({
    kind,
    reason: 'r',
  })),
];
const VERIFY: readonly VerifyLevel[] = ['answered', 'found', 'committed', 'compared'];
const RESULTS: readonly LookUpResult[] = ['found', 'committed', 'equal', 'different', 'absent', 'awaited', 'unknown'];
const booleans = [false, true];
const VIEWS: readonly EvidenceView[] = VERIFY.flatMap((verify) =>
  booleans.flatMap((can) =>
    booleans.map((canReadBack) => ({ verify, canLookUp: can, canReadBack, canCommit: !can || canReadBack })),
  ),
);
const DELIVERIES = booleans.flatMap((furtherVersion) =>
  [0, 1, 3, 7].map((attempts) => ({ furtherVersion, attempts, answeredAt: AT - 1 })),
);

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
              const decision = afterSend({ ...delivery, trouble }, outcome, view, request, RANDOM);
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
        const view: EvidenceView = { verify: 'found', canLookUp: true, canReadBack: true, canCommit: true };
        const decision = afterSend(
          { attempts: 1_000, furtherVersion: false, answeredAt: null, trouble },
          outcome,
          view,
          request,
          RANDOM,
        );
        if (decision.do === 'settle') expect(decision.state).toBe('pending');
        if (outcome.kind === 'push-back' && decision.do === 'settle') expect(decision.attempts).toBe(1_000);
        if (outcome.kind === 'unreachable') {
          expect(decision).toEqual({ do: 'requeue', lookUpFirst: false, company: 'any', delayMs: 0, reason: 'r' });
        }
      }
    }
  });

  const can = { canLookUp: true, canReadBack: true, canCommit: true };
  const cannot = { canLookUp: false, canReadBack: false, canCommit: false };
  const first = { attempts: 0, furtherVersion: false, answeredAt: null, trouble: NO_TROUBLE };
  const further = { ...first, furtherVersion: true };
  const [stored, mayRetry, forGood, duplicate] = OUTCOMES as [OutcomeView, OutcomeView, OutcomeView, OutcomeView];
  const unanswered: OutcomeView = { kind: 'unanswered', reason: 'r' };
  const ambiguous: OutcomeView = { kind: 'ambiguous', reason: 'r' };
  const pushBack: OutcomeView = { kind: 'push-back', reason: 'r' };
  const asked: EvidenceView = { verify: 'found', ...can };

  test.each<[string, Decision, object]>([
    [
      'stored is verified where an answer is enough',
      afterSend(first, stored, { verify: 'answered', ...cannot }, IN_COMPANY, RANDOM),
      { state: 'verified', evidence: 'answered', attempts: 0, reason: null },
    ],
    [
      'stored waits for a query',
      afterSend(first, stored, { verify: 'found', ...can }, IN_COMPANY, RANDOM),
      { state: 'sent', evidence: 'answered', attempts: 0 },
    ],
    [
      'stored waits for a report of commitment',
      afterSend(first, stored, { verify: 'committed', ...can }, IN_COMPANY, RANDOM),
      { state: 'sent', evidence: 'answered' },
    ],
    [
      'and waits for one also where none can be had',
      afterSend(first, stored, { verify: 'committed', ...cannot }, IN_COMPANY, RANDOM),
      { state: 'sent', evidence: 'answered' },
    ],
    [
      'stored waits for a comparison',
      afterSend(first, stored, { verify: 'compared', ...can }, IN_COMPANY, RANDOM),
      { state: 'sent', evidence: 'answered' },
    ],
    [
      'a further version waits for a comparison, even where an answer is enough',
      afterSend(further, stored, { verify: 'answered', ...can }, IN_COMPANY, RANDOM),
      { state: 'sent', evidence: 'answered' },
    ],
    [
      'a further version that cannot be compared is put aside',
      afterSend(further, stored, { verify: 'answered', ...can, canReadBack: false }, IN_COMPANY, RANDOM),
      { state: 'quarantined', reason: 'destination may hold another version' },
    ],
    [
      'a duplicate is asked about',
      afterSend(first, duplicate, { verify: 'answered', ...can }, IN_COMPANY, RANDOM),
      { state: 'sent', evidence: 'accepted' },
    ],
    [
      'a duplicate that cannot be asked about is put aside',
      afterSend(first, duplicate, { verify: 'answered', ...cannot }, IN_COMPANY, RANDOM),
      { state: 'quarantined', evidence: 'accepted' },
    ],
    [
      'a duplicate of a further version needs a comparison',
      afterSend(further, duplicate, { verify: 'found', ...can, canReadBack: false }, IN_COMPANY, RANDOM),
      { state: 'quarantined' },
    ],
    [
      'a refusal that may pass is tried again later',
      afterSend({ ...first, trouble: { failures: 1, whileOthersStored: 0 } }, mayRetry, asked, ALONE, RANDOM),
      { state: 'pending', attempts: 1, delayMs: retryMs * 1.5 },
    ],
    [
      'and later still while the destination stores nothing else',
      afterSend({ ...first, trouble: { failures: 3, whileOthersStored: 0 } }, mayRetry, asked, ALONE, RANDOM),
      { state: 'pending', delayMs: retryMs * 4.5 },
    ],
    [
      'but within a bound',
      afterSend({ ...first, trouble: { failures: 400, whileOthersStored: 0 } }, mayRetry, asked, ALONE, RANDOM),
      { state: 'pending', delayMs: (retryMs + maxRetryMs) / 2 },
    ],
    [
      'refused again though others were stored in between is for good',
      afterSend({ ...first, trouble: { failures: 2, whileOthersStored: 1 } }, mayRetry, asked, ALONE, RANDOM),
      { state: 'quarantined', reason: 'r' },
    ],
    [
      'a refusal for good is not retried',
      afterSend(first, forGood, asked, IN_COMPANY, RANDOM),
      { state: 'quarantined', attempts: 1, reason: 'r' },
    ],
    [
      'push-back to one instance of a request that stored others defers that one, at no cost',
      afterSend(first, pushBack, asked, { alone: false, othersStored: true }, RANDOM),
      { state: 'pending', attempts: 0, delayMs: retryMs },
    ],
    [
      'and so does push-back to one alone while others are stored',
      afterSend({ ...first, trouble: { failures: 2, whileOthersStored: 1 } }, pushBack, asked, ALONE, RANDOM),
      { state: 'pending', attempts: 0 },
    ],
    [
      'one of several unanswered goes alone, at no cost',
      afterSend(first, unanswered, asked, IN_COMPANY, RANDOM),
      { do: 'requeue', company: 'alone', lookUpFirst: true, delayMs: 0 },
    ],
    [
      'a lost connection costs nothing, and leaves the destination time to store what came before',
      afterSend({ ...first, trouble: { failures: 7, whileOthersStored: 0 } }, ambiguous, asked, ALONE, RANDOM),
      { do: 'requeue', company: 'alone', lookUpFirst: true, delayMs: lookUpAfterLossMs * 1.25, reason: 'r' },
    ],
    [
      'unless others were stored in between: then it waits',
      afterSend({ ...first, trouble: { failures: 2, whileOthersStored: 1 } }, ambiguous, asked, ALONE, RANDOM),
      { state: 'pending', attempts: 1 },
    ],
    [
      'and is put aside when that happens again and again',
      afterSend({ ...first, trouble: { failures: 9, whileOthersStored: 3 } }, ambiguous, asked, ALONE, RANDOM),
      { state: 'quarantined', reason: 'never answered: r' },
    ],
    [
      'unanswered alone is tried again later',
      afterSend({ ...first, trouble: { failures: 1, whileOthersStored: 0 } }, unanswered, asked, ALONE, RANDOM),
      { state: 'pending', attempts: 1 },
    ],
  ])('%s', (_, decision, expected) => {
    expect(decision).toMatchObject(expected);
  });
});

describe('what cannot be read here', () => {
  const view = { verify: 'found', canLookUp: true, canReadBack: true, canCommit: false } as const;
  const request = { alone: true, othersStored: false };
  const trouble = { failures: 0, whileOthersStored: 0 };
  const decide = (attempts: number, isLost: boolean) =>
    afterSend(
      { attempts, furtherVersion: false, answeredAt: null, trouble },
      { kind: 'unreadable', reason: 'cannot be read here', isLost },
      view,
      request,
      RANDOM,
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

test('pauses have full jitter between the first and the one that has grown', () => {
  const delayOf = (random: number) => {
    const delivery = {
      attempts: 0,
      furtherVersion: false,
      answeredAt: null,
      trouble: { failures: 2, whileOthersStored: 0 },
    };
    const view = { verify: 'found', canLookUp: true, canReadBack: true, canCommit: false } as const;
    const outcome = { kind: 'refused', reason: 'r', mayRetry: true } as const;
    const decision = afterSend(delivery, outcome, view, ALONE, random);
    return decision.do === 'settle' ? decision.delayMs : Number.NaN;
  };
  expect([0, 0.5, 0.999_999_9].map(delayOf)).toEqual([retryMs, retryMs * 2.5, retryMs * 4]);
});

describe('after a look-up', () => {
  const view: EvidenceView = { verify: 'found', canLookUp: true, canReadBack: true, canCommit: true };
  const answered = { attempts: 0, furtherVersion: false, answeredAt: AT, evidence: 'answered' } as const;

  /** Asks again and again, each time when it is due, until it is final. */
  function askedUntilFinal(
    start: Parameters<typeof afterLookUp>[0],
    results: (question: number) => LookUpResult,
    asked: EvidenceView = view,
    random = RANDOM,
  ) {
    let delivery = start;
    let at = AT;
    const states: string[] = [];
    for (;;) {
      const decision = afterLookUp(delivery, results(states.length), asked, at, random);
      if (decision.do !== 'settle') expect.fail('a look-up is always settled');
      states.push(decision.state);
      expect(states.length).toBeLessThan(300);
      if (decision.state !== 'sent' && decision.state !== 'pending') return { states, reason: decision.reason, at };
      expect(decision.delayMs).toBeGreaterThanOrEqual(lookUpMs);
      at += decision.delayMs;
      // What is sent again is answered again.
      const answeredAt = decision.state === 'pending' ? at : delivery.answeredAt;
      const evidence: Evidence = decision.state === 'pending' ? 'answered' : decision.evidence;
      delivery = { ...delivery, attempts: decision.attempts, evidence, answeredAt };
    }
  }

  test('every result × version × attempts × what is asked is decided soundly; a query settles no further version', () => {
    for (const result of RESULTS) {
      for (const asked of VIEWS) {
        for (const delivery of DELIVERIES) {
          for (const evidence of ['accepted', 'answered', 'found', 'committed'] as const) {
            for (const at of [AT, AT + evidenceTimeoutMs]) {
              const decision = afterLookUp({ ...delivery, evidence }, result, asked, at, RANDOM);
              const needed = neededEvidence(delivery, asked);
              assertSound(decision, delivery.attempts, needed);
              if (decision.do !== 'settle') expect.fail('a look-up is always settled');
              if (decision.state === 'pending') expect(result).toBe('absent');
              // What is known is never forgotten, but where it is to be sent anew.
              else expect(EVIDENCE.indexOf(decision.evidence)).toBeGreaterThanOrEqual(EVIDENCE.indexOf(evidence));
              if (delivery.furtherVersion) expect(decision.state === 'verified').toBe(result === 'equal');
              if (decision.state === 'verified') {
                expect(['found', 'committed', 'equal']).toContain(result);
                expect(decision).toMatchObject({ attempts: delivery.attempts, reason: null });
              }
            }
          }
        }
      }
    }
  });

  test.each<[VerifyLevel, LookUpResult, object]>([
    ['answered', 'found', { state: 'verified', evidence: 'found' }],
    ['found', 'found', { state: 'verified', evidence: 'found' }],
    ['found', 'committed', { state: 'verified', evidence: 'committed' }],
    ['committed', 'found', { state: 'sent', evidence: 'found' }],
    ['committed', 'committed', { state: 'verified', evidence: 'committed' }],
    ['compared', 'committed', { state: 'sent', evidence: 'committed' }],
    ['compared', 'equal', { state: 'verified', evidence: 'compared' }],
  ])('asked for %s: %s', (verify, result, expected) => {
    expect(afterLookUp(answered, result, { ...view, verify }, AT, RANDOM)).toMatchObject(expected);
  });

  test.each([0, 1, 2])(
    'absent for ever (%i attempts before): asked for a day, sent again once, then put aside',
    (attempts) => {
      const { states, reason, at } = askedUntilFinal({ ...answered, attempts }, () => 'absent');
      expect(states.filter((state) => state === 'pending')).toHaveLength(1);
      expect(states.at(-1)).toBe('quarantined');
      expect(reason).toContain('shows nothing');
      expect(at - AT).toBeGreaterThan(evidenceTimeoutMs);
      expect(at - AT).toBeLessThan(evidenceTimeoutMs * 1.2);
      expect(states.length).toBeLessThan(50);
    },
  );

  test('what was answered a day ago is first sent again, since the destination may have lost it in its outage', () => {
    const { states } = askedUntilFinal({ ...answered, answeredAt: AT - 2 * evidenceTimeoutMs }, () => 'absent');
    expect(states.slice(0, resendAtLookUp)).toEqual([...Array(resendAtLookUp - 1).fill('sent'), 'pending']);
  });

  test.each<LookUpResult>(['unknown', 'found', 'awaited'])(
    'however often the answer is %s, the resend is still to come',
    (result) => {
      const asked = { ...view, verify: 'committed' } as const;
      const { states } = askedUntilFinal(answered, (question) => (question < 20 ? result : 'absent'), asked);
      expect(states.filter((state) => state === 'pending')).toHaveLength(1);
    },
  );

  test('another version is believed only when it stays', () => {
    const { states } = askedUntilFinal({ ...answered, furtherVersion: true }, () => 'different');
    expect(states).toEqual([...Array(defaultRetryPolicy.maxDifferent - 1).fill('sent'), 'quarantined']);
  });

  test.each<[LookUpResult, VerifyLevel, string]>([
    ['unknown', 'found', 'cannot be asked'],
    ['found', 'committed', 'never committed'],
    ['awaited', 'committed', 'never reported'],
  ])('%s for a day, asked for %s: never sent again for that, and then put aside', (result, verify, reason) => {
    const ended = askedUntilFinal(answered, () => result, { ...view, verify });
    expect(ended.reason).toContain(reason);
    expect(ended.states).not.toContain('pending');
    expect(ended.at - AT).toBeGreaterThanOrEqual(evidenceTimeoutMs);
  });

  test('nothing is put aside before it was asked about some times, however long ago it was answered', () => {
    const late = { ...answered, answeredAt: AT - 10 * evidenceTimeoutMs };
    for (const result of ['unknown', 'awaited'] as const) {
      const { states } = askedUntilFinal(late, () => result);
      expect(states).toHaveLength(minLookUps);
    }
  });

  test('what nobody knows to be answered is not put aside for being late', () => {
    const decision = afterLookUp({ ...answered, answeredAt: null, attempts: 40 }, 'unknown', view, AT, RANDOM);
    expect(decision).toMatchObject({ state: 'sent' });
  });
});
