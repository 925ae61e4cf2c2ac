import {
  type DestinationPolicy,
  type DestinationState,
  defaultDestinationPolicy,
  initialDestination,
  slots,
  stepDestination,
} from '../../src/routing/destination.ts';
import { seededRandom } from '../../src/testing/seeded-random.ts';

/** A destination as a queue: requests wait for one of `servers`, first come, first served. */
export interface ModelledTarget {
  /** How many it works on at once, by ms since the beginning. */
  readonly servers: (passedMs: number) => number;
  /** How long it works on one, in ms. */
  readonly serviceMs: (
    request: RequestSize,
    context: { random: () => number; inFlight: number; passedMs: number },
  ) => number;
  /** Requests that it has open at the most, by ms since the beginning; what comes beyond is pushed back. */
  readonly associations?: (passedMs: number) => number;
}

export interface RequestSize {
  readonly bytes: number;
  readonly instances: number;
}

interface Request extends RequestSize {
  readonly startedAt: number;
  endsAt: number;
}

export interface ClosedLoop {
  readonly target: ModelledTarget;
  readonly sizeOf: (random: () => number) => RequestSize;
  readonly forMs: number;
  readonly seed?: number;
  readonly policy?: DestinationPolicy;
  /** So many in flight all along, instead of what the flow says. */
  readonly fixed?: number;
}

export interface LoopResult {
  readonly requests: number;
  readonly bytes: number;
  readonly pushBacks: number;
  /** Averages over each tenth of the time. */
  readonly limits: readonly number[];
  readonly byTenth: readonly number[];
  readonly state: DestinationState;
}

const BEGINNING = 1_000_000;

/** Sends as much as the flow allows to a modelled target, in virtual time; there is always more to send. */
export function sendAll(loop: ClosedLoop): LoopResult {
  const { target, sizeOf, forMs, policy = defaultDestinationPolicy } = loop;
  const random = seededRandom(loop.seed ?? 1);
  let at = BEGINNING;
  let state = initialDestination(at, 'recovering', '', policy);
  const inFlight = new Set<Request>();
  const waiting: Request[] = [];
  let working = 0;
  let pushBacks = 0;
  let requests = 0;
  let bytes = 0;
  const limitTime = Array.from({ length: 10 }, () => 0);
  const byTenth = Array.from({ length: 10 }, () => 0);
  const tenth = () => Math.min(9, Math.floor(((at - BEGINNING) / forMs) * 10));

  const work = () => {
    while (waiting.length > 0 && working < target.servers(at - BEGINNING)) {
      const request = waiting.shift();
      if (request === undefined) return;
      working += 1;
      const context = { random, inFlight: inFlight.size, passedMs: at - BEGINNING };
      request.endsAt = at + Math.max(0.01, target.serviceMs(request, context));
    }
  };
  const start = () => {
    while (inFlight.size < (loop.fixed ?? slots(state, at, policy))) {
      if (inFlight.size >= (target.associations?.(at - BEGINNING) ?? Number.POSITIVE_INFINITY)) {
        pushBacks += 1;
        state = stepDestination(state, { type: 'push-back' }, at, random(), policy).state;
        return;
      }
      const request = { ...sizeOf(random), startedAt: at, endsAt: Number.POSITIVE_INFINITY };
      inFlight.add(request);
      waiting.push(request);
    }
  };

  while (at - BEGINNING < forMs) {
    start();
    work();
    const pausedUntil = state.flow.pausedUntil > at ? state.flow.pausedUntil : Number.POSITIVE_INFINITY;
    const next = Math.min(pausedUntil, BEGINNING + forMs, ...[...inFlight].map(({ endsAt }) => endsAt));
    limitTime[tenth()] = (limitTime[tenth()] ?? 0) + (next - at) * state.flow.concurrency.limit;
    at = next;
    for (const request of [...inFlight].filter(({ endsAt }) => endsAt <= at)) {
      const measure = { ...request, elapsedMs: at - request.startedAt, inFlight: inFlight.size };
      inFlight.delete(request);
      working -= 1;
      requests += 1;
      bytes += request.bytes;
      byTenth[tenth()] = (byTenth[tenth()] ?? 0) + 1;
      state = stepDestination(state, { type: 'success', measure }, at, random(), policy).state;
    }
  }
  return { requests, bytes, pushBacks, limits: limitTime.map((sum) => sum / (forMs / 10)), byTenth, state };
}

/** The most requests that any fixed number in flight brings through. */
export function bestFixed(loop: ClosedLoop): number {
  const { maxConcurrency } = (loop.policy ?? defaultDestinationPolicy).flow;
  const numbers = [1, 2, 3, 5, maxConcurrency];
  const all = numbers.map((fixed) => sendAll({ ...loop, fixed }).requests);
  return Math.max(...all);
}
