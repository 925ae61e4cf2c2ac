import type { DateBasis } from '../domain/rank.ts';
import { isDerivedObject } from './derived-objects.ts';
import { type LocalSpan, parseDate, parseDateTime, parseOffset, parseTime, toUtc, type Zone } from './dicom-time.ts';
import { unpadded } from './unpadded.ts';

/** Which attribute said when an instance was acquired; `ReceivedAt` when none did. */
export type AcquisitionSource =
  | 'AcquisitionDateTime'
  | 'AcquisitionDate'
  | 'StudyDate'
  | 'SeriesDate'
  | 'ContentDate'
  | 'PerformedProcedureStepStartDateTime'
  | 'PerformedProcedureStepStartDate'
  | 'InstanceCreationDate'
  | 'ReceivedAt';

/**
 * How sure the instant is: `exact` to the hour or better, `day` when only a date (or less) was given, `zone-unknown` when
 * no time zone was known, `estimated` when nothing but the arrival was known. Every doubt is read towards urgent.
 */
export type Certainty = 'exact' | 'day' | 'zone-unknown' | 'estimated';

/**
 * What was odd about the dates: no date or time of the calendar (`date-malformed`), a form of ACR-NEMA
 * (`date-acr-nema`), later than the arrival (`date-in-future`), no offset from UTC (`offset-malformed`).
 */
export type DateOddity = 'date-malformed' | 'date-acr-nema' | 'date-in-future' | 'offset-malformed';

export interface Acquisition {
  /** The latest instant that the values allow, never after the arrival; ms since the epoch. */
  readonly at: number;
  readonly source: AcquisitionSource;
  readonly certainty: Certainty;
  readonly basis: DateBasis;
  readonly oddities: readonly DateOddity[];
}

interface Source {
  readonly keyword: Exclude<AcquisitionSource, 'ReceivedAt'>;
  readonly tag: string;
  /** The time of its pair; a DT has its own. */
  readonly time?: string;
}

/** In the order of trust. InstanceCreation is last: for an imported prior it is the day of the import. */
const SOURCES: readonly Source[] = [
  { keyword: 'AcquisitionDateTime', tag: '(0008,002A)' },
  { keyword: 'AcquisitionDate', tag: '(0008,0022)', time: 'AcquisitionTime' },
  { keyword: 'StudyDate', tag: '(0008,0020)', time: 'StudyTime' },
  { keyword: 'SeriesDate', tag: '(0008,0021)', time: 'SeriesTime' },
  { keyword: 'ContentDate', tag: '(0008,0023)', time: 'ContentTime' },
  { keyword: 'PerformedProcedureStepStartDateTime', tag: '(0040,4050)' },
  {
    keyword: 'PerformedProcedureStepStartDate',
    tag: '(0040,0244)',
    time: 'PerformedProcedureStepStartTime',
  },
  { keyword: 'InstanceCreationDate', tag: '(0008,0012)', time: 'InstanceCreationTime' },
];
/** What was derived from an examination is as old as that is; its own dates are those of its making. */
const DERIVED_SOURCES = [
  ...SOURCES.filter(({ keyword }) => keyword === 'StudyDate'),
  ...SOURCES.filter(({ keyword }) => keyword !== 'StudyDate'),
];
const TAGS: ReadonlyMap<AcquisitionSource, string> = new Map(SOURCES.map(({ keyword, tag }) => [keyword, tag]));
const LAST_MS_OF_DAY = 86_399_999;

/** Sources, the most trusted first. */
export const ACQUISITION_SOURCES: readonly AcquisitionSource[] = [
  ...SOURCES.map(({ keyword }) => keyword),
  'ReceivedAt',
];

/** The tag of a source as `(gggg,eeee)`, or null for the arrival. */
export function sourceTagOf(source: AcquisitionSource): string | null {
  return TAGS.get(source) ?? null;
}

/**
 * When an instance was acquired, from its header attributes by keyword. A date is only ever joined with the time of
 * its own pair; a malformed value is an oddity, and the next source is tried.
 *
 * @param timeZone - IANA name of the site's time zone, used where (0008,0201) says nothing.
 */
export function acquiredAt(
  attributes: Readonly<Record<string, string>>,
  receivedAt: number,
  timeZone?: string,
): Acquisition {
  const oddities = new Set<DateOddity>();
  // It must not begin with a space (PS3.3 C.12.1.1.8).
  const offsetText = unpadded(attributes, 'TimezoneOffsetFromUTC', true);
  const offset = offsetText === undefined ? undefined : parseOffset(offsetText);
  if (offsetText !== undefined && offset === undefined) oddities.add('offset-malformed');
  const zone: Zone = offset ?? timeZone;
  const isDerived = isDerivedObject(attributes);
  for (const source of isDerived ? DERIVED_SOURCES : SOURCES) {
    const span = spanOf(attributes, source, oddities);
    if (span === undefined) continue;
    const { earliest, latest } = toUtc(span, zone);
    // Only when no reading of the values lies before the arrival is a clock wrong.
    if (earliest > receivedAt) oddities.add('date-in-future');
    const isZoneKnown = zone !== undefined || span.offsetMinutes !== undefined;
    const isDay = span.latest - span.earliest >= LAST_MS_OF_DAY;
    return {
      at: Math.min(latest, receivedAt),
      source: source.keyword,
      certainty: !isZoneKnown ? 'zone-unknown' : isDay ? 'day' : 'exact',
      basis: basisOf(source.keyword, isDerived),
      oddities: [...oddities],
    };
  }
  return { at: receivedAt, source: 'ReceivedAt', certainty: 'estimated', basis: 'estimated', oddities: [...oddities] };
}

function basisOf(source: AcquisitionSource, isDerived: boolean): DateBasis {
  if (source === 'InstanceCreationDate') return 'secondary';
  return isDerived && source !== 'StudyDate' ? 'secondary' : 'dated';
}

function spanOf(
  attributes: Readonly<Record<string, string>>,
  source: Source,
  oddities: Set<DateOddity>,
): LocalSpan | undefined {
  const text = unpadded(attributes, source.keyword);
  if (text === undefined) return undefined;
  const date = source.time === undefined ? parseDateTime(text) : parseDate(text);
  if (date === undefined) {
    oddities.add('date-malformed');
    return undefined;
  }
  if (date.isOffsetMalformed) oddities.add('offset-malformed');
  const timeText = source.time === undefined ? undefined : unpadded(attributes, source.time);
  const time = timeText === undefined ? undefined : parseTime(timeText);
  if (timeText !== undefined && time === undefined) oddities.add('date-malformed');
  if (date.acrNema || time?.acrNema) oddities.add('date-acr-nema');
  if (time === undefined) return date;
  return { earliest: date.earliest + time.earliest, latest: date.earliest + time.latest, acrNema: false };
}
