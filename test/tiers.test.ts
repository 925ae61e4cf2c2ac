import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { acquiredAt } from '../src/tiers/acquired-at.ts';
import { classify } from '../src/tiers/classify.ts';
import { defaultTierPolicy } from '../src/tiers/policy.ts';
import { urgencyOf } from '../src/tiers/urgency.ts';

type Attributes = Readonly<Record<string, string>>;
type Row = [section: string, attributes: Attributes, at: string, rest?: Partial<ReturnType<typeof acquiredAt>>];

const RECEIVED_AT = Date.parse('2026-12-01T12:00:00Z');
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const UTC = { TimezoneOffsetFromUTC: '+0000' };

function check([, attributes, at, rest]: Row, timeZone?: string): void {
  const found = acquiredAt(attributes, RECEIVED_AT, timeZone);
  expect({ ...found, at: new Date(found.at).toISOString() }).toEqual({
    source: 'StudyDate',
    certainty: 'exact',
    oddities: [],
    ...rest,
    at,
  });
}

describe('when an instance was acquired', () => {
  const study = (StudyDate: string, StudyTime?: string): Attributes => ({
    StudyDate,
    ...(StudyTime === undefined ? {} : { StudyTime }),
    ...UTC,
  });

  test.each<Row>([
    [
      'PS3.5 table 6.2-1 DA: a date alone is the whole day',
      study('20260302'),
      '2026-03-02T23:59:59.999Z',
      { certainty: 'day' },
    ],
    ['PS3.5 table 6.2-1 DA: 29 February', study('20240229'), '2024-02-29T23:59:59.999Z', { certainty: 'day' }],
    ['PS3.5 table 6.2-1 TM: HH', study('20260302', '10'), '2026-03-02T10:59:59.999Z'],
    ['PS3.5 table 6.2-1 TM: HHMM', study('20260302', '1010'), '2026-03-02T10:10:59.999Z'],
    ['PS3.5 table 6.2-1 TM: HHMMSS', study('20260302', '101010'), '2026-03-02T10:10:10.999Z'],
    ['PS3.5 table 6.2-1 TM: .F', study('20260302', '101010.5'), '2026-03-02T10:10:10.500Z'],
    ['PS3.5 table 6.2-1 TM: .FFFFFF', study('20260302', '101010.123456'), '2026-03-02T10:10:10.123Z'],
    ['PS3.5 table 6.2-1 TM: midnight', study('20260302', '000000.000000'), '2026-03-02T00:00:00.000Z'],
    ['PS3.5 table 6.2-1 TM: leap second', study('20161231', '235960'), '2017-01-01T00:00:00.999Z'],
    ['PS3.5 section 6.2: trailing padding', study('20260302 ', '1010  '), '2026-03-02T10:10:59.999Z'],
    ['ACR-NEMA date', study('1997.04.24', '123000'), '1997-04-24T12:30:00.999Z', { oddities: ['date-acr-nema'] }],
    ['ACR-NEMA time', study('19970424', '12:30:00.25'), '1997-04-24T12:30:00.250Z', { oddities: ['date-acr-nema'] }],
    ['ACR-NEMA both', study('1997.04.24', '12:30'), '1997-04-24T12:30:59.999Z', { oddities: ['date-acr-nema'] }],
  ])('%s', (...row) => check(row));

  test.each([
    '20260230',
    '20230229',
    '20261301',
    '20260100',
    '2026032',
    '2026-03-02',
    '26.03.02',
    'today',
    '00000101',
    '00010101',
    '20260301-20260302',
  ])('PS3.5 table 6.2-1 DA: %s is no date, and the next source is taken', (StudyDate) =>
    check([
      '',
      { StudyDate, StudyTime: '0900', SeriesDate: '20260302', ...UTC },
      '2026-03-02T23:59:59.999Z',
      { source: 'SeriesDate', certainty: 'day', oddities: ['date-malformed'] },
    ]),
  );

  test.each(['021', '2400', '1060', '101061', '101010.', '101010.1234567', '10:1', '9:00', 'noon', '-1'])(
    'PS3.5 table 6.2-1 TM: %s is no time, so that the whole day counts',
    (StudyTime) =>
      check([
        '',
        study('20260302', StudyTime),
        '2026-03-02T23:59:59.999Z',
        { certainty: 'day', oddities: ['date-malformed'] },
      ]),
  );

  const dateTime = { source: 'AcquisitionDateTime' } as const;
  test.each<Row>([
    ['DT: own offset', { AcquisitionDateTime: '20260302101010.5+0100' }, '2026-03-02T09:10:10.500Z', dateTime],
    [
      'DT: its offset overrules (0008,0201)',
      { AcquisitionDateTime: '20260302101010-0330', ...UTC },
      '2026-03-02T13:40:10.999Z',
      dateTime,
    ],
    [
      'DT: without offset (0008,0201) counts',
      { AcquisitionDateTime: '202603021010', TimezoneOffsetFromUTC: '+0545' },
      '2026-03-02T04:25:59.999Z',
      dateTime,
    ],
    ['DT: hour', { AcquisitionDateTime: '2026030210+0000' }, '2026-03-02T10:59:59.999Z', dateTime],
    [
      'DT: day',
      { AcquisitionDateTime: '20260302+0000' },
      '2026-03-02T23:59:59.999Z',
      { ...dateTime, certainty: 'day' },
    ],
    [
      'DT: month',
      { AcquisitionDateTime: '202602+0000' },
      '2026-02-28T23:59:59.999Z',
      { ...dateTime, certainty: 'day' },
    ],
    ['DT: year', { AcquisitionDateTime: '2024+0100' }, '2024-12-31T22:59:59.999Z', { ...dateTime, certainty: 'day' }],
    [
      'DT: a year that is not over is now',
      { AcquisitionDateTime: '2026+0000' },
      '2026-12-01T12:00:00.000Z',
      { ...dateTime, certainty: 'day' },
    ],
  ])('PS3.5 table 6.2-1 %s', (...row) => check(row));

  test.each([
    '20260302-0000',
    '20260302+1401',
    '20260302-1201',
    '20260302+0560',
    '20260302+1',
    '202613',
    '0000',
    '0001',
    '20260302101010.',
    '2026 0302',
  ])('PS3.5 table 6.2-1 DT: %s is none, and the next source is taken', (AcquisitionDateTime) =>
    check([
      '',
      { AcquisitionDateTime, ...study('20260302', '10') },
      '2026-03-02T10:59:59.999Z',
      { oddities: ['date-malformed'] },
    ]),
  );

  const everything = {
    AcquisitionDateTime: '20260101100000',
    AcquisitionDate: '20260102',
    AcquisitionTime: '100000',
    StudyDate: '20260103',
    StudyTime: '100000',
    SeriesDate: '20260104',
    SeriesTime: '100000',
    ContentDate: '20260105',
    ContentTime: '100000',
    PerformedProcedureStepStartDate: '20260106',
    PerformedProcedureStepStartTime: '100000',
    InstanceCreationDate: '20260107',
    InstanceCreationTime: '100000',
  };
  test('PS3.3 C.7 and C.12.1: sources in the order of trust, InstanceCreation last', () => {
    const left: Record<string, string> = { ...everything, ...UTC };
    const order = [];
    for (;;) {
      const { source, at } = acquiredAt(left, RECEIVED_AT);
      order.push(source);
      if (source === 'ReceivedAt') break;
      expect(new Date(at).toISOString()).toBe(`2026-01-0${order.length}T10:00:00.999Z`);
      delete left[source];
    }
    expect(order).toEqual([
      'AcquisitionDateTime',
      'AcquisitionDate',
      'StudyDate',
      'SeriesDate',
      'ContentDate',
      'PerformedProcedureStepStartDate',
      'InstanceCreationDate',
      'ReceivedAt',
    ]);
  });

  test('a date is never joined with the time of another pair', () => {
    const { AcquisitionTime: _, AcquisitionDateTime: __, ...others } = everything;
    check(['', { ...others, ...UTC }, '2026-01-02T23:59:59.999Z', { source: 'AcquisitionDate', certainty: 'day' }]);
    const times = Object.fromEntries(
      Object.entries(everything).filter(([keyword]) => /[a-z]Time$/.test(keyword) && !keyword.endsWith('DateTime')),
    );
    expect(acquiredAt({ ...times, ...UTC }, RECEIVED_AT)).toMatchObject({ at: RECEIVED_AT, source: 'ReceivedAt' });
  });

  test('PS3.3 C.7.2.1: empty type 2 values are as good as none, and nothing odd', () => {
    const blank = {
      StudyDate: '',
      StudyTime: ' ',
      AcquisitionDateTime: '',
      TimezoneOffsetFromUTC: '',
      SeriesDate: '20260302',
    };
    check(['', blank, '2026-03-02T23:59:59.999Z', { source: 'SeriesDate', certainty: 'day' }], 'UTC');
  });

  test('nothing at all: the arrival counts, as an estimate', () => {
    expect(acquiredAt({}, RECEIVED_AT)).toEqual({
      at: RECEIVED_AT,
      source: 'ReceivedAt',
      certainty: 'estimated',
      oddities: [],
    });
  });

  test('a future date counts as now, and is flagged', () => {
    check(['', study('20261202', '0000'), '2026-12-01T12:00:00.000Z', { oddities: ['date-in-future'] }]);
    check(['', study('99991231'), '2026-12-01T12:00:00.000Z', { certainty: 'day', oddities: ['date-in-future'] }]);
    // Today, which is not over; and the evening of somewhere else.
    check(['', study('20261201'), '2026-12-01T12:00:00.000Z', { certainty: 'day' }]);
    check([
      '',
      { StudyDate: '20261202', StudyTime: '0100' },
      '2026-12-01T12:00:00.000Z',
      { certainty: 'zone-unknown' },
    ]);
  });
});

describe('time zones', () => {
  const at = (StudyDate: string, StudyTime?: string, offset?: string): Attributes => ({
    StudyDate,
    ...(StudyTime === undefined ? {} : { StudyTime }),
    ...(offset === undefined ? {} : { TimezoneOffsetFromUTC: offset }),
  });

  test.each<Row>([
    ['+0100', at('20260302', '101010', '+0100'), '2026-03-02T09:10:10.999Z'],
    ['-0330', at('20260302', '101010', '-0330'), '2026-03-02T13:40:10.999Z'],
    ['+1400 crosses midnight', at('20260302', '101010', '+1400'), '2026-03-01T20:10:10.999Z'],
    ['-1200 crosses midnight', at('20260302', '121010', '-1200'), '2026-03-03T00:10:10.999Z'],
  ])('PS3.3 C.12.1.1.8: %s, whatever the site', (...row) => {
    check(row);
    check(row, 'Asia/Tokyo');
  });

  test.each(['-0000', '+1401', '-1230', '+0160', '+01', '0100', ' +0100', 'CET'])(
    'PS3.3 C.12.1.1.8: %j is none, and the site counts',
    (offset) =>
      check(
        ['', at('20260302', '101010', offset), '2026-03-02T09:10:10.999Z', { oddities: ['offset-malformed'] }],
        'Europe/Vienna',
      ),
  );

  test('unknown: the latest instant that it may be, from -1200 to +1400', () => {
    check(['', at('20260302', '101010'), '2026-03-02T22:10:10.999Z', { certainty: 'zone-unknown' }]);
    check(['', at('20260302'), '2026-03-03T11:59:59.999Z', { certainty: 'zone-unknown' }]);
  });

  test.each<Row>([
    ['winter', at('20260302', '120000'), '2026-03-02T11:00:00.999Z'],
    ['summer', at('20260702', '120000'), '2026-07-02T10:00:00.999Z'],
    ['before clocks go forward', at('20260329', '015959'), '2026-03-29T00:59:59.999Z'],
    ['in the hour that is skipped: by the old offset', at('20260329', '023000'), '2026-03-29T01:30:00.999Z'],
    ['after clocks went forward', at('20260329', '030000'), '2026-03-29T01:00:00.999Z'],
    ['before clocks go back', at('20261025', '015959'), '2026-10-24T23:59:59.999Z'],
    ['in the hour that comes twice: the second time', at('20261025', '023000'), '2026-10-25T01:30:00.999Z'],
    ['after clocks went back', at('20261025', '030000'), '2026-10-25T02:00:00.999Z'],
    ['the day of 23 hours', at('20260329'), '2026-03-29T21:59:59.999Z', { certainty: 'day' }],
    ['the day of 25 hours', at('20261025'), '2026-10-25T22:59:59.999Z', { certainty: 'day' }],
  ])('the site’s (Europe/Vienna): %s', (...row) => check(row, 'Europe/Vienna'));

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
  test.each([
    ['PS3.6 (0040,1003)', { RequestedProcedurePriority: 'STAT' }, 'stat', 'RequestedProcedurePriority'],
    ['(0040,1003)', { RequestedProcedurePriority: 'HIGH' }, 'urgent', 'RequestedProcedurePriority'],
    ['(0040,1003)', { RequestedProcedurePriority: 'ROUTINE' }, 'routine', 'RequestedProcedurePriority'],
    ['(0040,1003)', { RequestedProcedurePriority: 'MEDIUM' }, 'routine', 'RequestedProcedurePriority'],
    ['(0040,1003)', { RequestedProcedurePriority: 'low ' }, 'routine', 'RequestedProcedurePriority'],
    ['(0040,1009)', { ReportingPriority: 'HIGH' }, 'urgent', 'ReportingPriority'],
    ['(0032,000C), retired', { StudyPriorityID: 'MED' }, 'routine', 'StudyPriorityID'],
    [
      'a value of another meaning is passed over',
      { RequestedProcedurePriority: 'STATUS', StudyPriorityID: 'HIGH' },
      'urgent',
      'StudyPriorityID',
    ],
    ['a word in a word is none', { RequestedProcedurePriority: 'PROSTATE' }, 'unknown', null],
    ['empty', { RequestedProcedurePriority: '' }, 'unknown', null],
    ['nothing', {}, 'unknown', null],
  ])('%s %j is %s', (_, attributes: Attributes, urgency, source) => {
    expect(urgencyOf(attributes)).toEqual({ urgency, source });
  });

  test('the caller overrules the header, and the explanation says who stated it', () => {
    const instance = { attributes: { RequestedProcedurePriority: 'ROUTINE' }, receivedAt: RECEIVED_AT };
    const byHeader = classify(instance, { asOf: RECEIVED_AT });
    const byCaller = classify(instance, { asOf: RECEIVED_AT, urgency: 'stat' });
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

  test('an import of today does not make an old study fresh', () => {
    const attributes = {
      StudyDate: '20100101',
      InstanceCreationDate: '20261201',
      InstanceCreationTime: '1100',
      ...UTC,
    };
    expect(classify({ attributes, receivedAt: RECEIVED_AT }, { asOf: RECEIVED_AT }).tier).toBe('historical');
  });

  test('nothing known is the most urgent tier, and marked as an estimate', () => {
    const judged = classify({ attributes: {}, receivedAt: RECEIVED_AT }, { asOf: RECEIVED_AT });
    expect(judged).toMatchObject({ tier: 'last-24-hours', certainty: 'estimated', rank: { tier: 0, estimated: true } });
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
});
