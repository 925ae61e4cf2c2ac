import type { Lane } from '../domain/delivery.ts';

/** A day of the week. */
export type Weekday = 'mon' | 'tue' | 'wed' | 'thu' | 'fri' | 'sat' | 'sun';

export const WEEKDAYS: readonly Weekday[] = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'];

/** A time of day in which less is sent, or nothing. */
export interface FlowWindow {
  /** What it holds for. @default every lane together */
  readonly lane?: Lane;
  /** Wall-clock time of its beginning, `HH:MM`. */
  readonly from: string;
  /** Of its end, which is outside; earlier than `from` it is that of the next day, equal to it 24 hours later. */
  readonly to: string;
  /** Days on which it begins. @default every day */
  readonly days?: readonly Weekday[];
  /** IANA time zone, such as `Europe/Berlin`. */
  readonly timeZone: string;
  /** Requests in flight at the most; 0: none. @default as without the window */
  readonly maxConcurrency?: number;
  /** @default as without the window */
  readonly maxBytesPerSecond?: number;
}

/** What a time of day allows; `Infinity` where it says nothing. */
export interface Ceilings {
  readonly maxConcurrency: number;
  readonly maxBytesPerSecond: number;
}

const NO_CEILINGS: Ceilings = {
  maxConcurrency: Number.POSITIVE_INFINITY,
  maxBytesPerSecond: Number.POSITIVE_INFINITY,
};
const MINUTE_MS = 60_000;
const MINUTES_PER_DAY = 1_440;
/** The shortest time for which a window may be open, or closed: changes are looked for in such steps. */
export const MIN_WINDOW_MINUTES = 15;
/** A week repeats, but for summer time. */
const HORIZON_MS = 8 * MINUTES_PER_DAY * MINUTE_MS;

/**
 * The tightest ceilings at an instant.
 *
 * @param lane - Of this lane; null: of all lanes together, which each window without a lane bounds.
 */
export function ceilingsAt(windows: readonly FlowWindow[], lane: Lane | null, at: number): Ceilings {
  if (windows.length === 0) return NO_CEILINGS;
  const { open } = stretchAt(windows, at);
  let { maxConcurrency, maxBytesPerSecond } = NO_CEILINGS;
  windows.forEach((window, index) => {
    if (!open[index] || (window.lane ?? null) !== lane) return;
    maxConcurrency = Math.min(maxConcurrency, window.maxConcurrency ?? Number.POSITIVE_INFINITY);
    maxBytesPerSecond = Math.min(maxBytesPerSecond, window.maxBytesPerSecond ?? Number.POSITIVE_INFINITY);
  });
  return { maxConcurrency, maxBytesPerSecond };
}

/** The next instant at which a window opens or closes; null where none does within eight days. */
export function nextChangeAt(windows: readonly FlowWindow[], at: number): number | null {
  if (windows.length === 0) return null;
  const { until } = stretchAt(windows, at);
  return until;
}

/** `HH:MM` as minutes of the day, or null where it is none. */
export function minutesOf(time: string): number | null {
  const match = /^([01]\d|2[0-3]):([0-5]\d)$/.exec(time);
  return match === null ? null : Number(match[1]) * 60 + Number(match[2]);
}

/** A stretch of time in which no window changes. */
interface Stretch {
  readonly from: number;
  readonly until: number | null;
  readonly open: readonly boolean[];
}

/** The last stretch asked for: it is asked for at each request, and asking a time zone is dear. */
const stretches = new WeakMap<readonly FlowWindow[], Stretch>();

function stretchAt(windows: readonly FlowWindow[], at: number): Stretch {
  const known = stretches.get(windows);
  if (known !== undefined && known.from <= at && at < (known.until ?? known.from + HORIZON_MS)) return known;
  const open = windows.map((window) => isOpen(window, at));
  const found = { from: at, until: changeAfter(windows, open, at), open };
  stretches.set(windows, found);
  return found;
}

/** Walks in steps no longer than the shortest stretch, then halves the last one; windows change at whole minutes only. */
function changeAfter(windows: readonly FlowWindow[], open: readonly boolean[], at: number): number | null {
  const isAs = (instant: number) => windows.every((window, index) => isOpen(window, instant) === open[index]);
  const first = Math.floor(at / MINUTE_MS) * MINUTE_MS;
  for (let step = 0; step < HORIZON_MS; step += MIN_WINDOW_MINUTES * MINUTE_MS) {
    let before = first + step;
    let after = before + MIN_WINDOW_MINUTES * MINUTE_MS;
    if (isAs(after)) continue;
    while (after - before > MINUTE_MS) {
      const middle = before + Math.floor((after - before) / MINUTE_MS / 2) * MINUTE_MS;
      if (isAs(middle)) before = middle;
      else after = middle;
    }
    return after;
  }
  return null;
}

function isOpen(window: FlowWindow, at: number): boolean {
  const from = minutesOf(window.from) ?? 0;
  const to = minutesOf(window.to) ?? 0;
  const { day, minutes } = wallClock(window.timeZone, at);
  const begins = (weekday: number) => window.days?.includes(WEEKDAYS[weekday] ?? 'mon') ?? true;
  if (from < to) return begins(day) && minutes >= from && minutes < to;
  // It began today, or yesterday.
  return (begins(day) && minutes >= from) || (begins((day + 6) % 7) && minutes < to);
}

const formatters = new Map<string, Intl.DateTimeFormat>();

/** @throws RangeError for an unknown time zone. */
export function wallClock(timeZone: string, at: number): { readonly day: number; readonly minutes: number } {
  let formatter = formatters.get(timeZone);
  if (formatter === undefined) {
    const fields = { weekday: 'short', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' } as const;
    formatter = new Intl.DateTimeFormat('en-US', { ...fields, timeZone });
    formatters.set(timeZone, formatter);
  }
  const parts = new Map(formatter.formatToParts(at).map(({ type, value }) => [type, value]));
  const weekday = (parts.get('weekday') ?? '').toLowerCase();
  const day = (WEEKDAYS as readonly string[]).indexOf(weekday);
  return { day: Math.max(0, day), minutes: Number(parts.get('hour')) * 60 + Number(parts.get('minute')) };
}
