import { test } from 'vitest';
import { type Attributes, type Case, check, NOON, study, UTC, VIENNA } from './support/tier-cases.ts';

const DA = 'PS3.5 table 6.2-1 DA';
const TM = 'PS3.5 table 6.2-1 TM';
const DT = 'PS3.5 table 6.2-1 DT';

test.each<Case>([
  [DA, 'a date alone is the whole day', study('20260302'), 'last-week unknown 2026-03-02T23:59:59.999Z StudyDate day'],
  [DA, '29 February', study('20240229'), 'historical unknown 2024-02-29T23:59:59.999Z StudyDate day'],
  [TM, 'HH', study('20260302', '10'), 'last-week unknown 2026-03-02T10:59:59.999Z StudyDate exact'],
  [TM, 'HHMM', study('20260302', '1010'), 'last-week unknown 2026-03-02T10:10:59.999Z StudyDate exact'],
  [TM, 'HHMMSS', study('20260302', '101010'), 'last-week unknown 2026-03-02T10:10:10.999Z StudyDate exact'],
  [TM, '.F', study('20260302', '101010.5'), 'last-week unknown 2026-03-02T10:10:10.500Z StudyDate exact'],
  [TM, '.FFFFFF', study('20260302', '101010.123456'), 'last-week unknown 2026-03-02T10:10:10.123Z StudyDate exact'],
  [TM, 'midnight', study('20260302', '000000.000000'), 'last-week unknown 2026-03-02T00:00:00.000Z StudyDate exact'],
  [TM, 'leap second', study('20161231', '235960'), 'historical unknown 2017-01-01T00:00:00.999Z StudyDate exact'],
  [
    'PS3.5 section 6.2',
    'trailing spaces',
    study('20260302 ', '1010  '),
    'last-week unknown 2026-03-02T10:10:59.999Z StudyDate exact',
  ],
  [
    'PS3.5 section 6.2',
    'a trailing NUL',
    study('20260302\0', '1010'),
    'last-week unknown 2026-03-02T10:10:59.999Z StudyDate exact',
  ],
  [
    'PS3.5 table 6.2-1 DA note',
    'ACR-NEMA date',
    study('1997.04.24', '123000'),
    'historical unknown 1997-04-24T12:30:00.999Z StudyDate exact date-acr-nema',
  ],
  [
    'PS3.5 table 6.2-1 TM note',
    'ACR-NEMA time',
    study('20260302', '12:30:00.25'),
    'last-week unknown 2026-03-02T12:30:00.250Z StudyDate exact date-acr-nema',
  ],
  [
    'PS3.5 table 6.2-1 TM note',
    'ACR-NEMA time without seconds',
    study('2026.03.02', '12:30'),
    'last-week unknown 2026-03-02T12:30:59.999Z StudyDate exact date-acr-nema',
  ],
])('%s: %s', (...row) => check(row));

test.each([
  '20260230', // no day of February
  '20230229', // no leap year
  '20261301',
  '20260100',
  '2026032',
  '2026-03-02',
  '26.03.02',
  'today',
  '00000101',
  '00010101', // how some systems write none
  '20260301-20260302', // a range, which only a query has
])(`${DA}: %j is no date, and the next source is tried`, (StudyDate) =>
  check([
    DA,
    '',
    { StudyDate, StudyTime: '0900', SeriesDate: '20260302', ...UTC },
    'last-week unknown 2026-03-02T23:59:59.999Z SeriesDate day date-malformed',
  ]),
);

test.each(['021', '2400', '1060', '101061', '101010.', '101010.1234567', '10:1', '9:00', 'noon', '-1'])(
  `${TM}: %j is no time, so that the whole day counts`,
  (StudyTime) =>
    check([
      TM,
      '',
      study('20260302', StudyTime),
      'last-week unknown 2026-03-02T23:59:59.999Z StudyDate day date-malformed',
    ]),
);

const at = (AcquisitionDateTime: string, more: Attributes = {}): Attributes => ({ AcquisitionDateTime, ...more });

test.each<Case>([
  [
    DT,
    'with its own offset',
    at('20260302101010.5+0100'),
    'last-week unknown 2026-03-02T09:10:10.500Z AcquisitionDateTime exact',
  ],
  [
    DT,
    'its offset overrules (0008,0201)',
    at('20260302101010-0330', UTC),
    'last-week unknown 2026-03-02T13:40:10.999Z AcquisitionDateTime exact',
  ],
  [
    DT,
    'its offset overrules the site',
    at('20260302101010-0330'),
    'last-week unknown 2026-03-02T13:40:10.999Z AcquisitionDateTime exact',
    VIENNA,
  ],
  [
    'PS3.3 section C.12.1.1.8',
    'DT without offset: (0008,0201) counts',
    at('202603021010', { TimezoneOffsetFromUTC: '+0545' }),
    'last-week unknown 2026-03-02T04:25:59.999Z AcquisitionDateTime exact',
  ],
  [DT, 'to the hour', at('2026030210+0000'), 'last-week unknown 2026-03-02T10:59:59.999Z AcquisitionDateTime exact'],
  [DT, 'to the day', at('20260302+0000'), 'last-week unknown 2026-03-02T23:59:59.999Z AcquisitionDateTime day'],
  [DT, 'to the month', at('202602+0000'), 'last-week unknown 2026-02-28T23:59:59.999Z AcquisitionDateTime day'],
  [DT, 'to the year', at('2024+0100'), 'historical unknown 2024-12-31T22:59:59.999Z AcquisitionDateTime day'],
  [DT, 'a year that is not over is now', at('2026+0000'), `last-24-hours unknown ${NOON} AcquisitionDateTime day`],
  [
    DT,
    'trailing padding',
    at('20260302101010.5+0100 '),
    'last-week unknown 2026-03-02T09:10:10.500Z AcquisitionDateTime exact',
  ],
])('%s: %s', (...row) => check(row));

test.each(['-0000', '+1401', '-1201', '+0560'])(
  `${DT}: %s is no offset, and costs the value no more than that`,
  (own) =>
    check([
      DT,
      '',
      { AcquisitionDateTime: `20260302101010${own}`, ...study('20200101') },
      'last-week unknown 2026-03-02T10:10:10.999Z AcquisitionDateTime exact offset-malformed',
    ]),
);

test.each(['19000101', '18991230', '11111111', '00010101'])(`${DA}: %s is how some systems write none`, (StudyDate) =>
  check([
    DA,
    '',
    { ...study(StudyDate), SeriesDate: '20260302' },
    'last-week unknown 2026-03-02T23:59:59.999Z SeriesDate day date-malformed',
  ]),
);

test.each(['20260302+1', '202613', '0000', '0001', '20260302101010.', '2026 0302', '20260302101010\\20260302101011'])(
  `${DT}: %j is none, and the next source is tried`,
  (AcquisitionDateTime) =>
    check([
      DT,
      '',
      { AcquisitionDateTime, ...study('20260302', '10') },
      'last-week unknown 2026-03-02T10:59:59.999Z StudyDate exact date-malformed',
    ]),
);

test.each<Case>([
  [
    'spillway policy',
    'a future date counts as the arrival',
    study('20260306', '0000'),
    `last-24-hours unknown ${NOON} StudyDate exact date-in-future`,
  ],
  [
    'spillway policy',
    'the last day of all',
    study('99991231'),
    `last-24-hours unknown ${NOON} StudyDate day date-in-future`,
  ],
  [
    'spillway policy',
    'today, which is not over, is no future',
    study('20260305'),
    `last-24-hours unknown ${NOON} StudyDate day`,
  ],
  [
    'spillway policy',
    'the evening of somewhere else is no future',
    { StudyDate: '20260306', StudyTime: '0100' },
    `last-24-hours unknown ${NOON} StudyDate zone-unknown`,
  ],
  [
    'spillway policy',
    '14 h and a second ahead is one anywhere',
    { StudyDate: '20260306', StudyTime: '020001' },
    `last-24-hours unknown ${NOON} StudyDate zone-unknown date-in-future`,
  ],
  [
    'spillway policy',
    'what was acquired after the reference is of the first tier',
    study('20260304', '10'),
    'last-24-hours unknown 2026-03-04T10:59:59.999Z StudyDate exact',
    { asOf: '2026-03-01T00:00:00Z' },
  ],
  [
    'spillway policy',
    'ages count from the reference, not from the arrival',
    study('20260304', '10'),
    'historical unknown 2026-03-04T10:59:59.999Z StudyDate exact',
    { asOf: '2026-03-12T12:00:00Z' },
  ],
])('%s: %s', (...row) => check(row));

const ZONE = 'PS3.3 section C.12.1.1.8';
const offset = (TimezoneOffsetFromUTC: string, StudyTime = '101010'): Attributes => ({
  StudyDate: '20260302',
  StudyTime,
  TimezoneOffsetFromUTC,
});
const local = (StudyDate: string, StudyTime?: string): Attributes =>
  StudyTime === undefined ? { StudyDate } : { StudyDate, StudyTime };
const YEAR_END = { ...VIENNA, receivedAt: '2026-12-31T12:00:00Z' };

test.each<Case>([
  [ZONE, '+0100', offset('+0100'), 'last-week unknown 2026-03-02T09:10:10.999Z StudyDate exact'],
  [
    ZONE,
    'it overrules the site',
    offset('+0100'),
    'last-week unknown 2026-03-02T09:10:10.999Z StudyDate exact',
    { timeZone: 'Asia/Tokyo' },
  ],
  [ZONE, '-0330', offset('-0330'), 'last-week unknown 2026-03-02T13:40:10.999Z StudyDate exact'],
  [ZONE, '+1400 crosses midnight', offset('+1400'), 'last-week unknown 2026-03-01T20:10:10.999Z StudyDate exact'],
  [
    ZONE,
    '-1200 crosses midnight',
    offset('-1200', '121010'),
    'last-week unknown 2026-03-03T00:10:10.999Z StudyDate exact',
  ],
  [
    ZONE,
    'nothing known: as late as 14 h',
    local('20260302', '101010'),
    'last-week unknown 2026-03-03T00:10:10.999Z StudyDate zone-unknown',
  ],
  [
    ZONE,
    'nothing known, a whole day',
    local('20260302'),
    'last-week unknown 2026-03-03T13:59:59.999Z StudyDate zone-unknown',
  ],
  [
    'IANA, winter',
    'the site’s zone',
    local('20260302', '120000'),
    'last-week unknown 2026-03-02T11:00:00.999Z StudyDate exact',
    VIENNA,
  ],
  [
    'IANA, summer',
    'the site’s zone',
    local('20260702', '120000'),
    'historical unknown 2026-07-02T10:00:00.999Z StudyDate exact',
    YEAR_END,
  ],
  [
    'IANA, clocks go forward',
    'the second before',
    local('20260329', '015959'),
    'historical unknown 2026-03-29T00:59:59.999Z StudyDate exact',
    YEAR_END,
  ],
  [
    'IANA, clocks go forward',
    'the hour that is skipped: by the old offset',
    local('20260329', '023000'),
    'historical unknown 2026-03-29T01:30:00.999Z StudyDate exact',
    YEAR_END,
  ],
  [
    'IANA, clocks go forward',
    'the second after',
    local('20260329', '030000'),
    'historical unknown 2026-03-29T01:00:00.999Z StudyDate exact',
    YEAR_END,
  ],
  [
    'IANA, clocks go back',
    'the second before',
    local('20261025', '015959'),
    'historical unknown 2026-10-24T23:59:59.999Z StudyDate exact',
    YEAR_END,
  ],
  [
    'IANA, clocks go back',
    'the hour that comes twice: the second time',
    local('20261025', '023000'),
    'historical unknown 2026-10-25T01:30:00.999Z StudyDate exact',
    YEAR_END,
  ],
  [
    'IANA, clocks go back',
    'the second after',
    local('20261025', '030000'),
    'historical unknown 2026-10-25T02:00:00.999Z StudyDate exact',
    YEAR_END,
  ],
  [
    'IANA, clocks go forward',
    'the day of 23 hours',
    local('20260329'),
    'historical unknown 2026-03-29T21:59:59.999Z StudyDate day',
    YEAR_END,
  ],
  [
    'IANA, clocks go back',
    'the day of 25 hours',
    local('20261025'),
    'historical unknown 2026-10-25T22:59:59.999Z StudyDate day',
    YEAR_END,
  ],
])('%s: %s', (...row) => check(row));

test.each(['-0000', '+1401', '-1230', '+0160', '+01', '0100', ' +0100', 'CET'])(
  `${ZONE}: %j is no offset, and the site counts`,
  (text) =>
    check([
      ZONE,
      '',
      offset(text),
      'last-week unknown 2026-03-02T09:10:10.999Z StudyDate exact offset-malformed',
      VIENNA,
    ]),
);

test(`${ZONE}: a malformed offset without a site leaves the zone unknown`, () =>
  check([
    ZONE,
    '',
    offset('CET'),
    'last-week unknown 2026-03-03T00:10:10.999Z StudyDate zone-unknown offset-malformed',
  ]));

const TIER = 'Radiology Today 10(16) 2009, p. 6';
const acquired = at('20260302101010.500+0000');
const ACQUIRED = '2026-03-02T10:10:10.500Z AcquisitionDateTime exact';

test.each<Case>([
  [TIER, '24 hours', acquired, `last-24-hours unknown ${ACQUIRED}`, { asOf: '2026-03-03T10:10:10.500Z' }],
  [TIER, '24 hours and 1 ms', acquired, `last-week unknown ${ACQUIRED}`, { asOf: '2026-03-03T10:10:10.501Z' }],
  [TIER, '7 days', acquired, `last-week unknown ${ACQUIRED}`, { asOf: '2026-03-09T10:10:10.500Z' }],
  [TIER, '7 days and 1 ms', acquired, `historical unknown ${ACQUIRED}`, { asOf: '2026-03-09T10:10:10.501Z' }],
])('%s: %s', (...row) => check(row));
