import type { Lane } from '../domain/delivery.ts';
import { type Rank, withAgeTier } from '../domain/rank.ts';
import { initialBudget, mayRetry, nextRetryAt, type RetryBudget, sentFirst, spend } from '../routing/budget.ts';
import {
  type DestinationEffect,
  type DestinationEvent,
  type DestinationPolicy,
  type DestinationState,
  initialDestination,
  slots,
  startableAt,
  stepDestination,
} from '../routing/destination.ts';
import { charge, costOf, initialShare, lanesInOrder, type ShareState } from '../routing/share.ts';
import { nextChangeAt } from '../routing/windows.ts';
import { type TierPolicy, tierAt } from '../tiers/policy.ts';
import type { Arrival } from './arrivals.ts';
import { Backlog, type SimulatedBatch, type SimulatedDelivery } from './backlog.ts';
import { Episodes } from './episodes.ts';
import type { Host } from './host.ts';
import { bytes } from './quantity.ts';
import type { Random } from './random.ts';
import type { DestinationMeter, Recorder } from './recorder.ts';
import type { TargetModel } from './scenario.ts';
import { Sender } from './sender.ts';
import type { Target } from './target.ts';
import { run } from './task.ts';
import { Worker } from './worker.ts';

/** As the shell of replay has them. */
const STORE_FAILURE_PAUSE_MS = 5_000;
const AGEING_INTERVAL_MS = 600_000;
const MAX_ALARM_MS = 60_000;
const LAG_INTERVAL_MS = 1_000;

export interface EngineOptions {
  readonly id: string;
  readonly model: TargetModel;
  readonly target: Target;
  readonly policy: DestinationPolicy;
  readonly tiers: TierPolicy;
  readonly host: Host;
  readonly random: Random;
  readonly recorder: Recorder;
  readonly meter: DestinationMeter;
  /** Virtual time. */
  readonly elapsed: () => number;
  readonly canRecord: () => boolean;
  /** An outage was declared. */
  readonly onOutage: () => void;
}

/**
 * Replays one destination's deliveries in virtual time: carries out the effects of routing as the shell in `replay/` does
 * with sockets, a clock and a catalog.
 */
export class Engine {
  readonly id: string;
  readonly backlog: Backlog;
  readonly #options: EngineOptions;
  readonly #episodes = new Episodes('outage-end');
  #worker: Worker;
  #sender: Sender;
  #state: DestinationState;
  #share: ShareState;
  #budget: RetryBudget;
  #inFlight = 0;
  #inLane: Record<Lane, number> = { live: 0, backlog: 0, history: 0 };
  #alarms = new Map<number, () => void>();
  readonly #tried = new Set<SimulatedDelivery>();
  #pausedUntil = 0;
  #nextLookUpAt = 0;
  #reportsLag = false;
  #isPumping = false;
  #pumpAgain = false;

  constructor(options: EngineOptions) {
    this.#options = options;
    this.id = options.id;
    const historyTier = options.policy.share.history > 0 ? options.tiers.tiers.length - 1 : null;
    this.backlog = new Backlog(historyTier);
    const { policy, host } = options;
    this.#sender = new Sender(options.model, options.target, host);
    this.#worker = this.#newWorker();
    this.#state = initialDestination(host.now, 'up', 'nothing is known against it', policy);
    this.#share = initialShare();
    this.#budget = initialBudget(policy.retry, host.now);
    this.#age();
  }

  /** Takes up where its durable records stand, after the process was gone. */
  restart(): void {
    const { policy, host } = this.#options;
    const { current } = this.#episodes;
    const phase =
      current === null ? 'up' : current.endedAt !== null ? 'recovering' : current.planned ? 'planned' : 'down';
    this.backlog.interrupted();
    this.#worker = this.#newWorker();
    this.#sender = new Sender(this.#options.model, this.#options.target, host);
    this.#state = initialDestination(host.now, phase, 'as it is on record', policy, current?.expectedEndAt ?? null);
    this.#share = initialShare();
    this.#budget = initialBudget(policy.retry, host.now);
    this.#inFlight = 0;
    this.#inLane = { live: 0, backlog: 0, history: 0 };
    this.#alarms = new Map();
    this.#tried.clear();
    this.#pausedUntil = 0;
    this.#reportsLag = false;
    this.#rankByAge();
    this.#age();
    this.#dispatch({ type: 'tick' });
    this.#advanceEpisodes();
  }

  /** Whether nothing can be sent now, as far as is known. */
  get isDown(): boolean {
    return this.#episodes.isOutage;
  }

  accept(arrival: Arrival): void {
    const { host, tiers, elapsed, recorder } = this.#options;
    const acquiredAt = host.now - arrival.ageMs;
    const ageTier = tierAt(acquiredAt, this.#episodes.referenceAt(host.now), tiers);
    const { urgency } = arrival;
    const rank: Rank = { tier: ageTier, urgency, acquiredAt, basis: 'dated', ageTier, ruledTier: null };
    const delivery = this.backlog.accept(arrival, rank, elapsed(), this.#episodes.isOutage);
    this.#episodes.accepted(delivery);
    const { study, uid, label } = delivery;
    const { tier } = study.rank;
    const lane = this.backlog.laneOf(study);
    recorder.note({ type: 'accepted', destination: this.id, label, study: study.uid, uid, tier, lane });
    this.#dispatch({ type: 'arrived', bytes: arrival.bytes });
  }

  /** What is owed to another destination is owed to this one too, if it is not yet. */
  copy({ uid, bytes: size, sick, label, study }: SimulatedDelivery): void {
    if (this.backlog.knows(uid)) return;
    const { urgency, acquiredAt } = study.rank;
    const { host, elapsed } = this.#options;
    this.accept({
      at: elapsed(),
      ...{ label, study: study.uid, uid, bytes: size, urgency, sick, destinations: null },
      ageMs: host.now - acquiredAt,
    });
  }

  declareOutage(reason: string, expectedEndAt: number | null): void {
    this.#episodes.plan(expectedEndAt);
    this.#dispatch({ type: 'declare-outage', reason, expectedEndAt });
  }

  endOutage(): void {
    this.#dispatch({ type: 'end-outage' });
  }

  stalled(from: number, to: number): void {
    this.#dispatch({ type: 'stall', from, to });
  }

  clockBack(byMs: number): void {
    this.backlog.boundDelays(this.#options.host.now + this.#options.policy.retry.maxLookUpMs);
    this.#dispatch({ type: 'clock-back', byMs });
  }

  sample(): void {
    const { meter, host, policy, elapsed } = this.#options;
    meter.sample(elapsed(), slots(this.#state, host.now, policy), this.#inFlight, this.backlog);
  }

  #newWorker(): Worker {
    const { model, host, random, policy, meter } = this.#options;
    return new Worker({
      backlog: this.backlog,
      sender: this.#sender,
      verify: model.verify ?? (this.#sender.canLookUp ? 'found' : 'answered'),
      retry: policy.retry,
      host,
      random,
      inFlight: () => this.#inFlight,
      canRecord: this.#options.canRecord,
      onStoreFailure: () => {
        this.#pausedUntil = host.now + STORE_FAILURE_PAUSE_MS;
        this.#alarm(this.#pausedUntil);
      },
      dispatch: (event) => this.#dispatch(event),
      onSend: (deliveries) => {
        meter.attempts += deliveries.length;
        const [first] = deliveries;
        const lane = first === undefined ? undefined : this.backlog.laneOf(first.study);
        this.#dispatch({ type: 'started', bytes: sizeOf(deliveries), lane });
      },
      onSettled: (delivery, from, reason) => this.#settled(delivery, from, reason),
    });
  }

  #settled(delivery: SimulatedDelivery, from: SimulatedDelivery['state'], reason: string | null): void {
    const { recorder, meter, elapsed } = this.#options;
    const { state, evidence, uid, label, study } = delivery;
    const { tier } = study.rank;
    this.#episodes.changed(delivery, from);
    const where = { destination: this.id, label, study: study.uid, uid, tier };
    recorder.note({ type: 'settled', ...where, state, evidence, reason });
    if (from === 'pending' && (state === 'sent' || state === 'verified')) meter.answered(delivery.bytes);
    if (state === 'verified') meter.verified(tier, elapsed());
    this.#advanceEpisodes();
    if (!this.#reportsLag) {
      this.#reportsLag = true;
      this.#options.host.after(LAG_INTERVAL_MS, () => this.#reportLag());
    }
  }

  /** How far evidence lags behind the answers is a signal too. */
  #reportLag(): void {
    this.#reportsLag = false;
    const [oldest] = this.backlog.sent;
    const lagMs = Math.max(0, this.#options.host.now - (oldest?.answeredAt ?? this.#options.host.now));
    this.#dispatch({ type: 'lag', lagMs });
  }

  #dispatch(event: DestinationEvent): void {
    const { host, random, policy, recorder } = this.#options;
    const at = host.now;
    const before = phaseOf(this.#state);
    const { state, effects } = stepDestination(this.#state, event, at, random(), policy);
    this.#state = state;
    const phase = phaseOf(state);
    if (phase !== before) {
      recorder.note({ type: 'health', destination: this.id, phase, reason: state.health.reason });
    }
    for (const effect of effects) this.#perform(effect, at);
    this.#pump();
  }

  #perform(effect: DestinationEffect, at: number): void {
    const { recorder, meter } = this.#options;
    switch (effect.type) {
      case 'probe':
        this.#probe();
        return;
      case 'trial':
        this.#trial();
        return;
      case 'wake':
        this.#alarm(effect.at);
        return;
      case 'outage': {
        const { cause, startedAt, planned, expectedEndAt } = effect;
        this.#episodes.begin({ startedAt, planned, expectedEndAt }, this.backlog.open);
        this.backlog.outageBegan();
        meter.outages += 1;
        const pending = this.backlog.open.size;
        recorder.note({ type: 'outage', destination: this.id, cause, planned, pending });
        this.#options.onOutage();
        return;
      }
      case 'recovery':
        this.#tried.clear();
        this.#episodes.end(at);
        this.#rankByAge();
        meter.recoveries += 1;
        recorder.note({ type: 'recovery', destination: this.id });
        this.#advanceEpisodes();
        return;
      case 'overdue':
        recorder.note({ type: 'overdue', destination: this.id });
    }
  }

  #probe(): void {
    const startedAt = this.#options.host.now;
    run(this.#sender.probe(), (alive) => {
      const reason = alive ? 'it answers' : 'no answer';
      this.#dispatch({ type: 'probe-ended', alive, reason, startedAt, othersInFlight: this.#inFlight });
    });
  }

  #trial(): void {
    const { host, policy } = this.#options;
    const startedAt = host.now;
    if (phaseOf(this.#state) === 'down') this.#rankByAge();
    const due = host.now + policy.retry.maxRetryMs;
    const take = (isFresh: boolean) => this.#takeTrial(due, isFresh);
    run(this.#worker.trial(take), ({ alive, reason }) =>
      this.#dispatch({ type: 'trial-ended', alive, reason, startedAt, othersInFlight: this.#inFlight }),
    );
  }

  /** @param isFresh - Only one that has neither failed nor been tried in this outage. */
  #takeTrial(due: number, isFresh: boolean): SimulatedBatch | undefined {
    const isTried = (delivery: SimulatedDelivery) => this.#tried.has(delivery) || this.#worker.isTroubled(delivery);
    const batch = this.backlog.takeTrial(due, isTried, isFresh);
    for (const delivery of batch?.deliveries ?? []) this.#tried.add(delivery);
    const { recorder } = this.#options;
    if (batch !== undefined) recorder.note({ type: 'begun', kind: 'trial', ...this.#described(batch), lane: null });
    return batch;
  }

  /** Fills the free slots. What it begins may end at once, and free its slot. */
  #pump(): void {
    this.#pumpAgain = true;
    if (this.#isPumping) return;
    this.#isPumping = true;
    while (this.#pumpAgain) {
      this.#pumpAgain = false;
      while (this.#begin()) this.#pumpAgain = false;
    }
    this.#isPumping = false;
  }

  /** Begins the most urgent work, if it may; returns whether it did. */
  #begin(): boolean {
    const { host, policy } = this.#options;
    const now = host.now;
    // A pause longer than any means that the clock has gone back.
    const pausedMs = this.#pausedUntil - now;
    if ((pausedMs > 0 && pausedMs <= STORE_FAILURE_PAUSE_MS) || this.#inFlight >= slots(this.#state, now, policy))
      return false;
    if (this.backlog.open.size === 0) return false;
    const found = this.#take(now);
    if (found === undefined) {
      const { nextDueAt } = this.backlog;
      const windowChangesAt = nextChangeAt(policy.flow.windows, now);
      const instants = [nextDueAt, windowChangesAt];
      if (this.backlog.holdsAsks) instants.push(this.#nextLookUpAt);
      if (this.backlog.holdsRetries) instants.push(nextRetryAt(this.#budget, now, policy.retry));
      // What is due already waits for something else.
      for (const at of instants) if (at !== null && at > now) this.#alarm(at);
      return false;
    }
    this.#carryOut(found.batch, found.lane, now);
    return true;
  }

  #take(now: number): { readonly batch: SimulatedBatch; readonly lane: Lane } | undefined {
    const { model, policy } = this.#options;
    const limits = {
      maxInstances: model.maxInstances ?? 20,
      maxBytes: bytes(model.maxBytes ?? '33 MB'),
      companyOf: (delivery: SimulatedDelivery) => this.#worker.companyOf(delivery),
      mayRetry: mayRetry(this.#budget, now, policy.retry),
      // A wait longer than any means that the clock has gone back.
      mayLookUp: now >= this.#nextLookUpAt || this.#nextLookUpAt - now > 1_000 / policy.retry.maxLookUpsPerSecond,
    };
    for (const lane of lanesInOrder(this.#share, policy.share)) {
      if (this.#inLane[lane] >= slots(this.#state, now, policy, lane)) continue;
      const mayStartAt = startableAt(this.#state, now, policy, lane);
      if (mayStartAt > now) {
        this.#alarm(mayStartAt);
        continue;
      }
      const batch = this.backlog.take(lane, now, limits);
      if (batch !== undefined) return { batch, lane };
    }
    return undefined;
  }

  #carryOut(batch: SimulatedBatch, lane: Lane, now: number): void {
    const { policy, recorder, meter } = this.#options;
    const { kind, deliveries } = batch;
    recorder.note({ type: 'begun', kind, ...this.#described(batch), lane });
    this.#inFlight += 1;
    this.#inLane[lane] += 1;
    if (kind === 'send') {
      const cost = costOf({ bytes: sizeOf(deliveries), instances: deliveries.length });
      this.#share = charge(this.#share, lane, cost, policy.share);
      const retries = deliveries.filter(({ wasSent }) => wasSent).length;
      this.#budget = sentFirst(this.#budget, deliveries.length - retries, policy.retry);
      if (retries > 0) this.#budget = spend(this.#budget, now, retries, policy.retry);
    } else {
      this.#nextLookUpAt = now + 1_000 / policy.retry.maxLookUpsPerSecond;
    }
    meter.mostInFlight = Math.max(meter.mostInFlight, this.#inFlight);
    run(this.#worker.work(batch), () => {
      this.#inFlight -= 1;
      this.#inLane[lane] -= 1;
      this.#pump();
    });
  }

  #described({ study, deliveries }: SimulatedBatch) {
    return {
      destination: this.id,
      study: study.uid,
      uids: deliveries.map(({ uid }) => uid),
      tier: study.rank.tier,
      isRetry: deliveries.some(({ wasSent }) => wasSent),
    };
  }

  /** Ranks what is open by its age at the reference instant. */
  #rankByAge(): void {
    const { host, tiers, recorder } = this.#options;
    const asOf = this.#episodes.referenceAt(host.now);
    this.backlog.rankAll((study) => {
      const rank = withAgeTier(study.rank, tierAt(study.rank.acquiredAt, asOf, tiers));
      if (rank.tier !== study.rank.tier) {
        recorder.note({ type: 'ranked', destination: this.id, study: study.uid, tier: rank.tier });
      }
      return rank;
    });
  }

  #age(): void {
    this.#options.host.after(AGEING_INTERVAL_MS, () => {
      this.#age();
      this.#rankByAge();
    });
  }

  #advanceEpisodes(): void {
    const { recorder, host } = this.#options;
    const { drained, closed } = this.#episodes.advance(host.now);
    for (let count = 0; count < drained; count += 1) recorder.note({ type: 'drained', destination: this.id });
    for (const balance of closed) recorder.note({ type: 'closed', destination: this.id, ...balance });
  }

  /** Comes back at an instant of the host's clock, in steps, since that may be put meanwhile. */
  #alarm(instant: number): void {
    // Of whole milliseconds, so that one wait that is asked for again and again makes one alarm.
    const at = Math.ceil(instant);
    if (this.#alarms.has(at)) return;
    const { host } = this.#options;
    const cancel = host.after(Math.min(Math.max(0, at - host.now), MAX_ALARM_MS), () => {
      this.#alarms.delete(at);
      if (host.now < at) this.#alarm(at);
      this.#dispatch({ type: 'tick' });
    });
    this.#alarms.set(at, cancel);
  }
}

function sizeOf(deliveries: readonly SimulatedDelivery[]): number {
  return deliveries.reduce((total, delivery) => total + delivery.bytes, 0);
}

function phaseOf(state: DestinationState): string {
  const { phase } = state.health;
  return phase === 'probing' ? 'down' : phase;
}
