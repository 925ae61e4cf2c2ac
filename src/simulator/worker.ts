import type { DeliveryState, VerifyLevel } from '../domain/delivery.ts';
import type { DestinationEvent } from '../routing/destination.ts';
import {
  afterLookUp,
  afterSend,
  afterVainTrial,
  type Decision,
  type EvidenceView,
  type LookUpResult,
  type RetryPolicy,
  type TroubleView,
} from '../routing/retry.ts';
import { eventOfSend, isTrialAlive } from '../routing/verdict.ts';
import type { Backlog, SimulatedBatch, SimulatedDelivery } from './backlog.ts';
import type { Host } from './host.ts';
import type { Random } from './random.ts';
import type { Sender } from './sender.ts';
import type { TargetOutcome } from './target.ts';
import type { Task } from './task.ts';

export interface WorkerOptions {
  readonly backlog: Backlog;
  readonly sender: Sender;
  readonly verify: VerifyLevel;
  readonly retry: RetryPolicy;
  readonly host: Host;
  readonly random: Random;
  /** Slots in use. */
  readonly inFlight: () => number;
  /** Whether outcomes can be recorded. */
  readonly canRecord: () => boolean;
  readonly onStoreFailure: () => void;
  readonly dispatch: (event: DestinationEvent) => void;
  /** A delivery was recorded, with the state that it had before. */
  readonly onSettled: (delivery: SimulatedDelivery, from: DeliveryState, reason: string | null) => void;
  /** Instances are on their way. */
  readonly onSend: (deliveries: readonly SimulatedDelivery[]) => void;
}

type Trouble = TroubleView & {
  /** Stored ones at the last failure. */
  readonly stored: number;
};

interface Attempt {
  readonly outcomes: readonly TargetOutcome[];
  readonly inFlight: number;
}

/** What came of a trial. */
interface Answer {
  readonly alive: boolean;
  readonly reason: string;
}

const CANNOT_ASK = 'it cannot be asked what it holds';
/** Answered ones that are asked for when one is needed that the target holds. */
const MAX_WITNESSES = 20;
const NO_TROUBLE = { failures: 0, whileOthersStored: 0 } as const;

/**
 * Works on batches of deliveries as the worker of replay does: looks up first where needed, sends, has routing decide
 * what the outcomes mean, and records it.
 */
export class Worker {
  readonly #options: WorkerOptions;
  readonly #company = new Map<SimulatedDelivery, number>();
  /** By kind: one is not held against a delivery as another, so push-back costs nothing and each failure has its tries. */
  readonly #troubles = new Map<SimulatedDelivery, Map<TargetOutcome['kind'], Trouble>>();
  /** Sends in flight. */
  #inFlight = 0;
  /** Instances that the target has stored. */
  #stored = 0;

  constructor(options: WorkerOptions) {
    this.#options = options;
  }

  companyOf(delivery: SimulatedDelivery): number {
    return this.#company.get(delivery) ?? Number.POSITIVE_INFINITY;
  }

  /** Whether a send of it has failed, so that another failure of it would prove little. */
  isTroubled(delivery: SimulatedDelivery): boolean {
    return this.#troubles.has(delivery) || this.#company.has(delivery) || delivery.mayHaveArrived;
  }

  /** What the target says to storing once more what it holds; null where there is nothing, or it does not show it. */
  *testify(): Task<TargetOutcome | null> {
    const witness = yield* this.#heldWitness();
    if (witness === undefined) return null;
    const { sender } = this.#options;
    this.#options.onSend([witness]);
    const outcomes = yield* sender.send([witness]);
    if (outcomes[0]?.kind === 'stored') this.#stored += 1;
    return outcomes[0] ?? null;
  }

  /** What was answered for may not be there, or not yet; what was verified is, unless it was lost since. */
  *#heldWitness(): Task<SimulatedDelivery | undefined> {
    const { sender, backlog } = this.#options;
    if (!sender.canReadBack) return undefined;
    const answered = [...backlog.sent].slice(-MAX_WITNESSES);
    const known = backlog.lastVerified === undefined ? answered : [...answered, backlog.lastVerified];
    const shown = yield* sender.lookUp(known.map(({ uid }) => uid));
    return known.findLast(({ uid }) => shown?.has(uid));
  }

  *work(batch: SimulatedBatch): Task {
    if (batch.kind === 'send') yield* this.#send(batch);
    else yield* this.#lookUp(batch);
  }

  /**
   * One real instance, to see whether storage is alive: one that has not failed before, otherwise one that the target
   * holds, otherwise any.
   *
   * @param take - Takes one to try, a fresh one or any.
   */
  *trial(take: (isFresh: boolean) => SimulatedBatch | undefined): Task<Answer> {
    const fresh = take(true);
    if (fresh !== undefined) return yield* this.#try(fresh);
    const outcome = yield* this.testify();
    if (outcome !== null) return answerOf(outcome);
    const any = take(false);
    return any === undefined ? { alive: true, reason: 'there is nothing to try' } : yield* this.#try(any);
  }

  *#try(batch: SimulatedBatch): Task<Answer> {
    const deliveries = yield* this.#withoutArrived(batch);
    if (deliveries === undefined) return { alive: false, reason: 'it cannot be asked' };
    if (deliveries.length === 0) return { alive: true, reason: 'it shows what it was sent' };
    const { outcomes } = yield* this.#attempt(deliveries);
    const outcome = outcomes[0] as TargetOutcome;
    const { alive, reason } = answerOf(outcome);
    const decisions: readonly Decision[] = alive
      ? this.#decide(deliveries, outcomes, true)
      : [afterVainTrial(outcome, this.#view, this.#options.random(), this.#options.retry)];
    this.#apply(deliveries, decisions);
    return { alive, reason };
  }

  *#send(batch: SimulatedBatch): Task {
    const deliveries = yield* this.#withoutArrived(batch);
    const first = deliveries?.[0];
    if (deliveries === undefined || first === undefined) return;
    const alone = deliveries.length === 1;
    if (alone) yield* this.#proveStorage(first);
    const { host } = this.#options;
    const [startedAt, stalls] = [host.now, host.stalls];
    const { outcomes, inFlight } = yield* this.#attempt(deliveries);
    const elapsedMs = host.now - startedAt;
    const decisions = this.#decide(deliveries, outcomes, alone);
    const lone = this.#troubles.get(first)?.get('push-back');
    this.#apply(deliveries, decisions);
    // Push-back to one instance again and again, while others are stored, says nothing of the destination.
    const isOnlyItsOwn = alone && (lone?.whileOthersStored ?? 0) > 0;
    if (isOnlyItsOwn && outcomes[0]?.kind === 'push-back') return;
    const event = eventOfSend(outcomes.map((outcome) => ({ outcome })));
    if (event?.type === 'success') {
      const bytes = deliveries.reduce((sum, delivery) => sum + delivery.bytes, 0);
      const measure = { bytes, instances: deliveries.length, elapsedMs, inFlight };
      // What the process slept through, or was not all taken, is no measure.
      const isMeasure = host.stalls === stalls && outcomes.every(({ kind }) => kind === 'stored');
      this.#options.dispatch({ ...event, startedAt, ...(isMeasure ? { measure } : {}) });
    } else if (event?.type === 'failure') {
      this.#failed(event.reason, startedAt);
    } else if (event !== undefined) {
      this.#options.dispatch(event);
    }
  }

  /** A request or a question, begun at `startedAt`, was not answered. */
  #failed(reason: string, startedAt: number): void {
    const othersInFlight = Math.max(0, this.#options.inFlight() - 1);
    this.#options.dispatch({ type: 'failure', reason, startedAt, othersInFlight });
  }

  *#lookUp({ deliveries }: SimulatedBatch): Task {
    const startedAt = this.#options.host.now;
    const results = yield* this.#ask(deliveries);
    this.#apply(
      deliveries,
      deliveries.map((delivery) => this.#afterLookUp(delivery, results)),
    );
    if (isUnanswered(results)) this.#failed(CANNOT_ASK, startedAt);
  }

  /** Settles those of a batch that an earlier, interrupted send has brought there; gives the rest, if it could ask. */
  *#withoutArrived({ study, deliveries }: SimulatedBatch): Task<readonly SimulatedDelivery[] | undefined> {
    const doubtful = deliveries.filter(
      (delivery) => study.isInterrupted || delivery.attempts > 0 || delivery.mayHaveArrived,
    );
    if (doubtful.length === 0) return deliveries;
    const startedAt = this.#options.host.now;
    const results = yield* this.#ask(doubtful);
    if (isUnanswered(results)) this.#failed(CANNOT_ASK, startedAt);
    const arrived = doubtful.filter((delivery) => results.get(delivery) === 'found');
    this.#apply(
      arrived,
      arrived.map((delivery) => this.#afterLookUp(delivery, results)),
    );
    return deliveries.filter((delivery) => !arrived.includes(delivery));
  }

  /**
   * Before an instance that failed is tried again without anything else having been stored since: sends one again that
   * the target holds. If it stores that, the fault is not its own.
   */
  *#proveStorage(delivery: SimulatedDelivery): Task {
    const troubles = [...(this.#troubles.get(delivery)?.values() ?? [])];
    if (!troubles.some(({ stored }) => stored === this.#stored)) return;
    const outcome = yield* this.testify();
    const event = outcome === null ? undefined : eventOfSend([{ outcome }]);
    if (event !== undefined) this.#options.dispatch(event);
  }

  /** Sends; says how many sends were in flight at the end, this one included. */
  *#attempt(deliveries: readonly SimulatedDelivery[]): Task<Attempt> {
    this.#inFlight += 1;
    this.#options.onSend(deliveries);
    const outcomes = yield* this.#options.sender.send(deliveries);
    this.#inFlight -= 1;
    return { outcomes, inFlight: this.#inFlight + 1 };
  }

  *#ask(deliveries: readonly SimulatedDelivery[]): Task<ReadonlyMap<SimulatedDelivery, LookUpResult>> {
    const shown = yield* this.#options.sender.lookUp(deliveries.map(({ uid }) => uid));
    const resultOf = ({ uid }: SimulatedDelivery): LookUpResult =>
      shown === null ? 'unknown' : shown.has(uid) ? 'found' : 'absent';
    return new Map(deliveries.map((delivery) => [delivery, resultOf(delivery)]));
  }

  #decide(
    deliveries: readonly SimulatedDelivery[],
    outcomes: readonly TargetOutcome[],
    alone: boolean,
  ): readonly Decision[] {
    const { random, retry } = this.#options;
    const stored = outcomes.filter(({ kind }) => kind === 'stored').length;
    const request = { alone, othersStored: stored > 0 };
    const decisions = deliveries.map((delivery, index) => {
      const outcome = outcomes[index] as TargetOutcome;
      const trouble = this.#trouble(delivery, outcome, alone);
      return afterSend({ ...delivery, trouble }, outcome, this.#view, request, random(), retry);
    });
    this.#stored += stored;
    deliveries.forEach((delivery, index) => {
      const { kind } = outcomes[index] as TargetOutcome;
      // Whatever was not turned away at once has cost the target something, and may again.
      if (kind !== 'stored' && kind !== 'unreachable' && kind !== 'push-back') delivery.wasSent = true;
    });
    return decisions;
  }

  /** Counts a failure that may be the delivery's own; what fails in company or with the target does not count. */
  #trouble(delivery: SimulatedDelivery, { kind }: TargetOutcome, alone: boolean): TroubleView {
    const troubles = this.#troubles.get(delivery) ?? new Map<TargetOutcome['kind'], Trouble>();
    const before = troubles.get(kind) ?? { ...NO_TROUBLE, stored: this.#stored };
    if (kind !== 'refused' && !(alone && (kind === 'push-back' || kind === 'ambiguous'))) return before;
    const trouble = {
      failures: before.failures + 1,
      whileOthersStored: before.whileOthersStored + (this.#stored > before.stored ? 1 : 0),
      stored: this.#stored,
    };
    this.#troubles.set(delivery, troubles.set(kind, trouble));
    this.#company.set(delivery, 1);
    return trouble;
  }

  #afterLookUp(delivery: SimulatedDelivery, results: ReadonlyMap<SimulatedDelivery, LookUpResult>): Decision {
    const { host, random, retry } = this.#options;
    return afterLookUp(delivery, results.get(delivery) ?? 'unknown', this.#view, host.now, random(), retry);
  }

  /** Records decisions; what is not recorded stays pending and is looked up before it is sent again. */
  #apply(deliveries: readonly SimulatedDelivery[], decisions: readonly Decision[]): void {
    const { backlog, host } = this.#options;
    const requeued: SimulatedDelivery[] = [];
    const canRecord = this.#options.canRecord();
    deliveries.forEach((delivery, index) => {
      const decision = decisions[index];
      if (decision?.do === 'settle' && canRecord) {
        this.#settle(delivery, decision);
        return;
      }
      if (decision?.do !== 'requeue' || decision.lookUpFirst) delivery.mayHaveArrived = true;
      if (decision?.do === 'requeue' && decision.delayMs > 0) delivery.dueAt = host.now + decision.delayMs;
      if (decision?.do === 'requeue' && decision.company === 'alone') this.#company.set(delivery, 1);
      if (decision?.do === 'requeue' && decision.company === 'fewer') {
        this.#company.set(delivery, Math.ceil(deliveries.length / 2));
      }
      requeued.push(delivery);
    });
    backlog.giveBack(requeued, host.now);
    if (!canRecord && decisions.some((decision) => decision.do === 'settle')) this.#options.onStoreFailure();
  }

  #settle(delivery: SimulatedDelivery, decision: Decision & { do: 'settle' }): void {
    const { host, backlog } = this.#options;
    const { state, evidence, attempts, delayMs } = decision;
    const before = delivery.state;
    delivery.state = state;
    delivery.evidence = evidence;
    delivery.attempts = attempts;
    delivery.dueAt = delayMs > 0 ? host.now + delayMs : 0;
    if (state === 'sent') delivery.answeredAt ??= host.now;
    if (state === 'pending') {
      delivery.answeredAt = null;
      if (before === 'sent') delivery.wasSent = true;
    } else {
      delivery.mayHaveArrived = false;
      this.#company.delete(delivery);
      this.#troubles.delete(delivery);
    }
    backlog.settled(delivery, host.now);
    this.#options.onSettled(delivery, before, decision.reason);
  }

  get #view(): EvidenceView {
    const { canLookUp, canReadBack } = this.#options.sender;
    return { verify: this.#options.verify, canLookUp, canReadBack, canCommit: false };
  }
}

function answerOf(outcome: TargetOutcome): Answer {
  return { alive: isTrialAlive(outcome), reason: 'reason' in outcome ? outcome.reason : 'it stores' };
}

function isUnanswered(results: ReadonlyMap<SimulatedDelivery, LookUpResult>): boolean {
  return [...results.values()].every((result) => result === 'unknown');
}
