import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compareRank, mergeRank, type Rank, URGENCIES } from '../src/domain/rank.ts';
import { classify } from '../src/tiers/classify.ts';
import { assertTierPolicy, type TierPolicy, tierAt } from '../src/tiers/policy.ts';

const DAY_MS = 86_400_000;

describe('tier policy', () => {
  const last = { id: 'last', maxAgeMs: Number.POSITIVE_INFINITY };
  test.each<readonly [string, TierPolicy, string]>([
    ['empty', { tiers: [] }, 'at least one tier'],
    ['a gap at the end', { tiers: [{ id: 'a', maxAgeMs: DAY_MS }] }, 'gap'],
    ['an overlap', { tiers: [{ id: 'a', maxAgeMs: DAY_MS }, { id: 'b', maxAgeMs: DAY_MS }, last] }, '"b"'],
    ['the wrong order', { tiers: [{ id: 'a', maxAgeMs: 7 * DAY_MS }, { id: 'b', maxAgeMs: DAY_MS }, last] }, '"b"'],
    ['a tier after the last', { tiers: [last, { id: 'b', maxAgeMs: Number.POSITIVE_INFINITY }] }, '"b"'],
    ['an age of 0', { tiers: [{ id: 'a', maxAgeMs: 0 }, last] }, '"a"'],
    ['an age that is no number', { tiers: [{ id: 'a', maxAgeMs: Number.NaN }, last] }, 'NaN'],
    ['an id twice', { tiers: [{ id: 'last', maxAgeMs: 1 }, last] }, '"last" twice'],
    ['no id', { tiers: [{ id: '', maxAgeMs: 1 }, last] }, 'an id'],
  ])('%s is refused', (_, policy, says) => {
    const refusal = expect.objectContaining({
      code: 'SPILLWAY_OPTION_INVALID',
      message: expect.stringContaining(says),
    });
    expect(() => assertTierPolicy(policy)).toThrow(refusal);
    expect(() => classify({ attributes: {}, receivedAt: 0 }, { asOf: 0, policy })).toThrow(refusal);
  });

  test('a policy that is accepted has exactly one tier for every age', () => {
    const ages = fc.uniqueArray(fc.integer({ min: 1, max: 1e12 }), { maxLength: 6 });
    fc.assert(
      fc.property(ages, fc.integer({ min: -1e12, max: 2e12 }), (bounds, age) => {
        const maxima = [...bounds.sort((a, b) => a - b), Number.POSITIVE_INFINITY];
        const policy = { tiers: maxima.map((maxAgeMs, index) => ({ id: `${index}`, maxAgeMs })) };
        assertTierPolicy(policy);
        const tier = tierAt(0, age, policy);
        expect(age).toBeLessThanOrEqual(maxima[tier] ?? Number.NaN);
        if (tier > 0) expect(age).toBeGreaterThan(maxima[tier - 1] ?? Number.NaN);
      }),
    );
  });
});

describe('rank', () => {
  const rank: fc.Arbitrary<Rank> = fc.record({
    tier: fc.nat(3),
    urgency: fc.constantFrom(...URGENCIES),
    acquiredAt: fc.nat(5),
    estimated: fc.boolean(),
  });

  test('merging is idempotent, commutative and associative', () => {
    fc.assert(
      fc.property(rank, rank, rank, (a, b, c) => {
        expect(mergeRank(a, a)).toEqual(a);
        expect(mergeRank(a, b)).toEqual(mergeRank(b, a));
        expect(mergeRank(mergeRank(a, b), c)).toEqual(mergeRank(a, mergeRank(b, c)));
      }),
      { numRuns: 5_000 },
    );
  });

  const old: Rank = { tier: 2, urgency: 'routine', acquiredAt: 10, estimated: false };
  test.each<readonly [string, Rank, Rank, Partial<Rank>]>([
    ['the newest acquisition decides', old, { ...old, tier: 0, acquiredAt: 90 }, { tier: 0, acquiredAt: 90 }],
    [
      'an estimate never overrules a date',
      old,
      { ...old, tier: 0, acquiredAt: 99, estimated: true },
      { tier: 2, acquiredAt: 10, estimated: false },
    ],
    [
      'an undated instance takes the first date',
      { ...old, tier: 0, estimated: true },
      old,
      { tier: 2, estimated: false },
    ],
    ['the higher of two known urgencies', old, { ...old, urgency: 'stat' }, { urgency: 'stat' }],
    ['what is known rather than unknown', old, { ...old, urgency: 'unknown' }, { urgency: 'routine' }],
    [
      'the urgency of an undated one counts',
      old,
      { ...old, urgency: 'stat', estimated: true },
      { urgency: 'stat', tier: 2 },
    ],
  ])('%s', (_, known, arrived, expected) => {
    expect(mergeRank(known, arrived)).toMatchObject(expected);
  });

  test('the order is total: antisymmetric, transitive, equal only for equal keys', () => {
    fc.assert(
      fc.property(rank, rank, rank, (a, b, c) => {
        // Adding 0 takes away the sign of zero.
        expect(Math.sign(compareRank(a, b))).toBe(-Math.sign(compareRank(b, a)) + 0);
        if (compareRank(a, b) <= 0 && compareRank(b, c) <= 0) expect(compareRank(a, c)).toBeLessThanOrEqual(0);
        const isSame = a.tier === b.tier && a.urgency === b.urgency && a.acquiredAt === b.acquiredAt;
        expect(compareRank(a, b) === 0).toBe(isSame);
      }),
      { numRuns: 5_000 },
    );
  });

  test('tier, then urgency with unknown above routine, then oldest first', () => {
    const inOrder: Rank[] = [
      { ...old, tier: 0, urgency: 'routine', acquiredAt: 99 },
      { ...old, tier: 1, urgency: 'stat', acquiredAt: 80 },
      { ...old, tier: 1, urgency: 'urgent', acquiredAt: 70 },
      { ...old, tier: 1, urgency: 'unknown', acquiredAt: 70 },
      { ...old, tier: 1, urgency: 'routine', acquiredAt: 60 },
      { ...old, tier: 1, urgency: 'routine', acquiredAt: 61 },
      old,
    ];
    expect([...inOrder].reverse().sort(compareRank)).toEqual(inOrder);
  });
});
