import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { drainEstimate } from '../src/routing/estimate.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';

const HOUR_MS = 3_600_000;

describe('the estimate of a drain', () => {
  test.each([
    ['an empty backlog', { bytes: 0, samples: [] }, { lowMs: 0, expectedMs: 0, highMs: 0 }],
    ['nothing known', { bytes: 1, samples: [] }, null],
    ['nothing sent', { bytes: 1, samples: [0, 0, 0] }, null],
    ['less than arrives', { bytes: 1, samples: [10, 10], arrivals: 10 }, null],
    [
      'a steady rate',
      { bytes: 1_000, samples: [100, 100, 100] },
      { lowMs: 10_000, expectedMs: 10_000, highMs: 10_000 },
    ],
    [
      'one sample: half of it either way',
      { bytes: 1_500, samples: [100] },
      { lowMs: 10_000, expectedMs: 15_000, highMs: 30_000 },
    ],
    [
      'a rate that may not be enough',
      { bytes: 900, samples: [100, 200], arrivals: 60 },
      { expectedMs: 10_000, highMs: null },
    ],
  ])('%s', (_, known, expected) => {
    if (expected === null) expect(drainEstimate(known)).toBeNull();
    else expect(drainEstimate(known)).toMatchObject(expected);
  });

  // The fluid model: B = lambda D, T = D / (s - 1), s = mu / lambda.
  test.each([
    [1.25, 96],
    [1.5, 48],
    [2, 24],
    [3, 12],
    [4, 8],
    [5, 6],
  ])('after a day of outage at %d times the arrivals it takes %i hours', (s, hours) => {
    const arrivals = 1_000_000;
    const estimate = drainEstimate({ bytes: arrivals * 86_400, samples: [arrivals * s, arrivals * s], arrivals });
    expect(estimate?.expectedMs).toBeCloseTo(hours * HOUR_MS, 3);
  });

  test('is in order, and no number is none', () => {
    const samples = fc.array(fc.double({ min: 0, max: 1e9, noNaN: true }), { maxLength: 60 });
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1e15, noNaN: true }),
        samples,
        fc.double({ min: 0, max: 1e6, noNaN: true }),
        (bytes, given, arrivals) => {
          const estimate = drainEstimate({ bytes, samples: given, arrivals });
          if (estimate === null) return;
          const { lowMs, expectedMs, highMs } = estimate;
          expect(lowMs).toBeGreaterThanOrEqual(0);
          expect(lowMs).toBeLessThanOrEqual(expectedMs);
          expect(expectedMs).toBeLessThan(Number.POSITIVE_INFINITY);
          if (highMs !== null) expect(highMs).toBeGreaterThanOrEqual(expectedMs);
        },
      ),
      // So slow that it never ends, in numbers.
      { examples: [[1e15, [5e-324, 5e-324, 5e-324], 0]] },
    );
  });

  test('holds the truth in about eight of ten cases, also where neighbours are alike', () => {
    const random = seededRandom(11);
    const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    for (const alike of [0, 0.6]) {
      let held = 0;
      for (let run = 0; run < 1_000; run += 1) {
        let deviation = normal();
        const samples = Array.from({ length: 30 }, () => {
          deviation = alike * deviation + Math.sqrt(1 - alike ** 2) * normal();
          return 100 + 20 * deviation;
        });
        const estimate = drainEstimate({ bytes: 1_000, samples });
        if (estimate !== null && estimate.lowMs <= 10_000 && (estimate.highMs ?? Number.POSITIVE_INFINITY) >= 10_000)
          held += 1;
      }
      expect(held).toBeGreaterThan(700);
      expect(held).toBeLessThan(900);
    }
  });
});
