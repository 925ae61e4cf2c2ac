import { describe, expect, test } from 'vitest';
import { defaultFlowPolicy } from '../src/routing/flow.ts';
import {
  bestFixed,
  type ClosedLoop,
  type ModelledTarget,
  type RequestSize,
  sendAll,
} from './support/modelled-target.ts';

const { maxConcurrency } = defaultFlowPolicy;
const MINUTE_MS = 60_000;

const ct = (): RequestSize => ({ bytes: 525_000, instances: 1 });
const twentyCt = (): RequestSize => ({ bytes: 20 * 525_000, instances: 20 });
/** From 2 KB to 2 GB. */
const anySize = (random: () => number): RequestSize => ({
  bytes: Math.round(2_000 * 10 ** (random() * 6)),
  instances: 1,
});
const unbounded = () => Number.POSITIVE_INFINITY;
/** 3 ms for an instance and 10 ms for each MB: 8 ms for a CT image. */
const bySize = ({ bytes, instances }: RequestSize) => 3 * instances + bytes / 100_000;
const exponential = (random: () => number) => -Math.log(1 - random());

/** Works on so many at once, and no faster on more. */
function saturatingAt(servers: number): ModelledTarget {
  return { servers: () => servers, serviceMs: bySize };
}

function lastLimit(loop: ClosedLoop): number {
  return sendAll(loop).limits.at(-1) ?? Number.NaN;
}

/** What was done by the flow, as a part of what the best fixed number of requests does. */
function partOfBest(loop: ClosedLoop): number {
  return sendAll(loop).requests / bestFixed(loop);
}

describe('a target that stalls on every object: only more in flight pays', () => {
  const stalling: ModelledTarget = { servers: unbounded, serviceMs: () => 50 };

  test.each([
    ['CT', ct],
    ['2 KB', () => ({ bytes: 2_000, instances: 1 })],
    ['2 KB to 2 GB', anySize],
  ] as const)('is driven to the ceiling (%s)', (_, sizeOf) => {
    const loop = { target: stalling, sizeOf, forMs: MINUTE_MS };
    expect(sendAll(loop).limits.at(-1)).toBeGreaterThan(maxConcurrency * 0.9);
    expect(partOfBest(loop)).toBeGreaterThan(0.9);
  });
});

describe('a target that saturates', () => {
  test.each([1, 2, 3, 5])('at %i in flight: as good as the best number, and with hardly more', (servers) => {
    const loop = { target: saturatingAt(servers), sizeOf: ct, forMs: 2 * MINUTE_MS };
    expect(partOfBest(loop)).toBeGreaterThan(0.95);
    const limit = lastLimit(loop);
    expect(limit).toBeGreaterThan(servers * 0.95);
    expect(limit).toBeLessThan(servers * 1.4);
  });

  test.each([2, 4])('at %i in flight, with service times at random', (servers) => {
    const target: ModelledTarget = {
      servers: () => servers,
      serviceMs: (request, { random }) => bySize(request) * exponential(random),
    };
    const loop = { target, sizeOf: ct, forMs: 4 * MINUTE_MS };
    expect(partOfBest(loop)).toBeGreaterThan(0.9);
    expect(lastLimit(loop)).toBeLessThan(maxConcurrency * 0.85);
  });

  test('with sizes from 2 KB to 2 GB', () => {
    const loop = { target: saturatingAt(4), sizeOf: anySize, forMs: 15 * MINUTE_MS };
    const most = Math.max(...[4, 8].map((fixed) => sendAll({ ...loop, fixed }).bytes));
    expect(sendAll(loop).bytes / most).toBeGreaterThan(0.9);
    expect(lastLimit(loop)).toBeLessThan(6.5);
  });

  // Each try-out takes its time, so there are few.
  test('with requests that take seconds each', () => {
    const target: ModelledTarget = { servers: () => 2, serviceMs: () => 2_000 };
    const loop = { target, sizeOf: ct, forMs: 10 * MINUTE_MS };
    expect(partOfBest(loop)).toBeGreaterThan(0.99);
    expect(lastLimit(loop)).toBeLessThan(3);
  });

  test('softly, as Orthanc does: within a tenth of the best, also in a drain of seconds', () => {
    const imagesPerSecond = [116, 175, 210, 234, 247, 258, 267, 274];
    const target: ModelledTarget = {
      servers: unbounded,
      serviceMs: ({ instances }, { random, inFlight }) =>
        ((inFlight * instances) / (imagesPerSecond[inFlight - 1] ?? 274)) * 1_000 * (0.8 + 0.4 * random()),
    };
    expect(partOfBest({ target, sizeOf: ct, forMs: 7_300 })).toBeGreaterThan(0.95);
    expect(partOfBest({ target, sizeOf: twentyCt, forMs: 7_300 })).toBeGreaterThan(0.9);
  });

  test('and does less the more it is given', () => {
    const target: ModelledTarget = {
      servers: unbounded,
      serviceMs: (_, { inFlight }) => 20 * inFlight * (1 + 0.2 * (inFlight - 1)),
    };
    const loop = { target, sizeOf: ct, forMs: MINUTE_MS };
    expect(partOfBest(loop)).toBeGreaterThan(0.95);
    expect(lastLimit(loop)).toBeLessThan(1.2);
  });
});

describe('a target that changes', () => {
  test('accepts fast and degrades: it is given less, and what it does is not less for it', () => {
    const isFast = (passedMs: number) => passedMs < MINUTE_MS;
    const target: ModelledTarget = {
      servers: (passedMs) => (isFast(passedMs) ? 6 : 1),
      serviceMs: (request, { passedMs }) => bySize(request) * (isFast(passedMs) ? 1 : 3),
    };
    const loop = { target, sizeOf: ct, forMs: 5 * MINUTE_MS };
    expect(partOfBest(loop)).toBeGreaterThan(0.95);
    const { limits } = sendAll(loop);
    expect(limits[1]).toBeGreaterThan(5);
    expect(limits.at(-1)).toBeLessThan(2);
  });

  test('becomes slower for good, but still bears as many: it is not throttled for good', () => {
    const target: ModelledTarget = {
      servers: unbounded,
      serviceMs: (request, { passedMs }) => bySize(request) * (passedMs < MINUTE_MS ? 1 : 10),
    };
    const loop = { target, sizeOf: ct, forMs: 4 * MINUTE_MS };
    expect(lastLimit(loop)).toBeGreaterThan(7);
    expect(partOfBest(loop)).toBeGreaterThan(0.95);
  });

  test('bears more again: that is found out within a minute, without a restart', () => {
    const target: ModelledTarget = {
      servers: (passedMs) => (passedMs < 5 * MINUTE_MS ? 1 : 8),
      serviceMs: bySize,
    };
    const { limits } = sendAll({ target, sizeOf: ct, forMs: 10 * MINUTE_MS });
    expect(limits[4]).toBeLessThan(2);
    expect(limits[6]).toBeGreaterThan(7);
  });
});

test.each([1, 2, 3, 4, 5])(
  'a target that pushes everything back for two seconds soon has as much as before (%i)',
  (seed) => {
    const isBusy = (passedMs: number) => passedMs >= 20_000 && passedMs < 22_000;
    const associations = (passedMs: number) => (isBusy(passedMs) ? 0 : Number.POSITIVE_INFINITY);
    const { byTenth } = sendAll({ target: { ...saturatingAt(4), associations }, sizeOf: ct, forMs: 40_000, seed });
    // From 8 s after it on, against just before it.
    expect((byTenth[8] ?? 0) / (byTenth[4] ?? 0)).toBeGreaterThan(0.9);
  },
);

test.each([1, 4])('a target with %i associations is given so many, and is seldom asked for more', (associations) => {
  const target: ModelledTarget = { servers: unbounded, serviceMs: bySize, associations: () => associations };
  const loop = { target, sizeOf: ct, forMs: 30 * MINUTE_MS };
  const { limits, pushBacks } = sendAll(loop);
  expect(limits.at(-1)).toBeCloseTo(associations, 1);
  expect(pushBacks).toBeLessThan(20);
  expect(pushBacks).toBeGreaterThan(3);
  expect(sendAll(loop).requests / sendAll({ ...loop, fixed: associations }).requests).toBeGreaterThan(0.98);
});

test('the same seed, the same history', () => {
  const target = {
    servers: () => 3,
    serviceMs: (request: RequestSize, { random }: { random: () => number }) => bySize(request) * exponential(random),
  };
  const loop = { target, sizeOf: anySize, forMs: MINUTE_MS, seed: 7 };
  expect(sendAll(loop)).toEqual(sendAll(loop));
});
