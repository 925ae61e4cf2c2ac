import { test } from 'vitest';
import { defaultTierPolicy, type Urgency } from '../src/tiers/index.ts';
import { type Attributes, type Case, check, NOON } from './support/tier-cases.ts';

const NOTHING_KNOWN = `${NOON} ReceivedAt estimated`;
const is = (urgency: Urgency): string => `last-24-hours ${urgency} ${NOTHING_KNOWN}`;
const REQUESTED = 'PS3.3 section C.4.11 (0040,1003)';
const REPORTING = 'PS3.3 section C.4.11 (0040,1009)';
const STEP = 'PS3.3 section C.30.2 (0074,1200)';
const OLD = 'PS3.6 chapter 6 (0032,000C), retired';
const HL7 = 'HL7 v2.5.1 table 0485';
const FHIR = 'FHIR R4 request-priority';

test.each<Case>([
  [REQUESTED, 'STAT', { RequestedProcedurePriority: 'STAT' }, is('stat')],
  [REQUESTED, 'HIGH', { RequestedProcedurePriority: 'HIGH' }, is('urgent')],
  [REQUESTED, 'ROUTINE', { RequestedProcedurePriority: 'ROUTINE' }, is('routine')],
  [REQUESTED, 'MEDIUM', { RequestedProcedurePriority: 'MEDIUM' }, is('routine')],
  [REQUESTED, 'LOW, in small letters and padded', { RequestedProcedurePriority: 'low ' }, is('routine')],
  [
    'PS3.5 table 6.2-1 SH',
    'leading spaces are no part of the value',
    { RequestedProcedurePriority: ' STAT' },
    is('stat'),
  ],
  [REPORTING, 'HIGH', { ReportingPriority: 'HIGH' }, is('urgent')],
  [REPORTING, 'LOW', { ReportingPriority: 'LOW' }, is('routine')],
  [STEP, 'HIGH is equivalent to STAT', { ScheduledProcedureStepPriority: 'HIGH' }, is('stat')],
  [STEP, 'MEDIUM is more than LOW, which is routine', { ScheduledProcedureStepPriority: 'MEDIUM' }, is('urgent')],
  [OLD, 'HIGH', { StudyPriorityID: 'HIGH' }, is('urgent')],
  [OLD, 'MED', { StudyPriorityID: 'MED' }, is('routine')],
  [HL7, 'S in a header', { RequestedProcedurePriority: 'S' }, is('stat')],
  [HL7, 'A', { RequestedProcedurePriority: 'A' }, is('urgent')],
  [HL7, 'P', { RequestedProcedurePriority: 'P' }, is('urgent')],
  [HL7, 'R', { RequestedProcedurePriority: 'R' }, is('routine')],
  [HL7, 'TM10', { RequestedProcedurePriority: 'TM10' }, is('stat')],
  [HL7, 'PRN says nothing', { RequestedProcedurePriority: 'PRN' }, is('unknown')],
  [FHIR, 'urgent in a header', { ReportingPriority: 'urgent' }, is('urgent')],
  [FHIR, 'asap', { ReportingPriority: 'asap' }, is('urgent')],
  [
    'spillway policy',
    'the highest of several counts',
    { RequestedProcedurePriority: 'ROUTINE', ReportingPriority: 'LOW', StudyPriorityID: 'HIGH' },
    is('urgent'),
  ],
  [
    'spillway policy',
    'a value that no table knows is a doubt, which routine does not overrule',
    { RequestedProcedurePriority: 'EMERGENCY', StudyPriorityID: 'LOW' },
    is('unknown'),
  ],
  [
    'spillway policy',
    'and which gives way to more',
    { RequestedProcedurePriority: 'EMERGENCY', StudyPriorityID: 'HIGH' },
    is('urgent'),
  ],
  [
    'PS3.3 table 10-9',
    'of several requests the most urgent',
    { RequestedProcedurePriority: 'ROUTINE\\STAT' },
    is('stat'),
  ],
  ['spillway policy', 'a word in a word is none', { RequestedProcedurePriority: 'PROSTATE' }, is('unknown')],
  ['spillway policy', 'an empty value states nothing', { RequestedProcedurePriority: '' }, is('unknown')],
  ['spillway policy', 'nothing is not routine', {}, is('unknown')],
  [
    'spillway policy',
    'the caller overrules the header',
    { RequestedProcedurePriority: 'STAT' },
    is('routine'),
    { urgency: 'routine' },
  ],
  [
    'spillway policy',
    'a caller who knows nothing overrules nothing',
    { RequestedProcedurePriority: 'STAT' },
    is('stat'),
    { urgency: 'unknown' },
  ],
  ['spillway policy', 'free text states nothing by default', { StudyDescription: 'CT HEAD STAT' }, is('unknown')],
])('%s: %s', (...row) => check(row));

const HINTED = {
  policy: { ...defaultTierPolicy, textHints: { stat: ['STAT', 'a.s.a.p. (ED)', 'sofört'], urgent: ['urgent'] } },
};
const text = (StudyDescription: string): Attributes => ({ StudyDescription });
const HINT = 'spillway policy, text hints';

test.each<Case>([
  [HINT, 'a whole word', text('CT HEAD STAT'), is('stat'), HINTED],
  [HINT, 'in any case', text('stat ct head'), is('stat'), HINTED],
  [HINT, 'an underscore is no part of a word', text('CT_STAT_HEAD'), is('stat'), HINTED],
  [HINT, 'punctuation is none', text('(STAT!)'), is('stat'), HINTED],
  [HINT, 'STATUS', text('STATUS POST ORIF'), is('unknown'), HINTED],
  [HINT, 'PROSTATE', text('MR PROSTATE'), is('unknown'), HINTED],
  [HINT, 'a digit belongs to a word', text('STAT1'), is('unknown'), HINTED],
  [HINT, 'a letter of any script belongs to a word', text('STATΩ'), is('unknown'), HINTED],
  [HINT, 'a letter with its mark apart', text('STATE\u0301'), is('unknown'), HINTED],
  [HINT, 'non-STAT', text('CT HEAD non-STAT'), is('unknown'), HINTED],
  [HINT, 'not urgent', text('Not urgent, next week'), is('unknown'), HINTED],
  [HINT, 'no STAT', text('NO STAT'), is('unknown'), HINTED],
  [HINT, 'a word that only ends in "not" denies nothing', text('knot STAT'), is('stat'), HINTED],
  [HINT, 'one that is denied and one that is not', text('not urgent? STAT!'), is('stat'), HINTED],
  [HINT, 'the most urgent of several', { StudyDescription: 'urgent', ProtocolName: 'STAT' }, is('stat'), HINTED],
  [HINT, 'a hint is literal text', text('CT a.s.a.p. (ED)'), is('stat'), HINTED],
  [HINT, 'and no pattern', text('CT axsxaxpx ED'), is('unknown'), HINTED],
  [HINT, 'composed or not', text('CT sofo\u0308rt'), is('stat'), HINTED],
  [
    'PS3.6 (0032,1060)',
    'RequestedProcedureDescription is searched',
    { RequestedProcedureDescription: 'STAT' },
    is('stat'),
    HINTED,
  ],
  ['PS3.6 (0008,103E)', 'SeriesDescription is searched', { SeriesDescription: 'STAT' }, is('stat'), HINTED],
  ['PS3.6 (0018,1030)', 'ProtocolName is searched', { ProtocolName: 'STAT' }, is('stat'), HINTED],
  [
    'PS3.6 (0040,1002)',
    'ReasonForTheRequestedProcedure is searched',
    { ReasonForTheRequestedProcedure: 'STAT' },
    is('stat'),
    HINTED,
  ],
  ['PS3.6 (0008,1010)', 'StationName is not', { StationName: 'STAT' }, is('unknown'), HINTED],
  [
    HINT,
    'a header code overrules it',
    { RequestedProcedurePriority: 'LOW', StudyDescription: 'STAT' },
    is('routine'),
    HINTED,
  ],
  [HINT, 'the caller overrules it', text('STAT'), is('routine'), { ...HINTED, urgency: 'routine' }],
])('%s: %s', (...row) => check(row));
