import type { Clock } from '../domain/clock.ts';
import type { Delivery } from '../domain/delivery.ts';
import type { DestinationEvent } from '../routing/destination.ts';
import { afterLookUp, afterSend, type Decision, type EvidenceView, type RetryPolicy } from '../routing/retry.ts';
import type { Catalog, Settlement } from '../storage/catalog.ts';
import { GroupCommit } from '../storage/group-commit.ts';
import type { SendOutcome } from '../transports/transport.ts';
import type { DestinationSender } from './destination-sender.ts';
import type { Emit } from './events.ts';
import type { ReplayWindow, WindowStudy, WorkBatch } from './replay-window.ts';
import { eventOfSend, isTrialAlive } from './request-verdict.ts';

const MAX_SETTLE_BATCH = 512;

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
  /** Deliveries that may be what spoiled a request of several. */
  readonly #alone = new Set<number>();
  /** Connections lost over a delivery since the last outage. */
  readonly #lostAnswers = new Map<number, number>();
  /** Studies that were being sent when the process last ended. */
  readonly #interrupted = new Set<string>();

  constructor(options: DeliveryWorkerOptions) {
    this.#options = options;
    this.#settlements = new GroupCommit(async (batch) => {
      const stale = new Set(await options.catalog.settle(batch));
      return batch.map((settlement) => !stale.has(settlement.deliveryId));
    }, MAX_SETTLE_BATCH);
  }

  /** An outage explains every connection that was lost before it. */
  outageBegan(): void {
    this.#lostAnswers.clear();
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

  isAlone(deliveryId: number): boolean {
    return this.#alone.has(deliveryId);
  }

  async send(work: WorkBatch): Promise<void> {
    const { study } = work;
    const deliveries = await this.#withoutArrived(work);
    if (deliveries === undefined || deliveries.length === 0) return;
    const results = await this.#attempt(study, deliveries);
    if (results === undefined) return;
    const alone = deliveries.length === 1;
    const decisions = deliveries.map((delivery, index) => {
      const outcome = outcomeAt(results, index);
      const lostAnswers = (this.#lostAnswers.get(delivery.id) ?? 0) + (outcome.kind === 'ambiguous' ? 1 : 0);
      if (lostAnswers > 0) this.#lostAnswers.set(delivery.id, lostAnswers);
      return afterSend({ ...delivery, lostAnswers }, outcome, this.#view(), alone, this.#options.retry);
    });
    await this.#apply(study, deliveries, decisions);
    const event = eventOfSend(results);
    if (event !== undefined) this.#options.dispatch(event);
  }

  /** Sends; undefined when it was aborted or failed here, with the deliveries given back. */
  async #attempt(study: WindowStudy, deliveries: readonly Delivery[]) {
    try {
      return await this.#options.sender.send(deliveries, this.#options.signal);
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

  /** Settles those of a batch that an earlier, interrupted send has brought there; returns the rest, if it could ask. */
  async #withoutArrived({ study, deliveries }: WorkBatch): Promise<readonly Delivery[] | undefined> {
    const wasInterrupted = this.#interrupted.has(study.studyInstanceUid);
    const doubtful = deliveries.filter(({ id }) => wasInterrupted || this.#lookUpFirst.has(id));
    if (doubtful.length === 0) return deliveries;
    const results = await this.#ask(study, deliveries, doubtful);
    if (results === undefined) return undefined;
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
    if ([...results.values()].every((result) => result === 'unknown')) {
      this.#options.dispatch({ type: 'failure', reason: 'it cannot be asked what it holds' });
    }
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
        if (decision?.alone) this.#alone.add(delivery.id);
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
      });
    } catch (error) {
      this.#lookUpFirst.add(delivery.id);
      this.#options.window.done(study, [delivery.id]);
      this.#options.onFault(error);
      this.#options.onStoreFailure();
      return;
    }
    this.#options.window.done(study, [delivery.id]);
    this.#lookUpFirst.delete(delivery.id);
    this.#alone.delete(delivery.id);
    if (state !== 'pending') this.#lostAnswers.delete(delivery.id);
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
   * destination is held to be at fault.
   */
  async trial(work: WorkBatch, onlyOne: boolean): Promise<{ readonly alive: boolean; readonly reason: string }> {
    const { study } = work;
    const deliveries = await this.#withoutArrived(work);
    const delivery = deliveries?.[0];
    if (deliveries === undefined) return { alive: false, reason: 'it cannot be asked' };
    if (delivery === undefined) return { alive: true, reason: 'it shows what it was sent' };
    const results = await this.#attempt(study, deliveries);
    if (results === undefined) return { alive: false, reason: 'the transport failed' };
    const outcome = outcomeAt(results, 0);
    const alive = isTrialAlive(outcome, onlyOne);
    const decision: Decision = alive
      ? afterSend(delivery, outcome, this.#view(), true, this.#options.retry)
      : { do: 'requeue', lookUpFirst: outcome.kind !== 'refused', alone: false };
    await this.#apply(study, deliveries, [decision]);
    return { alive, reason: 'reason' in outcome ? outcome.reason : 'it stores' };
  }
}

function outcomeAt(results: readonly { readonly outcome: SendOutcome }[], index: number): SendOutcome {
  return results[index]?.outcome ?? { kind: 'ambiguous', reason: 'no outcome' };
}
