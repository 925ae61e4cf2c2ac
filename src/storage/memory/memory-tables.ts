import type { DeliveryState, Evidence, VersionRecord } from '../../domain/delivery.ts';
import type { EpisodeRecord } from '../../domain/episode.ts';
import type { Rank } from '../../domain/rank.ts';
import type { Acceptance, RankingFacts } from '../catalog.ts';
import { type HeldVersion, MemoryHoldings } from './memory-holdings.ts';

/** One version × one destination. */
export interface DeliveryEntry {
  readonly id: number;
  readonly destination: DestinationEntry;
  readonly study: StudyEntry;
  readonly version: VersionRecord;
  isFurther: boolean;
  /** Of the version as it was then: it may come back in a file of another length. */
  readonly bytes: number;
  state: DeliveryState;
  evidence: Evidence;
  attempts: number;
  reason: string | null;
  notBefore: number;
  /** A further version that waits for an earlier delivery of its SOP Instance UID. */
  isHeld: boolean;
  /** Number of the change that made it final; null while it is open. */
  settledSeq: number | null;
  /** When, ms since the epoch. */
  settledAt: number | null;
  answeredAt: number | null;
  /** From which number until which it was final before, when something else became of it. */
  readonly former: { readonly settled: number; readonly until: number }[];
}

/** One study × destination. */
export interface StudyEntry {
  readonly studyInstanceUid: string;
  rank: Rank;
  /** By which of its destination's policies the rank was judged. */
  ranking: number;
  /** Open deliveries, ascending by id. */
  readonly open: Map<number, DeliveryEntry>;
  openBytes: number;
  /** The earliest `notBefore` of what is open and not held; infinite when there is none. Set right when a lease ends. */
  dueAt: number;
  lease: number | null;
  isInterrupted: boolean;
  /** An outage held it up. */
  isBacklog: boolean;
}

export interface DestinationEntry {
  readonly destinationId: string;
  retired: { readonly at: number; readonly reason: string; readonly by: string } | null;
  rankedBy: string | null;
  /** Counts the changes of its policy. */
  ranking: number;
  readonly counts: Record<DeliveryState, number>;
  readonly studies: Map<string, StudyEntry>;
  /** Arrival ids of the versions with a delivery to it. */
  readonly arrivals: Set<string>;
  /** Those with open deliveries. */
  readonly openStudies: Set<StudyEntry>;
  /** Every delivery, ascending by id. */
  readonly deliveries: DeliveryEntry[];
  /** Open deliveries with a `notBefore`. */
  readonly deferred: Set<DeliveryEntry>;
  /** Open deliveries by SOP Instance UID, ascending by id: all but the first are held. */
  readonly openByInstance: Map<string, Set<DeliveryEntry>>;
  /** Every delivery by SOP Instance UID, ascending by id. */
  readonly byInstance: Map<string, DeliveryEntry[]>;
  /** Episodes that have neither ended nor been closed. */
  outages: number;
}

export interface EpisodeEntry {
  record: EpisodeRecord;
  readonly destination: DestinationEntry;
  /** The sequence when it began and when it ended: its set is what was accepted by `end` and not final by `start`. */
  readonly start: number;
  end: number;
}

/** What a memory catalog holds; it outlives the openings of its store. */
export class MemoryTables {
  /** Ascending by arrival id. */
  readonly versions: HeldVersion[] = [];
  readonly arrivals = new Map<string, HeldVersion>();
  readonly versionsByStudy = new Map<string, HeldVersion[]>();
  readonly versionsByInstance = new Map<string, HeldVersion[]>();
  /** Arrival ids by study, in the order of acceptance, which is not always that of arrival. */
  readonly accepted = new Map<string, string[]>();
  /** The arrival id of the version accepted last, or restored, by study. */
  readonly acceptedLast = new Map<string, string>();
  /** What callers said where instances came from, by arrival id. */
  readonly sources = new Map<string, string | null>();
  readonly holdings = new MemoryHoldings();
  /** By arrival id. */
  readonly rankingFacts = new Map<string, RankingFacts>();
  readonly destinations = new Map<string, DestinationEntry>();
  /** Studies by the lease that they are under. */
  readonly leases = new Map<number, { readonly destination: DestinationEntry; readonly study: StudyEntry }>();
  readonly deliveries = new Map<number, DeliveryEntry>();
  /** The episode with id n is at n - 1. */
  readonly episodes: EpisodeEntry[] = [];
  /** Counts acceptances, settlements and leases. */
  sequence = 0;

  /** Ends the leases of the former opening: what they had leased is marked, and is free again. */
  voidLeases(): void {
    for (const [lease, { study }] of this.leases) {
      study.isInterrupted = true;
      this.endLease(lease);
    }
  }

  endLease(lease: number): void {
    const study = this.leases.get(lease)?.study;
    this.leases.delete(lease);
    if (study === undefined) return;
    study.lease = null;
    this.refreshDue(study);
  }

  /** When a study has something due, unless it is leased: then it is set right when the lease ends. */
  refreshDue(study: StudyEntry): void {
    if (study.lease !== null) return;
    study.dueAt = Number.POSITIVE_INFINITY;
    for (const delivery of study.open.values()) {
      if (!delivery.isHeld) study.dueAt = Math.min(study.dueAt, delivery.notBefore);
    }
  }

  addVersion(
    given: VersionRecord,
    { attributes, source, urgency }: Omit<Acceptance, 'version' | 'deliveries'>,
  ): HeldVersion {
    const version: HeldVersion = { ...given };
    const { arrivalId, receivedAt } = version;
    const { studyInstanceUid, sopInstanceUid } = version.identity;
    this.rankingFacts.set(arrivalId, { arrivalId, attributes, receivedAt, urgency });
    this.sources.set(arrivalId, source);
    this.arrivals.set(arrivalId, version);
    insertByArrival(this.versions, version);
    insertByArrival(listUnder(this.versionsByStudy, studyInstanceUid), version);
    listUnder(this.versionsByInstance, sopInstanceUid).push(version);
    listUnder(this.accepted, studyInstanceUid).push(arrivalId);
    this.acceptedLast.set(studyInstanceUid, arrivalId);
    this.holdings.add(version, attributes, true);
    return version;
  }

  addDelivery(destination: DestinationEntry, version: VersionRecord, isFurther: boolean, study: StudyEntry): void {
    const siblings = this.#openOfInstance(destination, version.identity.sopInstanceUid);
    this.sequence += 1;
    const delivery: DeliveryEntry = {
      id: this.sequence,
      destination,
      study,
      version,
      isFurther,
      bytes: version.bytes,
      state: 'pending',
      evidence: 'accepted',
      attempts: 0,
      reason: null,
      notBefore: 0,
      isHeld: siblings.size > 0,
      settledSeq: null,
      settledAt: null,
      answeredAt: null,
      former: [],
    };
    siblings.add(delivery);
    listUnder(destination.byInstance, version.identity.sopInstanceUid).push(delivery);
    this.deliveries.set(delivery.id, delivery);
    destination.deliveries.push(delivery);
    destination.arrivals.add(version.arrivalId);
    destination.counts.pending += 1;
    destination.openStudies.add(study);
    study.open.set(delivery.id, delivery);
    study.openBytes += version.bytes;
    this.holdings.countOpen(version.identity.studyInstanceUid, 1);
    if (!delivery.isHeld) study.dueAt = 0;
  }

  defer(delivery: DeliveryEntry, notBefore: number): void {
    delivery.notBefore = notBefore;
    if (notBefore > 0) delivery.destination.deferred.add(delivery);
    else delivery.destination.deferred.delete(delivery);
  }

  setState(delivery: DeliveryEntry, state: DeliveryState): void {
    delivery.destination.counts[delivery.state] -= 1;
    delivery.destination.counts[state] += 1;
    delivery.state = state;
  }

  /** Takes a delivery that has become final out of what is open; the next version of its instance has its turn. */
  finish(delivery: DeliveryEntry, at: number): void {
    const { destination, study, version, bytes } = delivery;
    this.sequence += 1;
    delivery.settledSeq = this.sequence;
    delivery.settledAt = Math.ceil(at);
    // The answer is all that there was to wait for.
    if (delivery.state === 'verified' && delivery.evidence === 'answered') delivery.answeredAt ??= Math.ceil(at);
    delivery.isHeld = false;
    this.defer(delivery, 0);
    study.open.delete(delivery.id);
    study.openBytes -= bytes;
    this.holdings.countOpen(version.identity.studyInstanceUid, -1);
    if (study.open.size === 0) {
      destination.openStudies.delete(study);
      study.dueAt = Number.POSITIVE_INFINITY;
    }
    const siblings = this.#openOfInstance(destination, version.identity.sopInstanceUid);
    siblings.delete(delivery);
    const [next] = siblings;
    if (next === undefined) {
      destination.openByInstance.delete(version.identity.sopInstanceUid);
    } else if (next.isHeld) {
      next.isHeld = false;
      next.study.dueAt = Math.min(next.study.dueAt, next.notBefore);
    }
  }

  /** A final delivery is owed again. A later version under its SOP Instance UID waits for it. */
  reopen(delivery: DeliveryEntry, isBacklog: boolean): void {
    const { destination, study, version } = delivery;
    const { sopInstanceUid, studyInstanceUid } = version.identity;
    this.#keepSettlement(delivery);
    this.setState(delivery, 'pending');
    const offered = destination.byInstance.get(sopInstanceUid) ?? [];
    delivery.isFurther ||= offered.some((other) => other.version !== version);
    delivery.evidence = 'accepted';
    delivery.attempts = 0;
    delivery.reason = null;
    delivery.settledSeq = null;
    delivery.settledAt = null;
    delivery.answeredAt = null;
    setLane(destination, study, isBacklog);
    destination.openStudies.add(study);
    insertById(study.open, delivery);
    study.openBytes += delivery.bytes;
    this.holdings.countOpen(studyInstanceUid, 1);
    const siblings = [...this.#openOfInstance(destination, sopInstanceUid), delivery].sort((a, b) => a.id - b.id);
    destination.openByInstance.set(sopInstanceUid, new Set(siblings));
    for (const [index, sibling] of siblings.entries()) {
      sibling.isHeld = index > 0;
      this.refreshDue(sibling.study);
    }
  }

  /** Something else becomes of a delivery that is final already. It is settled now, and was settled before. */
  settleAnew(delivery: DeliveryEntry, state: DeliveryState, at: number): void {
    this.#keepSettlement(delivery);
    delivery.settledSeq = this.sequence;
    delivery.settledAt = Math.ceil(at);
    this.setState(delivery, state);
  }

  #keepSettlement(delivery: DeliveryEntry): void {
    this.sequence += 1;
    if (delivery.settledSeq !== null) delivery.former.push({ settled: delivery.settledSeq, until: this.sequence });
  }

  #openOfInstance(destination: DestinationEntry, sopInstanceUid: string): Set<DeliveryEntry> {
    let open = destination.openByInstance.get(sopInstanceUid);
    if (open === undefined) {
      open = new Set();
      destination.openByInstance.set(sopInstanceUid, open);
    }
    return open;
  }
}

export function newDestination(destinationId: string): DestinationEntry {
  return {
    destinationId,
    retired: null,
    rankedBy: null,
    ranking: 0,
    counts: { pending: 0, sent: 0, verified: 0, quarantined: 0, discarded: 0 },
    studies: new Map(),
    arrivals: new Set(),
    openStudies: new Set(),
    deliveries: [],
    deferred: new Set(),
    openByInstance: new Map(),
    byInstance: new Map(),
    outages: 0,
  };
}

/** The lane of a study that is owed something more. */
export function setLane({ outages }: DestinationEntry, study: StudyEntry, isBacklog: boolean): void {
  study.isBacklog = isBacklog || outages > 0 || (study.open.size > 0 && study.isBacklog);
}

/** Index of the first item for which `isAfter` holds; it must hold for all that follow. */
export function firstIndex<T>(items: readonly T[], isAfter: (item: T) => boolean): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const item = items[middle];
    if (item !== undefined && isAfter(item)) high = middle;
    else low = middle + 1;
  }
  return low;
}

function insertById(open: Map<number, DeliveryEntry>, delivery: DeliveryEntry): void {
  const later = [...open.values()].filter(({ id }) => id > delivery.id);
  for (const { id } of later) open.delete(id);
  for (const each of [delivery, ...later]) open.set(each.id, each);
}

function insertByArrival(versions: HeldVersion[], version: HeldVersion): void {
  versions.splice(
    firstIndex(versions, ({ arrivalId }) => arrivalId > version.arrivalId),
    0,
    version,
  );
}

function listUnder<T>(lists: Map<string, T[]>, key: string): T[] {
  let list = lists.get(key);
  if (list === undefined) {
    list = [];
    lists.set(key, list);
  }
  return list;
}
