import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compareRank, DATE_BASES, mergeRank, type Rank, URGENCIES, withAgeTier } from '../src/domain/rank.ts';
import { classify } from '../src/tiers/classify.ts';
import { assertTierPolicy, policyFingerprint, type TierPolicy, tierAt } from '../src/tiers/policy.ts';

const DAY_MS = 86_400_000;

describe('tier policy', () => {
  const last = { id: 'last', maxAgeMs: Number.POSITIVE_INFINITY };
  const day = { id: 'day', maxAgeMs: DAY_MS };
  const whole = [day, last];
  const rule = { id: 'r', when: { modality: 'CT' }, tier: 'day' };
  test.each<readonly [string, unknown, string]>([
    ['nothing', null, 'tiers'],
    ['empty', { tiers: [] }, 'at least one tier'],
    ['a gap at the end', { tiers: [day] }, 'a gap, got one: studies older than 24 h 0 min, where "day" ends'],
    [
      'a gap in the middle',
      { tiers: [day, { ...last, minAgeMs: 2 * DAY_MS }] },
      'studies between 24 h 0 min and 2 d 0 h old, between "day" and "last"',
    ],
    [
      'a gap too small to show',
      { tiers: [day, { ...last, minAgeMs: DAY_MS + 1 }] },
      'between 86400000 ms and 86400001 ms old',
    ],
    ['a gap at the beginning', { tiers: [{ ...last, minAgeMs: 1_000 }] }, 'between the newest study and "last"'],
    [
      'an overlap that is stated',
      { tiers: [day, { ...last, minAgeMs: DAY_MS / 2 }] },
      '"last" begins at 12 h 0 min, but "day" ends at 24 h 0 min',
    ],
    ['an overlap', { tiers: [day, { id: 'b', maxAgeMs: DAY_MS }, last] }, '"b" ends at 24 h 0 min, but "day"'],
    ['the wrong order', { tiers: [{ id: 'a', maxAgeMs: 7 * DAY_MS }, { id: 'b', maxAgeMs: DAY_MS }, last] }, '"b"'],
    ['a tier after the last', { tiers: [last, { id: 'b', maxAgeMs: Number.POSITIVE_INFINITY }] }, '"b"'],
    ['an age of 0', { tiers: [{ id: 'a', maxAgeMs: 0 }, last] }, '"a"'],
    ['an age that is no number', { tiers: [{ id: 'a', maxAgeMs: Number.NaN }, last] }, 'NaN'],
    ['an age as text', { tiers: [{ id: 'a', maxAgeMs: '24h' }, last] }, '24h'],
    ['an id twice', { tiers: [{ id: 'last', maxAgeMs: 1 }, last] }, 'got "last"'],
    ['no id', { tiers: [{ id: '', maxAgeMs: 1 }, last] }, 'an id'],
    ['a misspelt tier', { tiers: [{ ...last, maxAge: 1 }] }, 'maxAge"'],
    ['a misspelt policy', { tiers: whole, rule: [] }, '"rule"'],
    ['a rule for a tier that is none', { tiers: whole, rules: [{ ...rule, tier: 'week' }] }, 'rule "r"'],
    ['a rule that gives nothing', { tiers: whole, rules: [{ id: 'r', when: rule.when }] }, 'a tier or an urgency'],
    ['a rule without a condition', { tiers: whole, rules: [{ ...rule, when: {} }] }, 'at least one condition'],
    ['a misspelt condition', { tiers: whole, rules: [{ ...rule, when: { modalitiy: 'CT' } }] }, 'modalitiy'],
    ['an empty list', { tiers: whole, rules: [{ ...rule, when: { modality: [] } }] }, 'modality'],
    ['an urgency that is none', { tiers: whole, rules: [{ ...rule, urgency: 'STAT' }] }, 'an urgency of stat'],
    ['a condition on none', { tiers: whole, rules: [{ ...rule, when: { urgency: 'high' } }] }, 'urgency of stat'],
    ['a predicate that is none', { tiers: whole, rules: [{ ...rule, when: { matches: 'CT' } }] }, 'matches'],
    ['a rule twice', { tiers: whole, rules: [rule, rule] }, 'ids that differ'],
    ['rules that are no list', { tiers: whole, rules: rule }, 'rules to have an array'],
    ['a hint that is no list', { tiers: whole, textHints: { stat: 'STAT' } }, 'textHints.stat'],
    ['an empty hint', { tiers: whole, textHints: { urgent: [' '] } }, 'textHints.urgent'],
    ['a misspelt hint', { tiers: whole, textHints: { routine: ['x'] } }, 'routine'],
  ])('%s is refused', (_, given, says) => {
    const policy = given as TierPolicy;
    const refusal = expect.objectContaining({
      code: 'SPILLWAY_OPTION_INVALID',
      message: expect.stringContaining(says),
    });
    expect(() => assertTierPolicy(policy)).toThrow(refusal);
    if (policy !== null)
      expect(() => classify({ attributes: {}, receivedAt: 0 }, { asOf: 0, policy })).toThrow(refusal);
  });

  test('the last tier of a policy from JSON needs no end', () => {
    const policy = JSON.parse('{"tiers":[{"id":"day","maxAgeMs":86400000},{"id":"rest"}]}') as TierPolicy;
    expect(classify({ attributes: {}, receivedAt: 0 }, { asOf: 9e10, policy }).tier).toBe('rest');
  });

  test('both ends may be stated', () => {
    assertTierPolicy({
      tiers: [
        { ...day, minAgeMs: 0 },
        { ...last, minAgeMs: DAY_MS },
      ],
    });
  });

  test('two policies have one fingerprint only if they judge alike', () => {
    const policies: TierPolicy[] = [
      { tiers: whole },
      { tiers: [day, { ...last, id: 'rest' }] },
      { tiers: [{ ...day, maxAgeMs: DAY_MS + 1 }, last] },
      { tiers: whole, rules: [rule] },
      { tiers: whole, rules: [{ ...rule, when: { matches: ({ urgency }) => urgency === 'stat' } }] },
      { tiers: whole, rules: [{ ...rule, when: { matches: ({ urgency }) => urgency === 'urgent' } }] },
      { tiers: whole, textHints: { stat: ['STAT'] } },
    ];
    const prints = policies.flatMap((policy) => [
      policyFingerprint(policy, undefined),
      policyFingerprint(policy, 'UTC'),
    ]);
    expect(new Set(prints).size).toBe(prints.length);
    expect(policyFingerprint({ tiers: [...whole] }, 'UTC')).toBe(policyFingerprint({ tiers: whole }, 'UTC'));
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
  const rank: fc.Arbitrary<Rank> = fc
    .record({
      urgency: fc.constantFrom(...URGENCIES),
      acquiredAt: fc.nat(5),
      basis: fc.constantFrom(...DATE_BASES),
      tiers: fc.oneof(
        fc.record({ ageTier: fc.nat(3), ruledTier: fc.constant(null) }),
        fc.record({ ageTier: fc.constant(null), ruledTier: fc.nat(3) }),
        fc.record({ ageTier: fc.nat(3), ruledTier: fc.nat(3) }),
      ),
    })
    .map(({ tiers, ...rest }) => ({ ...rest, ...tiers, tier: Math.min(tiers.ageTier ?? 9, tiers.ruledTier ?? 9) }));

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

  const old: Rank = {
    tier: 2,
    urgency: 'routine',
    acquiredAt: 10,
    basis: 'dated',
    ageTier: 2,
    ruledTier: null,
  };
  const fresh: Rank = { ...old, tier: 0, ageTier: 0, acquiredAt: 90 };
  const ruled: Rank = { ...fresh, tier: 1, ageTier: null, ruledTier: 1 };
  test.each<readonly [string, Rank, Rank, Partial<Rank>]>([
    ['the newest acquisition decides', old, fresh, { tier: 0, acquiredAt: 90 }],
    ['an estimate never overrules a date', old, { ...fresh, basis: 'estimated' }, old],
    ['nor does a secondary date', old, { ...fresh, basis: 'secondary' }, old],
    [
      'a secondary date overrules an estimate',
      { ...fresh, basis: 'estimated' },
      { ...old, basis: 'secondary' },
      { tier: 2 },
    ],
    ['an undated instance takes the first date', { ...fresh, basis: 'estimated' }, old, { tier: 2, basis: 'dated' }],
    ['a rule and an age: the more urgent', old, ruled, { tier: 1, ageTier: 2, ruledTier: 1, acquiredAt: 10 }],
    [
      'what a rule put last makes nothing else wait',
      fresh,
      { ...ruled, tier: 2, ruledTier: 2 },
      { tier: 0, ruledTier: 2 },
    ],
    [
      'two rules: the more urgent',
      ruled,
      { ...ruled, tier: 2, ruledTier: 2 },
      { tier: 1, ageTier: null, ruledTier: 1 },
    ],
    ['the higher of two known urgencies', old, { ...old, urgency: 'stat' }, { urgency: 'stat' }],
    ['what is known rather than unknown', old, { ...old, urgency: 'unknown' }, { urgency: 'routine' }],
    [
      'the urgency of an undated one counts',
      old,
      { ...fresh, urgency: 'stat', basis: 'estimated' },
      { urgency: 'stat', tier: 2 },
    ],
  ])('%s', (_, known, arrived, expected) => {
    expect(mergeRank(known, arrived)).toMatchObject(expected);
  });

  test('another age moves what age placed, and nothing that a rule placed', () => {
    expect(withAgeTier(old, 1)).toEqual({ ...old, tier: 1, ageTier: 1 });
    expect(withAgeTier(ruled, 0)).toEqual(ruled);
    expect(withAgeTier({ ...old, tier: 1, ruledTier: 1 }, 0)).toMatchObject({ tier: 0, ruledTier: 1 });
    expect(withAgeTier({ ...old, tier: 1, ruledTier: 1 }, 2)).toMatchObject({ tier: 1, ageTier: 2 });
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
