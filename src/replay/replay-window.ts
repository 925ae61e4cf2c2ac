import type { Delivery, Lane } from '../domain/delivery.ts';
import { compareRank, mergeRank, mergeUrgency, type Rank, type Urgency } from '../domain/rank.ts';
import type { Catalog } from '../storage/catalog.ts';

/** Deliveries of one study that go together. */
export interface WorkBatch {
  readonly study: WindowStudy;
  /** `send`: pending ones. `look-up`: answered ones that wait for evidence. */
  readonly kind: 'send' | 'look-up';
  readonly deliveries: readonly Delivery[];
}

export interface BatchBounds {
  readonly maxInstances: number;
  readonly maxBytes: number;
  /** How many may go in one request with a delivery, itself included. */
  readonly companyOf: (deliveryId: number) => number;
  /** Whether anything may be sent, and whether anything may be asked for, now. */
  readonly maySend: boolean;
  readonly mayLookUp: boolean;
}

/** A leased study of which a page at a time is held. */
export class WindowStudy {
  readonly studyInstanceUid: string;
  readonly lane: Lane;
  readonly lease: number;
  rank: Rank;
  /** Due deliveries that nobody works on. */
  queue: Delivery[] = [];
  /** Ids that somebody works on. */
  readonly inFlight = new Set<number>();
  /** Of those in flight: they have ended meanwhile, without a request from here, and are not tried again. */
  readonly #dropped = new Set<number>();
  /** Everything up to this id is queued, in flight, or was not due. */
  cursor = 0;
  /** There may be more due after the cursor. */
  mayHaveMore = true;
  /** Something was handed out since the last look from the beginning. */
  progressed = false;
  /** Something was handed out since it was leased. */
  yielded = false;

  constructor(studyInstanceUid: string, lane: Lane, lease: number, rank: Rank) {
    this.studyInstanceUid = studyInstanceUid;
    this.lane = lane;
    this.lease = lease;
    this.rank = rank;
  }

  /** These are to be tried again, before what else the study has. */
  giveBack(deliveries: readonly Delivery[]): void {
    for (const { id } of deliveries) this.inFlight.delete(id);
    this.queue.unshift(...deliveries.filter(({ id }) => !this.#dropped.delete(id)));
  }

  /** Whether it has ended while somebody worked on it. */
  isDropped(deliveryId: number): boolean {
    return this.#dropped.has(deliveryId);
  }

  /** The catalog says what has become of these. */
  done(deliveryIds: readonly number[]): void {
    for (const id of deliveryIds) {
      this.inFlight.delete(id);
      this.#dropped.delete(id);
    }
  }

  /** These have ended without anybody here having worked on them. */
  drop(deliveryIds: ReadonlySet<number>): void {
    this.queue = this.queue.filter(({ id }) => !deliveryIds.has(id));
    for (const id of this.inFlight) if (deliveryIds.has(id)) this.#dropped.add(id);
  }
}

export interface ReplayWindowOptions {
  readonly catalog: Catalog;
  readonly destinationId: string;
  readonly lane: Lane;
  /** The index of the tier that is a lane of its own, if one is. */
  readonly historyTier: number | undefined;
  readonly maxStudies: number;
  /** Whether a delivery may not be handed out now. */
  readonly isWithheld: (deliveryId: number) => boolean;
  readonly onLeased: (studyInstanceUid: string, interrupted: boolean) => void;
  /** All of a study that was due has been worked on. */
  readonly onFinished: (studyInstanceUid: string) => void;
  /** Whether some of a study may have arrived, and has not been asked for: whoever leases it next must know. */
  readonly isInDoubt: (studyInstanceUid: string) => boolean;
}

const PAGE_SIZE = 256;
/** So many pages of a study are looked through for something to try. */
const MAX_TRIAL_PAGES = 64;
const MAX_LOOK_UP_BATCH = 256;
/** A study of which nothing may be sent yet (an earlier version is still out) is looked at again after it. */
const HELD_BACK_MS = 1_000;

/**
 * The bounded part of one lane of a backlog that replay holds in memory: the most urgent studies, leased, a page of each.
 * The catalog keeps the rest. Calls must not overlap, except those that are synchronous.
 */
export class ReplayWindow {
  readonly lane: Lane;
  readonly #options: ReplayWindowOptions;
  readonly #studies = new Map<string, WindowStudy>();
  /** There may be studies to lease. */
  #mayLease = true;
  /** Studies that are held no more, but whose leases are still to be ended: the catalog may fail to, and is asked again. */
  readonly #letGo = new Map<WindowStudy, number | undefined>();
  /** A page of it is on the way: nothing takes its place now. */
  #paging: WindowStudy | undefined;

  constructor(options: ReplayWindowOptions) {
    this.lane = options.lane;
    this.#options = options;
  }

  holds(studyInstanceUid: string): boolean {
    return this.#studies.has(studyInstanceUid);
  }

  /** An instance came in. One of higher rank than what waits takes its place, and so the next free slot. */
  arrived(studyInstanceUid: string, rank: Rank): void {
    const held = this.#studies.get(studyInstanceUid);
    if (held !== undefined) {
      held.rank = mergeRank(held.rank, rank);
      held.mayHaveMore = true;
      return;
    }
    this.#mayLease = true;
    if (this.#studies.size < this.#options.maxStudies) return;
    const last = this.#ordered()
      .filter((study) => study.inFlight.size === 0 && study !== this.#paging)
      .at(-1);
    if (last !== undefined && compareRank(rank, last.rank) < 0) {
      this.#studies.delete(last.studyInstanceUid);
      this.#letGo.set(last, undefined);
    }
  }

  /** Something in the catalog may have fallen due. */
  refresh(): void {
    this.#mayLease = true;
  }

  /** The most urgent deliveries that may be worked on now, or undefined when there are none. */
  async take(now: number, bounds: BatchBounds): Promise<WorkBatch | undefined> {
    for (;;) {
      await this.#fill(now);
      for (const study of this.#ordered()) {
        // While the pages of those before it came, an arrival may have taken its place: its lease is about to end.
        if (this.#studies.get(study.studyInstanceUid) !== study) continue;
        await this.#page(study, now);
        if (this.#studies.get(study.studyInstanceUid) !== study) continue;
        const batch = takeBatch(study, bounds, this.#options.isWithheld);
        if (batch !== undefined) return batch;
      }
      if (!(await this.#releaseFinished(now))) return undefined;
    }
  }

  /**
   * One pending delivery for a trial: of the most urgent study that has any, the smallest that was not tried; where all
   * were, and `isFreshOnly` does not forbid it, any.
   */
  async takeTrial(
    now: number,
    isTried: (delivery: Delivery) => boolean,
    isFreshOnly: boolean,
  ): Promise<WorkBatch | undefined> {
    await this.#fill(now);
    const { isWithheld } = this.#options;
    const candidates: { study: WindowStudy; delivery: Delivery }[] = [];
    for (const study of this.#ordered()) {
      await this.#pageToPending(study, now);
      for (const delivery of study.queue) {
        if (delivery.state === 'pending' && !isWithheld(delivery.id)) candidates.push({ study, delivery });
      }
    }
    // While the pages of others came, an arrival may have taken its place: its lease is about to end.
    const held = candidates.filter(({ study }) => this.#studies.get(study.studyInstanceUid) === study);
    const fresh = held.filter(({ delivery }) => !isTried(delivery));
    const eligible = fresh.length > 0 || isFreshOnly ? fresh : held;
    const first = eligible[0]?.study;
    const chosen = eligible
      .filter(({ study }) => study === first)
      .reduce<Delivery | undefined>(
        (best, { delivery }) => (best === undefined || delivery.bytes < best.bytes ? delivery : best),
        undefined,
      );
    if (first === undefined || chosen === undefined) return undefined;
    first.queue = first.queue.filter((delivery) => delivery !== chosen);
    first.inFlight.add(chosen.id);
    first.progressed = true;
    first.yielded = true;
    return { study: first, kind: 'send', deliveries: [chosen] };
  }

  /** Ends all leases of studies that nobody works on, so that they are ranked anew. */
  async releaseAll(): Promise<void> {
    await this.#release([...this.#studies.values()].filter((study) => study.inFlight.size === 0));
    this.#mayLease = true;
  }

  /** These have ended in the catalog: they are not handed out any more. */
  drop(deliveryIds: ReadonlySet<number>): void {
    for (const study of this.#studies.values()) study.drop(deliveryIds);
  }

  /** A study's order became more urgent in the catalog. */
  restated(studyInstanceUid: string, urgency: Urgency): void {
    const held = this.#studies.get(studyInstanceUid);
    if (held !== undefined) held.rank = { ...held.rank, urgency: mergeUrgency(held.rank.urgency, urgency) };
  }

  /** A study's rank was replaced in the catalog. */
  ranked(studyInstanceUid: string, rank: Rank): void {
    const held = this.#studies.get(studyInstanceUid);
    if (held !== undefined) held.rank = rank;
  }

  #ordered(): WindowStudy[] {
    return [...this.#studies.values()].sort(
      (a, b) => compareRank(a.rank, b.rank) || (a.studyInstanceUid < b.studyInstanceUid ? -1 : 1),
    );
  }

  async #fill(now: number): Promise<void> {
    await this.#endLeases();
    const room = this.#options.maxStudies - this.#studies.size;
    if (!this.#mayLease || room <= 0) return;
    this.#mayLease = false;
    const { catalog, destinationId, lane, historyTier } = this.#options;
    const ofTier = historyTier === undefined ? {} : { historyTier };
    const leased = await catalog.leaseStudies({ destinationId, now, limit: room, lane, ...ofTier });
    if (leased.length === room) this.#mayLease = true;
    for (const { studyInstanceUid, rank, lease, interrupted } of leased) {
      this.#studies.set(studyInstanceUid, new WindowStudy(studyInstanceUid, lane, lease, rank));
      this.#options.onLeased(studyInstanceUid, interrupted);
    }
  }

  async #page(study: WindowStudy, now: number): Promise<void> {
    while (study.queue.length === 0) {
      if (!study.mayHaveMore) {
        // Once nobody works on it, what was answered may be looked up, and what was held back may go.
        if (study.inFlight.size > 0 || !study.progressed) return;
        study.cursor = 0;
        study.progressed = false;
      }
      await this.#nextPage(study, now);
    }
  }

  /** Pages on where all that came waits for evidence: what is pending may stand behind it. */
  async #pageToPending(study: WindowStudy, now: number): Promise<void> {
    await this.#page(study, now);
    for (let pages = 1; pages < MAX_TRIAL_PAGES && study.mayHaveMore; pages += 1) {
      if (study.queue.some(({ state }) => state === 'pending')) return;
      await this.#nextPage(study, now);
    }
  }

  async #nextPage(study: WindowStudy, now: number): Promise<void> {
    study.mayHaveMore = false;
    this.#paging = study;
    const page = await this.#options.catalog
      .dueDeliveries({
        destinationId: this.#options.destinationId,
        studyInstanceUid: study.studyInstanceUid,
        now,
        afterId: study.cursor,
        limit: PAGE_SIZE,
      })
      .catch((error) => {
        // It has not been looked at: it is neither finished, nor clear of doubt.
        study.mayHaveMore = true;
        throw error;
      })
      .finally(() => {
        this.#paging = undefined;
      });
    study.cursor = page.at(-1)?.id ?? study.cursor;
    if (page.length === PAGE_SIZE) study.mayHaveMore = true;
    study.queue.push(...page);
  }

  /** Lets go of studies that have nothing to do now; returns whether there were any. */
  async #releaseFinished(now: number): Promise<boolean> {
    const finished = [...this.#studies.values()].filter(
      (study) => study.queue.length === 0 && study.inFlight.size === 0 && !study.mayHaveMore && !study.progressed,
    );
    if (finished.length === 0) return false;
    for (const { studyInstanceUid } of finished) this.#options.onFinished(studyInstanceUid);
    await this.#release(finished.filter((study) => study.yielded));
    await this.#release(
      finished.filter((study) => !study.yielded),
      now + HELD_BACK_MS,
    );
    this.#mayLease = true;
    return true;
  }

  async #release(studies: readonly WindowStudy[], deferUntil?: number): Promise<void> {
    for (const study of studies) {
      this.#studies.delete(study.studyInstanceUid);
      this.#letGo.set(study, deferUntil);
    }
    await this.#endLeases();
  }

  async #endLeases(): Promise<void> {
    const { catalog, destinationId, isInDoubt } = this.#options;
    const groups = new Map<string, { readonly studies: WindowStudy[]; readonly terms: object }>();
    for (const [study, deferUntil] of this.#letGo) {
      const terms = {
        clarified: !isInDoubt(study.studyInstanceUid),
        ...(deferUntil === undefined ? {} : { deferUntil }),
      };
      const key = JSON.stringify(terms);
      const group = groups.get(key) ?? { studies: [], terms };
      groups.set(key, group);
      group.studies.push(study);
    }
    for (const { studies, terms } of groups.values()) {
      await catalog.releaseStudies({ destinationId, leases: studies.map(({ lease }) => lease), ...terms });
      for (const study of studies) this.#letGo.delete(study);
    }
  }
}

function takeBatch(
  study: WindowStudy,
  bounds: BatchBounds,
  isWithheld: (deliveryId: number) => boolean,
): WorkBatch | undefined {
  const first = study.queue.find(
    ({ id, state }) => (state === 'pending' ? bounds.maySend : bounds.mayLookUp) && !isWithheld(id),
  );
  if (first === undefined) return undefined;
  const kind = first.state === 'pending' ? 'send' : 'look-up';
  const taken: Delivery[] = [];
  const left: Delivery[] = [];
  let bytes = 0;
  let company = bounds.maxInstances;
  for (const delivery of study.queue) {
    const fits =
      kind === 'send'
        ? delivery === first ||
          (taken.length < Math.min(company, bounds.companyOf(delivery.id)) && bytes + delivery.bytes <= bounds.maxBytes)
        : taken.length < MAX_LOOK_UP_BATCH;
    if (fits && delivery.state === first.state && !isWithheld(delivery.id)) {
      taken.push(delivery);
      bytes += delivery.bytes;
      company = Math.min(company, bounds.companyOf(delivery.id));
    } else {
      left.push(delivery);
    }
  }
  study.queue = left;
  for (const { id } of taken) study.inFlight.add(id);
  study.progressed = true;
  study.yielded = true;
  return { study, kind, deliveries: taken };
}
