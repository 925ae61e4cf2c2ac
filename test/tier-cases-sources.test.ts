import { test } from 'vitest';
import { type Attributes, type Case, check, NOON, study, UTC } from './support/tier-cases.ts';

// Every date that there is, each of another day; rows take the more trusted ones away.
const ALL = {
  AcquisitionDateTime: '20260201100000',
  AcquisitionDate: '20260202',
  AcquisitionTime: '100000',
  StudyDate: '20260203',
  StudyTime: '100000',
  SeriesDate: '20260204',
  SeriesTime: '100000',
  ContentDate: '20260205',
  ContentTime: '100000',
  PerformedProcedureStepStartDateTime: '20260206100000',
  PerformedProcedureStepStartDate: '20260207',
  PerformedProcedureStepStartTime: '100000',
  InstanceCreationDate: '20260208',
  InstanceCreationTime: '100000',
  ...UTC,
} as const;
const TRUST = [
  'AcquisitionDateTime',
  'AcquisitionDate',
  'StudyDate',
  'SeriesDate',
  'ContentDate',
  'PerformedProcedureStepStartDateTime',
  'PerformedProcedureStepStartDate',
  'InstanceCreationDate',
] as const;
const without = (...keywords: readonly string[]): Attributes =>
  Object.fromEntries(Object.entries(ALL).filter(([keyword]) => !keywords.includes(keyword)));
const beginningWith = (source: (typeof TRUST)[number]): Attributes => without(...TRUST.slice(0, TRUST.indexOf(source)));
const SR = { SOPClassUID: '1.2.840.10008.5.1.4.1.1.88.22' };

test.each<Case>([
  [
    'PS3.3 section C.7.6.1 (0008,002A)',
    'AcquisitionDateTime is first',
    ALL,
    'historical unknown 2026-02-01T10:00:00.999Z AcquisitionDateTime exact',
  ],
  [
    'PS3.3 section C.7.6.1 (0008,0022)',
    'AcquisitionDate is next',
    beginningWith('AcquisitionDate'),
    'historical unknown 2026-02-02T10:00:00.999Z AcquisitionDate exact',
  ],
  [
    'PS3.3 section C.7.2.1 (0008,0020)',
    'then StudyDate',
    beginningWith('StudyDate'),
    'historical unknown 2026-02-03T10:00:00.999Z StudyDate exact',
  ],
  [
    'PS3.3 section C.7.3.1 (0008,0021)',
    'then SeriesDate',
    beginningWith('SeriesDate'),
    'historical unknown 2026-02-04T10:00:00.999Z SeriesDate exact',
  ],
  [
    'PS3.3 section C.7.6.1 (0008,0023)',
    'then ContentDate',
    beginningWith('ContentDate'),
    'historical unknown 2026-02-05T10:00:00.999Z ContentDate exact',
  ],
  [
    'PS3.3 section C.30.3 (0040,4050)',
    'then the step’s start as DT',
    beginningWith('PerformedProcedureStepStartDateTime'),
    'historical unknown 2026-02-06T10:00:00.999Z PerformedProcedureStepStartDateTime exact',
  ],
  [
    'PS3.3 section C.7.3.1 (0040,0244)',
    'then its start as DA and TM',
    beginningWith('PerformedProcedureStepStartDate'),
    'historical unknown 2026-02-07T10:00:00.999Z PerformedProcedureStepStartDate exact',
  ],
  [
    'PS3.3 section C.12.1 (0008,0012)',
    'InstanceCreation is the last',
    beginningWith('InstanceCreationDate'),
    'historical unknown 2026-02-08T10:00:00.999Z InstanceCreationDate exact',
  ],
  ['spillway policy', 'nothing at all: the arrival', UTC, `last-24-hours unknown ${NOON} ReceivedAt estimated`],
  [
    'spillway policy',
    'only malformed dates: the arrival',
    { StudyDate: 'x', AcquisitionDateTime: 'y' },
    `last-24-hours unknown ${NOON} ReceivedAt estimated date-malformed`,
  ],
  [
    'spillway policy',
    'a date is never joined with the time of another pair',
    without('AcquisitionDateTime', 'AcquisitionTime'),
    'historical unknown 2026-02-02T23:59:59.999Z AcquisitionDate day',
  ],
  [
    'spillway policy',
    'times without their dates are nothing',
    { AcquisitionTime: '100000', StudyTime: '100000', ...UTC },
    `last-24-hours unknown ${NOON} ReceivedAt estimated`,
  ],
  [
    'PS3.3 section C.7.2.1 (type 2)',
    'empty values are as good as none, and nothing odd',
    { StudyDate: '', StudyTime: ' ', AcquisitionDateTime: '', TimezoneOffsetFromUTC: '', SeriesDate: '20260302' },
    'last-week unknown 2026-03-02T23:59:59.999Z SeriesDate day',
    { timeZone: 'UTC' },
  ],
  [
    'PS3.3 section C.12.1',
    'an import of today does not make an old study fresh',
    { StudyDate: '20100101', InstanceCreationDate: '20260305', InstanceCreationTime: '1100', ...UTC },
    'historical unknown 2010-01-01T23:59:59.999Z StudyDate day',
  ],
  [
    'spillway policy',
    'a malformed date is reported even when a later source is fine',
    { AcquisitionDate: '20261301', ...study('20260302', '10') },
    'last-week unknown 2026-03-02T10:59:59.999Z StudyDate exact date-malformed',
  ],
])('%s: %s', (...row) => check(row));

const derived = (suffix: string): Attributes => ({ ...ALL, SOPClassUID: `1.2.840.10008.5.1.4.1.1.${suffix}` });
const BY_STUDY = 'historical unknown 2026-02-03T10:00:00.999Z StudyDate exact';
const BY_ACQUISITION = 'historical unknown 2026-02-01T10:00:00.999Z AcquisitionDateTime exact';

test.each<Case>([
  ['PS3.4 table B.5-1', 'Secondary Capture is derived', derived('7'), BY_STUDY],
  ['PS3.4 table B.5-1', 'Multi-frame Secondary Capture', derived('7.4'), BY_STUDY],
  ['PS3.4 table B.5-1', 'Waveform Presentation State', derived('9.100.1'), BY_STUDY],
  ['PS3.4 table B.5-1', 'Grayscale Softcopy Presentation State', derived('11.1'), BY_STUDY],
  ['PS3.4 table B.5-1', 'Parametric Map', derived('30'), BY_STUDY],
  ['PS3.4 table B.5-1', 'Spatial Registration', derived('66.1'), BY_STUDY],
  ['PS3.4 table B.5-1', 'Segmentation', derived('66.4'), BY_STUDY],
  ['PS3.4 table B.5-1', 'Real World Value Mapping', derived('67'), BY_STUDY],
  ['PS3.4 table B.5-1', 'Enhanced SR', derived('88.22'), BY_STUDY],
  ['PS3.4 table B.5-1', 'Key Object Selection', derived('88.59'), BY_STUDY],
  ['PS3.4 table B.5-1', 'Content Assessment Results', derived('90.1'), BY_STUDY],
  ['PS3.4 table B.5-1', 'Microscopy Bulk Simple Annotations', derived('91.1'), BY_STUDY],
  ['PS3.4 table B.5-1', 'Encapsulated PDF', derived('104.1'), BY_STUDY],
  ['PS3.4 table B.5-1', 'Basic Structured Display', derived('131'), BY_STUDY],
  ['PS3.4 table B.5-1', 'RT Structure Set', derived('481.3'), BY_STUDY],
  ['PS3.4 table B.5-1', 'RT Image is an image', derived('481.1'), BY_ACQUISITION],
  ['PS3.4 table B.5-1', 'Enhanced RT Image is an image', derived('481.23'), BY_ACQUISITION],
  ['PS3.4 table B.5-1', 'RT Patient Position Acquisition Instruction is none', derived('481.25'), BY_STUDY],
  ['PS3.4 table B.5-1', 'CT Image is an image', derived('2'), BY_ACQUISITION],
  ['PS3.4 table B.5-1', 'Raw Data is of the scanner', derived('66'), BY_ACQUISITION],
  ['PS3.4 table B.5-1', 'VL Photographic Image is not of the family of 7', derived('77.1.4'), BY_ACQUISITION],
  ['PS3.4 table B.5-1', 'Digital X-Ray is not of the family of 11', derived('1.1'), BY_ACQUISITION],
  ['PS3.5 section 9.1', 'a padded SOP class', derived('88.22\0'), BY_STUDY],
  ['PS3.5 section 9.2', 'a private SOP class is none of these', { ...ALL, SOPClassUID: '1.2.3.88.22' }, BY_ACQUISITION],
  ['PS3.3 section C.7.3.1.1.1', 'without SOP class, modality SR', { ...ALL, Modality: 'SR' }, BY_STUDY],
  ['PS3.3 section C.7.3.1.1.1', 'without SOP class, modality seg', { ...ALL, Modality: ' seg' }, BY_STUDY],
  ['PS3.3 section C.7.3.1.1.1', 'without SOP class, modality CT', { ...ALL, Modality: 'CT' }, BY_ACQUISITION],
  ['spillway policy', 'the SOP class overrules the modality', { ...derived('2'), Modality: 'SR' }, BY_ACQUISITION],
  [
    'spillway policy',
    'a report of today is of the age of its study',
    { ...SR, ...study('20260101'), ContentDate: '20260305', ContentTime: '1100' },
    'historical unknown 2026-01-01T23:59:59.999Z StudyDate day',
  ],
  [
    'spillway policy',
    'a derived object without StudyDate has its own date',
    { ...SR, ...UTC, ContentDate: '20260305', ContentTime: '1100' },
    'last-24-hours unknown 2026-03-05T11:00:59.999Z ContentDate exact',
  ],
])('%s: %s', (...row) => check(row));
