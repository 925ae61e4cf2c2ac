import type { Clock } from '../domain/clock.ts';
import type { Delivery } from '../domain/delivery.ts';
import { SpillwayError } from '../errors.ts';
import type { DestinationEvent } from '../routing/destination.ts';
import {
  afterLookUp,
  afterSend,
  type Decision,
  type EvidenceView,
  type LookUpResult,
  type RetryPolicy,
  type TroubleView,
} from '../routing/retry.ts';
import type { Catalog, Settlement } from '../storage/catalog.ts';
import { GroupCommit } from '../storage/group-commit.ts';
import type { DestinationSender, SendResult } from './destination-sender.ts';
import type { Emit } from './events.ts';
import type { ReplayWindow, WindowStudy, WorkBatch } from './replay-window.ts';
import { eventOfSend, isTrialAlive } from './request-verdict.ts';

const MAX_SETTLE_BATCH = 512;
const CANNOT_ASK = { type: 'failure', reason: 'it cannot be asked what it holds' } as const;

export interface DeliveryWorkerOptions {
  readonly catalog: Catalog;
  readonly window: ReplayWindow;
  readonly sender: DestinationSender;
  readonly retry: RetryPolicy;
  readonly clock: Clock;
  /** Aborts what is in flight. */
  readonly signal: AbortSignal;
  readonly emit: Emit;
  /** Something was learnt about the destination. */
  readonly dispatch: (event: DestinationEvent) => void;
  /** A delivery was recorded; with its bytes where the destination answered for it. */
  readonly onSettled: (answeredBytes: number | null) => void;
  readonly onStoreFailure: () => void;
  readonly onFault: (error: unknown) => void;
}

/** Works on batches of deliveries: sends or asks, has routing decide what the outcomes mean, and records it. */
export class DeliveryWorker {
  readonly #options: DeliveryWorkerOptions;
  readonly #settlements: GroupCommit<Settlement, boolean>;
  /** Deliveries that may have arrived: they are looked up before they are sent again. */
  readonly #lookUpFirst = new Set<number>();
  /** How many may go in one request with a delivery that may have spoiled one, itself included. */
  readonly #company = new Map<number, number>();
  /** How deliveries have failed by themselves; `stored` is the count of stored ones at the last failure. */
  readonly #troubles = new Map<number, TroubleView & { readonly stored: number }>();
  /** Instances that the destination has stored. */
  #stored = 0;
  /** The smallest of them. */
  #witness: Delivery | undefined;
  /** Studies that were being sent when the process last ended. */
  readonly #interrupted = new Set<string>();

  constructor(options: DeliveryWorkerOptions) {
    this.#options = options;
    this.#settlements = new GroupCommit(async (batch) => {
      const stale = new Set(await options.catalog.settle(batch));
      return batch.map((settlement) => !stale.has(settlement.deliveryId));
    }, MAX_SETTLE_BATCH);
  }

  /** All of a study's deliveries are looked up before they are sent. */
  suspectStudy(studyInstanceUid: string): void {
    this.#interrupted.add(studyInstanceUid);
  }

  studyFinished(studyInstanceUid: string): void {
    this.#interrupted.delete(studyInstanceUid);
  }

  /** Whether the study's lease must be left standing, so that the next opening knows that some may have arrived. */
  mustKeepLease(study: WindowStudy): boolean {
    return this.#interrupted.has(study.studyInstanceUid) || study.queue.some(({ id }) => this.#lookUpFirst.has(id));
  }

  /** How many may go in one request with this delivery, itself included. */
  companyOf(deliveryId: number): number {
    return this.#company.get(deliveryId) ?? Number.POSITIVE_INFINITY;
  }

  async send(work: WorkBatch): Promise<void> {
    const { study } = work;
    const deliveries = await this.#withoutArrived(work);
    if (deliveries === undefined || deliveries.length === 0) return;
    const [first] = deliveries;
    const alone = deliveries.length === 1;
    if (alone && first !== undefined) await this.#proveStorage(first.id);
    const results = await this.#attempt(study, deliveries);
    if (results === undefined) return;
    const decisions = this.#decide(deliveries, results, alone);
    const lone = first === undefined ? undefined : this.#troubles.get(first.id);
    await this.#apply(study, deliveries, decisions);
    // Push-back to one instance again and again, while others are stored, says nothing of the destination.
    const onlyItsOwn = alone && (lone?.whileOthersStored ?? 0) > 0;
    const event = onlyItsOwn && outcomeAt(results, 0).kind === 'push-back' ? undefined : eventOfSend(results);
    if (event !== undefined) this.#options.dispatch(event);
  }

  #decide(deliveries: readonly Delivery[], results: readonly SendResult[], alone: boolean): readonly Decision[] {
    const stored = results.filter(({ outcome }) => outcome.kind === 'stored').length;
    const request = { alone, othersStored: stored > 0 };
    const decisions = deliveries.map((delivery, index) => {
      const outcome = outcomeAt(results, index);
      const trouble = this.#trouble(delivery.id, outcome, alone);
      return afterSend({ ...delivery, trouble }, outcome, this.#view(), request, this.#options.retry);
    });
    this.#stored += stored;
    deliveries.forEach((delivery, index) => {
      const isSmaller = this.#witness === undefined || delivery.bytes <= this.#witness.bytes;
      if (isSmaller && outcomeAt(results, index).kind === 'stored') this.#witness = delivery;
    });
    return decisions;
  }

  /**
   * Before an instance that failed is tried again without anything else having been stored since: sends one again that
   * the destination holds exactly so, which changes nothing there. If it stores that, the fault is not its own.
   */
  async #proveStorage(deliveryId: number): Promise<void> {
    const trouble = this.#troubles.get(deliveryId);
    const { sender, signal } = this.#options;
    const witness = this.#witness;
    if (trouble === undefined || trouble.stored !== this.#stored || witness === undefined) return;
    if (!sender.transport.supports.readBack) return;
    try {
      // What was deleted there stays deleted, and what another version has replaced stays replaced.
      const held = await sender.transport.readBack(witness.identity, signal);
      if (held === null || held === 'absent' || held.digest !== witness.digest) return;
      if (held.transferSyntaxUid !== witness.identity.transferSyntaxUid) return;
      const results = await sender.send([witness], signal);
      const { kind } = outcomeAt(results, 0);
      if (kind === 'stored') this.#stored += 1;
      // It was verified, and may have made room since.
      if (kind === 'unreadable') this.#witness = undefined;
      const event = eventOfSend(results);
      if (event !== undefined) this.#options.dispatch(event);
    } catch (error) {
      if (error instanceof SpillwayError && error.code === 'SPILLWAY_NOT_FOUND') this.#witness = undefined;
      else if (!signal.aborted) this.#options.onFault(error);
    }
  }

  /** Counts a failure that may be the delivery's own; what fails in company or with the destination does not count. */
  #trouble(deliveryId: number, outcome: SendResult['outcome'], alone: boolean): TroubleView {
    const before = this.#troubles.get(deliveryId) ?? { failures: 0, whileOthersStored: 0, stored: this.#stored };
    const counts =
      outcome.kind === 'refused' || (alone && ['push-back', 'ambiguous', 'unanswered'].includes(outcome.kind));
    if (!counts) return before;
    const trouble = {
      failures: before.failures + 1,
      whileOthersStored: before.whileOthersStored + (this.#stored > before.stored ? 1 : 0),
      stored: this.#stored,
    };
    this.#troubles.set(deliveryId, trouble);
    this.#company.set(deliveryId, 1);
    return trouble;
  }

  /** Sends; undefined when it was aborted or failed here, with the deliveries given back. */
  async #attempt(study: WindowStudy, deliveries: readonly Delivery[]) {
    try {
      return await this.#clarify(deliveries, await this.#options.sender.send(deliveries, this.#options.signal));
    } catch (error) {
      // Whatever went out may have arrived.
      for (const { id } of deliveries) this.#lookUpFirst.add(id);
      this.#options.window.giveBack(study, deliveries);
      if (!this.#options.signal.aborted) {
        this.#options.onFault(error);
        this.#options.dispatch({ type: 'failure', reason: 'the transport failed' });
      }
      return undefined;
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

  /** Settles those of a batch that an earlier, interrupted send has brought there; returns the rest, if it could ask. */
  async #withoutArrived({ study, deliveries }: WorkBatch): Promise<readonly Delivery[] | undefined> {
    const wasInterrupted = this.#interrupted.has(study.studyInstanceUid);
    // One that failed before may have arrived then, also in a process that is no more.
    const doubtful = deliveries.filter(
      ({ id, attempts }) => wasInterrupted || attempts > 0 || this.#lookUpFirst.has(id),
    );
    if (doubtful.length === 0) return deliveries;
    const results = await this.#ask(study, deliveries, doubtful);
    if (results === undefined) return undefined;
    if (isUnanswered(results)) this.#options.dispatch(CANNOT_ASK);
    const arrived = doubtful.filter(({ id }) => ['found', 'equal'].includes(results.get(id) ?? ''));
    await this.#apply(
      study,
      arrived,
      arrived.map((delivery) => afterLookUp(delivery, results.get(delivery.id) ?? 'unknown', this.#options.retry)),
    );
    return deliveries.filter((delivery) => !arrived.includes(delivery));
  }

  async lookUp({ study, deliveries }: WorkBatch): Promise<void> {
    const results = await this.#ask(study, deliveries, deliveries);
    if (results === undefined) return;
    const decisions = deliveries.map((delivery) =>
      afterLookUp(delivery, results.get(delivery.id) ?? 'unknown', this.#options.retry),
    );
    await this.#apply(study, deliveries, decisions);
    if (isUnanswered(results)) this.#options.dispatch(CANNOT_ASK);
  }

  /** Asks about some of the deliveries taken; undefined when that failed, with all of them given back. */
  async #ask(study: WindowStudy, taken: readonly Delivery[], asked: readonly Delivery[]) {
    try {
      return await this.#options.sender.ask(asked, this.#options.signal);
    } catch (error) {
      this.#options.window.giveBack(study, taken);
      if (!this.#options.signal.aborted) {
        this.#options.onFault(error);
        this.#options.dispatch({ type: 'failure', reason: 'the transport failed' });
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
        if (decision?.lookUpFirst !== false) this.#lookUpFirst.add(delivery.id);
        if (decision?.company === 'alone') this.#company.set(delivery.id, 1);
        if (decision?.company === 'fewer') this.#company.set(delivery.id, Math.ceil(deliveries.length / 2));
        requeued.push(delivery);
      } else {
        settling.push(this.#settle(study, delivery, decision, now));
      }
    });
    if (requeued.length > 0) this.#options.window.giveBack(study, requeued);
    await Promise.all(settling);
  }

  async #settle(
    study: WindowStudy,
    delivery: Delivery,
    decision: Extract<Decision, { do: 'settle' }>,
    now: number,
  ): Promise<void> {
    const { state, evidence, attempts, reason, delayMs } = decision;
    let recorded: boolean;
    try {
      recorded = await this.#settlements.submit({
        deliveryId: delivery.id,
        lease: study.lease,
        state,
        evidence,
        attempts,
        reason,
        notBefore: delayMs > 0 ? now + delayMs : 0,
        at: now,
      });
    } catch (error) {
      this.#lookUpFirst.add(delivery.id);
      this.#options.window.done(study, [delivery.id]);
      this.#options.onFault(error);
      this.#options.onStoreFailure();
      return;
    }
    this.#options.window.done(study, [delivery.id]);
    if (state !== 'pending') {
      this.#lookUpFirst.delete(delivery.id);
      this.#company.delete(delivery.id);
      this.#troubles.delete(delivery.id);
    }
    if (!recorded) return;
    const { destinationId, arrivalId, identity } = delivery;
    const event = { destinationId, arrivalId, identity, state, evidence, reason };
    const answered = delivery.state === 'pending' && (state === 'sent' || state === 'verified');
    if (state === 'quarantined') this.#options.emit('quarantine', event);
    else if (state !== 'pending') this.#options.emit('delivery', event);
    this.#options.onSettled(answered ? delivery.bytes : null);
  }

  #view(): EvidenceView {
    const { lookUp, readBack } = this.#options.sender.transport.supports;
    return { verify: this.#options.sender.verify, canLookUp: lookUp, canReadBack: readBack };
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
    const results = await this.#attempt(study, deliveries);
    if (results === undefined) return { alive: false, reason: 'the transport failed' };
    const outcome = outcomeAt(results, 0);
    const isUnreadable = outcome.kind === 'unreadable';
    const alive = isUnreadable ? null : isTrialAlive(outcome);
    const decisions: readonly Decision[] =
      alive !== false
        ? this.#decide(deliveries, results, true)
        : [{ do: 'requeue', lookUpFirst: outcome.kind !== 'refused', company: 'any' }];
    await this.#apply(study, deliveries, decisions);
    return { alive, reason: 'reason' in outcome ? outcome.reason : 'it stores' };
  }
}

function isUnanswered(results: ReadonlyMap<number, LookUpResult>): boolean {
  return [...results.values()].every((result) => result === 'unknown');
}

function outcomeAt(results: readonly SendResult[], index: number): SendResult['outcome'] {
  return results[index]?.outcome ?? { kind: 'ambiguous', reason: 'no outcome' };
}
