/** How one request went that the destination answered. */
export interface RequestMeasure {
  readonly bytes: number;
  readonly instances: number;
  readonly elapsedMs: number;
  /** Requests in flight when it was answered, itself included. */
  readonly inFlight: number;
}

/** Sums over requests, of which bytes (b, in MB), instances (i) and times (e, in seconds), and of their products. */
export interface Sums {
  readonly n: number;
  readonly b: number;
  readonly i: number;
  readonly e: number;
  readonly bb: number;
  readonly bi: number;
  readonly ii: number;
  readonly be: number;
  readonly ie: number;
  readonly ee: number;
  /** Of requests in flight. */
  readonly inFlight: number;
}

/** What is measured of requests that began and ended while one limit held. */
export interface Round {
  /** What began before does not count: another limit held, or this process stood still. */
  readonly heldSince: number;
  /** Nothing has counted since this process stood still. */
  readonly afterStall: boolean;
  /** Requests that are still to be left out: the first ones met no queue, or another one. */
  readonly warmUp: number;
  /** Since when the requests that count have been ending. */
  readonly from: number;
  readonly sums: Sums;
  /** By which size and time are found to hang together. */
  readonly fit: Fit;
}

/** Sums of z, the logarithm of the size of an instance, and y, that of the time by cost. */
interface Fit {
  readonly z: number;
  readonly zz: number;
  readonly y: number;
  readonly zy: number;
}

/** What requests say of the destination. */
export interface Performance {
  /** Logarithm of the cost done by unit of time, with so many in flight all along (Little's law: X = N / W). */
  readonly rate: number;
  /** Logarithm of the time taken by unit of cost. */
  readonly time: number;
  /** Of either, by how the requests differ among themselves. */
  readonly variance: number;
}

const MB = 1_000_000;
/** Time below what clocks resolve. */
const MIN_ELAPSED_MS = 0.05;
/** What an instance costs besides its bytes, in MB: at first about that of a CT image. */
export const INITIAL_INSTANCE_COST = 0.5;
const MIN_INSTANCE_COST = 0.001;
const MAX_INSTANCE_COST = 4_000;
/** Variance by the ends of a round alone, and that of one request where few are known. */
const ENDS_VARIANCE = 0.02 ** 2;
const REQUEST_VARIANCE = 0.005;
/** The spread of sizes, as a variance of logarithms, below which nothing follows from it. */
const MIN_SPREAD = 0.1;
/** The most that one round changes the cost of an instance, as a logarithm. */
const MAX_COST_STEP = 1;

export const NO_SUMS: Sums = { n: 0, b: 0, i: 0, e: 0, bb: 0, bi: 0, ii: 0, be: 0, ie: 0, ee: 0, inFlight: 0 };
const NO_FIT: Fit = { z: 0, zz: 0, y: 0, zy: 0 };

/** The first round under a limit. */
export function firstRound(at: number, warmUp: number): Round {
  return { heldSince: at, afterStall: false, warmUp, from: at, sums: NO_SUMS, fit: NO_FIT };
}

/** Another round under the same limit. */
export function nextRound(round: Round, at: number): Round {
  return { ...round, warmUp: 0, from: at, sums: NO_SUMS, fit: NO_FIT };
}

/** This process stood still until `at`. Where it does so all the time, what waited meanwhile must count all the same. */
export function withStall(round: Round, at: number): Round {
  return round.afterStall ? round : { ...round, heldSince: at, afterStall: true };
}

/** @param instanceCost - What an instance costs besides its bytes, in MB. */
export function withRequest(round: Round, measure: RequestMeasure, instanceCost: number, at: number): Round {
  if (at - measure.elapsedMs < round.heldSince) return round;
  if (round.warmUp > 0) return { ...round, warmUp: round.warmUp - 1, from: at };
  const i = Math.max(1, measure.instances);
  const b = Math.max(0, measure.bytes) / MB;
  const e = Math.max(MIN_ELAPSED_MS, measure.elapsedMs) / 1_000;
  const inFlight = Math.max(1, measure.inFlight);
  const one = { n: 1, b, i, e, bb: b * b, bi: b * i, ii: i * i, be: b * e, ie: i * e, ee: e * e, inFlight };
  const z = Math.log(b / i + 1 / MB);
  const y = Math.log(e / (b + i * instanceCost));
  const { fit } = round;
  return {
    ...round,
    afterStall: false,
    sums: added(round.sums, one),
    fit: { z: fit.z + z, zz: fit.zz + z * z, y: fit.y + y, zy: fit.zy + z * y },
  };
}

export function added(one: Sums, other: Sums): Sums {
  return {
    n: one.n + other.n,
    b: one.b + other.b,
    i: one.i + other.i,
    e: one.e + other.e,
    bb: one.bb + other.bb,
    bi: one.bi + other.bi,
    ii: one.ii + other.ii,
    be: one.be + other.be,
    ie: one.ie + other.ie,
    ee: one.ee + other.ee,
    inFlight: one.inFlight + other.inFlight,
  };
}

/** How many were in flight on average while the round was measured. */
export function inFlightOf(round: Round, at: number): number {
  // Where many are answered at once few are in flight at each answer; where one takes long its time is not yet known.
  const byTime = (round.sums.e * 1_000) / Math.max(MIN_ELAPSED_MS, at - round.from);
  return Math.max(byTime, round.sums.inFlight / round.sums.n);
}

/**
 * @param sums - Of one request at least.
 * @param inFlight - How many were in flight all along.
 * @param rounds - How many rounds they are of.
 */
export function performanceOf(sums: Sums, instanceCost: number, inFlight: number, rounds: number): Performance {
  const { n, e } = sums;
  const cost = costOf(sums, instanceCost);
  const squares = sums.bb + 2 * instanceCost * sums.bi + instanceCost ** 2 * sums.ii;
  const products = sums.be + instanceCost * sums.ie;
  // That of a ratio of sums; few requests may be alike by chance.
  const seen = Math.max(0, squares / cost ** 2 - (2 * products) / (cost * e) + sums.ee / e ** 2);
  const variance = seen * (n / Math.max(1, n - 2)) + REQUEST_VARIANCE / n + ENDS_VARIANCE / rounds;
  return { rate: Math.log((cost * inFlight) / e), time: Math.log(e / cost), variance };
}

export function costOf(sums: Sums, instanceCost: number): number {
  return sums.b + sums.i * instanceCost;
}

/**
 * What an instance costs besides its bytes, as the round shows it: where small instances take longer than their cost says,
 * it is more. So neither one of 2 GB nor one of 2 KB looks like congestion, also where each takes the same time.
 */
export function fittedCost({ sums: { n }, fit }: Round, instanceCost: number): number {
  const spread = fit.zz / n - (fit.z / n) ** 2;
  if (n < 2 || spread < MIN_SPREAD) return instanceCost;
  const slope = fit.zy / n - (fit.z * fit.y) / n ** 2;
  const step = Math.min(MAX_COST_STEP, Math.max(-MAX_COST_STEP, -slope / Math.sqrt(spread) / 2));
  return Math.min(MAX_INSTANCE_COST, Math.max(MIN_INSTANCE_COST, instanceCost * Math.exp(step)));
}
