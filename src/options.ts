import type { Clock } from './domain/clock.ts';
import { SpillwayError } from './errors.ts';
import type { Route } from './intake.ts';
import type { SpillwayOptions } from './spillway.ts';
import type { Store } from './storage/store.ts';
import { systemClock } from './system-clock.ts';
import { assertTierPolicy, defaultTierPolicy, type TierPolicy } from './tiers/policy.ts';
import type { Destination } from './transports/transport.ts';

/** Options with every default filled in. */
export interface ResolvedOptions {
  readonly store: Store;
  readonly destinations: readonly Destination[];
  readonly route: Route;
  readonly tiers: TierPolicy;
  readonly timeZone: string | undefined;
  readonly maxInstanceBytes: number;
  readonly maxConcurrentAccepts: number;
  readonly sourceIdleTimeoutMs: number;
  readonly closeTimeoutMs: number;
  readonly clock: Clock;
}

const KNOWN = new Set<keyof SpillwayOptions>([
  'store',
  'destinations',
  'route',
  'tiers',
  'timeZone',
  'maxInstanceBytes',
  'maxConcurrentAccepts',
  'sourceIdleTimeoutMs',
  'closeTimeoutMs',
  'clock',
]);

/** Checks options and fills in defaults, before anything is opened. */
export function resolveOptions(options: SpillwayOptions): ResolvedOptions {
  if (typeof options !== 'object' || options === null) throw invalid('options', 'an object', options);
  for (const name of Object.keys(options)) {
    if (!KNOWN.has(name as keyof SpillwayOptions)) throw invalid('options', `only ${[...KNOWN].join(', ')}`, name);
  }
  if (typeof options.store?.open !== 'function') throw invalid('store', 'a store such as fileStore()', options.store);
  const destinations = checkDestinations(options.destinations);
  const ids = destinations.map(({ id }) => id);
  const { route = () => ids, tiers = defaultTierPolicy, timeZone, clock = systemClock } = options;
  if (typeof route !== 'function') throw invalid('route', 'a function', route);
  assertTierPolicy(tiers);
  if (timeZone !== undefined && !isTimeZone(timeZone)) {
    throw invalid('timeZone', 'an IANA time zone such as "Europe/Vienna"', timeZone);
  }
  return {
    store: options.store,
    destinations,
    route,
    tiers,
    timeZone,
    maxInstanceBytes: atLeast('maxInstanceBytes', 1, options.maxInstanceBytes ?? 4 * 1024 ** 3),
    maxConcurrentAccepts: atLeast('maxConcurrentAccepts', 1, options.maxConcurrentAccepts ?? 64),
    sourceIdleTimeoutMs: atLeast('sourceIdleTimeoutMs', 1, options.sourceIdleTimeoutMs ?? 120_000),
    closeTimeoutMs: atLeast('closeTimeoutMs', 0, options.closeTimeoutMs ?? 10_000),
    clock,
  };
}

function checkDestinations(destinations: unknown): readonly Destination[] {
  if (!Array.isArray(destinations)) throw invalid('destinations', 'an array', destinations);
  const seen = new Set<string>();
  for (const destination of destinations as readonly Destination[]) {
    const id = destination?.id;
    if (typeof id !== 'string' || id === '') throw invalid('destinations', 'every destination to have an id', id);
    if (seen.has(id)) throw invalid('destinations', 'ids that differ', id);
    seen.add(id);
    if (typeof destination.transport?.send !== 'function') {
      throw invalid(`destination "${id}"`, 'a transport, such as dicomwebDestination() gives', destination.transport);
    }
    if (destination.maxConcurrency !== undefined) {
      atLeast(`maxConcurrency of destination "${id}"`, 1, destination.maxConcurrency);
    }
    if (![undefined, 'answered', 'found', 'compared'].includes(destination.verify)) {
      throw invalid(`verify of destination "${id}"`, '"answered", "found" or "compared"', destination.verify);
    }
  }
  return [...destinations];
}

function atLeast(name: string, least: number, value: number): number {
  if (Number.isSafeInteger(value) && value >= least) return value;
  throw invalid(name, `a whole number of at least ${least}`, value);
}

function isTimeZone(name: unknown): boolean {
  if (typeof name !== 'string' || name === '') return false;
  try {
    new Intl.DateTimeFormat('en-US', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

function invalid(name: string, expected: string, came: unknown): SpillwayError {
  const text = typeof came === 'object' || typeof came === 'string' ? JSON.stringify(came) : String(came);
  return new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    `Expected ${name} to be ${expected}, got ${text?.slice(0, 120)} (${typeof came}).`,
  );
}
