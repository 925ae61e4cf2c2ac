/** What a destination is held to be; see `HealthStatus`. */
export type HealthPhase = 'up' | 'suspect' | 'down' | 'probing' | 'recovering';

/** The health of one destination. */
export interface HealthStatus {
  /**
   * `up`: it stores. `suspect`: sends failed, it is being asked. `down`: an outage is declared. `probing`: during an
   * outage, it is being asked. `recovering`: it stores again, and is loaded slowly.
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
   * Failures in a row that make a destination suspect: one may be a closed keep-alive connection. However far apart:
   * of a peer that never answers one hears only at each time-out.
   */
  readonly failuresToSuspect: number;
  /** Refusals in a row that may be the destination's own trouble (0110), without anything stored in between. */
  readonly refusalsToSuspect: number;
  /** First and greatest pause between probes; it doubles, with full jitter on its upper half. */
  readonly probeIntervalMs: number;
  readonly maxProbeIntervalMs: number;
  /** Requests in a row that must succeed before a recovering destination is up, or time without any failure. */
  readonly successesToUp: number;
  readonly calmToUpMs: number;
}

export const defaultHealthPolicy: HealthPolicy = {
  failuresToSuspect: 2,
  refusalsToSuspect: 5,
  probeIntervalMs: 1_000,
  maxProbeIntervalMs: 30_000,
  successesToUp: 10,
  calmToUpMs: 60_000,
};

export type HealthEvent =
  /** A request in which the destination stored something, or refused it for a reason in the instance. */
  | { readonly type: 'success' }
  /** A request was not answered, or not usably. */
  | { readonly type: 'failure'; readonly reason: string }
  /** It refused for a reason that may lie in the instance or in itself. */
  | { readonly type: 'soft-refusal'; readonly reason: string }
  /** The listener answered a probe, or not. */
  | { readonly type: 'probe-ended'; readonly alive: boolean; readonly reason: string }
  /** One real instance was tried: its storage is alive, or not. */
  | { readonly type: 'trial-ended'; readonly alive: boolean; readonly reason: string }
  /** Time has passed. */
  | { readonly type: 'tick' };

export type HealthEffect =
  /** Ask the listener. */
  | { readonly type: 'probe' }
  /** Send one real instance: an answering listener proves nothing about storage. */
  | { readonly type: 'trial' }
  /** Come back with a tick at that instant. */
  | { readonly type: 'wake'; readonly at: number }
  | { readonly type: 'outage'; readonly cause: string; readonly startedAt: number }
  | { readonly type: 'recovery' };

export interface HealthState extends HealthStatus {
  /** Instants of the failures since the last success. */
  readonly failures: readonly number[];
  readonly softRefusals: number;
  /** Probes that failed in a row in this outage. */
  readonly failedProbes: number;
  readonly nextProbeAt: number;
  readonly successes: number;
}

/** A destination as it is first held to be: up until shown otherwise, or down where an outage is on record. */
export function initialHealth(at: number, phase: 'up' | 'down' | 'recovering', reason: string): HealthState {
  return { phase, since: at, reason, failures: [], softRefusals: 0, failedProbes: 0, nextProbeAt: at, successes: 0 };
}

/** Whether sends may start. */
export function mayStart(state: HealthState): boolean {
  return state.phase === 'up' || state.phase === 'recovering';
}

/**
 * up → suspect (failures) → down (probe or trial failed) → probing → recovering → up. Deterministic: `random` in
 * [0, 1) comes in as an argument.
 */
export function stepHealth(
  state: HealthState,
  event: HealthEvent,
  at: number,
  random: number,
  policy: HealthPolicy = defaultHealthPolicy,
): { readonly state: HealthState; readonly effects: readonly HealthEffect[] } {
  switch (event.type) {
    case 'success':
      return succeeded(state, at, policy);
    case 'failure': {
      const failures = [...state.failures, at];
      const enough = failures.length >= policy.failuresToSuspect || state.phase === 'recovering';
      // Once it is suspect, what still fails was in flight: the failures that led there are the outage's beginning.
      if (!mayStart(state)) return { state, effects: [] };
      const next = { ...state, failures: failures.slice(-policy.failuresToSuspect) };
      return enough ? suspect(next, at, event.reason) : { state: next, effects: [] };
    }
    case 'soft-refusal': {
      const next = { ...state, softRefusals: state.softRefusals + 1 };
      const enough = next.softRefusals >= policy.refusalsToSuspect && mayStart(state);
      return enough ? suspect({ ...next, failures: [at] }, at, event.reason) : { state: next, effects: [] };
    }
    case 'probe-ended':
      if (state.phase !== 'suspect' && state.phase !== 'probing') return { state, effects: [] };
      return event.alive ? { state, effects: [{ type: 'trial' }] } : failed(state, event.reason, at, random, policy);
    case 'trial-ended':
      if (state.phase !== 'suspect' && state.phase !== 'probing') return { state, effects: [] };
      return event.alive ? revived(state, at, policy) : failed(state, event.reason, at, random, policy);
    case 'tick':
      if (state.phase === 'recovering') {
        const calmAt = state.since + policy.calmToUpMs;
        if (at < calmAt) return { state, effects: [{ type: 'wake', at: calmAt }] };
        return { state: { ...state, phase: 'up', since: at, reason: 'it has been calm' }, effects: [] };
      }
      if (state.phase !== 'down') return { state, effects: [] };
      // Further off than any pause can be: the clock has gone back.
      if (at < state.nextProbeAt && state.nextProbeAt - at <= policy.maxProbeIntervalMs)
        return { state, effects: [{ type: 'wake', at: state.nextProbeAt }] };
      return { state: { ...state, phase: 'probing' }, effects: [{ type: 'probe' }] };
  }
}

function succeeded(state: HealthState, at: number, policy: HealthPolicy) {
  const successes = state.successes + 1;
  const calm = { ...state, failures: [], softRefusals: 0, successes };
  if (state.phase === 'recovering' && successes >= policy.successesToUp) {
    return { state: { ...calm, phase: 'up' as const, since: at, reason: 'it stores' }, effects: [] };
  }
  return { state: calm, effects: [] };
}

function suspect(state: HealthState, at: number, reason: string) {
  const next: HealthState = { ...state, phase: 'suspect', since: at, reason, successes: 0 };
  return { state: next, effects: [{ type: 'probe' as const }] };
}

function failed(state: HealthState, reason: string, at: number, random: number, policy: HealthPolicy) {
  const failedProbes = state.phase === 'suspect' ? 0 : state.failedProbes + 1;
  const ceiling = Math.min(policy.maxProbeIntervalMs, policy.probeIntervalMs * 2 ** Math.min(failedProbes, 20));
  // The upper half only: an outage that ends is to be noticed soon, and a probe costs next to nothing.
  const nextProbeAt = at + Math.round(ceiling * (0.5 + random / 2));
  const wake = { type: 'wake' as const, at: nextProbeAt };
  const next: HealthState = { ...state, phase: 'down', reason, failedProbes, nextProbeAt };
  if (state.phase !== 'suspect') return { state: next, effects: [wake] };
  const outage = { type: 'outage' as const, cause: reason, startedAt: state.failures[0] ?? at };
  return { state: { ...next, since: at }, effects: [outage, wake] };
}

function revived(state: HealthState, at: number, policy: HealthPolicy) {
  const calm = { ...state, since: at, failures: [], softRefusals: 0, failedProbes: 0, successes: 0 };
  if (state.phase === 'suspect') {
    return { state: { ...calm, phase: 'up' as const, reason: 'it was asked and stores' }, effects: [] };
  }
  const next: HealthState = { ...calm, phase: 'recovering', reason: 'it stores again' };
  const wake = { type: 'wake' as const, at: at + policy.calmToUpMs };
  return { state: next, effects: [{ type: 'recovery' as const }, wake] };
}
