import { isStandardUid } from './dicom/uid.ts';
import type { Clock } from './domain/clock.ts';
import { EVIDENCE } from './domain/delivery.ts';
import { URGENCIES } from './domain/rank.ts';
import { SpillwayError } from './errors.ts';
import type { AcceptOptions, Route } from './intake.ts';
import type { Ranking } from './replay/backlog-ranking.ts';
import { defaultRetentionPolicy, type RetentionOptions, type RetentionPolicy } from './retention/policy.ts';
import type { VerifyOptions } from './retention/verify.ts';
import { type DestinationPolicy, defaultDestinationPolicy } from './routing/destination.ts';
import { assertDestinationPolicy } from './routing/policy-check.ts';
import type { Confirmation, PlannedOutageOptions, ReclassifyOptions, SpillwayOptions } from './spillway.ts';
import type { StudyFilter } from './storage/catalog.ts';
import type { Store } from './storage/store.ts';
import { systemClock } from './system-clock.ts';
import { assertTierPolicy, defaultTierPolicy } from './tiers/policy.ts';
import type { Destination } from './transports/transport.ts';

/** Options with every default filled in. */
export interface ResolvedOptions {
  readonly store: Store;
  readonly destinations: readonly Destination[];
  readonly route: Route;
  readonly ranking: Ranking;
  readonly maxInstanceBytes: number;
  readonly maxConcurrentAccepts: number;
  readonly sourceIdleTimeoutMs: number;
  readonly closeTimeoutMs: number;
  readonly retention: RetentionPolicy;
  readonly checksPerSecond: number;
  readonly snapshotIntervalMs: number;
  readonly clock: Clock;
}

const KNOWN = new Set<keyof SpillwayOptions>([
  'store',
  'destinations',
  'route',
  'tiers',
  'timeZone',
  'reference',
  'maxInstanceBytes',
  'maxConcurrentAccepts',
  'sourceIdleTimeoutMs',
  'closeTimeoutMs',
  'retention',
  'checksPerSecond',
  'snapshotIntervalMs',
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
  const {
    route = () => ids,
    tiers = defaultTierPolicy,
    timeZone,
    reference = 'outage-end',
    clock = systemClock,
  } = options;
  if (typeof route !== 'function') throw invalid('route', 'a function', route);
  return {
    store: options.store,
    destinations,
    route,
    ranking: checkRanking({ policy: tiers, timeZone, reference }),
    maxInstanceBytes: atLeast('maxInstanceBytes', 1, options.maxInstanceBytes ?? 4 * 1024 ** 3),
    maxConcurrentAccepts: atLeast('maxConcurrentAccepts', 1, options.maxConcurrentAccepts ?? 64),
    sourceIdleTimeoutMs: atLeast('sourceIdleTimeoutMs', 1, options.sourceIdleTimeoutMs ?? 120_000),
    closeTimeoutMs: atLeast('closeTimeoutMs', 0, options.closeTimeoutMs ?? 10_000),
    retention: checkRetention(options.retention ?? {}),
    checksPerSecond: atLeast('checksPerSecond', 1, options.checksPerSecond ?? 2_000),
    snapshotIntervalMs: atLeast('snapshotIntervalMs', 1_000, options.snapshotIntervalMs ?? 3_600_000),
    clock,
  };
}

/** A ranking with a part of it changed. */
export function changedRanking(ranking: Ranking, change: ReclassifyOptions): Ranking {
  const allowed = ['tiers', 'timeZone', 'reference', 'signal'];
  const unknown = Object.keys(change).find((name) => !allowed.includes(name));
  if (unknown !== undefined) throw invalid('reclassify', `given only ${allowed.join(', ')}`, unknown);
  const { tiers = ranking.policy, timeZone = ranking.timeZone, reference = ranking.reference } = change;
  return checkRanking({ policy: tiers, timeZone, reference });
}

function checkRanking(ranking: Ranking): Ranking {
  const { policy, timeZone, reference } = ranking;
  assertTierPolicy(policy);
  if (timeZone !== undefined && !isTimeZone(timeZone)) {
    throw invalid('timeZone', 'an IANA time zone such as "Europe/Vienna"', timeZone);
  }
  // The furthest that a Date reaches (ECMA-262): ns or µs since the epoch are no ms.
  const isInstant = typeof reference === 'number' && Math.abs(reference) <= 8.64e15;
  if (!isInstant && !['outage-end', 'outage-start', 'now'].includes(reference as string)) {
    throw invalid('reference', '"outage-end", "outage-start", "now" or ms since the epoch', reference);
  }
  return ranking;
}

const RETENTION_OPTIONS: readonly (keyof RetentionOptions)[] = ['keepMs', 'maxAgeMs', 'evidence', 'order'];

function checkRetention(given: RetentionOptions): RetentionPolicy {
  checkKeys('retention', given, RETENTION_OPTIONS);
  const { keepMs, maxAgeMs, evidence, order } = given;
  if (evidence !== undefined && !EVIDENCE.includes(evidence)) {
    throw invalid('retention.evidence', `one of ${EVIDENCE.join(', ')}`, evidence);
  }
  if (order !== undefined && typeof order !== 'function') throw invalid('retention.order', 'a function', order);
  const standard = defaultRetentionPolicy;
  return {
    keepMs: keepMs === undefined ? standard.keepMs : atLeast('retention.keepMs', 0, keepMs),
    maxAgeMs: maxAgeMs === undefined ? standard.maxAgeMs : atLeast('retention.maxAgeMs', 0, maxAgeMs),
    evidence: evidence ?? standard.evidence,
    order: order ?? standard.order,
  };
}

const ACCEPT_OPTIONS = new Set<keyof AcceptOptions>([
  'source',
  'urgency',
  'expectedBytes',
  'transferSyntaxUid',
  'signal',
]);

/** Checks what `accept` is given, before anything is read. */
export function checkAcceptOptions(options: AcceptOptions): void {
  for (const name of Object.keys(options)) {
    if (!ACCEPT_OPTIONS.has(name as keyof AcceptOptions)) {
      throw invalid('options of accept', `only ${[...ACCEPT_OPTIONS].join(', ')}`, name);
    }
  }
  const { source, urgency, expectedBytes, transferSyntaxUid } = options;
  if (source !== undefined && typeof source !== 'string') throw invalid('source', 'a text', source);
  if (urgency !== undefined && !URGENCIES.includes(urgency)) {
    throw invalid('urgency', `one of ${URGENCIES.join(', ')}`, urgency);
  }
  if (expectedBytes !== undefined) atLeast('expectedBytes', 0, expectedBytes);
  if (transferSyntaxUid !== undefined && !(typeof transferSyntaxUid === 'string' && isStandardUid(transferSyntaxUid))) {
    throw invalid('transferSyntaxUid', 'a UID such as "1.2.840.10008.1.2"', transferSyntaxUid);
  }
}

/** Checks what `confirm` is given: what is misspelt must not be taken for "all". */
export function checkConfirmation(given: Confirmation, known: readonly string[]): Confirmation {
  checkKeys('confirm', given, ['arrivalIds', 'destinations', 'by', 'signal']);
  const { arrivalIds, destinations, by } = given;
  if (typeof by !== 'string' || by.trim() === '') throw invalid('by', 'who confirms', by);
  if (arrivalIds !== undefined && !isTexts(arrivalIds))
    throw invalid('arrivalIds', 'an array of arrival ids', arrivalIds);
  if (destinations === undefined) return given;
  if (!isTexts(destinations) || destinations.length === 0) {
    throw invalid('destinations', 'an array of at least one id', destinations);
  }
  const wrong = destinations.find((id) => !known.includes(id));
  if (wrong !== undefined) throw invalid('destinations', `ids in use, among ${known.join(', ')}`, wrong);
  return { ...given, destinations: [...new Set(destinations)] };
}

/** Checks what `verify` is given. */
export function checkVerifyOptions(options: VerifyOptions): VerifyOptions {
  checkKeys('verify', options, ['studyInstanceUid', 'maxBytesPerSecond', 'onProgress', 'signal']);
  const { studyInstanceUid, maxBytesPerSecond, onProgress } = options;
  checkText('studyInstanceUid', studyInstanceUid);
  if (maxBytesPerSecond !== undefined) atLeast('maxBytesPerSecond', 1, maxBytesPerSecond);
  if (onProgress !== undefined && typeof onProgress !== 'function')
    throw invalid('onProgress', 'a function', onProgress);
  return options;
}

/** Checks what `studies` is given. */
export function checkStudyFilter<Filter extends Omit<StudyFilter, 'after' | 'limit'>>(filter: Filter): Filter {
  const texts = ['studyInstanceUid', 'patientId', 'patientName', 'accessionNumber', 'modality'] as const;
  checkKeys('studies', filter, [...texts, 'studyDate']);
  for (const name of texts) checkText(name, filter[name]);
  const { studyDate } = filter;
  if (studyDate === undefined) return filter;
  checkKeys('studyDate', studyDate, ['from', 'to']);
  for (const name of ['from', 'to'] as const) {
    const date: unknown = studyDate[name];
    if (date !== undefined && !(typeof date === 'string' && /^\d{8}$/.test(date))) {
      throw invalid(`studyDate.${name}`, 'a date such as "20260131"', date);
    }
  }
  return filter;
}

/** Checks a span of time, in ms since the epoch. */
export function checkSpan<Span extends { readonly from: number; readonly to: number }>(span: Span): Span {
  checkKeys('hourlyTotals', span, ['from', 'to']);
  for (const name of ['from', 'to'] as const) {
    if (!Number.isSafeInteger(span[name])) throw invalid(name, 'a whole number of ms since the epoch', span[name]);
  }
  return span;
}

export function checkKeys(name: string, given: object, known: readonly string[]): void {
  if (typeof given !== 'object' || given === null) throw invalid(name, 'given an object', given);
  const unknown = Object.keys(given).find((key) => !known.includes(key));
  if (unknown !== undefined) throw invalid(name, `given only ${known.join(', ')}`, unknown);
}

function checkText(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'string') throw invalid(name, 'a text', value);
}

export function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
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
    checkVerify(destination);
    if (destination.evidenceTimeoutMs !== undefined) {
      atLeast(`evidenceTimeoutMs of destination "${id}"`, 1, destination.evidenceTimeoutMs);
    }
    assertDestinationPolicy(policyOf(destination), `policy of destination "${id}"`);
  }
  checkStandbys(destinations as readonly Destination[]);
  return [...destinations];
}

/** Evidence that the transport cannot bring would put everything into quarantine. */
function checkVerify({ id, verify, transport }: Destination): void {
  if (![undefined, 'answered', 'found', 'committed', 'compared'].includes(verify)) {
    throw invalid(`verify of destination "${id}"`, '"answered", "found", "committed" or "compared"', verify);
  }
  const { lookUp, readBack, commitment = false } = transport.supports;
  const canBring = { answered: true, found: lookUp, committed: commitment, compared: readBack };
  if (verify !== undefined && !canBring[verify]) {
    throw invalid(`verify of destination "${id}"`, 'evidence that its transport can bring', verify);
  }
}

function checkStandbys(destinations: readonly Destination[]): void {
  for (const { id, standbyFor } of destinations) {
    if (standbyFor === undefined) continue;
    const primary = destinations.find((destination) => destination.id === standbyFor);
    if (primary === undefined || primary.id === id || primary.standbyFor !== undefined) {
      throw invalid(`standbyFor of destination "${id}"`, 'the id of another one that is no standby itself', standbyFor);
    }
  }
}

/** By what a destination is sent to. */
export function policyOf({ policy, maxConcurrency, evidenceTimeoutMs }: Destination): DestinationPolicy {
  const { health, flow, share, retry } = { ...defaultDestinationPolicy, ...policy };
  return {
    health,
    flow: { ...flow, ...(maxConcurrency !== undefined && { maxConcurrency }) },
    share,
    retry: { ...retry, ...(evidenceTimeoutMs !== undefined && { evidenceTimeoutMs }) },
  };
}

/**
 * Checks what `declareOutage` is given.
 *
 * @param now - ms since the epoch.
 */
export function checkPlannedOutage(outage: PlannedOutageOptions, now: number): PlannedOutageOptions {
  checkKeys('declareOutage', outage, ['destinationId', 'reason', 'by', 'expectedEndAt']);
  const { destinationId, reason, by, expectedEndAt } = outage;
  for (const [name, value] of Object.entries({ destinationId, reason, by })) requireText(name, value);
  if (expectedEndAt !== undefined && expectedEndAt !== null && !Number.isSafeInteger(expectedEndAt)) {
    throw invalid('expectedEndAt', 'a whole number of ms since the epoch', expectedEndAt);
  }
  if (typeof expectedEndAt === 'number' && expectedEndAt <= now) {
    throw invalid('expectedEndAt', `an instant after now (${now} ms since the epoch)`, expectedEndAt);
  }
  return outage;
}

/** Checks what `log` and `episodes` are given: what is misspelt must not be taken for "all". */
export function checkListing<Filter extends object>(
  name: string,
  filter: Filter,
  known: readonly (keyof Filter & string)[],
): Filter {
  checkKeys(name, filter, known);
  return filter;
}

/** Checks what `endOutage` is given. */
export function checkOutageEnd<End extends { readonly destinationId: string; readonly by: string }>(end: End): End {
  checkKeys('endOutage', end, ['destinationId', 'by']);
  for (const name of ['destinationId', 'by'] as const) requireText(name, end[name]);
  return end;
}

/** Checks what `pause` and `resume` are given: what is misspelt must not be taken for "all". */
export function checkWhich<Which extends { readonly destinationId?: string }>(which: Which): Which {
  checkKeys('pause and resume', which, ['destinationId']);
  if (which.destinationId !== undefined) requireText('destinationId', which.destinationId);
  return which;
}

export function requireText(name: string, value: unknown): void {
  if (typeof value !== 'string' || value.trim() === '') throw invalid(name, 'a text', value);
}

export function atLeast(name: string, least: number, value: number): number {
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

export function invalid(name: string, expected: string, came: unknown): SpillwayError {
  const text = typeof came === 'object' || typeof came === 'string' ? JSON.stringify(came) : String(came);
  return new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    `Expected ${name} to be ${expected}, got ${text?.slice(0, 120)} (${typeof came}).`,
  );
}
