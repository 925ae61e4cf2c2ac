import type { VersionRecord } from '../../domain/delivery.ts';
import type { EpisodeCounts, EpisodeRecord } from '../../domain/episode.ts';
import { compareRank, mergeRank, mergeUrgency, type Rank } from '../../domain/rank.ts';
import { SpillwayError } from '../../errors.ts';
import type { Acceptance, AcceptanceResult, Catalog, DestinationRecord, LeasedStudy, Settlement } from '../catalog.ts';
import {
  deliveryOf,
  destinationEntry,
  destinationInUse,
  destinationOf,
  entriesFrom,
  episodeEntry,
  pageOf,
} from './memory-records.ts';
import {
  type DestinationEntry,
  type EpisodeEntry,
  firstIndex,
  type MemoryTables,
  newDestination,
  type StudyEntry,
} from './memory-tables.ts';

type Argument<Method extends keyof Omit<Catalog, 'durable'>> = Parameters<Catalog[Method]>[0];
type Answer<Method extends keyof Omit<Catalog, 'durable'>> = ReturnType<Catalog[Method]>;

/** One opening of a catalog in memory. Every method does its work in one go, before anything else runs. */
export class MemoryCatalog implements Catalog {
  readonly durable = false;
  readonly #tables: MemoryTables;
  #isClosed = false;

  constructor(tables: MemoryTables) {
    this.#tables = tables;
    tables.voidLeases();
  }

  async lastArrivalId(): Answer<'lastArrivalId'> {
    return this.#open().versions.at(-1)?.arrivalId ?? null;
  }

  async hasArrival(arrivalId: string): Answer<'hasArrival'> {
    return this.#open().arrivals.has(arrivalId);
  }

  async findVersion(key: Argument<'findVersion'>): Answer<'findVersion'> {
    return findVersion(this.#open(), key.sopInstanceUid, key.transferSyntaxUid, key.digest);
  }

  async accept(batch: readonly Acceptance[]): Answer<'accept'> {
    const tables = this.#open();
    // All that can fail comes first, so that nothing is ever half done.
    for (const { version, deliveries } of batch) {
      const { sopInstanceUid, transferSyntaxUid } = version.identity;
      if (findVersion(tables, sopInstanceUid, transferSyntaxUid, version.digest) !== null) continue;
      for (const { destinationId } of deliveries) destinationInUse(tables, destinationId);
    }
    return batch.map((acceptance) => accept(tables, acceptance));
  }

  async versions({ studyInstanceUid, afterArrivalId = '', limit }: Argument<'versions'>): Answer<'versions'> {
    const { versions, versionsByStudy } = this.#open();
    const list = studyInstanceUid === undefined ? versions : (versionsByStudy.get(studyInstanceUid) ?? []);
    const start = firstIndex(list, ({ arrivalId }) => arrivalId > afterArrivalId);
    return list.slice(start, start + limit);
  }

  async registerDestination(destinationId: string): Promise<void> {
    const { destinations } = this.#open();
    const known = destinations.get(destinationId);
    if (known === undefined) destinations.set(destinationId, newDestination(destinationId));
    else known.retired = null;
  }

  async destinations(): Answer<'destinations'> {
    return [...this.#open().destinations.values()].map(destinationOf).sort(byDestinationId);
  }

  async retireDestination({ destinationId, reason, by, at }: Argument<'retireDestination'>): Promise<void> {
    const tables = this.#open();
    const destination = destinationEntry(tables, destinationId);
    destination.retired = { at, reason, by };
    for (const study of destination.openStudies) {
      for (const delivery of study.open.values()) {
        tables.setState(delivery, 'discarded');
        delivery.reason = reason;
        tables.finish(delivery);
      }
    }
    for (const study of destination.studies.values()) {
      if (study.lease !== null) tables.endLease(study.lease);
      study.isInterrupted = false;
    }
  }

  async leaseStudies({ destinationId, now, limit }: Argument<'leaseStudies'>): Answer<'leaseStudies'> {
    const tables = this.#open();
    const destination = destinationEntry(tables, destinationId);
    return mostUrgent(destination, now, limit).map((study): LeasedStudy => {
      tables.sequence += 1;
      const lease = tables.sequence;
      const interrupted = study.isInterrupted;
      study.lease = lease;
      study.isInterrupted = false;
      tables.leases.set(lease, { destination, study });
      return { studyInstanceUid: study.studyInstanceUid, rank: study.rank, lease, interrupted };
    });
  }

  async releaseStudies({ destinationId, leases, deferUntil = 0 }: Argument<'releaseStudies'>): Promise<void> {
    const tables = this.#open();
    const destination = destinationEntry(tables, destinationId);
    for (const lease of leases) {
      const leased = tables.leases.get(lease);
      if (leased?.destination !== destination) continue;
      for (const delivery of leased.study.open.values()) {
        if (delivery.notBefore < deferUntil) tables.defer(delivery, deferUntil);
      }
      tables.endLease(lease);
    }
  }

  async dueDeliveries(page: Argument<'dueDeliveries'>): Answer<'dueDeliveries'> {
    const study = destinationEntry(this.#open(), page.destinationId).studies.get(page.studyInstanceUid);
    return pageOf(
      study?.open.values() ?? [],
      (delivery) => delivery.id > page.afterId && !delivery.isHeld && delivery.notBefore <= page.now,
      page.limit,
    ).map(deliveryOf);
  }

  async settle(settlements: readonly Settlement[]): Answer<'settle'> {
    const tables = this.#open();
    return settlements.filter((settlement) => !settle(tables, settlement)).map((settlement) => settlement.deliveryId);
  }

  async nextDueAt({ destinationId, now }: Argument<'nextDueAt'>): Answer<'nextDueAt'> {
    let next = Number.POSITIVE_INFINITY;
    for (const { notBefore, isHeld } of destinationEntry(this.#open(), destinationId).deferred) {
      if (!isHeld && notBefore > now && notBefore < next) next = notBefore;
    }
    return Number.isFinite(next) ? next : null;
  }

  async rankedStudies({ destinationId, afterStudy = '', limit }: Argument<'rankedStudies'>): Answer<'rankedStudies'> {
    const tables = this.#open();
    return [...destinationEntry(tables, destinationId).openStudies]
      .filter(({ studyInstanceUid }) => studyInstanceUid > afterStudy)
      .sort(byStudy)
      .slice(0, limit)
      .map(({ studyInstanceUid, rank }) => {
        const lastArrivalId = tables.accepted.get(studyInstanceUid)?.at(-1) ?? '';
        return { studyInstanceUid, rank, lastArrivalId };
      });
  }

  async rankingFacts(page: Argument<'rankingFacts'>): Answer<'rankingFacts'> {
    const { rankingFacts, destinations, accepted } = this.#open();
    const { arrivals } = destinationEntry({ destinations }, page.destinationId);
    const ids = accepted.get(page.studyInstanceUid) ?? [];
    const start = page.afterArrivalId === undefined ? 0 : ids.indexOf(page.afterArrivalId) + 1;
    return pageOf(entriesFrom(ids, start), (arrivalId) => arrivals.has(arrivalId), page.limit).flatMap(
      (arrivalId) => rankingFacts.get(arrivalId) ?? [],
    );
  }

  async setRanks({ destinationId, ranks }: Argument<'setRanks'>): Answer<'setRanks'> {
    const tables = this.#open();
    const destination = destinationEntry(tables, destinationId);
    const { studies } = destination;
    const missed: string[] = [];
    for (const { studyInstanceUid, rank, lastArrivalId } of ranks) {
      const study = studies.get(studyInstanceUid);
      if (study === undefined) continue;
      if (tables.accepted.get(studyInstanceUid)?.at(-1) === lastArrivalId) {
        study.rank = rank;
        study.ranking = destination.ranking;
      } else missed.push(studyInstanceUid);
    }
    return missed;
  }

  async markRanked({ destinationId, rankedBy }: Argument<'markRanked'>): Promise<void> {
    const destination = destinationEntry(this.#open(), destinationId);
    destination.rankedBy = rankedBy;
    if (rankedBy === null) destination.ranking += 1;
  }

  async restateUrgency({ arrivalId, urgency }: Argument<'restateUrgency'>): Answer<'restateUrgency'> {
    const { rankingFacts, destinations } = this.#open();
    const facts = rankingFacts.get(arrivalId);
    if (facts === undefined || mergeUrgency(facts.urgency ?? 'unknown', urgency) === facts.urgency) return false;
    rankingFacts.set(arrivalId, { ...facts, urgency });
    for (const { deliveries } of destinations.values()) {
      for (const { version, study } of deliveries) {
        if (version.arrivalId !== arrivalId) continue;
        study.rank = { ...study.rank, urgency: mergeUrgency(study.rank.urgency, urgency) };
      }
    }
    return true;
  }

  async backlog(destinationId: string): Answer<'backlog'> {
    const tiers = new Map<number, { tier: number; studies: number; instances: number; bytes: number }>();
    for (const { rank, open, openBytes } of destinationEntry(this.#open(), destinationId).openStudies) {
      const sum = tiers.get(rank.tier) ?? { tier: rank.tier, studies: 0, instances: 0, bytes: 0 };
      tiers.set(rank.tier, sum);
      sum.studies += 1;
      sum.instances += open.size;
      sum.bytes += openBytes;
    }
    return [...tiers.values()].sort(byTier);
  }

  async deliveries({ destinationId, state, afterId, limit }: Argument<'deliveries'>): Answer<'deliveries'> {
    const { deliveries } = destinationEntry(this.#open(), destinationId);
    const start = firstIndex(deliveries, ({ id }) => id > afterId);
    return pageOf(entriesFrom(deliveries, start), (delivery) => delivery.state === state, limit).map(deliveryOf);
  }

  async openEpisode({ destinationId, ...episode }: Argument<'openEpisode'>): Answer<'openEpisode'> {
    const tables = this.#open();
    const destination = destinationEntry(tables, destinationId);
    const record: EpisodeRecord = {
      id: tables.episodes.length + 1,
      destinationId,
      cause: episode.cause,
      startedAt: episode.startedAt,
      detectedAt: episode.detectedAt,
      endedAt: null,
      drainedAt: null,
      closedAt: null,
      pendingAtStart: destination.counts.pending + destination.counts.sent,
    };
    tables.episodes.push({ record, destination, start: tables.sequence, end: Number.POSITIVE_INFINITY });
    return record;
  }

  async markEpisode({ episodeId, as, at }: Argument<'markEpisode'>): Answer<'markEpisode'> {
    const tables = this.#open();
    const episode = episodeEntry(tables, episodeId);
    const field = `${as}At` as const;
    if (episode.record[field] !== null) return episode.record;
    episode.record = { ...episode.record, [field]: at };
    if (as === 'ended') episode.end = tables.sequence;
    return episode.record;
  }

  async episodes({ destinationId, openOnly = false, afterId = 0, limit }: Argument<'episodes'>): Answer<'episodes'> {
    const tables = this.#open();
    const destination = destinationId === undefined ? null : destinationEntry(tables, destinationId);
    return tables.episodes
      .slice(afterId)
      .filter((episode) => destination === null || episode.destination === destination)
      .filter((episode) => !openOnly || episode.record.closedAt === null)
      .slice(0, limit)
      .map((episode) => episode.record);
  }

  async episodeRemains(episodeId: number): Answer<'episodeRemains'> {
    const { destination, end } = episodeEntry(this.#open(), episodeId);
    let isOpen = false;
    for (const study of destination.openStudies) {
      for (const { id, state } of study.open.values()) {
        if (id > end) break;
        if (state === 'pending') return { pending: true, open: true };
        isOpen = true;
      }
    }
    return { pending: false, open: isOpen };
  }

  async countEpisode(episodeId: number): Answer<'countEpisode'> {
    return countEpisode(episodeEntry(this.#open(), episodeId));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
  }

  #open(): MemoryTables {
    if (this.#isClosed) throw new SpillwayError('SPILLWAY_CLOSED', 'The catalog is closed. Open its store again.');
    return this.#tables;
  }
}

function findVersion(
  tables: MemoryTables,
  sopInstanceUid: string,
  transferSyntaxUid: string,
  digest: string,
): VersionRecord | null {
  const versions = tables.versionsByInstance.get(sopInstanceUid) ?? [];
  return (
    versions.find((version) => version.identity.transferSyntaxUid === transferSyntaxUid && version.digest === digest) ??
    null
  );
}

function accept(tables: MemoryTables, { version, attributes, urgency, deliveries }: Acceptance): AcceptanceResult {
  const { sopInstanceUid, studyInstanceUid, transferSyntaxUid } = version.identity;
  const known = findVersion(tables, sopInstanceUid, transferSyntaxUid, version.digest);
  if (known !== null) return { outcome: 'identical', version: known };
  const isFurther = tables.versionsByInstance.has(sopInstanceUid);
  tables.addVersion(version, { arrivalId: version.arrivalId, attributes, receivedAt: version.receivedAt, urgency });
  for (const { destinationId, rank } of deliveries) {
    const destination = destinationInUse(tables, destinationId);
    tables.addDelivery(destination, version, isFurther, rankedStudy(destination, studyInstanceUid, rank));
  }
  return { outcome: isFurther ? 'version' : 'created', version };
}

function rankedStudy(destination: DestinationEntry, studyInstanceUid: string, arrived: Rank): StudyEntry {
  const known = destination.studies.get(studyInstanceUid);
  if (known !== undefined) {
    // Judged by a policy that is none any more, and by nobody judged again since nothing was open.
    const isOutdated = known.open.size === 0 && known.ranking !== destination.ranking;
    known.rank = isOutdated ? arrived : mergeRank(known.rank, arrived);
    known.ranking = destination.ranking;
    return known;
  }
  const study: StudyEntry = {
    studyInstanceUid,
    rank: arrived,
    ranking: destination.ranking,
    open: new Map(),
    openBytes: 0,
    dueAt: Number.POSITIVE_INFINITY,
    lease: null,
    isInterrupted: false,
  };
  destination.studies.set(studyInstanceUid, study);
  return study;
}

/** Returns whether the settlement held: false when its lease is stale or the delivery is final. */
function settle(tables: MemoryTables, settlement: Settlement): boolean {
  const delivery = tables.deliveries.get(settlement.deliveryId);
  if (delivery === undefined || delivery.settledAt !== null || delivery.study.lease !== settlement.lease) return false;
  tables.setState(delivery, settlement.state);
  delivery.evidence = settlement.evidence;
  delivery.attempts = settlement.attempts;
  delivery.reason = settlement.reason;
  if (settlement.state === 'pending' || settlement.state === 'sent') tables.defer(delivery, settlement.notBefore);
  else tables.finish(delivery);
  return true;
}

/** The `limit` first studies in the order of replay, kept in order while all are looked at once. */
function mostUrgent({ openStudies }: DestinationEntry, now: number, limit: number): StudyEntry[] {
  const first: StudyEntry[] = [];
  for (const study of openStudies) {
    if (study.lease !== null || study.dueAt > now) continue;
    const index = firstIndex(first, (other) => byUrgency(other, study) > 0);
    if (index >= limit) continue;
    first.splice(index, 0, study);
    if (first.length > limit) first.pop();
  }
  return first;
}

function countEpisode({ record, destination, start, end }: EpisodeEntry): Awaited<Answer<'countEpisode'>> {
  const total = { received: record.pendingAtStart, ...emptyCounts() };
  const tiers = new Map<number, { tier: number } & ReturnType<typeof emptyCounts>>();
  for (const { id, state, settledAt, study } of destination.deliveries) {
    if (id > end) break;
    if (id > start) total.received += 1;
    if (settledAt !== null && settledAt <= start) continue;
    const { tier } = study.rank;
    const ofTier = tiers.get(tier) ?? { tier, ...emptyCounts() };
    tiers.set(tier, ofTier);
    for (const counts of [total, ofTier]) {
      if (state === 'pending') counts.pending += 1;
      counts[state === 'pending' || state === 'sent' ? 'outstanding' : state] += 1;
    }
  }
  return { total, tiers: [...tiers.values()].sort(byTier) };
}

function emptyCounts(): { -readonly [Count in Exclude<keyof EpisodeCounts, 'received'>]: number } {
  return { verified: 0, quarantined: 0, discarded: 0, outstanding: 0, pending: 0 };
}

function byUrgency(a: StudyEntry, b: StudyEntry): number {
  return compareRank(a.rank, b.rank) || byStudy(a, b);
}

// UIDs compare by code unit, never by a locale.
function byStudy(a: StudyEntry, b: StudyEntry): number {
  return a.studyInstanceUid < b.studyInstanceUid ? -1 : Number(a.studyInstanceUid > b.studyInstanceUid);
}

function byDestinationId(a: DestinationRecord, b: DestinationRecord): number {
  return a.destinationId < b.destinationId ? -1 : Number(a.destinationId > b.destinationId);
}

function byTier(a: { readonly tier: number }, b: { readonly tier: number }): number {
  return a.tier - b.tier;
}
