import type { EventQueue } from './event-queue.ts';
import { milliseconds } from './quantity.ts';
import type { Random } from './random.ts';
import type { Sick, TargetModel } from './scenario.ts';
import { TargetFaults } from './target-faults.ts';

/** An instance as a target sees it. */
export interface SentInstance {
  readonly uid: string;
  readonly bytes: number;
  readonly sick: Sick['how'] | null;
}

/** What a target, or the way to it, made of one instance; as the outcomes of a transport. */
export type TargetOutcome =
  | { readonly kind: 'stored' }
  | { readonly kind: 'refused'; readonly reason: string; readonly mayRetry: boolean }
  | { readonly kind: 'push-back'; readonly reason: string; readonly retryAfterMs?: number }
  | { readonly kind: 'unreachable' | 'ambiguous'; readonly reason: string };

interface Request {
  readonly instances: readonly SentInstance[];
  readonly answer: (outcomes: readonly TargetOutcome[]) => void;
  isOver: boolean;
}

interface Held {
  readonly storedAt: number;
  readonly shownAt: number;
}

/** A peer that stores: a queue with servers, a memory of what it holds, and faults in time. It never looks at who asks. */
export class Target {
  readonly #queue: EventQueue;
  readonly #random: Random;
  readonly #faults: TargetFaults;
  readonly #model: TargetModel;
  readonly #servers: number;
  readonly #times: { perRequest: number; perInstance: number; perMegabyte: number; stall: number; roundTrip: number };
  readonly #index: { perInstance: number; slowAbove: number; speed: number; lag: number } | null;
  readonly #speed: readonly (readonly [number, number])[];
  readonly #held = new Map<string, Held>();
  /** Taken and not answered; those that their sender has given up too. */
  readonly #active = new Set<Request>();
  #waiting: Request[] = [];
  /** Questions that take up a connection. */
  #asked = 0;
  #busy = 0;
  #indexedAt = 0;
  /** Instances stored though they were held already. */
  duplicates = 0;
  /** Most requests that it had at a time. */
  mostActive = 0;

  constructor(model: TargetModel, queue: EventQueue, random: Random, endMs: number) {
    this.#model = model;
    this.#queue = queue;
    this.#random = random;
    this.#servers = model.servers ?? 4;
    this.#times = {
      perRequest: milliseconds(model.perRequest ?? '2 ms'),
      perInstance: milliseconds(model.perInstance ?? '8 ms'),
      perMegabyte: milliseconds(model.perMegabyte ?? '8 ms'),
      stall: milliseconds(model.stall ?? '0 ms'),
      roundTrip: milliseconds(model.roundTrip ?? '2 ms'),
    };
    this.#index = model.index === undefined ? null : indexTimes(model.index);
    this.#speed = (model.speed ?? []).map(([at, factor]) => [milliseconds(at), factor]);
    this.#faults = new TargetFaults(model.faults ?? [], endMs);
    for (const at of this.#faults.deaths) queue.at(at, () => this.#die());
    for (const { at, sinceMs } of this.#faults.restorations) queue.at(at, () => this.#forget(sinceMs));
  }

  /** What it holds, by uid. */
  get held(): ReadonlyMap<string, unknown> {
    return this.#held;
  }

  /** Answers with one outcome for each instance, or never. */
  send(instances: readonly SentInstance[], answer: (outcomes: readonly TargetOutcome[]) => void): void {
    const refusal = this.#refusal();
    if (refusal === 'silence') return;
    if (refusal !== null) {
      this.#queue.at(this.#queue.now + this.#times.roundTrip, () => answer(instances.map(() => refusal)));
      return;
    }
    const request: Request = { instances, answer, isOver: false };
    this.#active.add(request);
    this.mostActive = Math.max(this.mostActive, this.#active.size);
    this.#queue.at(this.#queue.now + this.#times.stall * instances.length, () => {
      if (request.isOver) return;
      this.#waiting.push(request);
      this.#serve();
    });
  }

  /** Says whether the listener answers, or nothing. */
  probe(answer: (isAlive: boolean) => void): void {
    const isAlive = this.#canBeAsked();
    this.#reply(() => answer(isAlive));
  }

  /** Says which of these it shows; null when it cannot be asked. */
  lookUp(uids: readonly string[], answer: (shown: ReadonlySet<string> | null) => void): void {
    const canBeAsked = this.#canBeAsked();
    this.#reply(() => {
      const now = this.#queue.now;
      const shown = uids.filter((uid) => (this.#held.get(uid)?.shownAt ?? Number.POSITIVE_INFINITY) <= now);
      answer(canBeAsked ? new Set(shown) : null);
    });
  }

  #canBeAsked(): boolean {
    return !this.#isInForce('dead') && !this.#isInForce('unavailable') && !(this.#resets && this.#isFull);
  }

  #reply(answer: () => void): void {
    if (this.#isInForce('hangs')) return;
    const isConnected = this.#resets && !this.#isFull;
    if (isConnected) this.#asked += 1;
    this.#queue.at(this.#queue.now + this.#times.roundTrip, () => {
      if (isConnected) this.#asked -= 1;
      answer();
    });
  }

  get #resets(): boolean {
    return this.#model.whenFull === 'resets';
  }

  get #isFull(): boolean {
    return this.#active.size + this.#asked >= (this.#model.maxRequests ?? Number.POSITIVE_INFINITY);
  }

  #isInForce(kind: Parameters<TargetFaults['isInForce']>[0]): boolean {
    return this.#faults.isInForce(kind, this.#queue.now);
  }

  /** Why a request is not taken at all; null when it is. */
  #refusal(): TargetOutcome | 'silence' | null {
    const now = this.#queue.now;
    if (this.#isInForce('dead')) return { kind: 'unreachable', reason: 'connection refused' };
    if (this.#isInForce('hangs')) return 'silence';
    if (this.#isInForce('unavailable')) {
      const retryAfterMs = this.#faults.retryAfterMs('unavailable', now);
      return { kind: 'push-back', reason: 'HTTP 503', ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
    }
    if (this.#isFull && this.#resets) return { kind: 'ambiguous', reason: 'connection reset' };
    if (this.#isFull || this.#faults.befalls('rejects', now)) return { kind: 'push-back', reason: 'too many requests' };
    return null;
  }

  #serve(): void {
    while (this.#busy < this.#servers) {
      const request = this.#waiting.shift();
      if (request === undefined) return;
      this.#busy += 1;
      this.#queue.at(this.#queue.now + this.#serviceMs(request), () => {
        if (request.isOver) return;
        this.#busy -= 1;
        this.#finish(request);
        this.#serve();
      });
    }
  }

  #serviceMs({ instances }: Request): number {
    const { perRequest, perInstance, perMegabyte } = this.#times;
    const megabytes = instances.reduce((sum, instance) => sum + instance.bytes, 0) / 1e6;
    const varied = 1 + (this.#model.noise ?? 0.1) * (2 * this.#random() - 1);
    const crowded = 1 + (this.#model.contention ?? 0) * Math.max(0, this.#active.size - this.#servers);
    const workMs = perRequest + perInstance * instances.length + perMegabyte * megabytes;
    return (workMs * varied * crowded) / this.#speedNow();
  }

  #speedNow(): number {
    const now = this.#queue.now;
    const index = this.#index;
    const behind = index === null ? 0 : (this.#indexedAt - now) / Math.max(index.perInstance, 1e-9);
    return speedAt(this.#speed, now) * (index !== null && behind > index.slowAbove ? index.speed : 1);
  }

  #finish(request: Request): void {
    request.isOver = true;
    this.#active.delete(request);
    const now = this.#queue.now;
    const { instances, answer } = request;
    if (this.#isInForce('hangs')) return;
    if (this.#isInForce('storage-dead')) {
      answer(instances.map(() => ({ kind: 'refused', reason: '0110 processing failure', mayRetry: true })));
      return;
    }
    const spoiler = instances.findIndex(({ sick }) => sick === 'spoils');
    if (spoiler !== -1) {
      for (const instance of instances.slice(0, spoiler)) this.#store(instance, now);
      answer(instances.map(() => ({ kind: 'ambiguous', reason: 'connection reset' })));
      return;
    }
    const outcomes = instances.map((instance) => this.#store(instance, now));
    if (this.#faults.befalls('loses-answers', now)) {
      answer(instances.map(() => ({ kind: 'ambiguous', reason: 'connection lost' })));
    } else {
      answer(outcomes);
    }
  }

  #store({ uid, sick }: SentInstance, now: number): TargetOutcome {
    if (sick !== null) return { kind: 'refused', reason: 'A900 does not match', mayRetry: sick === 'refused-softly' };
    if (this.#held.has(uid)) this.duplicates += 1;
    else if (!this.#faults.befalls('loses-instances', now)) {
      this.#indexedAt = Math.max(this.#indexedAt, now) + (this.#index?.perInstance ?? 0);
      const shownAt = this.#index === null ? now : this.#indexedAt + this.#index.lag;
      this.#held.set(uid, { storedAt: now, shownAt });
    }
    return { kind: 'stored' };
  }

  #die(): void {
    const broken = [...this.#active];
    this.#active.clear();
    this.#waiting = [];
    this.#busy = 0;
    for (const request of broken) {
      request.isOver = true;
      request.answer(request.instances.map(() => ({ kind: 'ambiguous', reason: 'connection reset' })));
    }
  }

  #forget(sinceMs: number): void {
    for (const [uid, { storedAt }] of this.#held) if (storedAt >= sinceMs) this.#held.delete(uid);
  }
}

function indexTimes(index: NonNullable<TargetModel['index']>) {
  return {
    perInstance: milliseconds(index.perInstance),
    slowAbove: index.slowAbove ?? Number.POSITIVE_INFINITY,
    speed: index.speed ?? 0.1,
    lag: milliseconds(index.lag ?? '0 s'),
  };
}

/** In between two instants the speed changes evenly. */
function speedAt(curve: readonly (readonly [number, number])[], at: number): number {
  let before = curve[0];
  if (before === undefined) return 1;
  for (const point of curve) {
    if (point[0] > at) {
      if (point === before) return before[1];
      return before[1] + ((point[1] - before[1]) * (at - before[0])) / (point[0] - before[0]);
    }
    before = point;
  }
  return before[1];
}
