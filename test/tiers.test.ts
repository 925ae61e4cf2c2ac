import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { mergeRank } from '../src/domain/rank.ts';
import { acquiredAt } from '../src/tiers/acquired-at.ts';
import { type Classifiable, classify } from '../src/tiers/classify.ts';
import { defaultTierPolicy, type TierPolicy } from '../src/tiers/policy.ts';

type Attributes = Readonly<Record<string, string>>;

const RECEIVED_AT = Date.parse('2026-12-01T12:00:00Z');
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const UTC = { TimezoneOffsetFromUTC: '+0000' };

describe('time zones', () => {
  test('any IANA zone: what its clocks show leads back to the instant, or to the later of two', () => {
    const zones = [
      'Europe/Vienna',
      'America/St_Johns',
      'Australia/Lord_Howe',
      'Asia/Kathmandu',
      'Pacific/Apia',
      'America/New_York',
      'UTC',
    ];
    const from = Date.parse('1980-01-01T00:00:00Z');
    const random = fc.integer({ min: from / 1000, max: RECEIVED_AT / 1000 - 7200 });
    fc.assert(
      fc.property(fc.constantFrom(...zones), random, (zone, seconds) => {
        const shown = new Date(seconds * 1000).toLocaleString('sv-SE', { timeZone: zone }).replace(/[-:]/g, '');
        const [StudyDate = '', StudyTime = ''] = shown.split(' ');
        const late = acquiredAt({ StudyDate, StudyTime }, RECEIVED_AT, zone).at - 999 - seconds * 1000;
        expect([0, HOUR_MS / 2, HOUR_MS]).toContain(late);
      }),
      { numRuns: 1_000 },
    );
  });

  test('a name that is no zone is an option error', () => {
    const options = { asOf: RECEIVED_AT, timeZone: 'Mars/Olympus' };
    expect(() => classify({ attributes: { StudyDate: '20260302' }, receivedAt: RECEIVED_AT }, options)).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_OPTION_INVALID', message: expect.stringContaining('Mars/Olympus') }),
    );
  });
});

describe('urgency', () => {
  test('the caller overrules the header, and the explanation says who stated it', () => {
    const instance = { attributes: { RequestedProcedurePriority: 'ROUTINE' }, receivedAt: RECEIVED_AT };
    const byHeader = classify(instance, { asOf: RECEIVED_AT });
    const byCaller = classify({ ...instance, urgency: 'stat' }, { asOf: RECEIVED_AT });
    expect(byHeader).toMatchObject({ urgency: 'routine', rank: { urgency: 'routine' } });
    expect(byHeader.explanation).toContain('RequestedProcedurePriority');
    expect(byCaller).toMatchObject({ urgency: 'stat', rank: { urgency: 'stat' } });
    expect(byCaller.explanation).toContain('the caller');
  });
});

describe('classify', () => {
  test.each([
    ['24 hours', DAY_MS, 'last-24-hours'],
    ['24 hours and 1 ms', DAY_MS + 1, 'last-week'],
    ['7 days', 7 * DAY_MS, 'last-week'],
    ['7 days and 1 ms', 7 * DAY_MS + 1, 'historical'],
    ['after the reference instant', -DAY_MS, 'last-24-hours'],
  ])('an age of %s', (_, age, tier) => {
    const instance = { attributes: { AcquisitionDateTime: '20260302101010.500+0000' }, receivedAt: RECEIVED_AT };
    const asOf = Date.parse('2026-03-02T10:10:10.500Z') + age;
    const judged = classify(instance, { asOf });
    expect(judged.tier).toBe(tier);
    expect(judged.explanation).toMatch(new RegExp(`^${tier}: .*2026-03-02T10:10:10.500Z by AcquisitionDateTime`));
  });

  const digits = fc.string({ unit: fc.constantFrom(...'0123456789.:+- \0'), maxLength: 27 });
  const value = fc.oneof(
    digits,
    fc.string({ maxLength: 30 }),
    fc.constantFrom('20260302', '1010', '20260302101010.5+0100'),
  );
  const keywords = [
    'AcquisitionDateTime',
    'AcquisitionDate',
    'AcquisitionTime',
    'StudyDate',
    'StudyTime',
    'SeriesDate',
    'ContentDate',
    'InstanceCreationDate',
    'TimezoneOffsetFromUTC',
    'RequestedProcedurePriority',
  ];
  const attributesOf = fc.dictionary(fc.constantFrom(...keywords), value, { noNullPrototype: true });

  test('is total: whatever the header holds there is one tier, never acquired after the arrival', () => {
    const zones = fc.constantFrom(undefined, 'Europe/Vienna', 'Pacific/Apia');
    fc.assert(
      fc.property(attributesOf, zones, fc.integer({ min: -30, max: 30 }), (attributes, timeZone, days) => {
        const asOf = RECEIVED_AT + days * DAY_MS;
        const judged = classify({ attributes, receivedAt: RECEIVED_AT }, { asOf, timeZone });
        expect(defaultTierPolicy.tiers[judged.rank.tier]?.id).toBe(judged.tier);
        expect(judged.acquiredAt).toBeLessThanOrEqual(RECEIVED_AT);
        expect(judged.explanation).toContain(judged.tier);
      }),
      { numRuns: 2_000 },
    );
  });

  test('is monotone: what was acquired earlier never gets a more urgent tier', () => {
    const form = fc.constantFrom<(iso: string) => Attributes>(
      (iso) => ({ AcquisitionDateTime: `${iso}.000000` }),
      (iso) => ({ StudyDate: iso.slice(0, 8), StudyTime: iso.slice(8) }),
      (iso) => ({ StudyDate: iso.slice(0, 8) }),
    );
    const zone = fc.constantFrom<Attributes>({}, UTC, { TimezoneOffsetFromUTC: '-0930' });
    const instant = fc.integer({ min: RECEIVED_AT - 20 * DAY_MS, max: RECEIVED_AT + DAY_MS });
    fc.assert(
      fc.property(form, zone, instant, instant, (write, offset, a, b) => {
        const tierOf = (at: number) => {
          const iso = new Date(at).toISOString().replace(/[-:T]/g, '').slice(0, 14);
          return classify({ attributes: { ...write(iso), ...offset }, receivedAt: RECEIVED_AT }, { asOf: RECEIVED_AT })
            .rank;
        };
        const [older, newer] = [tierOf(Math.min(a, b)), tierOf(Math.max(a, b))];
        expect(older.tier).toBeGreaterThanOrEqual(newer.tier);
        expect(older.acquiredAt).toBeLessThanOrEqual(newer.acquiredAt);
      }),
      { numRuns: 1_000 },
    );
  });

  const zones = ['Europe/Vienna', 'America/St_Johns', 'Australia/Lord_Howe', 'Asia/Kathmandu', 'Pacific/Apia', 'UTC'];
  test('is stable: one instant gets one tier, in whatever zone it is written, over every change of clocks', () => {
    const offsets = fc.constantFrom('+0000', '-0930', '+0545', '+1400', '-1200');
    const instant = fc.integer({ min: (RECEIVED_AT - 400 * DAY_MS) / 1000, max: RECEIVED_AT / 1000 - 7200 });
    // Ages near where tiers end, and anywhere.
    const age = fc.oneof(fc.constantFrom(DAY_MS, 7 * DAY_MS, DAY_MS - HOUR_MS), fc.nat(9 * DAY_MS));
    fc.assert(
      fc.property(instant, age, offsets, fc.constantFrom(...zones), (seconds, ageMs, offset, zone) => {
        const asOf = seconds * 1000 + ageMs;
        const tierOf = (attributes: Attributes, timeZone?: string) =>
          classify({ attributes, receivedAt: RECEIVED_AT }, { asOf, timeZone });
        const written = (shift: number) => {
          const iso = new Date(seconds * 1000 + shift).toISOString().replace(/[-:T]/g, '');
          return { StudyDate: iso.slice(0, 8), StudyTime: `${iso.slice(8, 14)}.000` };
        };
        const utc = tierOf({ ...written(0), ...UTC });
        const sign = offset.startsWith('-') ? -1 : 1;
        const shift = sign * (Number(offset.slice(1, 3)) * 60 + Number(offset.slice(3))) * 60_000;
        expect(tierOf({ ...written(shift), TimezoneOffsetFromUTC: offset }, 'Asia/Tokyo')).toEqual(utc);
        const shown = new Date(seconds * 1000).toLocaleString('sv-SE', { timeZone: zone }).replace(/[-:]/g, '');
        const [StudyDate = '', StudyTime = ''] = shown.split(' ');
        const local = tierOf({ StudyDate, StudyTime: `${StudyTime}.000` }, zone);
        // An hour that comes twice is read as the later one, never as an earlier.
        if (local.acquiredAt === utc.acquiredAt) expect(local.rank).toEqual(utc.rank);
        else expect(local.rank.tier).toBeLessThanOrEqual(utc.rank.tier);
      }),
      { numRuns: 1_500 },
    );
  });

  const studies = fc.array(
    fc.record({
      attributes: fc.record({
        AcquisitionDate: fc.constantFrom('20261130', '20261125', '20200101', 'x', ''),
        StudyDate: fc.constantFrom('20261128', '20200101', ''),
        InstanceCreationDate: fc.constantFrom('20261201', ''),
        SOPClassUID: fc.constantFrom('1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.5.1.4.1.1.88.22'),
        Modality: fc.constantFrom('CT', 'CR', 'SR'),
        RequestedProcedurePriority: fc.constantFrom('', 'STAT', 'LOW'),
      }),
      receivedAt: fc.constantFrom(RECEIVED_AT, RECEIVED_AT - DAY_MS),
    }),
    { minLength: 1, maxLength: 6 },
  );
  const policy: TierPolicy = {
    ...defaultTierPolicy,
    rules: [
      { id: 'a', when: { modality: 'CR' }, tier: 'last-week', urgency: 'urgent' },
      { id: 'b', when: { modality: 'SR', urgency: 'routine' }, tier: 'historical' },
    ],
  };

  test('of a study: instances one by one, in any order, come to the same as all at once', () => {
    const options = { asOf: RECEIVED_AT, policy, timeZone: 'UTC' };
    fc.assert(
      fc.property(studies, fc.integer(), (instances, seed) => {
        const whole = classify(instances, options).rank;
        const ranks = instances.map((instance) => classify(instance, options).rank);
        expect(ranks.reduce(mergeRank)).toEqual(whole);
        const shuffled = fc.sample(fc.shuffledSubarray([...instances], { minLength: instances.length }), {
          seed,
          numRuns: 1,
        })[0];
        // All that is told is the same, too.
        expect(classify(shuffled ?? [], options)).toEqual(classify(instances, options));
      }),
      { numRuns: 500 },
    );
  });

  test('the explanation names the source that was used, the tier and the urgency', () => {
    fc.assert(
      fc.property(studies, (instances) => {
        const judged = classify(instances, { asOf: RECEIVED_AT, policy });
        expect(judged.explanation).toContain(judged.source);
        expect(judged.explanation).toContain(judged.sourceTag ?? 'ReceivedAt');
        expect(judged.explanation).toContain(new Date(judged.acquiredAt).toISOString());
        expect(judged.explanation.startsWith(judged.tier)).toBe(true);
        expect(judged.explanation).toContain(`urgency ${judged.urgency}`);
        expect(judged.explanation.match(/\.$/)).not.toBeNull();
        if (judged.rank.ruledTier === judged.rank.tier) expect(judged.explanation).toContain('by the rule');
      }),
      { numRuns: 500 },
    );
  });

  test.each<readonly [string, unknown, object]>([
    ['instance', null, {}],
    ['instance', [null], {}],
    ['attributes', { receivedAt: 0 }, {}],
    ['attributes', { attributes: null, receivedAt: 0 }, {}],
    ['urgency', { attributes: {}, receivedAt: 0, urgency: 'STAT' }, {}],
    ['timeZone', { attributes: {}, receivedAt: 0 }, { timeZone: 'Mars/Olympus' }],
  ])('%s that is none is refused by name', (name, study, options) => {
    const given = study as Classifiable;
    expect(() => classify(given, { asOf: 0, ...options })).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_OPTION_INVALID', message: expect.stringContaining(name) }),
    );
  });

  test.each([
    ['asOf', { asOf: Number.NaN }],
    ['asOf', { asOf: 9e15 }],
    ['receivedAt', { asOf: 0, receivedAt: Number.POSITIVE_INFINITY }],
  ])('%s that is no instant is refused', (name, { asOf, receivedAt = 0 }: { asOf: number; receivedAt?: number }) => {
    expect(() => classify({ attributes: {}, receivedAt }, { asOf })).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_OPTION_INVALID', message: expect.stringContaining(name) }),
    );
  });
});
