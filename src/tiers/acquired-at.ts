import { type LocalSpan, parseDate, parseDateTime, parseOffset, parseTime, toUtc, type Zone } from './dicom-time.ts';
import { unpadded } from './unpadded.ts';

/** Which attributes said when an instance was acquired; `ReceivedAt` when none did. */
export type AcquisitionSource =
  | 'AcquisitionDateTime'
  | 'AcquisitionDate'
  | 'StudyDate'
  | 'SeriesDate'
  | 'ContentDate'
  | 'PerformedProcedureStepStartDate'
  | 'InstanceCreationDate'
  | 'ReceivedAt';

/**
 * How sure the instant is: `exact` to the second, `day` when only a date was given, `zone-unknown` when no time zone
 * was known, `estimated` when nothing but the arrival was known. Every doubt is read towards urgent.
 */
export type Certainty = 'exact' | 'day' | 'zone-unknown' | 'estimated';

/** What was odd about the dates. */
export type DateOddity = 'date-malformed' | 'date-acr-nema' | 'date-in-future' | 'offset-malformed';

export interface Acquisition {
  /** The latest instant that the values allow, never after the arrival; ms since the epoch. */
  readonly at: number;
  readonly source: AcquisitionSource;
  readonly certainty: Certainty;
  readonly oddities: readonly DateOddity[];
}

// In the order of trust. InstanceCreation is last: for an imported prior or a secondary capture it is
// the day of the import.
const PAIRS: readonly (readonly [AcquisitionSource, string])[] = [
  ['AcquisitionDate', 'AcquisitionTime'],
  ['StudyDate', 'StudyTime'],
  ['SeriesDate', 'SeriesTime'],
  ['ContentDate', 'ContentTime'],
  ['PerformedProcedureStepStartDate', 'PerformedProcedureStepStartTime'],
  ['InstanceCreationDate', 'InstanceCreationTime'],
];

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
  const offsetText = unpadded(attributes, 'TimezoneOffsetFromUTC');
  const offset = offsetText === undefined ? undefined : parseOffset(offsetText);
  if (offsetText !== undefined && offset === undefined) oddities.add('offset-malformed');
  const zone: Zone = offset ?? timeZone;

  const dateTime = unpadded(attributes, 'AcquisitionDateTime');
  if (dateTime !== undefined) {
    const span = parseDateTime(dateTime);
    if (span !== undefined) {
      const dayOnly = span.latest - span.earliest >= 86_399_999;
      return judged('AcquisitionDateTime', span, dayOnly, zone, receivedAt, oddities);
    }
    oddities.add('date-malformed');
  }
  for (const [source, timeKeyword] of PAIRS) {
    const dateText = unpadded(attributes, source);
    if (dateText === undefined) continue;
    const date = parseDate(dateText);
    if (date === undefined) {
      oddities.add('date-malformed');
      continue;
    }
    const timeText = unpadded(attributes, timeKeyword);
    const time = timeText === undefined ? undefined : parseTime(timeText);
    if (timeText !== undefined && time === undefined) oddities.add('date-malformed');
    if (date.acrNema || time?.acrNema) oddities.add('date-acr-nema');
    const span = time
      ? { earliest: date.earliest + time.earliest, latest: date.earliest + time.latest, acrNema: false }
      : date;
    return judged(source, span, time === undefined, zone, receivedAt, oddities);
  }
  return { at: receivedAt, source: 'ReceivedAt', certainty: 'estimated', oddities: [...oddities] };
}

function judged(
  source: AcquisitionSource,
  span: LocalSpan,
  dayOnly: boolean,
  zone: Zone,
  receivedAt: number,
  oddities: Set<DateOddity>,
): Acquisition {
  const { earliest, latest } = toUtc(span, zone);
  // Only when no reading of the values lies before the arrival is a clock wrong.
  if (earliest > receivedAt) oddities.add('date-in-future');
  const zoneKnown = zone !== undefined || span.offsetMinutes !== undefined;
  const certainty = !zoneKnown ? 'zone-unknown' : dayOnly ? 'day' : 'exact';
  return { at: Math.min(latest, receivedAt), source, certainty, oddities: [...oddities] };
}
