import type { Clock } from '../domain/clock.ts';
import type { Delivery } from '../domain/delivery.ts';
import { initialBudget, mayRetry, nextRetryAt, type RetryBudget, sentFirst, spend } from '../routing/budget.ts';
import type { DestinationEvent } from '../routing/destination.ts';
import {
  afterLookUp,
  afterSend,
  afterVainTrial,
  type Decision,
  type EvidenceView,
  type LookUpResult,
  neededEvidence,
  type RetryPolicy,
} from '../routing/retry.ts';
import { eventOfSend, isTrialAlive } from '../routing/verdict.ts';
import type { Catalog, Settlement } from '../storage/catalog.ts';
import { GroupCommit } from '../storage/group-commit.ts';
import type { CommitmentDesk } from './commitment-desk.ts';
import type { DestinationSender, SendResult } from './destination-sender.ts';
import { Doubts } from './doubts.ts';
import type { Emit } from './events.ts';
import type { WindowStudy, WorkBatch } from './replay-window.ts';
import { StorageWitness } from './storage-witness.ts';
import { Troubles } from './troubles.ts';
import type { Withholding } from './withholding.ts';

const MAX_SETTLE_BATCH = 512;
const CANNOT_ASK = 'it cannot be asked what it holds';
const TRANSPORT_FAILED = { alive: false, reason: 'the transport failed' } as const;
/** What falls due within one such step has one timer. */
const WAKE_STEP_MS = 1_000;

export interface DeliveryWorkerOptions {
  readonly catalog: Catalog;
  readonly sender: DestinationSender;
  /** Where the destination is asked for storage commitment. */
  readonly commitment?: CommitmentDesk | undefined;
  readonly withholding: Withholding;
  readonly retry: RetryPolicy;
  readonly clock: Clock;
  /** In [0, 1), for jitter. */
  readonly random: () => number;
  /** Aborts what is in flight. */
  readonly signal: AbortSignal;
  readonly emit: Emit;
  /** Something was learnt about the destination. */
  readonly dispatch: (event: DestinationEvent) => void;
  /** Slots in use. */
  readonly inFlight: () => number;
  /** Something falls due at that instant, ms since the epoch. */
  readonly wakeAt: (at: number) => void;
  /** A delivery was recorded; with what the destination answered for. */
  readonly onSettled: (
    answered: { readonly bytes: number; readonly tier: number } | null,
    /** For how long it had waited for its evidence, in ms, where that came. */
    waitedMs: number | null,
  ) => void;
  readonly onStoreFailure: () => void;
  readonly onFault: (error: unknown) => void;
}

/** A request that was answered, or that failed by itself. */
interface Attempt {
  /** What it carried. */
  readonly deliveries: readonly Delivery[];
  readonly results: readonly SendResult[];
  readonly startedAt: number;
  readonly elapsedMs: number;
  /** Slots in use when it ended, its own included. */
  readonly inFlight: number;
}

/** Works on batches of deliveries: sends or asks, has routing decide what the outcomes mean, and records it. */
export class DeliveryWorker {
  readonly #options: DeliveryWorkerOptions;
  readonly #settlements: GroupCommit<Settlement, boolean>;
  readonly #doubts = new Doubts();
  readonly #troubles = new Troubles();
  readonly #witness: StorageWitness;
  #budget: RetryBudget;

  constructor(options: DeliveryWorkerOptions) {
    this.#options = options;
    this.#witness = new StorageWitness(options.sender, options.signal, options.withholding);
    this.#budget = initialBudget(options.retry, options.clock.now());
    this.#settlements = new GroupCommit(async (batch) => {
      const stale = new Set(await options.catalog.settle(batch));
      return batch.map((settlement) => !stale.has(settlement.deliveryId));
    }, MAX_SETTLE_BATCH);
  }

  /** All of a study's deliveries are looked up before they are sent. */
  suspectStudy(studyInstanceUid: string): void {
    this.#doubts.suspectStudy(studyInstanceUid);
  }

  studyFinished(studyInstanceUid: string): void {
    this.#doubts.studyFinished(studyInstanceUid);
  }

  /** Whether some of a study may have arrived without an answer. */
  isInDoubt(studyInstanceUid: string): boolean {
    return this.#doubts.isInDoubt(studyInstanceUid);
  }

  /** Whether a send of it has failed, so that another failure of it would prove little. */
  isTroubled(deliveryId: number): boolean {
    return this.#troubles.has(deliveryId) || this.#doubts.hasDelivery(deliveryId);
  }

  /** These have ended without a request from here. */
  forget(deliveryIds: ReadonlySet<number>): void {
    for (const id of deliveryIds) this.#forget(id);
    this.#witness.forget(deliveryIds);
  }

  #forget(deliveryId: number): void {
    this.#doubts.settled(deliveryId);
    this.#troubles.forget(deliveryId);
  }

  /** What has ended meanwhile is not sent again, so that nothing need be known of it. */
  #giveBack(study: WindowStudy, deliveries: readonly Delivery[]): void {
    for (const { id } of deliveries) if (study.isDropped(id)) this.#forget(id);
    study.giveBack(deliveries);
  }

  /** How many may go in one request with this delivery, itself included. */
  companyOf(deliveryId: number): number {
    return this.#troubles.companyOf(deliveryId);
  }

  /** @param answered - Called where all of it was stored, before that is recorded: the destination is free for the next. */
  async send(work: WorkBatch, answered: () => void): Promise<void> {
    const { study } = work;
    const unarrived = await this.#withoutArrived(work);
    if (unarrived === undefined) return;
    const allowed = await this.#withinBudget(study, unarrived);
    const [only] = allowed;
    if (only === undefined) return;
    if (allowed.length === 1 && this.#troubles.isUnexplained(only.id)) await this.#proveStorage();
    await this.#attempt(study, allowed, (attempt) => this.#sent(study, attempt, answered));
  }

  async #sent(study: WindowStudy, attempt: Attempt, answered: () => void): Promise<void> {
    const { deliveries, results } = attempt;
    const [first] = deliveries;
    const alone = deliveries.length === 1;
    if (results.every(({ outcome }) => outcome.kind === 'stored')) answered();
    const decisions = this.#decide(deliveries, results, alone);
    // Push-back to one instance again and again, while others are stored, says nothing of the destination.
    const isItsOwn = alone && first !== undefined && (this.#troubles.of(first.id)?.whileOthersStored ?? 0) > 0;
    const event = isItsOwn && outcomeAt(results, 0).kind === 'push-back' ? undefined : eventOfSend(results);
    // Before it is recorded: others may be failing only because this one was being stored.
    if (event !== undefined) this.#options.dispatch(this.#measured(event, attempt));
    await this.#apply(study, deliveries, decisions);
  }

  /** What a request took is a measure where all of it went out and was taken. */
  #measured(event: DestinationEvent, attempt: Attempt): DestinationEvent {
    const { deliveries, results, startedAt, elapsedMs, inFlight } = attempt;
    if (event.type === 'failure') return { ...event, startedAt, othersInFlight: this.#othersInFlight };
    if (event.type !== 'success') return event;
    if (!results.every(({ outcome }) => outcome.kind === 'stored')) return { ...event, startedAt };
    const measure = { bytes: bytesOf(deliveries), instances: deliveries.length, elapsedMs, inFlight };
    return { ...event, startedAt, measure };
  }

  /** A request or a question, begun at `startedAt`, was not answered. */
  #failed(reason: string, startedAt: number): void {
    this.#options.dispatch({ type: 'failure', reason, startedAt, othersInFlight: this.#othersInFlight });
  }

  /** Slots in use besides that of the request in question, or of the trial, which has none. */
  get #othersInFlight(): number {
    return Math.max(0, this.#options.inFlight() - 1);
  }

  /** Those that may go now: what the destination was sent before goes again only in a part of the first sends. */
  async #withinBudget(study: WindowStudy, deliveries: readonly Delivery[]): Promise<readonly Delivery[]> {
    const { retry, clock } = this.#options;
    const now = clock.now();
    const going: Delivery[] = [];
    const waiting: Delivery[] = [];
    for (const delivery of deliveries) {
      if (!this.#troubles.isRetry(delivery.id)) {
        this.#budget = sentFirst(this.#budget, 1, retry);
        going.push(delivery);
      } else if (mayRetry(this.#budget, now, retry)) {
        this.#budget = spend(this.#budget, now, 1, retry);
        going.push(delivery);
      } else {
        waiting.push(delivery);
      }
    }
    const delayMs = Math.max(1, nextRetryAt(this.#budget, now, retry) - now);
    await this.#apply(
      study,
      waiting,
      waiting.map(({ evidence, attempts, reason }) => ({
        do: 'settle',
        state: 'pending',
        evidence,
        attempts,
        reason,
        delayMs,
      })),
    );
    return going;
  }

  #decide(deliveries: readonly Delivery[], results: readonly SendResult[], alone: boolean): readonly Decision[] {
    const stored = results.filter(({ outcome }) => outcome.kind === 'stored').length;
    const request = { alone, othersStored: stored > 0 };
    const { retry, random } = this.#options;
    const decisions = deliveries.map((delivery, index) => {
      const outcome = outcomeAt(results, index);
      const trouble = this.#troubles.note(delivery.id, outcome, alone);
      return afterSend({ ...delivery, trouble }, outcome, this.#view(), request, random(), retry);
    });
    this.#troubles.storedMore(stored);
    return decisions;
  }

  /**
   * Before an instance that failed is tried again without anything else having been stored since: has the destination
   * store what it holds already. If it does, the fault is not its own.
   */
  async #proveStorage(): Promise<void> {
    const result = await this.#testimony();
    const event = result === null ? undefined : eventOfSend([result]);
    if (event !== undefined) this.#options.dispatch(event);
  }

  /** Whether the destination stores what it holds already; null where that cannot be tried. */
  async testify(): Promise<{ readonly alive: boolean; readonly reason: string } | null> {
    const result = await this.#testimony();
    if (result === null || result.outcome.kind === 'unreadable') return null;
    return { alive: isTrialAlive(result.outcome), reason: reasonOf(result.outcome) };
  }

  async #testimony(): Promise<SendResult | null> {
    try {
      const result = await this.#witness.testify();
      if (result?.outcome.kind === 'stored') this.#troubles.storedMore(1);
      return result;
    } catch (error) {
      if (!this.#options.signal.aborted) this.#options.onFault(error);
      return null;
    }
  }

  /**
   * Sends those of them that are not withheld and have not ended meanwhile, and has `record` record what it came to; no
   * attempt when there are none, or when it was aborted or failed here, with the deliveries given back.
   */
  async #attempt(
    study: WindowStudy,
    wanted: readonly Delivery[],
    record: (attempt: Attempt) => Promise<void>,
  ): Promise<'recorded' | 'failed' | 'none'> {
    const { withholding } = this.#options;
    const leave = await this.#witness.enter(wanted);
    // After the last wait: from here on to its start nothing else happens.
    const isHeldBack = ({ id }: Delivery) => withholding.has(id) || study.isDropped(id);
    this.#giveBack(study, wanted.filter(isHeldBack));
    const deliveries = wanted.filter((delivery) => study.inFlight.has(delivery.id));
    if (deliveries.length === 0) {
      leave([]);
      return 'none';
    }
    withholding.begin(deliveries);
    try {
      const attempt = await this.#request(study, deliveries, leave);
      if (attempt === undefined) return 'failed';
      await record(attempt);
      return 'recorded';
    } finally {
      withholding.end(deliveries);
    }
  }

  async #request(
    study: WindowStudy,
    deliveries: readonly Delivery[],
    leave: (stored: readonly Delivery[]) => void,
  ): Promise<Attempt | undefined> {
    const { clock, sender, signal, dispatch } = this.#options;
    let stored: readonly Delivery[] = [];
    const startedAt = clock.now();
    dispatch({ type: 'started', bytes: bytesOf(deliveries), lane: study.lane });
    try {
      const sent = await sender.send(deliveries, signal);
      const [elapsedMs, inFlight] = [clock.now() - startedAt, this.#options.inFlight()];
      const results = await this.#clarify(deliveries, sent);
      stored = deliveries.filter((_, index) => outcomeAt(results, index).kind === 'stored');
      return { deliveries, results, startedAt, elapsedMs, inFlight };
    } catch (error) {
      // Whatever went out may have arrived.
      for (const { id } of deliveries) this.#doubts.suspect(id, study.studyInstanceUid);
      this.#giveBack(study, deliveries);
      if (!signal.aborted) {
        this.#options.onFault(error);
        this.#failed('the transport failed', startedAt);
      }
      return undefined;
    } finally {
      leave(stored);
    }
  }

  /** Asks about instances of which the destination's answer said nothing: what it shows it has. */
  async #clarify(deliveries: readonly Delivery[], results: readonly SendResult[]): Promise<readonly SendResult[]> {
    const silent = deliveries.filter((_, index) => outcomeAt(results, index).kind === 'unanswered');
    if (silent.length === 0) return results;
    const answers = await this.#options.sender.ask(silent, this.#options.signal);
    return results.map((result, index) => {
      const answer = answers.get(deliveries[index]?.id ?? -1);
      if (answer !== 'found' && answer !== 'equal') return result;
      return { outcome: { kind: 'duplicate', reason: 'it answered nothing of it, but shows it' } };
    });
  }

  /**
   * Settles those of a batch that an earlier, interrupted send has brought there; returns the rest. Where the destination
   * could not be asked they go all the same: one that stores, and whose queries are broken for good, must receive too, and
   * what comes twice does no harm.
   */
  async #withoutArrived({ study, deliveries }: WorkBatch): Promise<readonly Delivery[] | undefined> {
    const doubtful = deliveries.filter(
      (delivery) =>
        mayHaveArrived(delivery, this.#isByReport(delivery)) || this.#doubts.has(delivery.id, study.studyInstanceUid),
    );
    if (doubtful.length === 0) return deliveries;
    const startedAt = this.#options.clock.now();
    const results = await this.#ask(study, deliveries, doubtful);
    if (results === undefined) return undefined;
    if (this.#isUnanswered(results)) this.#failed(CANNOT_ASK, startedAt);
    const arrived = doubtful.filter(({ id }) => ['found', 'equal'].includes(results.get(id) ?? ''));
    await this.#apply(
      study,
      arrived,
      arrived.map((delivery) => this.#afterLookUp(delivery, results)),
    );
    return deliveries.filter((delivery) => !arrived.includes(delivery));
  }

  async lookUp({ study, deliveries }: WorkBatch): Promise<void> {
    const byReport = deliveries.filter((delivery) => this.#isByReport(delivery));
    const asked = deliveries.filter((delivery) => !byReport.includes(delivery));
    const startedAt = this.#options.clock.now();
    const results = await this.#ask(study, deliveries, asked, byReport);
    if (results === undefined) return;
    const decisions = deliveries.map((delivery) => this.#afterLookUp(delivery, results));
    await this.#apply(study, deliveries, decisions);
    if (this.#isUnanswered(results)) this.#failed(CANNOT_ASK, startedAt);
  }

  #isByReport(delivery: Delivery): boolean {
    return neededEvidence(delivery, this.#view()) === 'committed';
  }

  #afterLookUp(delivery: Delivery, results: ReadonlyMap<number, LookUpResult>): Decision {
    const { clock, random, retry } = this.#options;
    return afterLookUp(delivery, results.get(delivery.id) ?? 'unknown', this.#view(), clock.now(), random(), retry);
  }

  /**
   * Asks about some of the deliveries taken, about others for storage commitment; undefined when that failed, with all of
   * those taken given back.
   */
  async #ask(
    study: WindowStudy,
    taken: readonly Delivery[],
    asked: readonly Delivery[],
    byReport: readonly Delivery[] = [],
  ): Promise<ReadonlyMap<number, LookUpResult> | undefined> {
    const { sender, commitment, signal, clock } = this.#options;
    const startedAt = clock.now();
    try {
      const results = await sender.ask(asked, signal);
      if (commitment === undefined || byReport.length === 0) return results;
      return new Map([...results, ...(await commitment.request(byReport, signal))]);
    } catch (error) {
      this.#giveBack(study, taken);
      if (!this.#options.signal.aborted) {
        this.#options.onFault(error);
        this.#failed('the transport failed', startedAt);
      }
      return undefined;
    }
  }

  /** Records decisions; what is not recorded stays pending and is looked up before it is sent again. */
  async #apply(study: WindowStudy, deliveries: readonly Delivery[], decisions: readonly Decision[]): Promise<void> {
    const now = this.#options.clock.now();
    const requeued: Delivery[] = [];
    const settling: Promise<void>[] = [];
    deliveries.forEach((delivery, index) => {
      const decision = decisions[index];
      if (decision === undefined || decision.do === 'requeue') {
        if (decision?.lookUpFirst !== false) this.#doubts.suspect(delivery.id, study.studyInstanceUid);
        if (decision?.company === 'alone') this.#troubles.limitCompany(delivery.id, 1);
        if (decision?.company === 'fewer') {
          this.#troubles.limitCompany(delivery.id, Math.ceil(deliveries.length / 2));
        }
        if (decision !== undefined && decision.delayMs > 0) {
          const { evidence, attempts } = delivery;
          const { delayMs, reason } = decision;
          // Its reason is what tells a later process that it may have arrived.
          const waiting = { do: 'settle', state: 'pending', evidence, attempts, reason, delayMs } as const;
          settling.push(this.#settle(study, delivery, waiting, now));
        } else {
          requeued.push(delivery);
        }
      } else {
        settling.push(this.#settle(study, delivery, decision, now));
      }
    });
    if (requeued.length > 0) this.#giveBack(study, requeued);
    await Promise.all(settling);
  }

  async #settle(
    study: WindowStudy,
    delivery: Delivery,
    decision: Extract<Decision, { do: 'settle' }>,
    now: number,
  ): Promise<void> {
    const { state, evidence, attempts, reason, delayMs } = decision;
    const notBefore = delayMs > 0 ? now + delayMs : 0;
    let recorded: boolean;
    try {
      recorded = await this.#settlements.submit({
        deliveryId: delivery.id,
        lease: study.lease,
        state,
        evidence,
        attempts,
        reason,
        notBefore,
        at: now,
      });
    } catch (error) {
      if (study.isDropped(delivery.id)) this.#forget(delivery.id);
      else this.#doubts.suspect(delivery.id, study.studyInstanceUid);
      study.done([delivery.id]);
      this.#options.onFault(error);
      this.#options.onStoreFailure();
      return;
    }
    const hasEnded = state !== 'pending' || study.isDropped(delivery.id);
    study.done([delivery.id]);
    // Studies that were let go of meanwhile are to be seen, whatever else there is to send.
    if (notBefore > 0) this.#options.wakeAt(Math.ceil(notBefore / WAKE_STEP_MS) * WAKE_STEP_MS);
    if (hasEnded) this.#forget(delivery.id);
    if (!recorded) return;
    const { destinationId, arrivalId, identity } = delivery;
    const event = { destinationId, arrivalId, identity, state, evidence, reason };
    const answered = delivery.state === 'pending' && (state === 'sent' || state === 'verified');
    if (state === 'quarantined') this.#options.emit('quarantine', event);
    else if (state !== 'pending') this.#options.emit('delivery', event);
    const isProven = delivery.state === 'sent' && state === 'verified' && delivery.answeredAt !== null;
    this.#options.onSettled(
      answered ? { bytes: delivery.bytes, tier: study.rank.tier } : null,
      isProven ? Math.max(0, now - (delivery.answeredAt ?? now)) : null,
    );
  }

  /** One that cannot be asked anything is not to blame for that. */
  #isUnanswered(results: ReadonlyMap<number, LookUpResult>): boolean {
    const { canLookUp, canReadBack, canCommit } = this.#view();
    return (canLookUp || canReadBack || canCommit) && [...results.values()].every((result) => result === 'unknown');
  }

  #view(): EvidenceView {
    const { lookUp, readBack, commitment = false } = this.#options.sender.transport.supports;
    const { verify } = this.#options.sender;
    return { verify, canLookUp: lookUp, canReadBack: readBack, canCommit: commitment };
  }

  /**
   * One real instance, to see whether storage is alive. What it comes to also counts for its delivery, unless the
   * destination is held to be at fault. `alive` is null where the instance could not be read here, so that another one is
   * to be tried.
   */
  async trial(work: WorkBatch): Promise<{ readonly alive: boolean | null; readonly reason: string }> {
    const { study } = work;
    const deliveries = await this.#withoutArrived(work);
    const delivery = deliveries?.[0];
    if (deliveries === undefined) return { alive: false, reason: 'it cannot be asked' };
    if (delivery === undefined) return { alive: true, reason: 'it shows what it was sent' };
    let answer: { readonly alive: boolean | null; readonly reason: string } = TRANSPORT_FAILED;
    const made = await this.#attempt(study, deliveries, async (attempt) => {
      answer = await this.#tried(study, attempt);
    });
    // What is given up says nothing of the destination.
    return made === 'none' ? { alive: null, reason: 'it was given up meanwhile' } : answer;
  }

  async #tried(
    study: WindowStudy,
    { deliveries, results }: Attempt,
  ): Promise<{ readonly alive: boolean | null; readonly reason: string }> {
    const outcome = outcomeAt(results, 0);
    const isUnreadable = outcome.kind === 'unreadable';
    const alive = isUnreadable ? null : isTrialAlive(outcome);
    const decisions: readonly Decision[] =
      alive !== false
        ? this.#decide(deliveries, results, true)
        : [afterVainTrial(outcome, this.#view(), this.#options.random(), this.#options.retry)];
    await this.#apply(study, deliveries, decisions);
    return { alive, reason: reasonOf(outcome) };
  }
}

/**
 * One that failed before may have arrived then, also in a process that is no more. What a commitment was refused for goes
 * again though it is shown.
 */
function mayHaveArrived({ attempts, reason }: Delivery, isByReport: boolean): boolean {
  return !isByReport && (attempts > 0 || reason !== null);
}

function reasonOf(outcome: SendResult['outcome']): string {
  return 'reason' in outcome ? outcome.reason : 'it stores';
}

function bytesOf(deliveries: readonly Delivery[]): number {
  return deliveries.reduce((sum, { bytes }) => sum + bytes, 0);
}

function outcomeAt(results: readonly SendResult[], index: number): SendResult['outcome'] {
  return results[index]?.outcome ?? { kind: 'ambiguous', reason: 'no outcome' };
}
