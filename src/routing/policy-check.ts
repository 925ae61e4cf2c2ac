import { SpillwayError } from '../errors.ts';
import { type DestinationPolicy, defaultDestinationPolicy } from './destination.ts';
import { type FlowWindow, MIN_WINDOW_MINUTES, minutesOf, WEEKDAYS, wallClock } from './windows.ts';

/** What a number must be. */
interface Range {
  readonly expected: string;
  readonly holds: (value: number) => boolean;
}

const COUNT: Range = {
  expected: 'a whole number from 1 on',
  holds: (value) => Number.isSafeInteger(value) && value > 0,
};
const COUNT_OR_0: Range = {
  expected: 'a whole number from 0 on',
  holds: (value) => Number.isSafeInteger(value) && value >= 0,
};
const MAX_MS = 10 * 365 * 86_400_000;
const TIME: Range = { expected: 'a time in ms, above 0', holds: (value) => value > 0 && value <= MAX_MS };
const TIME_OR_0: Range = { expected: 'a time in ms, from 0 on', holds: (value) => value >= 0 && value <= MAX_MS };
const RATE: Range = { expected: 'bytes per second, above 0', holds: (value) => value > 0 };
const above = (least: number): Range => ({
  expected: `a number above ${least}`,
  holds: (value) => value > least && value < 1e6,
});
/** A destination with more in flight than this would hold more files open than a process may. */
const MAX_CONCURRENCY = 1_024;
const CONCURRENCY: Range = {
  expected: `a whole number from 1 to ${MAX_CONCURRENCY}`,
  holds: (value) => COUNT.holds(value) && value <= MAX_CONCURRENCY,
};

/** Every number of a value must have a range. */
type Ranges<Part> = { readonly [Key in keyof Part as Part[Key] extends number ? Key : never]: Range };

const NUMBERS: { readonly [Part in keyof DestinationPolicy]: Ranges<DestinationPolicy[Part]> } = {
  health: {
    failuresToSuspect: COUNT,
    refusalsToSuspect: COUNT,
    probeIntervalMs: TIME,
    maxProbeIntervalMs: TIME,
    successesToUp: COUNT,
    calmToUpMs: TIME,
    flapWindowMs: TIME_OR_0,
    flapHoldMs: TIME_OR_0,
    maxFlapHoldMs: TIME_OR_0,
    maxExcused: COUNT_OR_0,
    maxCrowdedMs: TIME_OR_0,
  },
  flow: {
    maxConcurrency: CONCURRENCY,
    minGain: { expected: 'a number above 0 and below 1', holds: (value) => value > 0 && value < 1 },
    congestedAt: above(1),
    tryOutMs: TIME,
    maxTryOutMs: TIME,
    maxRefusedTryOutMs: TIME,
    maxBytesPerSecond: RATE,
    pushBackPauseMs: TIME,
    maxPushBackPauseMs: TIME,
    maxRetryAfterMs: TIME,
    maxLagMs: TIME,
  },
  share: {
    live: { expected: 'a part above 0 and below 1', holds: (value) => value > 0 && value < 1 },
    history: { expected: 'a part from 0 to below 1', holds: (value) => value >= 0 && value < 1 },
  },
  retry: {
    retryMs: TIME,
    maxRetryMs: TIME,
    maxRefusals: COUNT,
    maxUnanswered: COUNT,
    maxUnreadable: COUNT,
    lookUpAfterLossMs: TIME_OR_0,
    lookUpMs: TIME,
    maxLookUpMs: TIME,
    reportMs: TIME,
    maxLookUpsPerSecond: above(0),
    resendAtLookUp: COUNT,
    evidenceTimeoutMs: TIME,
    minLookUps: COUNT,
    maxDifferent: COUNT,
    retriesPerSend: { expected: 'a part from 0 to 1', holds: (value) => value >= 0 && value <= 1 },
    retriesPerMinute: above(0),
    maxSavedRetries: COUNT,
  },
};

/** Pairs of which the first must not be greater than the second. */
const ORDERED: readonly (readonly [part: string, least: string, most: string])[] = [
  ['health', 'probeIntervalMs', 'maxProbeIntervalMs'],
  ['health', 'flapHoldMs', 'maxFlapHoldMs'],
  ['flow', 'tryOutMs', 'maxTryOutMs'],
  ['flow', 'maxTryOutMs', 'maxRefusedTryOutMs'],
  ['flow', 'pushBackPauseMs', 'maxPushBackPauseMs'],
  ['retry', 'retryMs', 'maxRetryMs'],
  ['retry', 'lookUpMs', 'maxLookUpMs'],
];

/**
 * Refuses a policy that is not whole. Types say the same, but policies come from configuration files too.
 *
 * @param name - What messages call it.
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID`
 */
export function assertDestinationPolicy(policy: DestinationPolicy, name = 'policy'): void {
  const parts = recordOf(name, policy, defaultDestinationPolicy);
  const standards: Readonly<Record<string, object>> = { ...defaultDestinationPolicy };
  const values: Record<string, Record<string, unknown>> = {};
  for (const [part, ranges] of Object.entries(NUMBERS)) {
    const value = recordOf(`${name}.${part}`, parts[part], standards[part] ?? {});
    for (const [key, range] of Object.entries(ranges)) assertNumber(`${name}.${part}.${key}`, value[key], range);
    values[part] = value;
  }
  for (const [part, least, most] of ORDERED) {
    const [from, to] = [values[part]?.[least], values[part]?.[most]];
    if (Number(from) > Number(to)) throw invalid(`${name}.${part}.${least}`, `no more than ${most} (${to})`, from);
  }
  if (policy.share.live + policy.share.history >= 1) {
    throw invalid(`${name}.share`, 'parts that leave one for the backlog', policy.share);
  }
  if (policy.flow.pace !== null) {
    const pace = recordOf(`${name}.flow.pace`, policy.flow.pace, { timesArrivals: 0, minBytesPerSecond: 0 });
    // At less the backlog grows for ever.
    assertNumber(`${name}.flow.pace.timesArrivals`, pace.timesArrivals, above(1));
    assertNumber(`${name}.flow.pace.minBytesPerSecond`, pace.minBytesPerSecond, RATE);
  }
  assertWindows(`${name}.flow.windows`, policy.flow.windows);
}

const WINDOW_KEYS = { lane: 0, from: 0, to: 0, days: 0, timeZone: 0, maxConcurrency: 0, maxBytesPerSecond: 0 };
const LANES: readonly unknown[] = ['live', 'backlog', 'history'];

function assertWindows(name: string, windows: readonly FlowWindow[]): void {
  if (!Array.isArray(windows)) throw invalid(name, 'an array of windows', windows);
  windows.forEach((window: FlowWindow, index) => {
    assertWindow(`${name}[${index}]`, window);
  });
}

function assertWindow(name: string, window: FlowWindow): void {
  recordOf(name, window, WINDOW_KEYS);
  const { lane, days, timeZone, maxConcurrency, maxBytesPerSecond } = window;
  if (lane !== undefined && !LANES.includes(lane)) throw invalid(`${name}.lane`, `one of ${LANES.join(', ')}`, lane);
  const from = minutesIn(`${name}.from`, window.from);
  const to = minutesIn(`${name}.to`, window.to);
  const length = (to - from + 1_440) % 1_440;
  if (length !== 0 && (length < MIN_WINDOW_MINUTES || length > 1_440 - MIN_WINDOW_MINUTES)) {
    const expected = `a window that is open, and closed, for ${MIN_WINDOW_MINUTES} minutes at least`;
    throw invalid(name, expected, `${window.from} to ${window.to}`);
  }
  if (days !== undefined) {
    const known: readonly unknown[] = WEEKDAYS;
    const isList = Array.isArray(days) && days.length > 0 && days.every((day) => known.includes(day));
    if (!isList) throw invalid(`${name}.days`, `a list of ${WEEKDAYS.join(', ')}`, days);
  }
  try {
    if (typeof timeZone !== 'string' || timeZone === '') throw new RangeError('not a name');
    wallClock(timeZone, 0);
  } catch {
    throw invalid(`${name}.timeZone`, 'an IANA time zone such as Europe/Berlin', timeZone);
  }
  if (maxConcurrency === undefined && maxBytesPerSecond === undefined) {
    throw invalid(name, 'maxConcurrency or maxBytesPerSecond', window);
  }
  if (maxConcurrency !== undefined) assertNumber(`${name}.maxConcurrency`, maxConcurrency, COUNT_OR_0);
  if (maxBytesPerSecond !== undefined) assertNumber(`${name}.maxBytesPerSecond`, maxBytesPerSecond, RATE);
}

function minutesIn(name: string, time: unknown): number {
  const minutes = typeof time === 'string' ? minutesOf(time) : null;
  if (minutes === null) throw invalid(name, 'a time HH:MM from 00:00 to 23:59', time);
  return minutes;
}

/** @param standard - Has every key that there may be. */
function recordOf(name: string, value: unknown, standard: object): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(name, 'an object', value);
  const unknown = Object.keys(value).find((key) => !(key in standard));
  if (unknown !== undefined) throw invalid(name, `nothing but ${Object.keys(standard).join(', ')}`, unknown);
  return { ...value };
}

function assertNumber(name: string, value: unknown, range: Range): void {
  if (typeof value !== 'number' || !range.holds(value)) throw invalid(name, range.expected, value);
}

function invalid(name: string, expected: string, came: unknown): SpillwayError {
  const text = typeof came === 'number' ? String(came) : (JSON.stringify(came) ?? 'nothing').slice(0, 120);
  return new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    `Expected ${name} to be ${expected}, got ${text}. Correct the policy.`,
  );
}
