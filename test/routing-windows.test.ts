import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ceilingsAt, type FlowWindow, MIN_WINDOW_MINUTES, nextChangeAt, wallClock } from '../src/routing/windows.ts';

const HOUR_MS = 3_600_000;
const berlin = { timeZone: 'Europe/Berlin', maxConcurrency: 1 } as const;
const at = (text: string) => Date.parse(text);
const isOpen = (window: FlowWindow, instant: number) => ceilingsAt([window], null, instant).maxConcurrency === 1;

describe('windows', () => {
  test.each<[string, FlowWindow, readonly string[], readonly string[]]>([
    [
      'within a day',
      { ...berlin, from: '07:00', to: '19:00' },
      ['2026-01-05T07:00+01:00', '2026-01-05T18:59+01:00', '2026-07-05T07:00+02:00'],
      ['2026-01-05T06:59+01:00', '2026-01-05T19:00+01:00', '2026-07-05T06:59+02:00'],
    ],
    [
      'over midnight',
      { ...berlin, from: '22:00', to: '05:00' },
      ['2026-01-05T22:00+01:00', '2026-01-06T04:59+01:00'],
      ['2026-01-05T21:59+01:00', '2026-01-06T05:00+01:00'],
    ],
    [
      'on some days, of the day on which it begins',
      { ...berlin, from: '22:00', to: '05:00', days: ['fri', 'sun'] },
      ['2026-01-09T23:00+01:00', '2026-01-10T04:00+01:00', '2026-01-12T04:00+01:00'],
      ['2026-01-10T23:00+01:00', '2026-01-11T04:00+01:00', '2026-01-09T04:00+01:00'],
    ],
    [
      'a whole day',
      { ...berlin, from: '00:00', to: '00:00', days: ['sat'] },
      ['2026-01-10T00:00+01:00', '2026-01-10T23:59+01:00'],
      ['2026-01-09T23:59+01:00', '2026-01-11T00:00+01:00'],
    ],
  ])('%s', (_, window, open, closed) => {
    for (const instant of open) expect(isOpen(window, at(instant)), instant).toBe(true);
    for (const instant of closed) expect(isOpen(window, at(instant)), instant).toBe(false);
  });

  test('the tightest counts, by lane', () => {
    const always = { from: '00:00', to: '00:00', timeZone: 'UTC' } as const;
    const windows: FlowWindow[] = [
      { ...always, maxConcurrency: 4, maxBytesPerSecond: 1_000 },
      { ...always, maxConcurrency: 2 },
      { ...always, lane: 'history', maxConcurrency: 0 },
    ];
    expect(ceilingsAt(windows, null, 0)).toEqual({ maxConcurrency: 2, maxBytesPerSecond: 1_000 });
    expect(ceilingsAt(windows, 'history', 0)).toEqual({
      maxConcurrency: 0,
      maxBytesPerSecond: Number.POSITIVE_INFINITY,
    });
    expect(ceilingsAt(windows, 'live', 0).maxConcurrency).toBe(Number.POSITIVE_INFINITY);
    expect(nextChangeAt(windows, 0)).toBeNull();
    expect(nextChangeAt([], 0)).toBeNull();
  });

  test.each<[string, FlowWindow, string, string]>([
    [
      'to its beginning',
      { ...berlin, from: '07:00', to: '19:00' },
      '2026-01-05T03:10:20+01:00',
      '2026-01-05T07:00+01:00',
    ],
    ['to its end', { ...berlin, from: '07:00', to: '19:07' }, '2026-01-05T12:00+01:00', '2026-01-05T19:07+01:00'],
    [
      'over a weekend',
      { ...berlin, from: '07:00', to: '19:00', days: ['mon'] },
      '2026-01-06T00:00+01:00',
      '2026-01-12T07:00+01:00',
    ],
    // 29 March 2026: 02:00 becomes 03:00. 25 October 2026: 03:00 becomes 02:00.
    [
      'a night that is an hour shorter',
      { ...berlin, from: '19:00', to: '07:00' },
      '2026-03-28T20:00+01:00',
      '2026-03-29T07:00+02:00',
    ],
    [
      'a night that is an hour longer',
      { ...berlin, from: '19:00', to: '07:00' },
      '2026-10-24T20:00+02:00',
      '2026-10-25T07:00+01:00',
    ],
    [
      'an end in the hour that there is not',
      { ...berlin, from: '19:00', to: '02:30' },
      '2026-03-28T20:00+01:00',
      '2026-03-29T03:00+02:00',
    ],
    [
      'an end in the hour that there is twice',
      { ...berlin, from: '19:00', to: '02:30' },
      '2026-10-24T20:00+02:00',
      '2026-10-25T02:30+02:00',
    ],
  ])('the next change: %s', (_, window, from, expected) => {
    const next = nextChangeAt([window], at(from));
    expect(next === null ? null : new Date(next).toISOString()).toBe(new Date(at(expected)).toISOString());
  });

  const minutes = fc.nat(1_439);
  const clock = (value: number) =>
    `${String(Math.floor(value / 60)).padStart(2, '0')}:${String(value % 60).padStart(2, '0')}`;
  const window = fc
    .record({
      from: minutes,
      length: fc.oneof(fc.integer({ min: MIN_WINDOW_MINUTES, max: 1_440 - MIN_WINDOW_MINUTES }), fc.constant(1_440)),
      timeZone: fc.constantFrom('Europe/Berlin', 'America/St_Johns', 'Australia/Lord_Howe', 'Asia/Kathmandu', 'UTC'),
      days: fc.option(fc.uniqueArray(fc.constantFrom('mon', 'wed', 'sat', 'sun'), { minLength: 1 }), {
        nil: undefined,
      }),
    })
    .map(({ from, length, timeZone, days }) => {
      const window = { from: clock(from), to: clock((from + length) % 1_440), timeZone, maxConcurrency: 1 };
      return days === undefined ? window : { ...window, days };
    });
  // Two weeks about the days on which summer time begins or ends in those zones.
  const instant = fc
    .tuple(fc.constantFrom('2026-03-22T00:00Z', '2026-10-18T00:00Z', '2026-04-01T00:00Z'), fc.nat(14 * 24 * 60))
    .map(([from, minute]) => at(from) + minute * 60_000);

  test('nothing changes before the next change, and something does then', () => {
    fc.assert(
      fc.property(fc.array(window, { minLength: 1, maxLength: 3 }), instant, (windows, from) => {
        const seen = (moment: number) => windows.map((one) => isOpen({ ...one }, moment));
        const next = nextChangeAt(windows, from);
        const before = seen(from);
        const until = next ?? from + 7 * 24 * HOUR_MS;
        expect(until).toBeGreaterThan(from);
        for (let step = 1; step <= 12; step += 1)
          expect(seen(from + Math.floor(((until - 1 - from) * step) / 12))).toEqual(before);
        if (next !== null) expect(seen(next)).not.toEqual(before);
      }),
      { numRuns: 60 },
    );
  });

  test('answers do not depend on what was asked before', () => {
    fc.assert(
      fc.property(window, fc.array(instant, { minLength: 2, maxLength: 20 }), (one, instants) => {
        const windows = [one];
        for (const moment of instants) {
          expect(ceilingsAt(windows, null, moment)).toEqual(ceilingsAt([{ ...one }], null, moment));
          expect(nextChangeAt(windows, moment)).toBe(nextChangeAt([{ ...one }], moment));
        }
      }),
      { numRuns: 20 },
    );
  });

  test('wall clocks', () => {
    expect(wallClock('UTC', at('2026-01-05T00:00Z'))).toEqual({ day: 0, minutes: 0 });
    expect(wallClock('Asia/Kathmandu', at('2026-01-05T20:00Z'))).toEqual({ day: 1, minutes: 105 });
    expect(() => wallClock('Mars/Olympus', 0)).toThrow(RangeError);
  });
});
