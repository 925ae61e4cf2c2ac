import type { Clock } from '../domain/clock.ts';
import type { Delivery, Lane } from '../domain/delivery.ts';
import type { Rank, Urgency } from '../domain/rank.ts';
import {
  type DestinationEvent,
  type DestinationPolicy,
  type DestinationState,
  slots,
  startableAt,
} from '../routing/destination.ts';
import type { Catalog } from '../storage/catalog.ts';
import type { Destination } from '../transports/transport.ts';
import type { CommitmentDesk } from './commitment-desk.ts';
import { DeliveryWorker } from './delivery-worker.ts';
import type { DestinationSender } from './destination-sender.ts';
import type { Emit } from './events.ts';
import { LaneSlots } from './lane-slots.ts';
import { LaneWindows } from './lane-windows.ts';
import type { WorkBatch } from './replay-window.ts';
import { SlotRunner } from './slot-runner.ts';
import { Turns } from './turns.ts';
import { Withholding } from './withholding.ts';

/** Studies held in memory for each request that may be in flight, so that the next is at hand. */
const STUDIES_PER_SLOT = 2;
/** Pause after the store failed to record an outcome: going on would send the same again and again. */
export const STORE_FAILURE_PAUSE_MS = 5_000;

export interface BacklogSenderOptions {
  readonly destination: Destination;
  readonly catalog: Catalog;
  readonly sender: DestinationSender;
  readonly commitment: CommitmentDesk | undefined;
  readonly policy: DestinationPolicy;
  /** The index of the tier that is a lane of its own, if one is. */
  readonly historyTier: number | undefined;
  readonly clock: Clock;
  /** In [0, 1), for jitter. */
  readonly random: () => number;
  /** Aborts what is in flight. */
  readonly signal: AbortSignal;
  readonly emit: Emit;
  /** What routing holds the destination to be. */
  readonly state: () => DestinationState;
  /** Whether nothing may be started, whatever routing says. */
  readonly isHeld: () => boolean;
  /** Something was learnt about the destination. */
  readonly dispatch: (event: DestinationEvent) => void;
  /** `refresh` and `pump` are to be called at that instant, ms since the epoch. */
  readonly wakeAt: (at: number) => void;
  /** A delivery was recorded; with what the destination answered for. */
  readonly onSettled: (
    answered: { readonly bytes: number; readonly tier: number } | null,
    /** For how long it had waited for its evidence, in ms, where that came. */
    waitedMs: number | null,
  ) => void;
  readonly onFault: (error: unknown) => void;
}

/** Keeps a destination's slots filled with the most urgent of what it is owed. */
export class BacklogSender {
  readonly worker: DeliveryWorker;
  readonly #options: BacklogSenderOptions;
  readonly #windows: LaneWindows;
  readonly #lanes: LaneSlots;
  readonly #slots: SlotRunner;
  readonly #withholding = new Withholding();
  /** Calls of the windows. */
  readonly #inWindows = new Turns();
  /** After the store failed. */
  #pausedUntil = 0;

  constructor(options: BacklogSenderOptions) {
    this.#options = options;
    const { destination, catalog, policy, clock } = options;
    this.worker = new DeliveryWorker({
      ...options,
      withholding: this.#withholding,
      retry: policy.retry,
      inFlight: () => this.#slots.inFlight,
      onStoreFailure: () => this.pauseForStore(),
    });
    this.#windows = new LaneWindows({
      catalog,
      destinationId: destination.id,
      historyTier: options.historyTier,
      maxStudies: policy.flow.maxConcurrency * STUDIES_PER_SLOT,
      isWithheld: (id) => this.#withholding.has(id),
      onLeased: (study, interrupted) => {
        if (interrupted) this.worker.suspectStudy(study);
      },
      onFinished: (study) => this.worker.studyFinished(study),
      isInDoubt: (study) => this.worker.isInDoubt(study),
    });
    this.#lanes = new LaneSlots(policy);
    this.#slots = new SlotRunner({
      clock,
      slots: (now) => this.#allowed(now),
      mayStart: (now) => startableAt(options.state(), now, policy) <= now,
      work: (now, answered) => this.#work(now, answered),
      onBlocked: (now) => this.#wakeWhenFree(now),
    });
  }

  /** Requests in flight. */
  get inFlight(): number {
    return this.#slots.inFlight;
  }

  /** Fills the free slots. `news`: there may be work where there was none. */
  pump(news = false): void {
    this.#slots.pump(news);
  }

  /** Resolves when nothing is in flight. */
  onIdle(): Promise<void> {
    return this.#slots.onIdle();
  }

  /** @param lane - Where it belongs, unless its study is held in another one already. */
  arrived(studyInstanceUid: string, rank: Rank, lane: Lane): void {
    this.#windows.arrived(studyInstanceUid, rank, lane);
  }

  /** Something in the catalog may have fallen due, or may be no more. */
  refresh(): void {
    this.#windows.refresh();
  }

  /** These have ended in the catalog; resolves when none of them is begun any more. */
  async drop(deliveryIds: readonly number[]): Promise<void> {
    await this.#inWindows.run(async () => this.#windows.drop(new Set(deliveryIds)));
    this.worker.forget(new Set(deliveryIds));
  }

  /**
   * Gives deliveries up while none of them is in flight or begun: waits for the requests under way.
   *
   * @param giveUp - Has the catalog give them up; returns which have ended.
   */
  async giveUp(
    deliveryIds: readonly number[],
    signal: AbortSignal | undefined,
    giveUp: () => Promise<readonly number[]>,
  ): Promise<readonly number[]> {
    return this.#withholding.during(deliveryIds, signal, async () => {
      const ended = await giveUp();
      if (ended.length > 0) await this.drop(ended);
      return ended;
    });
  }

  /** A study's order became more urgent in the catalog. */
  async restated(studyInstanceUid: string, urgency: Urgency): Promise<void> {
    this.#windows.restated(studyInstanceUid, urgency);
    await this.releaseIdle();
  }

  /** A study's rank was replaced in the catalog. */
  ranked(studyInstanceUid: string, rank: Rank): void {
    this.#windows.ranked(studyInstanceUid, rank);
  }

  /** Ends the leases of studies that nobody works on, so that they are leased by their rank of now. */
  releaseIdle(): Promise<void> {
    return this.#inWindows.run(() => this.#windows.releaseAll());
  }

  /** One pending delivery for a trial, due by `due`; see `ReplayWindow`. */
  takeTrial(
    due: number,
    isTried: (delivery: Delivery) => boolean,
    isFreshOnly: boolean,
  ): Promise<WorkBatch | undefined> {
    return this.#inWindows.run(() => this.#windows.takeTrial(due, isTried, isFreshOnly));
  }

  pauseForStore(): void {
    this.#pausedUntil = this.#options.clock.now() + STORE_FAILURE_PAUSE_MS;
    this.#options.wakeAt(this.#pausedUntil);
  }

  #allowed(now: number): number {
    const { isHeld, state, policy } = this.#options;
    return isHeld() || this.#isPausedForStore(now) ? 0 : slots(state(), now, policy);
  }

  /** A pause longer than any means that the clock has gone back. */
  #isPausedForStore(now: number): boolean {
    const left = this.#pausedUntil - now;
    return left > 0 && left <= STORE_FAILURE_PAUSE_MS;
  }

  /** A timer may fire early or be for another instant: what leaves no slot always has one of its own. */
  #wakeWhenFree(now: number): void {
    const { state, wakeAt } = this.#options;
    const instants = [this.#pausedUntil, state().flow.pausedUntil, this.#lanes.nextChangeAt(state(), now)];
    for (const at of instants) if (at !== null && at > now) wakeAt(at);
  }

  /** One slot's turn. */
  async #work(now: number, answered: () => void): Promise<boolean> {
    const { destination, catalog, state, wakeAt, onFault } = this.#options;
    try {
      const work = await this.#inWindows.run(async () => {
        const taken = await this.#windows.take(this.#lanes.inOrder(state(), now), now, {
          ...destination.transport.batch,
          companyOf: (id) => this.worker.companyOf(id),
          mayLookUp: this.#lanes.mayLookUp(now),
        });
        if (taken !== undefined) this.#lanes.entered(taken, now);
        return taken;
      });
      if (work === undefined) {
        const due = await catalog.nextDueAt({ destinationId: destination.id, now });
        for (const at of [due, this.#lanes.nextChangeAt(state(), now)]) if (at !== null) wakeAt(at);
        return false;
      }
      await this.#carryOut(work, answered);
    } catch (error) {
      onFault(error);
      this.pauseForStore();
    }
    return true;
  }

  async #carryOut(work: WorkBatch, answered: () => void): Promise<void> {
    let isOver = false;
    const over = () => {
      if (!isOver) this.#lanes.left(work);
      isOver = true;
    };
    try {
      if (work.kind === 'look-up') await this.worker.lookUp(work);
      else {
        await this.worker.send(work, () => {
          over();
          answered();
        });
      }
    } finally {
      over();
    }
  }
}
