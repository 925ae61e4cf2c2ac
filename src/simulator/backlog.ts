import type { DeliveryState, Evidence, Lane } from '../domain/delivery.ts';
import { compareRank, mergeRank, type Rank } from '../domain/rank.ts';
import type { Arrival } from './arrivals.ts';
import { Heap } from './heap.ts';
import type { SentInstance } from './target.ts';

/** One instance owed to one destination. Instants but `acceptedAt` are of the gateway's own clock. */
export interface SimulatedDelivery extends SentInstance {
  readonly id: number;
  readonly label: string;
  readonly study: SimulatedStudy;
  /** In virtual time. */
  readonly acceptedAt: number;
  state: DeliveryState;
  evidence: Evidence;
  attempts: number;
  readonly furtherVersion: false;
  answeredAt: number | null;
  dueAt: number;
  /** It was sent in a way that has cost the target something, and may again. */
  wasSent: boolean;
  /** It is looked up before it is sent again. */
  mayHaveArrived: boolean;
  /** Where it is while it is open: due, waiting until it is due, or in flight. */
  place: 'due' | 'delayed' | 'in flight';
}

/** A study at one destination. */
export interface SimulatedStudy {
  readonly uid: string;
  rank: Rank;
  /** An outage held some of it up. */
  isBacklog: boolean;
  /** Somebody works on it, or has worked, and there may be more to do. */
  isLeased: boolean;
  /** It was leased when the process ended. */
  isInterrupted: boolean;
  open: number;
  inFlight: number;
  /** Pending, due and never sent; sent before; answered, and due for a question. */
  firsts: SimulatedDelivery[];
  again: SimulatedDelivery[];
  asks: SimulatedDelivery[];
  /** What stands for it in the order of its lane; another number makes it void. */
  ticket: number;
  isOffered: boolean;
}

export interface SimulatedBatch {
  readonly kind: 'send' | 'look-up';
  readonly study: SimulatedStudy;
  readonly deliveries: readonly SimulatedDelivery[];
}

export interface BatchLimits {
  readonly maxInstances: number;
  readonly maxBytes: number;
  readonly companyOf: (delivery: SimulatedDelivery) => number;
  /** Whether what was sent before may be sent again now. */
  readonly mayRetry: boolean;
  /** Whether a question may be asked now. */
  readonly mayLookUp: boolean;
}

interface Offer {
  readonly study: SimulatedStudy;
  readonly rank: Rank;
  readonly ticket: number;
}

interface Delay {
  readonly delivery: SimulatedDelivery;
  readonly dueAt: number;
}

const LANES: readonly Lane[] = ['live', 'backlog', 'history'];
const MAX_LOOK_UP_BATCH = 256;

/** What one destination is owed, durable, and in which order it goes: as the catalog and the window of replay. */
export class Backlog {
  readonly deliveries: SimulatedDelivery[] = [];
  readonly #openStudies = new Set<SimulatedStudy>();
  #lastVerified: SimulatedDelivery | undefined;
  readonly #known = new Set<string>();
  readonly studies = new Map<string, SimulatedStudy>();
  readonly #historyTier: number | null;
  readonly #offers: Readonly<Record<Lane, Heap<Offer>>>;
  /** Those that are elsewhere meanwhile, or due at another instant, are void. */
  readonly #delayed = new Heap<Delay>((a, b) => a.dueAt - b.dueAt || a.delivery.id - b.delivery.id);
  /** Studies that only have what may not be sent again yet, or what may not be asked for yet. */
  readonly #heldRetries = new Set<SimulatedStudy>();
  readonly #heldAsks = new Set<SimulatedStudy>();
  /** Pending and answered ones. */
  readonly open = new Set<SimulatedDelivery>();
  /** Answered ones that wait for evidence, in the order in which they were answered. */
  readonly sent = new Set<SimulatedDelivery>();

  /** @param historyTier - The tier that is a lane of its own, if any. */
  constructor(historyTier: number | null) {
    this.#historyTier = historyTier;
    const offers = () => new Heap<Offer>((a, b) => compareRank(a.rank, b.rank) || (a.study.uid < b.study.uid ? -1 : 1));
    this.#offers = { live: offers(), backlog: offers(), history: offers() };
  }

  knows(uid: string): boolean {
    return this.#known.has(uid);
  }

  /** The delivery that was verified last. */
  get lastVerified(): SimulatedDelivery | undefined {
    return this.#lastVerified;
  }

  laneOf(study: SimulatedStudy): Lane {
    if (!study.isBacklog) return 'live';
    return study.rank.tier === this.#historyTier ? 'history' : 'backlog';
  }

  /** @param isOutage - An outage of this destination is under way. */
  accept(arrival: Arrival, rank: Rank, at: number, isOutage: boolean): SimulatedDelivery {
    const known = this.studies.get(arrival.study);
    const study = known ?? newStudy(arrival.study, rank);
    if (known === undefined) this.studies.set(arrival.study, study);
    if (study.open === 0 && !isOutage) study.isBacklog = false;
    if (isOutage) study.isBacklog = true;
    study.rank = study.open === 0 ? rank : mergeRank(study.rank, rank);
    const { uid, bytes, sick, label } = arrival;
    const delivery: SimulatedDelivery = {
      id: this.deliveries.length,
      ...{ uid, bytes, sick, label, study },
      acceptedAt: at,
      state: 'pending',
      evidence: 'accepted',
      attempts: 0,
      furtherVersion: false,
      answeredAt: null,
      dueAt: 0,
      wasSent: false,
      mayHaveArrived: false,
      place: 'due',
    };
    this.deliveries.push(delivery);
    this.#known.add(uid);
    this.open.add(delivery);
    study.open += 1;
    this.#openStudies.add(study);
    study.firsts.push(delivery);
    this.#offerAnew(study);
    return delivery;
  }

  /** What is open becomes backlog. */
  outageBegan(): void {
    for (const { study } of this.open) study.isBacklog = true;
    this.rankAll((study) => study.rank);
  }

  rankAll(rankOf: (study: SimulatedStudy) => Rank): void {
    for (const lane of LANES) this.#offers[lane].clear();
    for (const study of this.#openStudies) {
      study.isOffered = false;
      study.rank = rankOf(study);
      this.#offer(study);
    }
  }

  /** The most urgent batch of a lane. */
  take(lane: Lane, now: number, limits: BatchLimits): SimulatedBatch | undefined {
    this.#fallDue(now);
    this.#letGo(limits);
    const offers = this.#offers[lane];
    for (let best = offers.peek(); best !== undefined; best = offers.peek()) {
      const { study } = best;
      const isValid = study.isOffered && best.ticket === study.ticket;
      const batch = isValid ? takeBatch(study, limits) : undefined;
      if (batch !== undefined) return this.#lend(batch);
      offers.pop();
      if (!isValid) continue;
      study.isOffered = false;
      if (study.again.length > 0 && !limits.mayRetry) this.#heldRetries.add(study);
      else if (study.asks.length > 0 && study.inFlight === 0) this.#heldAsks.add(study);
    }
    return undefined;
  }

  /** What was held by a bound that has passed is offered again: of questions one, since one may be asked. */
  #letGo({ mayRetry, mayLookUp }: BatchLimits): void {
    if (mayRetry) {
      for (const study of this.#heldRetries) this.#offer(study);
      this.#heldRetries.clear();
    }
    if (!mayLookUp || this.#heldAsks.size === 0) return;
    const first = leastOf([...this.#heldAsks], (a, b) => compareRank(a.rank, b.rank) || byUid(a, b));
    if (first === undefined) return;
    this.#heldAsks.delete(first);
    this.#offer(first);
  }

  /**
   * One pending delivery for a trial: of the most urgent study that has any, the smallest that was not tried, or else any
   * where `isFreshOnly` does not forbid it; those that are due by `until` too.
   */
  takeTrial(
    until: number,
    isTried: (delivery: SimulatedDelivery) => boolean,
    isFreshOnly: boolean,
  ): SimulatedBatch | undefined {
    let [fresh, any]: (SimulatedDelivery | undefined)[] = [];
    for (const delivery of this.open) {
      const { state, place, dueAt } = delivery;
      if (state !== 'pending' || place === 'in flight' || dueAt > until) continue;
      if (any === undefined || compareForTrial(delivery, any) < 0) any = delivery;
      const isBetter = fresh === undefined || compareForTrial(delivery, fresh) < 0;
      if (isBetter && !isTried(delivery)) fresh = delivery;
    }
    const chosen = isFreshOnly ? fresh : (fresh ?? any);
    if (chosen === undefined) return undefined;
    const { study } = chosen;
    study.firsts = study.firsts.filter((delivery) => delivery !== chosen);
    study.again = study.again.filter((delivery) => delivery !== chosen);
    return this.#lend({ kind: 'send', study, deliveries: [chosen] });
  }

  /** These are to be tried again, before what else the study has. */
  giveBack(deliveries: readonly SimulatedDelivery[], now: number): void {
    for (const delivery of [...deliveries].reverse()) {
      delivery.study.inFlight -= 1;
      this.#put(delivery, now, 'unshift');
      this.#offer(delivery.study);
    }
  }

  /** What was decided of a delivery in flight is on record. */
  settled(delivery: SimulatedDelivery, now: number): void {
    const { study } = delivery;
    study.inFlight -= 1;
    if (delivery.state === 'verified') this.#lastVerified = delivery;
    if (delivery.state === 'sent') this.sent.add(delivery);
    else this.sent.delete(delivery);
    if (delivery.state !== 'pending' && delivery.state !== 'sent') {
      this.open.delete(delivery);
      study.open -= 1;
      if (study.open === 0) this.#openStudies.delete(study);
    } else {
      this.#put(delivery, now, 'push');
    }
    this.#offer(study);
    if (study.inFlight > 0 || pendingOf(study).length + study.asks.length > 0) return;
    study.isLeased = false;
    study.isInterrupted = false;
  }

  /** The next instant at which something falls due. */
  get nextDueAt(): number | null {
    this.#skipVoid();
    return this.#delayed.peek()?.dueAt ?? null;
  }

  /** Whether something waits to be asked for. */
  get holdsAsks(): boolean {
    return this.#heldAsks.size > 0;
  }

  /** Whether something waits for the budget of retries. */
  get holdsRetries(): boolean {
    return this.#heldRetries.size > 0;
  }

  /** Nothing is due later than this: the clock has gone back. */
  boundDelays(latest: number): void {
    for (const delivery of this.open) {
      if (delivery.dueAt <= latest) continue;
      delivery.dueAt = latest;
      if (delivery.place === 'delayed') this.#delayed.push({ delivery, dueAt: latest });
    }
  }

  /** The process ended: what was in flight may have arrived. */
  interrupted(): void {
    for (const lane of LANES) this.#offers[lane].clear();
    this.#delayed.clear();
    this.#heldRetries.clear();
    this.#heldAsks.clear();
    for (const study of this.studies.values()) {
      study.isInterrupted ||= study.isLeased;
      study.isLeased = false;
      study.inFlight = 0;
      study.isOffered = false;
      study.firsts = [];
      study.again = [];
      study.asks = [];
    }
    for (const delivery of this.open) {
      delivery.wasSent = false;
      this.#put(delivery, 0, 'push');
    }
    for (const study of this.studies.values()) this.#offer(study);
  }

  #lend(batch: SimulatedBatch): SimulatedBatch {
    batch.study.inFlight += batch.deliveries.length;
    batch.study.isLeased = true;
    for (const delivery of batch.deliveries) delivery.place = 'in flight';
    return batch;
  }

  #fallDue(now: number): void {
    for (;;) {
      this.#skipVoid();
      const next = this.#delayed.peek();
      if (next === undefined || next.dueAt > now) return;
      this.#delayed.pop();
      this.#put(next.delivery, now, 'push');
      this.#offer(next.delivery.study);
    }
  }

  #skipVoid(): void {
    for (let next = this.#delayed.peek(); next !== undefined; next = this.#delayed.peek()) {
      if (next.delivery.place === 'delayed' && next.delivery.dueAt === next.dueAt) return;
      this.#delayed.pop();
    }
  }

  #put(delivery: SimulatedDelivery, now: number, where: 'push' | 'unshift'): void {
    const { study, dueAt } = delivery;
    delivery.place = dueAt > now ? 'delayed' : 'due';
    if (dueAt > now) this.#delayed.push({ delivery, dueAt });
    else (delivery.state === 'sent' ? study.asks : delivery.wasSent ? study.again : study.firsts)[where](delivery);
  }

  /** Its rank or its lane may be another. */
  #offerAnew(study: SimulatedStudy): void {
    study.isOffered = false;
    this.#offer(study);
  }

  #offer(study: SimulatedStudy): void {
    if (study.isOffered || pendingOf(study).length + study.asks.length === 0) return;
    study.isOffered = true;
    study.ticket += 1;
    this.#offers[this.laneOf(study)].push({ study, rank: study.rank, ticket: study.ticket });
  }
}

function newStudy(uid: string, rank: Rank): SimulatedStudy {
  return {
    ...{ uid, rank, isBacklog: false, isLeased: false, isInterrupted: false },
    ...{ open: 0, inFlight: 0, firsts: [], again: [], asks: [], ticket: 0, isOffered: false },
  };
}

function takeBatch(study: SimulatedStudy, limits: BatchLimits): SimulatedBatch | undefined {
  const isResend = limits.mayRetry && study.again.length > 0;
  const queue = isResend ? study.again : study.firsts;
  if (queue.length > 0) {
    const deliveries = queue.splice(0, sizeOfBatch(queue, limits));
    return { kind: 'send', study, deliveries };
  }
  // Once nobody works on it, what was answered may be looked up.
  if (!limits.mayLookUp || study.inFlight > 0 || study.again.length > 0 || study.asks.length === 0) return undefined;
  return { kind: 'look-up', study, deliveries: study.asks.splice(0, MAX_LOOK_UP_BATCH) };
}

function sizeOfBatch(queue: readonly SimulatedDelivery[], limits: BatchLimits): number {
  let bytes = 0;
  let company = limits.maxInstances;
  for (const [index, delivery] of queue.entries()) {
    company = Math.min(company, limits.companyOf(delivery));
    bytes += delivery.bytes;
    if (index > 0 && (index >= company || bytes > limits.maxBytes)) return index;
  }
  return queue.length;
}

function pendingOf({ firsts, again }: SimulatedStudy): readonly SimulatedDelivery[] {
  if (again.length === 0) return firsts;
  return firsts.length === 0 ? again : [...again, ...firsts];
}

function compareForTrial(a: SimulatedDelivery, b: SimulatedDelivery): number {
  return compareRank(a.study.rank, b.study.rank) || byUid(a.study, b.study) || a.bytes - b.bytes || a.id - b.id;
}

function byUid(a: SimulatedStudy, b: SimulatedStudy): number {
  return a.uid < b.uid ? -1 : a.uid > b.uid ? 1 : 0;
}

function leastOf<T>(items: readonly T[], compare: (a: T, b: T) => number): T | undefined {
  return items.reduce<T | undefined>(
    (least, item) => (least === undefined || compare(item, least) < 0 ? item : least),
    undefined,
  );
}
