import type { Lane } from '../domain/delivery.ts';
import { arrivalsAt, arrived, type ByteRates, initialRates, leftFrom, ratesMovedBack, take } from './byte-rate.ts';
import {
  answered,
  bounded,
  type ConcurrencyPolicy,
  type ConcurrencyState,
  concurrencyMovedBack,
  initialConcurrency,
  refused,
  restarted,
  stalled,
} from './concurrency.ts';
import type { Crowding } from './health.ts';
import type { RequestMeasure } from './round.ts';
import { ceilingsAt, type FlowWindow, nextChangeAt } from './windows.ts';

/** How fast a backlog is sent at the most, by what arrives. */
export interface Pace {
  /** Times the rate at which the destination receives from the modalities, averaged over a quarter of an hour. */
  readonly timesArrivals: number;
  /** But this at least, in bytes per second: nothing may have arrived for hours. */
  readonly minBytesPerSecond: number;
}

/** The knobs of flow. */
export interface FlowPolicy extends ConcurrencyPolicy {
  /**
   * Bytes sent per second at the most.
   * @default Infinity: what a PACS bears is measured; a link that others share is not
   */
  readonly maxBytesPerSecond: number;
  /**
   * Bounds what an outage held up by what arrives anew, for a PACS that accepts fast and is slow afterwards.
   * @default null: most bear much more than their daily load, and patients wait
   */
  readonly pace: Pace | null;
  /** Times of day in which less is sent. @default none */
  readonly windows: readonly FlowWindow[];
  /**
   * First pause after push-back that names none, in ms; it doubles while push-back goes on, with full jitter.
   * @default 500
   */
  readonly pushBackPauseMs: number;
  /** Greatest such pause, in ms. @default 30,000 */
  readonly maxPushBackPauseMs: number;
  /**
   * A pause that push-back names is kept up to this, in ms.
   * @default 3,600,000: a wrong clock at the peer must not hold it up for good
   */
  readonly maxRetryAfterMs: number;
  /**
   * Answered deliveries that wait longer than this for evidence, in ms, are a sign of congestion.
   * @default 600,000: an index that lags by more no longer follows
   */
  readonly maxLagMs: number;
}

export const defaultFlowPolicy: FlowPolicy = {
  maxConcurrency: 8,
  minGain: 0.1,
  congestedAt: 2,
  tryOutMs: 2_000,
  maxTryOutMs: 30_000,
  maxRefusedTryOutMs: 300_000,
  maxBytesPerSecond: Number.POSITIVE_INFINITY,
  pace: null,
  windows: [],
  pushBackPauseMs: 500,
  maxPushBackPauseMs: 30_000,
  maxRetryAfterMs: 3_600_000,
  maxLagMs: 600_000,
};

export type FlowEvent =
  /** A request was answered; what it tells of the destination's speed. */
  | { readonly type: 'success'; readonly measure?: RequestMeasure | undefined }
  /** The destination asked for less: busy, or too many connections. That is no failure. */
  | { readonly type: 'push-back'; readonly retryAfterMs?: number | undefined }
  /** A request starts. `lane`: what it is of; without it only the bounds of all lanes count it. */
  | { readonly type: 'started'; readonly bytes: number; readonly lane?: Lane | undefined }
  /** An instance for this destination was accepted. */
  | { readonly type: 'arrived'; readonly bytes: number }
  /** For how long answered deliveries have waited for evidence. */
  | { readonly type: 'lag'; readonly lagMs: number }
  | { readonly type: 'stall'; readonly from: number; readonly to: number }
  | { readonly type: 'clock-back'; readonly byMs: number };

/** How much a destination is given at once. */
export interface FlowState {
  readonly concurrency: ConcurrencyState;
  readonly pausedUntil: number;
  readonly pushBacksInARow: number;
  /** When it was last narrowed for requests that failed while others were stored. */
  readonly narrowedAt: number;
  /** Requests stored since one failed beside them. */
  readonly storedSinceLoss: number;
  /** Requests in flight at the most while evidence lags behind, and when that was judged last. */
  readonly lag: { readonly ceiling: number; readonly at: number };
  readonly rates: ByteRates;
}

/** How often a lag is judged: what it was told to change shows only after a while. */
const LAG_INTERVAL_MS = 30_000;

/**
 * A connection that is lost beside fewer others than this is no chance: where more are opened than a peer takes, each of those
 * is lost. A line that loses one in a hundred is seldom taken for that.
 */
const CHANCE_LOSS = 10;

/** Begins with one request in flight, as after every recovery. */
export function initialFlow(policy: FlowPolicy = defaultFlowPolicy): FlowState {
  return {
    concurrency: initialConcurrency(policy),
    pausedUntil: 0,
    pushBacksInARow: 0,
    narrowedAt: 0,
    storedSinceLoss: 0,
    lag: { ceiling: policy.maxConcurrency, at: 0 },
    rates: initialRates(),
  };
}

/** The destination is there again: slow start. What has been sent and has arrived stays known. */
export function restartFlow(state: FlowState, at: number, policy: FlowPolicy = defaultFlowPolicy): FlowState {
  const concurrency = restarted(state.concurrency, at, policy);
  return { ...state, concurrency, pausedUntil: 0, pushBacksInARow: 0, narrowedAt: at, storedSinceLoss: 0 };
}

/** Requests failed while another one was stored: as after push-back, but without a pause. */
export function narrowFlow(state: FlowState, { failures, since }: Crowding, at: number, policy: FlowPolicy): FlowState {
  // What began before it was narrowed tells nothing new.
  if (since < state.narrowedAt) return state;
  const next = { ...state, storedSinceLoss: 0 };
  const isChance = failures === 1 && state.storedSinceLoss >= CHANCE_LOSS;
  if (isChance || state.concurrency.limit === 1) return next;
  return { ...next, narrowedAt: at, concurrency: refused(state.concurrency, at, at, policy, true) };
}

/** Whether nothing may be started for now. A pause longer than any can be means that the clock has gone back. */
function isPaused(state: FlowState, at: number, policy: FlowPolicy = defaultFlowPolicy): boolean {
  const left = state.pausedUntil - at;
  return left > 0 && left <= Math.max(policy.maxRetryAfterMs, policy.maxPushBackPauseMs);
}

/** Requests that may be in flight: of one lane, or of all. */
export function flowSlots(state: FlowState, at: number, policy: FlowPolicy, lane: Lane | null): number {
  if (isPaused(state, at, policy)) return 0;
  const ofAll = ceilingsAt(policy.windows, null, at).maxConcurrency;
  const ofLane = lane === null ? ofAll : ceilingsAt(policy.windows, lane, at).maxConcurrency;
  return Math.min(state.concurrency.limit, policy.maxConcurrency, state.lag.ceiling, ofAll, ofLane);
}

/** When another request may start by its bytes. */
export function flowStartableAt(state: FlowState, at: number, policy: FlowPolicy, lane: Lane | null): number {
  const { rates } = state;
  let startable = leftFrom(rates.total, at, totalRate(policy, at));
  if (lane !== null) startable = Math.max(startable, leftFrom(rates.lanes[lane], at, laneRate(policy, lane, at)));
  if (isPaced(lane)) startable = Math.max(startable, leftFrom(rates.paced, at, paceRate(state, policy, at)));
  if (startable <= at) return at;
  return Math.min(startable, nextChangeAt(policy.windows, at) ?? startable);
}

/** Additive increase, multiplicative decrease, slow start: a recovering PACS is asked for more only as it answers. */
export function stepFlow(
  state: FlowState,
  event: FlowEvent,
  at: number,
  random: number,
  policy: FlowPolicy = defaultFlowPolicy,
): FlowState {
  switch (event.type) {
    case 'success': {
      const next = { ...state, pushBacksInARow: 0, storedSinceLoss: state.storedSinceLoss + 1 };
      if (event.measure === undefined) return next;
      const ceiling = Math.min(policy.maxConcurrency, state.lag.ceiling);
      return { ...next, concurrency: answered(state.concurrency, event.measure, at, ceiling, policy) };
    }
    case 'push-back':
      return pushedBack(state, event, at, random, policy);
    case 'started':
      return { ...state, rates: started(state, event, at, policy) };
    case 'arrived':
      return { ...state, rates: { ...state.rates, arrivals: arrived(state.rates.arrivals, event.bytes, at) } };
    case 'lag':
      return lagged(state, event.lagMs, at, policy);
    case 'stall':
      return { ...state, concurrency: stalled(state.concurrency, event.to) };
    case 'clock-back':
      return {
        ...state,
        concurrency: concurrencyMovedBack(state.concurrency, event.byMs),
        pausedUntil: state.pausedUntil - event.byMs,
        narrowedAt: state.narrowedAt - event.byMs,
        lag: { ...state.lag, at: state.lag.at - event.byMs },
        rates: ratesMovedBack(state.rates, event.byMs),
      };
  }
}

function pushedBack(
  state: FlowState,
  event: FlowEvent & { type: 'push-back' },
  at: number,
  random: number,
  policy: FlowPolicy,
): FlowState {
  // Answers to requests that were in flight before the pause began tell nothing new.
  if (isPaused(state, at, policy)) return state;
  const ceiling = Math.min(
    policy.maxPushBackPauseMs,
    policy.pushBackPauseMs * 2 ** Math.min(state.pushBacksInARow, 20),
  );
  // Never 0: what else comes at this instant is of the same round.
  const pauseMs = Math.max(1, Math.min(event.retryAfterMs ?? Math.round(ceiling * random), policy.maxRetryAfterMs));
  const pausedUntil = at + pauseMs;
  return {
    ...state,
    concurrency: refused(state.concurrency, at, pausedUntil, policy),
    pausedUntil,
    pushBacksInARow: state.pushBacksInARow + 1,
  };
}

/** Half as many where evidence lags too far behind, one more where it does not. */
function lagged(state: FlowState, lagMs: number, at: number, policy: FlowPolicy): FlowState {
  const passedMs = at - state.lag.at;
  if (passedMs >= 0 && passedMs < LAG_INTERVAL_MS) return state;
  const before = state.lag.ceiling;
  if (lagMs <= policy.maxLagMs) {
    return { ...state, lag: { ceiling: Math.min(policy.maxConcurrency, before + 1), at } };
  }
  const ceiling = Math.max(1, Math.floor(Math.min(before, state.concurrency.base) / 2));
  return { ...state, lag: { ceiling, at }, concurrency: bounded(state.concurrency, ceiling, at) };
}

function started(state: FlowState, event: FlowEvent & { type: 'started' }, at: number, policy: FlowPolicy): ByteRates {
  const { rates } = state;
  const { bytes, lane = null } = event;
  const total = take(rates.total, bytes, at, totalRate(policy, at));
  const paced = isPaced(lane) ? take(rates.paced, bytes, at, paceRate(state, policy, at)) : rates.paced;
  if (lane === null) return { ...rates, total, paced };
  const ofLane = take(rates.lanes[lane], bytes, at, laneRate(policy, lane, at));
  return { ...rates, total, paced, lanes: { ...rates.lanes, [lane]: ofLane } };
}

/** What comes in live is no faster than what arrives, and must not wait for an average to notice. */
function isPaced(lane: Lane | null): boolean {
  return lane === 'backlog' || lane === 'history';
}

function totalRate(policy: FlowPolicy, at: number): number {
  return Math.min(policy.maxBytesPerSecond, ceilingsAt(policy.windows, null, at).maxBytesPerSecond);
}

function laneRate(policy: FlowPolicy, lane: Lane, at: number): number {
  return ceilingsAt(policy.windows, lane, at).maxBytesPerSecond;
}

function paceRate(state: FlowState, policy: FlowPolicy, at: number): number {
  if (policy.pace === null) return Number.POSITIVE_INFINITY;
  const { timesArrivals, minBytesPerSecond } = policy.pace;
  return Math.max(minBytesPerSecond, timesArrivals * arrivalsAt(state.rates.arrivals, at));
}
