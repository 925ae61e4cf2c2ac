/** What a destination is held to be; see `HealthStatus`. */
export type HealthPhase = 'up' | 'suspect' | 'down' | 'probing' | 'recovering' | 'planned';

/** The health of one destination. */
export interface HealthStatus {
  /**
   * `up`: it stores. `suspect`: sends failed, it is being asked. `down`: an outage is declared. `probing`: during an
   * outage, it is being asked. `recovering`: it stores again, and is loaded slowly. `planned`: a person declared an
   * outage; it is neither sent to nor asked until a person ends it.
   */
  readonly phase: HealthPhase;
  /** Since when, ms since the epoch; `down` and `probing` both since the outage was declared. */
  readonly since: number;
  /** Why, for a person. */
  readonly reason: string;
}

/** The knobs of health, each with the reason for its default. */
export interface HealthPolicy {
  /**
   * Failures in a row that make a destination suspect. However far apart: of a peer that never answers one hears only
   * at each time-out.
   * @default 2: one may be a closed keep-alive connection
   */
  readonly failuresToSuspect: number;
  /**
   * Refusals in a row that may be the destination's own trouble (0110), without anything stored in between.
   * @default 5: a few bad instances in a row are common in one study
   */
  readonly refusalsToSuspect: number;
  /**
   * First pause between probes, in ms; it doubles, with jitter on its upper half.
   * @default 1,000: many outages are a restart of a service
   */
  readonly probeIntervalMs: number;
  /** Greatest pause between probes, in ms. @default 30,000: a probe costs next to nothing, and patients wait */
  readonly maxProbeIntervalMs: number;
  /** Requests in a row that must succeed before a recovering destination is up. @default 10 */
  readonly successesToUp: number;
  /** Or time without any failure, in ms: there may be nothing to send. @default 60,000 */
  readonly calmToUpMs: number;
  /**
   * An outage that begins within this time of the recovery before, in ms, is a relapse: the destination flaps.
   * @default 900,000: longer than the longest hold, or flapping would be forgotten by holding it
   */
  readonly flapWindowMs: number;
  /**
   * For how long a destination must stay good, asked again and again, before it counts as recovered from its first
   * relapse, in ms; it doubles with each relapse.
   * @default 30,000: a service that crashes under its own start-up has done so by then
   */
  readonly flapHoldMs: number;
  /** The longest such time, in ms. @default 600,000: what waits is only tried one by one meanwhile */
  readonly maxFlapHoldMs: number;
  /**
   * Failures in a row that are not held against the destination because this process itself stood still meanwhile.
   * @default 3: a machine that always stalls must notice an outage all the same
   */
  readonly maxExcused: number;
  /**
   * For how long a question that fails while requests are in flight is asked again, in ms, before it counts: they may hold
   * the only connection that the destination gives. Where requests take long, twice as long as they do, and ten times this
   * at the most.
   * @default 15,000: most requests are through by then, and those to a dead peer have failed
   */
  readonly maxCrowdedMs: number;
}

export const defaultHealthPolicy: HealthPolicy = {
  failuresToSuspect: 2,
  refusalsToSuspect: 5,
  probeIntervalMs: 1_000,
  maxProbeIntervalMs: 30_000,
  successesToUp: 10,
  calmToUpMs: 60_000,
  flapWindowMs: 900_000,
  flapHoldMs: 30_000,
  maxFlapHoldMs: 600_000,
  maxExcused: 3,
  maxCrowdedMs: 15_000,
};

/** The most by which `maxCrowdedMs` grows where requests take long. */
const MAX_PATIENCE = 10;
/** How fast the longest request is forgotten, by each that is shorter. */
const FADING = 0.95;

/** What else is known of an event, where the caller knows it. */
interface InTime {
  /** When the request or question began, ms since the epoch. */
  readonly startedAt?: number | undefined;
  /** Requests in flight besides it when it ended. @default 0 */
  readonly othersInFlight?: number | undefined;
}

export type HealthEvent =
  /** A request in which the destination stored something, or refused it for a reason in the instance. */
  | { readonly type: 'success'; readonly startedAt?: number | undefined }
  /** A request was not answered, or not usably. */
  | ({ readonly type: 'failure'; readonly reason: string } & InTime)
  /** It refused for a reason that may lie in the instance or in itself. */
  | { readonly type: 'soft-refusal'; readonly reason: string }
  /** The listener answered a probe, or not. */
  | ({ readonly type: 'probe-ended'; readonly alive: boolean; readonly reason: string } & InTime)
  /** One real instance was tried: its storage is alive, or not. */
  | ({ readonly type: 'trial-ended'; readonly alive: boolean; readonly reason: string } & InTime)
  /** This process did not run between these instants: blocked, suspended, or the clock jumped forward. */
  | { readonly type: 'stall'; readonly from: number; readonly to: number }
  /** The wall clock went back: every instant in the state is moved. */
  | { readonly type: 'clock-back'; readonly byMs: number }
  /** A person declares an outage, takes over the one under way, or changes what was said of it. */
  | { readonly type: 'declare-outage'; readonly reason: string; readonly expectedEndAt: number | null }
  /** A person says that the destination is there again. */
  | { readonly type: 'end-outage' }
  /** Time has passed. */
  | { readonly type: 'tick' };

export type HealthEffect =
  /** Ask the listener. */
  | { readonly type: 'probe' }
  /** Send one real instance: an answering listener proves nothing about storage. */
  | { readonly type: 'trial' }
  /** Come back with a tick at that instant. */
  | { readonly type: 'wake'; readonly at: number }
  | {
      readonly type: 'outage';
      readonly cause: string;
      readonly startedAt: number;
      readonly planned: boolean;
      readonly expectedEndAt: number | null;
    }
  /**
   * A planned outage has passed its expected end. It stays planned: work that takes longer than announced is common,
   * and a PACS that is half put together may store what is thrown away later. Only a person knows.
   */
  | { readonly type: 'overdue' }
  | { readonly type: 'recovery' };

export interface HealthState extends HealthStatus {
  /** Instants of the failures since the last success. */
  readonly failures: readonly number[];
  /** When a request last succeeded. */
  readonly storedAt: number | null;
  /** How long requests take that succeed, in ms: of late the longest. */
  readonly tookMs: number;
  readonly softRefusals: number;
  /** Probes that failed in a row in this outage. */
  readonly failedProbes: number;
  readonly nextProbeAt: number;
  readonly successes: number;
  /** The question under way; there is never more than one. */
  readonly asking: 'probe' | 'trial' | null;
  /** Until when this process last stood still. */
  readonly stalledUntil: number;
  /** Failures in a row that were not held against the destination. */
  readonly excused: number;
  /** When the last outage ended. */
  readonly recoveredAt: number | null;
  /** Relapses in a row. */
  readonly flaps: number;
  /** Since when it has been good while its recovery is held. */
  readonly goodSince: number | null;
  /** Of a planned outage. Said by a person, so it does not move with the clock. */
  readonly expectedEndAt: number | null;
  readonly isOverdue: boolean;
}

type Step = {
  readonly state: HealthState;
  readonly effects: readonly HealthEffect[];
  /** Requests failed while another one was stored: it serves, but not so many at once. */
  readonly crowded?: Crowding | undefined;
};

/** Failures, the first of which began, or at least ended, at `since`. */
export interface Crowding {
  readonly failures: number;
  readonly since: number;
}

/** A destination as it is first held to be: up until shown otherwise, or as the outage on record says. */
export function initialHealth(
  at: number,
  phase: 'up' | 'down' | 'recovering' | 'planned',
  reason: string,
  expectedEndAt: number | null = null,
): HealthState {
  return {
    phase,
    since: at,
    reason,
    failures: [],
    storedAt: null,
    tookMs: 0,
    softRefusals: 0,
    failedProbes: 0,
    nextProbeAt: at,
    successes: 0,
    asking: null,
    stalledUntil: 0,
    excused: 0,
    recoveredAt: phase === 'recovering' ? at : null,
    flaps: 0,
    goodSince: null,
    expectedEndAt: phase === 'planned' ? expectedEndAt : null,
    isOverdue: false,
  };
}

/** Whether sends may start. */
export function mayStart(state: HealthState): boolean {
  return state.phase === 'up' || state.phase === 'recovering';
}

/** Whether an outage is under way. */
function isOutage(state: HealthState): boolean {
  return state.phase === 'down' || state.phase === 'probing' || state.phase === 'planned';
}

/**
 * up → suspect (failures) → down (probe or trial failed) → probing → recovering → up; planned from anywhere, by a
 * person. Deterministic: `random` in [0, 1) comes in as an argument.
 */
export function stepHealth(
  state: HealthState,
  event: HealthEvent,
  at: number,
  random: number,
  policy: HealthPolicy = defaultHealthPolicy,
): Step {
  switch (event.type) {
    case 'success':
      return succeeded(state, event.startedAt ?? at, at, policy);
    case 'failure':
      return struck(state, event, at, policy);
    case 'soft-refusal': {
      const next = { ...state, softRefusals: state.softRefusals + 1 };
      const enough = next.softRefusals >= policy.refusalsToSuspect && mayStart(state);
      return enough ? suspect({ ...next, failures: [at] }, at, event.reason) : { state: next, effects: [] };
    }
    case 'probe-ended':
    case 'trial-ended': {
      const next = { ...state, asking: null };
      if (state.phase !== 'suspect' && state.phase !== 'probing') return { state: next, effects: [] };
      if (event.alive) return event.type === 'probe-ended' ? ask(next, 'trial') : revived(next, at, policy);
      // Its time-out may have passed while this process stood still.
      if (isExcused(state, event, policy)) return ask({ ...next, excused: state.excused + 1 }, 'probe');
      if (state.phase === 'suspect') {
        // A question about an earlier suspicion, which has been settled since.
        if (event.startedAt !== undefined && event.startedAt < state.since) return ask(next, 'probe');
        if (isCrowdedOut(state, event, at, policy)) return askLater(next, at, random, policy);
      }
      return failed(next, event.reason, at, random, policy);
    }
    case 'stall':
      return { state: { ...state, stalledUntil: Math.max(state.stalledUntil, event.to) }, effects: [] };
    case 'clock-back':
      return { state: movedBack(state, event.byMs), effects: [] };
    case 'declare-outage':
      return declared(state, event, at);
    case 'end-outage':
      if (state.phase !== 'planned' && state.phase !== 'down') return { state, effects: [] };
      return ask({ ...state, phase: 'probing', expectedEndAt: null, isOverdue: false }, 'probe');
    case 'tick':
      return ticked(state, at, policy);
  }
}

/** Asks, unless an earlier question is still out: its answer will do. */
function ask(state: HealthState, question: 'probe' | 'trial'): Step {
  if (state.asking !== null) return { state, effects: [] };
  return { state: { ...state, asking: question }, effects: [{ type: question }] };
}

/** Whether a failure says nothing of the destination, since this process stood still while it waited. */
function isExcused(
  state: HealthState,
  event: { readonly startedAt?: number | undefined },
  policy: HealthPolicy,
): boolean {
  if (event.startedAt === undefined || state.excused >= policy.maxExcused) return false;
  return event.startedAt < state.stalledUntil;
}

/** Whether a question may have failed only since requests in flight take all that the destination gives at once. */
function isCrowdedOut(state: HealthState, event: InTime, at: number, policy: HealthPolicy): boolean {
  const { maxCrowdedMs } = policy;
  const patienceMs = Math.min(MAX_PATIENCE * maxCrowdedMs, Math.max(maxCrowdedMs, 2 * state.tookMs));
  return (event.othersInFlight ?? 0) > 0 && at - state.since < patienceMs;
}

function askLater(state: HealthState, at: number, random: number, policy: HealthPolicy): Step {
  const nextProbeAt = at + Math.round(policy.probeIntervalMs * (0.5 + random / 2));
  return { state: { ...state, nextProbeAt }, effects: [{ type: 'wake', at: nextProbeAt }] };
}

function struck(state: HealthState, event: HealthEvent & { type: 'failure' }, at: number, policy: HealthPolicy): Step {
  // What was in flight has all failed: nothing but the destination is in the way of a question.
  if (state.phase === 'suspect' && event.othersInFlight === 0) return ask(state, 'probe');
  // Once it is suspect, what still fails was in flight: the failures that led there are the outage's beginning.
  if (!mayStart(state)) return { state, effects: [] };
  if (isExcused(state, event, policy)) return { state: { ...state, excused: state.excused + 1 }, effects: [] };
  const crowded = crowdingBy(state, event, at);
  if (crowded !== undefined) return { state, effects: [], crowded };
  const failures = [...state.failures, at];
  const enough = failures.length >= policy.failuresToSuspect || state.phase === 'recovering';
  const next = { ...state, failures: failures.slice(-policy.failuresToSuspect) };
  return enough ? suspect(next, at, event.reason) : { state: next, effects: [] };
}

/** Others were stored while it failed, and lately: of a peer that died meanwhile the last success lies far back. */
function crowdingBy({ storedAt }: HealthState, { startedAt }: InTime, at: number): Crowding | undefined {
  // At the same instant nothing tells which was first: taken for crowding, it would be tried again without end.
  if (startedAt === undefined || storedAt === null || storedAt <= startedAt) return undefined;
  return at - storedAt <= storedAt - startedAt ? { failures: 1, since: startedAt } : undefined;
}

function succeeded(state: HealthState, startedAt: number, at: number, policy: HealthPolicy): Step {
  const successes = state.successes + 1;
  const tookMs = Math.max(at - startedAt, state.tookMs * FADING);
  const calm = { ...state, failures: [], softRefusals: 0, excused: 0, successes, storedAt: at, tookMs };
  // Those that came while it was under way.
  const failures = state.failures.filter((failure) => failure >= startedAt);
  const wereRefusals = state.softRefusals >= policy.refusalsToSuspect;
  const since = failures[0];
  const crowded = since === undefined || wereRefusals ? undefined : { failures: failures.length, since };
  if (state.phase === 'suspect') {
    // A question that is still out decides nothing any more.
    const reason = 'it stores, whatever else has failed';
    return { state: { ...calm, phase: 'up', since: at, reason }, effects: [], crowded };
  }
  if (state.phase === 'recovering' && successes >= policy.successesToUp) {
    return { state: { ...calm, phase: 'up', since: at, reason: 'it stores' }, effects: [], crowded };
  }
  return { state: calm, effects: [], crowded };
}

function suspect(state: HealthState, at: number, reason: string): Step {
  return ask({ ...state, phase: 'suspect', since: at, reason, successes: 0 }, 'probe');
}

function failed(state: HealthState, reason: string, at: number, random: number, policy: HealthPolicy): Step {
  const failedProbes = state.phase === 'suspect' ? 0 : state.failedProbes + 1;
  const ceiling = Math.min(policy.maxProbeIntervalMs, policy.probeIntervalMs * 2 ** Math.min(failedProbes, 20));
  // The upper half only: an outage that ends is to be noticed soon, and a probe costs next to nothing.
  const nextProbeAt = at + Math.round(ceiling * (0.5 + random / 2));
  const wake = { type: 'wake' as const, at: nextProbeAt };
  const next: HealthState = { ...state, phase: 'down', reason, failedProbes, nextProbeAt, goodSince: null, excused: 0 };
  if (state.phase !== 'suspect') return { state: next, effects: [wake] };
  const isRelapse = state.recoveredAt !== null && at - state.recoveredAt < policy.flapWindowMs;
  const outage = outageOf(reason, state.failures[0] ?? at, false, null);
  return { state: { ...next, since: at, flaps: isRelapse ? state.flaps + 1 : 0 }, effects: [outage, wake] };
}

function outageOf(cause: string, startedAt: number, planned: boolean, expectedEndAt: number | null): HealthEffect {
  return { type: 'outage', cause, startedAt, planned, expectedEndAt };
}

function revived(state: HealthState, at: number, policy: HealthPolicy): Step {
  const calm = { ...state, failures: [], softRefusals: 0, failedProbes: 0, successes: 0, excused: 0 };
  if (state.phase === 'suspect') {
    return { state: { ...calm, phase: 'up', since: at, reason: 'it was asked and stores' }, effects: [] };
  }
  const goodSince = state.goodSince ?? at;
  const holdMs = holdOf(state, policy);
  if (at - goodSince < holdMs) {
    // Often enough that a relapse is noticed, seldom enough that the trials are no replay.
    const pauseMs = Math.min(policy.maxProbeIntervalMs, Math.max(policy.probeIntervalMs, holdMs / 10));
    const nextProbeAt = Math.min(at + Math.ceil(pauseMs), goodSince + holdMs);
    const reason = 'it stores again, but has relapsed before: it must stay good for a while';
    return {
      state: { ...calm, phase: 'down', reason, goodSince, nextProbeAt },
      effects: [{ type: 'wake', at: nextProbeAt }],
    };
  }
  const next: HealthState = {
    ...calm,
    phase: 'recovering',
    since: at,
    reason: 'it stores again',
    recoveredAt: at,
    goodSince: null,
  };
  return { state: next, effects: [{ type: 'recovery' }, { type: 'wake', at: at + policy.calmToUpMs }] };
}

function holdOf(state: HealthState, policy: HealthPolicy): number {
  if (state.flaps === 0) return 0;
  return Math.min(policy.maxFlapHoldMs, policy.flapHoldMs * 2 ** Math.min(state.flaps - 1, 20));
}

function declared(state: HealthState, event: HealthEvent & { type: 'declare-outage' }, at: number): Step {
  const { reason, expectedEndAt } = event;
  const next: HealthState = {
    ...state,
    phase: 'planned',
    since: isOutage(state) ? state.since : at,
    reason,
    expectedEndAt,
    isOverdue: false,
    failures: [],
    softRefusals: 0,
    failedProbes: 0,
    successes: 0,
    // What a person has taken in hand is no flapping any more.
    flaps: 0,
    goodSince: null,
  };
  const effects: HealthEffect[] = [];
  // Of a suspected destination the failures came first, but what began is what the person declares.
  if (!isOutage(state)) effects.push(outageOf(reason, at, true, expectedEndAt));
  if (expectedEndAt !== null) effects.push({ type: 'wake', at: expectedEndAt });
  return { state: next, effects };
}

function ticked(state: HealthState, at: number, policy: HealthPolicy): Step {
  switch (state.phase) {
    case 'recovering': {
      const calmAt = state.since + policy.calmToUpMs;
      if (at < calmAt) return { state, effects: [{ type: 'wake', at: calmAt }] };
      return { state: { ...state, phase: 'up', since: at, reason: 'it has been calm' }, effects: [] };
    }
    case 'planned':
      if (state.expectedEndAt === null || state.isOverdue) return { state, effects: [] };
      if (at < state.expectedEndAt) return { state, effects: [{ type: 'wake', at: state.expectedEndAt }] };
      return { state: { ...state, isOverdue: true }, effects: [{ type: 'overdue' }] };
    case 'suspect':
      if (state.asking !== null) return { state, effects: [] };
      if (isTooEarly(state, at, policy)) return { state, effects: [{ type: 'wake', at: state.nextProbeAt }] };
      return ask(state, 'probe');
    case 'down':
      if (isTooEarly(state, at, policy)) return { state, effects: [{ type: 'wake', at: state.nextProbeAt }] };
      return ask({ ...state, phase: 'probing' }, 'probe');
    default:
      return { state, effects: [] };
  }
}

/** A probe that is further off than any pause can be means that the clock has gone back. */
function isTooEarly({ nextProbeAt }: HealthState, at: number, policy: HealthPolicy): boolean {
  return at < nextProbeAt && nextProbeAt - at <= policy.maxProbeIntervalMs;
}

function movedBack(state: HealthState, byMs: number): HealthState {
  const moved = (instant: number | null) => (instant === null ? null : instant - byMs);
  return {
    ...state,
    since: state.since - byMs,
    failures: state.failures.map((failure) => failure - byMs),
    nextProbeAt: state.nextProbeAt - byMs,
    stalledUntil: state.stalledUntil - byMs,
    storedAt: moved(state.storedAt),
    recoveredAt: moved(state.recoveredAt),
    goodSince: moved(state.goodSince),
  };
}
