import { SpillwayError } from '../errors.ts';

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
/**
 * No image is that old: 1900-01-01 is how many systems write none, and so are 1899-12-30, 1111-11-11, 0001-01-01. X-rays
 * are of 1895, and no date of theirs makes a difference here.
 */
const LATEST_PLACEHOLDER = Date.UTC(1900, 0, 1);
/** +1400 is the offset furthest from UTC (PS3.3 C.12.1.1.8); who knows nothing of a zone allows as much either way. */
const WIDEST_OFFSET_MS = 14 * 60 * MINUTE_MS;

/**
 * A span of local time that a value leaves open: a date without a time is a whole day. Instants are written as if the
 * local time were UTC (ms since the epoch).
 */
export interface LocalSpan {
  readonly earliest: number;
  readonly latest: number;
  /** The value has a form of ACR-NEMA (`1997.04.24`, `12:30:00`) that today's standard does not allow. */
  readonly acrNema: boolean;
  /** A DT's own offset from UTC in minutes, where it has one. */
  readonly offsetMinutes?: number;
  /** A DT's own offset is none that may be, and was left out. */
  readonly isOffsetMalformed?: true;
}

/** A DA value (PS3.5 table 6.2-1), or undefined when it is no date of the calendar. */
export function parseDate(value: string): LocalSpan | undefined {
  const match = /^(\d{4})(\d{2})(\d{2})$/.exec(value) ?? /^(\d{4})\.(\d{2})\.(\d{2})$/.exec(value);
  if (match === null) return undefined;
  const [year, month, day] = match.slice(1).map(Number) as [number, number, number];
  const start = Date.UTC(year, month - 1, day);
  const date = new Date(start);
  // Date.UTC takes 0 to 99 as 19xx.
  if (start <= LATEST_PLACEHOLDER || year < 100 || date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day)
    return undefined;
  return { earliest: start, latest: start + DAY_MS - 1, acrNema: value.includes('.') };
}

/** A TM value (PS3.5 table 6.2-1) as a span of ms since midnight, or undefined. */
export function parseTime(value: string): LocalSpan | undefined {
  const match =
    /^(\d{2})(?:(\d{2})(?:(\d{2})(?:\.(\d{1,6}))?)?)?$/.exec(value) ??
    /^(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?$/.exec(value);
  if (match === null) return undefined;
  const span = clockSpan(match[1], match[2], match[3], match[4]);
  return span && { ...span, acrNema: value.includes(':') };
}

/** A DT value (PS3.5 table 6.2-1), or undefined. Missing components leave the span open. */
export function parseDateTime(value: string): LocalSpan | undefined {
  const match =
    /^(\d{4})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:(\d{2})(?:\.(\d{1,6}))?)?)?)?)?)?([+-]\d{4})?$/.exec(value);
  if (match === null) return undefined;
  const [, year = '', month, day, hour, minute, second, fraction, offset] = match;
  const offsetMinutes = offset === undefined ? undefined : parseOffset(offset);
  if (+year < 1900) return undefined;
  // As with (0008,0201), a bad offset costs itself, and not the date.
  const zone = offset === undefined ? {} : offsetMinutes === undefined ? BAD_OFFSET : { offsetMinutes };
  if (month === undefined) {
    return { earliest: Date.UTC(+year, 0), latest: Date.UTC(+year + 1, 0) - 1, acrNema: false, ...zone };
  }
  if (day === undefined) {
    if (+month < 1 || +month > 12) return undefined;
    return { earliest: Date.UTC(+year, +month - 1), latest: Date.UTC(+year, +month) - 1, acrNema: false, ...zone };
  }
  const date = parseDate(year + month + day);
  const clock = hour === undefined ? { earliest: 0, latest: DAY_MS - 1 } : clockSpan(hour, minute, second, fraction);
  if (date === undefined || clock === undefined) return undefined;
  return { earliest: date.earliest + clock.earliest, latest: date.earliest + clock.latest, acrNema: false, ...zone };
}

const BAD_OFFSET = { isOffsetMalformed: true } as const;

/** `&ZZXX` in minutes (PS3.3 C.12.1.1.8: -1200 to +1400, -0000 not allowed), or undefined. */
export function parseOffset(value: string): number | undefined {
  const match = /^([+-])(\d{2})([0-5]\d)$/.exec(value);
  if (match === null || value === '-0000') return undefined;
  const minutes = (match[1] === '-' ? -1 : 1) * (Number(match[2]) * 60 + Number(match[3]));
  return minutes >= -720 && minutes <= 840 ? minutes : undefined;
}

function clockSpan(
  hour: string | undefined,
  minute: string | undefined,
  second: string | undefined,
  fraction: string | undefined,
): { earliest: number; latest: number } | undefined {
  const [h, m, s] = [Number(hour), Number(minute ?? 0), Number(second ?? 0)];
  // 60 is a leap second (PS3.5 table 6.2-1).
  if (h > 23 || m > 59 || s > 60) return undefined;
  const start = h * 3_600_000 + m * MINUTE_MS + s * 1000 + (fraction ? Math.trunc(Number(`0.${fraction}`) * 1000) : 0);
  const open = minute === undefined ? 3_600_000 : second === undefined ? MINUTE_MS : fraction === undefined ? 1000 : 1;
  return { earliest: start, latest: start + open - 1 };
}

/** Where local times belong: a fixed offset in minutes, an IANA time zone, or nobody knows. */
export type Zone = number | string | undefined;

/**
 * The span in real time (UTC). An unknown zone leaves it open by 14 hours either way; of two
 * instants that one local time has when clocks go back, the span holds both.
 */
export function toUtc(span: LocalSpan, zone: Zone): { earliest: number; latest: number } {
  const offset = span.offsetMinutes ?? (typeof zone === 'number' ? zone : undefined);
  if (offset !== undefined) {
    return { earliest: span.earliest - offset * MINUTE_MS, latest: span.latest - offset * MINUTE_MS };
  }
  if (zone === undefined) {
    return { earliest: span.earliest - WIDEST_OFFSET_MS, latest: span.latest + WIDEST_OFFSET_MS };
  }
  const name = String(zone);
  return {
    earliest: Math.min(...instantsOf(span.earliest, name)),
    latest: Math.max(...instantsOf(span.latest, name)),
  };
}

/** @throws SpillwayError `SPILLWAY_OPTION_INVALID` for what is no IANA time zone */
export function assertTimeZone(zone: string): void {
  clocksOf(zone);
}

/** The instants at which clocks of a zone show a local time; in the hour that is skipped, the one by the old offset. */
function instantsOf(local: number, zone: string): number[] {
  const { offsetAt, offsetOnDay } = clocksOf(zone);
  const day = Math.floor(local / DAY_MS);
  const [before, after] = [offsetOnDay(day - 1), offsetOnDay(day + 2)];
  // No zone has moved its clocks and moved them back within three days.
  if (before === after) return [local - before];
  const candidates = [local - before, local - after];
  const exact = candidates.filter((instant) => instant + offsetAt(instant) === local);
  return exact.length > 0 ? exact : candidates.slice(0, 1);
}

/** Offsets of a zone from UTC in ms: at an instant, and at the beginning of a day (UTC) since the epoch. */
interface Clocks {
  readonly zone: string;
  offsetAt(instant: number): number;
  offsetOnDay(day: number): number;
}

const MAX_DAYS_KEPT = 4_096;
// Making a formatter costs much more than using it, that more than a look into a table, and a site has one zone.
let lastClocks: Clocks | undefined;

function clocksOf(zone: string): Clocks {
  if (lastClocks?.zone !== zone) lastClocks = makeClocks(zone);
  return lastClocks;
}

function makeClocks(zone: string): Clocks {
  const format = formatFor(zone);
  const days = new Map<number, number>();
  const offsetAt = (instant: number) => {
    const parts = new Map(format.formatToParts(instant).map((part) => [part.type, Number(part.value)]));
    const get = (type: Intl.DateTimeFormatPartTypes) => parts.get(type) ?? 0;
    const shown = Date.UTC(get('year'), get('month') - 1, get('day'), get('hour'), get('minute'), get('second'));
    return shown - Math.floor(instant / 1000) * 1000;
  };
  const offsetOnDay = (day: number) => {
    let offset = days.get(day);
    if (offset === undefined) {
      if (days.size >= MAX_DAYS_KEPT) days.clear();
      offset = offsetAt(day * DAY_MS);
      days.set(day, offset);
    }
    return offset;
  };
  return { zone, offsetAt, offsetOnDay };
}

function formatFor(zone: string): Intl.DateTimeFormat {
  try {
    return new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
  } catch (error) {
    throw new SpillwayError(
      'SPILLWAY_OPTION_INVALID',
      `Expected timeZone to be an IANA time zone such as "Europe/Vienna", got ${JSON.stringify(zone)?.slice(0, 80)}.`,
      { cause: error },
    );
  }
}
