import type { Lane } from '../domain/delivery.ts';

/**
 * A token bucket that holds one second's worth: a request may start while anything is left, however large it is, and is
 * paid for afterwards.
 */
export interface Bucket {
  /** Bytes that may be sent at `at`; below zero what is still to be paid for. */
  readonly left: number;
  readonly at: number;
}

/** What has been sent and received of late, by what it is bounded by. */
export interface ByteRates {
  readonly total: Bucket;
  readonly lanes: Readonly<Record<Lane, Bucket>>;
  /** Of the backlog, by the pace. */
  readonly paced: Bucket;
  readonly arrivals: ArrivalRate;
}

/** Bytes that were accepted, fading. */
export interface ArrivalRate {
  readonly bytes: number;
  readonly at: number;
}

/** What arrives is averaged over about so long: longer than the gaps between studies, shorter than a day's course. */
const ARRIVALS_OVER_MS = 15 * 60_000;
/** One second's worth is saved up. */
const BURST_MS = 1_000;

export function initialRates(): ByteRates {
  const full: Bucket = { left: Number.MAX_SAFE_INTEGER, at: 0 };
  return {
    total: full,
    lanes: { live: full, backlog: full, history: full },
    paced: full,
    arrivals: { bytes: 0, at: 0 },
  };
}

/** @param rate - Bytes per second, `Infinity` where there is no bound. */
export function take(bucket: Bucket, bytes: number, at: number, rate: number): Bucket {
  return rate === Number.POSITIVE_INFINITY ? bucket : { left: refilled(bucket, at, rate) - bytes, at };
}

/** When anything is left; `at` or before it when now. */
export function leftFrom(bucket: Bucket, at: number, rate: number): number {
  if (rate === Number.POSITIVE_INFINITY) return at;
  const left = refilled(bucket, at, rate);
  // But for rounding: what is said to be the instant must be one.
  return left > -1 ? at : at + Math.max(1, Math.ceil((-left / rate) * 1_000));
}

function refilled(bucket: Bucket, at: number, rate: number): number {
  const passedMs = Math.max(0, at - bucket.at);
  return Math.min((rate * BURST_MS) / 1_000, bucket.left + (rate * passedMs) / 1_000);
}

export function arrived(rate: ArrivalRate, bytes: number, at: number): ArrivalRate {
  return { bytes: faded(rate, at) + bytes, at };
}

/** Bytes per second. */
export function arrivalsAt(rate: ArrivalRate, at: number): number {
  return (faded(rate, at) / ARRIVALS_OVER_MS) * 1_000;
}

function faded(rate: ArrivalRate, at: number): number {
  return rate.bytes * Math.exp(-Math.max(0, at - rate.at) / ARRIVALS_OVER_MS);
}

export function ratesMovedBack(rates: ByteRates, byMs: number): ByteRates {
  const moved = <T extends { readonly at: number }>(one: T): T => ({ ...one, at: one.at - byMs });
  const { live, backlog, history } = rates.lanes;
  return {
    total: moved(rates.total),
    lanes: { live: moved(live), backlog: moved(backlog), history: moved(history) },
    paced: moved(rates.paced),
    arrivals: moved(rates.arrivals),
  };
}
