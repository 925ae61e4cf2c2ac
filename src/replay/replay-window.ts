import type { Delivery } from '../domain/delivery.ts';
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
}

/** A leased study of which a page at a time is held. */
export class WindowStudy {
  readonly studyInstanceUid: string;
  readonly lease: number;
  rank: Rank;
  /** Due deliveries that nobody works on. */
  queue: Delivery[] = [];
  /** Ids that somebody works on. */
  readonly inFlight = new Set<number>();
  /** Everything up to this id is queued, in flight, or was not due. */
  cursor = 0;
  /** There may be more due after the cursor. */
  mayHaveMore = true;
  /** Something was handed out since the last look from the beginning. */
  progressed = false;
  /** Something was handed out since it was leased. */
  yielded = false;

  constructor(studyInstanceUid: string, lease: number, rank: Rank) {
    this.studyInstanceUid = studyInstanceUid;
    this.lease = lease;
    this.rank = rank;
  }
}

const PAGE_SIZE = 256;
const MAX_LOOK_UP_BATCH = 256;
/** A study of which nothing may be sent yet (an earlier version is still out) is looked at again after it. */
const HELD_BACK_MS = 1_000;

/**
 * The bounded part of a backlog that replay holds in memory: the most urgent studies, leased, a page of each. The
 * catalog keeps the rest. Calls must not overlap, except those that are synchronous.
 */
export class ReplayWindow {
  readonly #catalog: Catalog;
  readonly #destinationId: string;
  readonly #maxStudies: number;
  readonly #onLeased: (studyInstanceUid: string, interrupted: boolean) => void;
  readonly #onFinished: (studyInstanceUid: string) => void;
  readonly #studies = new Map<string, WindowStudy>();
  /** Studies may be waiting in the catalog. */
  #mayLease = true;
  #displaced: WindowStudy[] = [];
  /** Its page is on the way: nothing takes its place now. */
  #paging: WindowStudy | undefined;

  constructor(options: {
    readonly catalog: Catalog;
    readonly destinationId: string;
    readonly maxStudies: number;
    readonly onLeased: (studyInstanceUid: string, interrupted: boolean) => void;
    /** All of a study that was due has been worked on. */
    readonly onFinished: (studyInstanceUid: string) => void;
  }) {
    this.#catalog = options.catalog;
    this.#destinationId = options.destinationId;
    this.#maxStudies = options.maxStudies;
    this.#onLeased = options.onLeased;
    this.#onFinished = options.onFinished;
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
    if (this.#studies.size < this.#maxStudies) return;
    const last = this.#ordered()
      .filter((study) => study.inFlight.size === 0 && study !== this.#paging)
      .at(-1);
    if (last !== undefined && compareRank(rank, last.rank) < 0) {
      this.#studies.delete(last.studyInstanceUid);
      this.#displaced.push(last);
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
        const batch = takeBatch(study, bounds);
        if (batch !== undefined) return batch;
      }
      if (!(await this.#releaseFinished(now))) return undefined;
    }
  }

  /** One pending delivery for a trial: of the most urgent study that has any, the smallest that is not excluded. */
  async takeTrial(now: number, isExcluded: (deliveryId: number) => boolean): Promise<WorkBatch | undefined> {
    await this.#fill(now);
    const candidates: { study: WindowStudy; delivery: Delivery }[] = [];
    for (const study of this.#ordered()) {
      await this.#page(study, now);
      for (const delivery of study.queue) if (delivery.state === 'pending') candidates.push({ study, delivery });
    }
    const fresh = candidates.filter(({ delivery }) => !isExcluded(delivery.id));
    const eligible = fresh.length > 0 ? fresh : candidates;
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

  /** These are to be tried again, before what else the study has. */
  giveBack(study: WindowStudy, deliveries: readonly Delivery[]): void {
    for (const { id } of deliveries) study.inFlight.delete(id);
    study.queue.unshift(...deliveries);
  }

  /** The catalog says what has become of these. */
  done(study: WindowStudy, deliveryIds: readonly number[]): void {
    for (const id of deliveryIds) study.inFlight.delete(id);
  }

  /**
   * Ends all leases of studies that nobody works on, so that they are ranked anew; those for which `mustKeep` keep
   * theirs, and come back as interrupted at the next opening.
   */
  async releaseAll(mustKeep: (study: WindowStudy) => boolean): Promise<void> {
    const idle = [...this.#studies.values()].filter((study) => study.inFlight.size === 0 && !mustKeep(study));
    await this.#release(idle);
    this.#mayLease = true;
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
    const displaced = this.#displaced;
    this.#displaced = [];
    if (displaced.length > 0) await this.#release(displaced);
    const room = this.#maxStudies - this.#studies.size;
    if (!this.#mayLease || room <= 0) return;
    this.#mayLease = false;
    const leased = await this.#catalog.leaseStudies({ destinationId: this.#destinationId, now, limit: room });
    if (leased.length === room) this.#mayLease = true;
    for (const { studyInstanceUid, rank, lease, interrupted } of leased) {
      this.#studies.set(studyInstanceUid, new WindowStudy(studyInstanceUid, lease, rank));
      this.#onLeased(studyInstanceUid, interrupted);
    }
  }

  async #page(study: WindowStudy, now: number): Promise<void> {
    if (study.queue.length > 0) return;
    if (!study.mayHaveMore) {
      // Once nobody works on it, what was answered may be looked up, and what was held back may go.
      if (study.inFlight.size > 0 || !study.progressed) return;
      study.cursor = 0;
      study.progressed = false;
    }
    study.mayHaveMore = false;
    this.#paging = study;
    const page = await this.#catalog
      .dueDeliveries({
        destinationId: this.#destinationId,
        studyInstanceUid: study.studyInstanceUid,
        now,
        afterId: study.cursor,
        limit: PAGE_SIZE,
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
    for (const { studyInstanceUid } of finished) this.#onFinished(studyInstanceUid);
    await this.#release(finished.filter((study) => study.yielded));
    await this.#release(
      finished.filter((study) => !study.yielded),
      now + HELD_BACK_MS,
    );
    this.#mayLease = true;
    return true;
  }

  async #release(studies: readonly WindowStudy[], deferUntil?: number): Promise<void> {
    if (studies.length === 0) return;
    for (const study of studies) this.#studies.delete(study.studyInstanceUid);
    await this.#catalog.releaseStudies({
      destinationId: this.#destinationId,
      leases: studies.map((study) => study.lease),
      ...(deferUntil === undefined ? {} : { deferUntil }),
    });
  }
}

function takeBatch(study: WindowStudy, bounds: BatchBounds): WorkBatch | undefined {
  const first = study.queue[0];
  if (first === undefined) return undefined;
  const kind = first.state === 'pending' ? 'send' : 'look-up';
  const taken: Delivery[] = [];
  const left: Delivery[] = [];
  let bytes = 0;
  let company = bounds.maxInstances;
  for (const delivery of study.queue) {
    const fits =
      kind === 'send'
        ? taken.length === 0 ||
          (taken.length < Math.min(company, bounds.companyOf(delivery.id)) && bytes + delivery.bytes <= bounds.maxBytes)
        : taken.length < MAX_LOOK_UP_BATCH;
    if (fits && delivery.state === first.state) {
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
