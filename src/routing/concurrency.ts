import {
  added,
  costOf,
  firstRound,
  fittedCost,
  INITIAL_INSTANCE_COST,
  inFlightOf,
  NO_SUMS,
  nextRound,
  performanceOf,
  type RequestMeasure,
  type Round,
  type Sums,
  withRequest,
  withStall,
} from './round.ts';

/** The knobs by which the number of requests in flight is found. */
export interface ConcurrencyPolicy {
  /**
   * Requests in flight at the most.
   * @default 8: what a PACS accepts from one sender without being asked; the flow finds out how many of them pay
   */
  readonly maxConcurrency: number;
  /**
   * How much more must be done in the same time for more in flight to pay, as an elasticity: with 0.1 twice as many
   * must do 7 % more.
   * @default 0.1: within a tenth of the most that can be done, with as few as do it
   */
  readonly minGain: number;
  /**
   * Time per MB, against what is usual with as many in flight, that is congestion.
   * @default 2
   */
  readonly congestedAt: number;
  /** First pause before another number is tried out, in ms; it doubles while that changes nothing. @default 2,000 */
  readonly tryOutMs: number;
  /** Greatest such pause, in ms. @default 30,000: a PACS that has become faster is found out within half a minute */
  readonly maxTryOutMs: number;
  /**
   * Greatest such pause where trying out more brings push-back, in ms.
   * @default 300,000: a limit of associations is seldom raised while one looks on
   */
  readonly maxRefusedTryOutMs: number;
}

/** Another number of requests in flight that is being compared with the base, round by round in turn. */
interface TryOut {
  readonly limit: number;
  readonly startedAt: number;
  readonly pairs: number;
  readonly ofBase: Sums;
  readonly ofOther: Sums;
}

/** How many requests a destination is given at once, and what is being found out about it. */
export interface ConcurrencyState {
  /** In flight at the most, at present. */
  readonly limit: number;
  /** What has proved best so far. */
  readonly base: number;
  /** Slow start goes on while more pay; with what the limit before brought, null for the first. */
  readonly slowStart: { readonly before: { readonly limit: number; readonly sums: Sums } | null } | null;
  readonly tryOut: TryOut | null;
  readonly round: Round;
  /** See `fittedCost`. */
  readonly instanceCost: number;
  /** Logarithm of the time by cost that is usual at the base; null where not known yet. */
  readonly usual: number | null;
  /** Rounds in a row in which it took congestedly long. */
  readonly congested: number;
  /** Which way is tried out next. */
  readonly direction: 1 | -1;
  readonly nextTryOutAt: number;
  readonly pauseMs: number;
}

/** Part of the limit that must be in use for a round to say anything. */
const IN_USE = 0.75;
/** A round has so many requests at least, and lasts so long. */
const MIN_REQUESTS = 4;
const MIN_ROUND_MS = 200;
const MIN_SLOW_START_REQUESTS = 1;
/** Step between numbers that are compared: large enough to tell, small enough to settle near the best. */
const STEP = 1.5;
/** How sure a comparison must be, in standard errors, and how often it is repeated at the most. */
const SURE = 2;
const MAX_PAIRS = 12;
/** Standard errors beyond which a difference from what is usual is no chance. */
const NO_CHANCE = 3;
/** Difference from what is usual, as a logarithm, after which another number is tried out at once. */
const CHANGED = Math.log(1.3);
/** How fast what is usual follows: downward at once, nearly; upward so slowly that congestion is noticed first. */
const FOLLOW_DOWN = 0.5;
const FOLLOW_UP = 0.05;
/** A try-out takes no more than one part in so many of the time. */
const TRY_OUT_PART = 8;
/** No pause between try-outs is longer: one that is means that the clock has gone back. */
const LONGEST_PAUSE_MS = 1_800_000;

/** Begins with one request in flight, as after every recovery. */
export function initialConcurrency(policy: ConcurrencyPolicy): ConcurrencyState {
  return {
    limit: 1,
    base: 1,
    slowStart: { before: null },
    tryOut: null,
    round: firstRound(0, 0),
    instanceCost: INITIAL_INSTANCE_COST,
    usual: null,
    congested: 0,
    direction: 1,
    nextTryOutAt: 0,
    pauseMs: policy.tryOutMs,
  };
}

/** Slow start anew; how cost and time hang together stays known. */
export function restarted(state: ConcurrencyState, at: number, policy: ConcurrencyPolicy): ConcurrencyState {
  return { ...initialConcurrency(policy), instanceCost: state.instanceCost, round: firstRound(at, 0) };
}

function withLimit(state: ConcurrencyState, limit: number, at: number): ConcurrencyState {
  return limit === state.limit
    ? state
    : { ...state, limit, round: firstRound(at, Math.max(0, limit - state.limit + 1)) };
}

/** This process stood still until `at`: what was in flight meanwhile took longer through no fault of the destination. */
export function stalled(state: ConcurrencyState, at: number): ConcurrencyState {
  return { ...state, round: withStall(state.round, at) };
}

/** What is being compared cannot be: something else than the destination has come between. */
function interrupted(state: ConcurrencyState, at: number): ConcurrencyState {
  const nextTryOutAt = state.tryOut === null ? state.nextTryOutAt : at + state.pauseMs;
  return { ...withLimit(state, state.base, at), tryOut: null, nextTryOutAt };
}

/** The ceiling has come down. */
export function bounded(state: ConcurrencyState, ceiling: number, at: number): ConcurrencyState {
  if (state.limit <= ceiling && state.base <= ceiling) return state;
  const base = Math.min(state.base, ceiling);
  return { ...withLimit(interrupted(state, at), base, at), base, slowStart: null, usual: null };
}

/**
 * The destination asked for less: half as many, or as many as before where more was only tried out.
 *
 * @param until - When it may be sent to again.
 * @param isLimit - It takes no more at once, whether more was tried out or not.
 */
export function refused(
  state: ConcurrencyState,
  at: number,
  until: number,
  policy: ConcurrencyPolicy,
  isLimit = false,
): ConcurrencyState {
  const wasTryingMore = state.limit > state.base;
  const isSeldom = wasTryingMore || isLimit;
  const base = wasTryingMore ? state.base : Math.max(1, Math.floor(state.limit / 2));
  return {
    ...withLimit(interrupted(state, at), base, at),
    base,
    slowStart: null,
    usual: wasTryingMore ? state.usual : null,
    congested: 0,
    direction: 1,
    nextTryOutAt: until + (isSeldom ? state.pauseMs : policy.tryOutMs),
    // Only what refuses more is asked for more more seldom: one that was busy for a moment may take it again.
    pauseMs: isSeldom ? Math.min(policy.maxRefusedTryOutMs, state.pauseMs * 2) : policy.tryOutMs,
  };
}

/** @param ceiling - Requests in flight at the most, 1 at least. */
export function answered(
  state: ConcurrencyState,
  measure: RequestMeasure,
  at: number,
  ceiling: number,
  policy: ConcurrencyPolicy,
): ConcurrencyState {
  // A round in the future: the clock has gone back.
  if (state.round.from > at) return interrupted({ ...state, round: firstRound(at, 0) }, at);
  const round = withRequest(state.round, measure, state.instanceCost, at);
  const [least, leastMs] = state.slowStart === null ? [MIN_REQUESTS, MIN_ROUND_MS] : [MIN_SLOW_START_REQUESTS, 0];
  const { n } = round.sums;
  // Of whole turns, where all are answered at once.
  if (n < least || n % state.limit !== 0 || at - round.from < leastMs) return { ...state, round };
  const next = { ...state, round: nextRound(round, at) };
  // There was not enough to send, or something else bounds it.
  if (inFlightOf(round, at) < state.limit * IN_USE) return interrupted(next, at);
  const { tryOut } = state;
  if (tryOut !== null && state.limit !== state.base) return compared(next, tryOut, round.sums, at, policy);
  const fitted = refitted(next, round);
  if (tryOut !== null) {
    return { ...withLimit(fitted, tryOut.limit, at), tryOut: { ...tryOut, ofBase: added(tryOut.ofBase, round.sums) } };
  }
  if (state.slowStart !== null) return slowStarted(fitted, round.sums, at, ceiling, policy);
  return seenAtBase(fitted, round.sums, at, ceiling, policy);
}

/** What an instance costs is learnt at the base, and what is usual is put in its terms. */
function refitted(state: ConcurrencyState, round: Round): ConcurrencyState {
  const instanceCost = fittedCost(round, state.instanceCost);
  const shift = Math.log(costOf(round.sums, instanceCost) / costOf(round.sums, state.instanceCost));
  return { ...state, instanceCost, usual: state.usual === null ? null : state.usual - shift };
}

/** What another limit brings beyond what it must for that to pay, in standard errors. */
function gainOf(
  state: ConcurrencyState,
  base: { readonly limit: number; readonly sums: Sums },
  other: { readonly limit: number; readonly sums: Sums },
  rounds: number,
  policy: ConcurrencyPolicy,
): number {
  const before = performanceOf(base.sums, state.instanceCost, base.limit, rounds);
  const after = performanceOf(other.sums, state.instanceCost, other.limit, rounds);
  const gain = after.rate - before.rate - policy.minGain * Math.log(other.limit / base.limit);
  return gain / Math.sqrt(before.variance + after.variance);
}

/** Twice as many as long as that pays. */
function slowStarted(
  state: ConcurrencyState,
  sums: Sums,
  at: number,
  ceiling: number,
  policy: ConcurrencyPolicy,
): ConcurrencyState {
  const { limit } = state;
  const before = state.slowStart?.before ?? null;
  const settled = { ...state, slowStart: null, nextTryOutAt: at, pauseMs: policy.tryOutMs };
  // In doubt further: too many for a moment is found out sooner than too few.
  if (before !== null && gainOf(state, before, { limit, sums }, 1, policy) < -1) {
    return { ...withLimit(settled, before.limit, at), base: before.limit, direction: 1 };
  }
  if (limit >= ceiling) return { ...settled, direction: -1, nextTryOutAt: at + policy.tryOutMs };
  const more = Math.min(ceiling, limit * 2);
  return {
    ...withLimit(state, more, at),
    base: more,
    slowStart: { before: { limit, sums } },
  };
}

/** A round at the base: has it become slow, and is it time to try out another number? */
function seenAtBase(
  state: ConcurrencyState,
  sums: Sums,
  at: number,
  ceiling: number,
  policy: ConcurrencyPolicy,
): ConcurrencyState {
  const { time, variance } = performanceOf(sums, state.instanceCost, state.base, 1);
  const usual = state.usual ?? time;
  const difference = time - usual;
  const isChance = Math.abs(difference) <= NO_CHANCE * Math.sqrt(variance);
  if (difference > Math.log(policy.congestedAt) && !isChance) {
    if (state.congested === 0) return { ...state, congested: 1 };
    return congested(state, at, policy);
  }
  const hasBecomeFaster = difference < -CHANGED && !isChance;
  const next: ConcurrencyState = {
    ...state,
    usual: usual + difference * (difference < 0 ? FOLLOW_DOWN : FOLLOW_UP),
    congested: 0,
    pauseMs: hasBecomeFaster ? policy.tryOutMs : state.pauseMs,
  };
  const waitMs = state.nextTryOutAt - at;
  const isDue = hasBecomeFaster || waitMs <= 0 || waitMs > LONGEST_PAUSE_MS;
  return isDue ? tryingOut(next, sums, at, ceiling) : next;
}

/** Half as many; whether more pay again is tried out soon, so that a PACS that is slow for good is not throttled for good. */
function congested(state: ConcurrencyState, at: number, policy: ConcurrencyPolicy): ConcurrencyState {
  const base = Math.max(1, Math.floor(state.base / 2));
  const pauseMs = policy.tryOutMs;
  return {
    ...withLimit(state, base, at),
    base,
    usual: null,
    congested: 0,
    direction: 1,
    pauseMs,
    nextTryOutAt: at + pauseMs,
  };
}

function tryingOut(state: ConcurrencyState, ofBase: Sums, at: number, ceiling: number): ConcurrencyState {
  const { base } = state;
  const more = Math.min(ceiling, Math.max(base + 1, Math.round(base * STEP)));
  const fewer = Math.max(1, Math.min(base - 1, Math.round(base / STEP)));
  const direction = more <= base ? -1 : fewer >= base ? 1 : state.direction;
  const limit = direction === 1 ? more : fewer;
  if (limit === base) return state;
  const tryOut = { limit, startedAt: at, pairs: 0, ofBase, ofOther: NO_SUMS };
  return { ...withLimit(state, limit, at), direction, tryOut };
}

/** A round of the number tried out after one of the base: is it clear by now whether it pays? */
function compared(
  state: ConcurrencyState,
  tryOut: TryOut,
  sums: Sums,
  at: number,
  policy: ConcurrencyPolicy,
): ConcurrencyState {
  const pairs = tryOut.pairs + 1;
  const ofOther = added(tryOut.ofOther, sums);
  const base = { limit: state.base, sums: tryOut.ofBase };
  const gain = gainOf(state, base, { limit: tryOut.limit, sums: ofOther }, pairs, policy);
  if (Math.abs(gain) < SURE && pairs < MAX_PAIRS) {
    return { ...withLimit(state, state.base, at), tryOut: { ...tryOut, pairs, ofOther } };
  }
  if (gain > 0) {
    // Further the same way.
    const base = tryOut.limit;
    return { ...state, base, usual: null, tryOut: null, nextTryOutAt: at, pauseMs: policy.tryOutMs };
  }
  const pauseMs = Math.max(state.pauseMs, TRY_OUT_PART * (at - tryOut.startedAt));
  return {
    ...withLimit(state, state.base, at),
    tryOut: null,
    direction: state.direction === 1 ? -1 : 1,
    nextTryOutAt: at + Math.min(LONGEST_PAUSE_MS, pauseMs),
    pauseMs: Math.max(state.pauseMs, Math.min(policy.maxTryOutMs, state.pauseMs * 2)),
  };
}

export function concurrencyMovedBack(state: ConcurrencyState, byMs: number): ConcurrencyState {
  const { round, tryOut } = state;
  return {
    ...state,
    round: { ...round, heldSince: round.heldSince - byMs, from: round.from - byMs },
    tryOut: tryOut === null ? null : { ...tryOut, startedAt: tryOut.startedAt - byMs },
    nextTryOutAt: state.nextTryOutAt - byMs,
  };
}
