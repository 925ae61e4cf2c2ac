import { describe, expect, test } from 'vitest';
import { type DestinationPolicy, defaultDestinationPolicy } from '../src/routing/destination.ts';
import { assertDestinationPolicy } from '../src/routing/policy-check.ts';
import type { OutcomeView } from '../src/routing/retry.ts';
import { eventOfSend, isTrialAlive } from '../src/routing/verdict.ts';

const standard = defaultDestinationPolicy;

/** The policy with one thing replaced, as a configuration file may have it. */
function replaced(part: string, key: string, value: unknown): DestinationPolicy {
  const parts: Record<string, object> = { ...standard };
  return { ...standard, [part]: { ...parts[part], [key]: value } };
}

describe('a policy', () => {
  test('the standard one is whole', () => {
    expect(() => assertDestinationPolicy(standard)).not.toThrow();
  });

  const numbers = Object.entries(standard).flatMap(([part, knobs]) =>
    Object.entries(knobs).flatMap(([key, value]) => (typeof value === 'number' ? [[part, key] as const] : [])),
  );
  test.each(numbers)('%s.%s is a number within its range', (part, key) => {
    for (const value of [Number.NaN, -1, '5', null, undefined]) {
      expect(() => assertDestinationPolicy(replaced(part, key, value), 'policy of destination "pacs"')).toThrow(
        expect.objectContaining({
          code: 'SPILLWAY_OPTION_INVALID',
          message: expect.stringContaining(`pacs".${part}.${key} to be`),
        }),
      );
    }
  });

  const window = { from: '07:00', to: '19:00', timeZone: 'Europe/Berlin', maxConcurrency: 0 };
  test.each<[string, string, unknown, string]>([
    ['health', 'probeIntervalMs', 60_000, 'no more than maxProbeIntervalMs (30000), got 60000'],
    ['flow', 'maxConcurrency', 0, 'a whole number from 1 to 1024, got 0'],
    ['flow', 'maxConcurrency', 1.5, 'whole number'],
    ['flow', 'maxConcurency', 4, 'nothing but'],
    ['flow', 'pace', { timesArrivals: 0.5, minBytesPerSecond: 1 }, 'a number above 1, got 0.5'],
    ['flow', 'pace', { timesArrivals: 2 }, 'minBytesPerSecond to be bytes per second'],
    ['flow', 'windows', window, 'an array of windows'],
    ['flow', 'windows', [{ ...window, from: '7:00' }], 'windows[0].from to be a time HH:MM'],
    ['flow', 'windows', [{ ...window, to: '24:00' }], 'HH:MM'],
    ['flow', 'windows', [{ ...window, to: '07:10' }], '15 minutes at least'],
    ['flow', 'windows', [{ ...window, to: '06:50' }], '15 minutes at least'],
    ['flow', 'windows', [{ ...window, timeZone: 'Berlin' }], 'an IANA time zone'],
    ['flow', 'windows', [{ ...window, timeZone: undefined }], 'an IANA time zone'],
    ['flow', 'windows', [{ ...window, days: ['monday'] }], 'a list of mon'],
    ['flow', 'windows', [{ ...window, days: [] }], 'a list of mon'],
    ['flow', 'windows', [{ ...window, lane: 'night' }], 'one of live, backlog, history'],
    ['flow', 'windows', [{ ...window, maxConcurrency: undefined }], 'maxConcurrency or maxBytesPerSecond'],
    ['flow', 'windows', [{ ...window, maxBytesPerSecond: 0 }], 'bytes per second, above 0'],
    ['share', 'history', 0.5, 'leave one for the backlog'],
    ['share', 'live', 1, 'above 0 and below 1'],
    ['retry', 'retriesPerSend', 2, 'a part from 0 to 1'],
  ])('%s.%s: %j is refused', (part, key, value, expected) => {
    expect(() => assertDestinationPolicy(replaced(part, key, value))).toThrow(expected);
  });

  test.each([
    [replaced('flow', 'windows', [window, { ...window, days: ['sat'], lane: 'history', from: '22:00', to: '22:00' }])],
    [replaced('flow', 'pace', { timesArrivals: 3, minBytesPerSecond: 1_000_000 })],
    [replaced('flow', 'maxBytesPerSecond', 1_000)],
    [replaced('share', 'history', 0.1)],
    [replaced('retry', 'retriesPerSend', 0)],
  ])('good ones are accepted', (policy) => {
    expect(() => assertDestinationPolicy(policy)).not.toThrow();
  });

  test.each([[null], [undefined], [[]], [{ ...standard, flow: undefined }], [{ ...standard, order: {} }]])(
    'what is no policy is refused: %j',
    (policy) => {
      expect(() =>
        assertDestinationPolicy(Object(policy) === policy ? (policy as DestinationPolicy) : (policy as never)),
      ).toThrow(expect.objectContaining({ code: 'SPILLWAY_OPTION_INVALID' }));
    },
  );
});

describe('what a request says of the destination', () => {
  const stored: OutcomeView = { kind: 'stored' };
  const pushBack = (retryAfterMs?: number): OutcomeView => ({ kind: 'push-back', reason: 'busy', retryAfterMs });
  const soft: OutcomeView = { kind: 'refused', reason: '0110', mayRetry: true };
  const hard: OutcomeView = { kind: 'refused', reason: 'A900', mayRetry: false };
  const lost: OutcomeView = { kind: 'ambiguous', reason: 'reset' };
  const unreadable: OutcomeView = { kind: 'unreadable', reason: 'EIO', isLost: false };

  test.each<[string, readonly OutcomeView[], object | undefined]>([
    ['one stored, whatever became of the others', [soft, pushBack(), stored, lost], { type: 'success' }],
    ['a definite refusal', [hard], { type: 'success' }],
    ['the longest pause asked for', [pushBack(5), pushBack(700), soft], { type: 'push-back', retryAfterMs: 700 }],
    ['push-back that names no pause', [pushBack()], { type: 'push-back', retryAfterMs: undefined }],
    ['a refusal that may be its own trouble', [soft, lost], { type: 'soft-refusal', reason: '0110' }],
    ['a lost connection', [lost], { type: 'failure', reason: 'reset' }],
    ['no outcome at all', [], { type: 'failure', reason: 'no answer' }],
    ['what could not be read here', [lost, unreadable], undefined],
  ])('%s', (_, outcomes, expected) => {
    expect(eventOfSend(outcomes.map((outcome) => ({ outcome })))).toEqual(expected);
  });

  test('a trial is alive where it got a definite answer or was asked for patience', () => {
    expect([stored, hard, pushBack(), soft, lost].map(isTrialAlive)).toEqual([true, true, true, false, false]);
  });
});
