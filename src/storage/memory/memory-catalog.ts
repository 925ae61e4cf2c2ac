import type { Presence, VersionRecord } from '../../domain/delivery.ts';
import { mergeUrgency } from '../../domain/rank.ts';
import { SpillwayError } from '../../errors.ts';
import type { Acceptance, Catalog, DestinationRecord, LeasedStudy, Settlement } from '../catalog.ts';
import { isOfFilter } from '../delivery-filter.ts';
import {
  copyOpenDeliveries,
  discard,
  oldestAnswerAt,
  raiseEvidence,
  recentlyVerified,
  redrive,
  returnToBacklog,
} from './memory-decisions.ts';
import {
  countEpisode,
  deliveryPage,
  endPlan,
  episodeDeliveries,
  episodeRemains,
  markEpisode,
  openEpisode,
  planEpisode,
} from './memory-episodes.ts';
import { beginEviction, endEviction, evictable, evictionBlocks, evictions } from './memory-evictions.ts';
import {
  deliveryOf,
  destinationEntry,
  destinationInUse,
  destinationOf,
  entriesFrom,
  episodeEntry,
  pageOf,
} from './memory-records.ts';
import { type DeliveryEntry, firstIndex, type MemoryTables, newDestination } from './memory-tables.ts';

type Argument<Method extends keyof Omit<Catalog, 'durable'>> = Parameters<Catalog[Method]>[0];
type Answer<Method extends keyof Omit<Catalog, 'durable'>> = ReturnType<Catalog[Method]>;

import { accept, findVersion, isHere, takeUp } from './memory-acceptance.ts';
import { byStudy, byTier, mostUrgent, settle } from './memory-work.ts';
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
    const version = this.#open().arrivals.get(arrivalId);
    return version !== undefined && isHere(version);
  }

  async findVersion(key: Argument<'findVersion'>): Answer<'findVersion'> {
    const version = findVersion(this.#open(), key.sopInstanceUid, key.transferSyntaxUid, key.digest);
    return version === null ? null : { ...version };
  }

  async accept(batch: readonly Acceptance[]): Answer<'accept'> {
    const tables = this.#open();
    // All that can fail comes first, so that nothing is ever half done.
    for (const { version, deliveries } of batch) {
      const { sopInstanceUid, transferSyntaxUid } = version.identity;
      const known = findVersion(tables, sopInstanceUid, transferSyntaxUid, version.digest);
      if (known?.presence === 'kept') continue;
      if (known?.presence === 'evicting') {
        throw new SpillwayError(
          'SPILLWAY_STORE_FAILED',
          `The version ${known.arrivalId} is being evicted. Send it again.`,
        );
      }
      for (const { destinationId } of deliveries) destinationInUse(tables, destinationId);
    }
    return batch.map((acceptance) => accept(tables, acceptance));
  }

  async versions(page: Argument<'versions'>): Answer<'versions'> {
    const { versions, versionsByStudy } = this.#open();
    const { studyInstanceUid, presence, afterArrivalId = '' } = page;
    const list = studyInstanceUid === undefined ? versions : (versionsByStudy.get(studyInstanceUid) ?? []);
    const start = firstIndex(list, ({ arrivalId }) => arrivalId > afterArrivalId);
    const belongs = (version: VersionRecord) =>
      presence === undefined ? isHere(version) : version.presence === presence;
    return pageOf(entriesFrom(list, start), belongs, page.limit).map((version) => ({ ...version }));
  }

  async studies(filter: Argument<'studies'>): Answer<'studies'> {
    return this.#open().holdings.find(filter);
  }

  async held(): Answer<'held'> {
    const { holdings, versions } = this.#open();
    const count = (presence: Presence) => versions.filter((version) => version.presence === presence).length;
    return { ...holdings.held(), unconfirmed: count('unconfirmed'), missing: count('missing') };
  }

  async hourlyTotals({ from, to, after, limit }: Argument<'hourlyTotals'>): Answer<'hourlyTotals'> {
    return this.#open().holdings.hours(from, to, after, limit);
  }

  async evictable(terms: Argument<'evictable'>): Answer<'evictable'> {
    return evictable(this.#open(), terms);
  }

  async evictionBlocks(terms: Argument<'evictionBlocks'>): Answer<'evictionBlocks'> {
    return evictionBlocks(this.#open(), terms);
  }

  async beginEviction(eviction: Argument<'beginEviction'>): Answer<'beginEviction'> {
    return beginEviction(this.#open(), eviction);
  }

  async endEviction(eviction: Argument<'endEviction'>): Promise<void> {
    endEviction(this.#open(), eviction);
  }

  async evictions({ limit }: Argument<'evictions'>): Answer<'evictions'> {
    return evictions(this.#open(), limit);
  }

  async unknownArrivals(arrivalIds: readonly string[]): Answer<'unknownArrivals'> {
    const { arrivals } = this.#open();
    return arrivalIds.filter((arrivalId) => {
      const version = arrivals.get(arrivalId);
      return version === undefined || version.presence === 'evicted' || version.presence === 'missing';
    });
  }

  async takeUp({ instances, at }: Argument<'takeUp'>): Answer<'takeUp'> {
    const tables = this.#open();
    const outcomes = instances.map((instance) => takeUp(tables, instance));
    const taken = outcomes.filter((outcome) => outcome === 'taken').length;
    if (taken > 0) tables.holdings.append(at, 'taken-up', { instances: taken });
    return outcomes;
  }

  async markMissing({ arrivalId, at }: Argument<'markMissing'>): Answer<'markMissing'> {
    const { arrivals, holdings } = this.#open();
    const version = arrivals.get(arrivalId);
    if (version === undefined || !isHere(version)) return false;
    version.presence = 'missing';
    holdings.remove([version]);
    holdings.append(at, 'missing', { arrivalId, sopInstanceUid: version.identity.sopInstanceUid });
    return true;
  }

  async acceptanceOf(arrivalId: string): Answer<'acceptanceOf'> {
    const { arrivals, rankingFacts, sources } = this.#open();
    const version = arrivals.get(arrivalId);
    const facts = rankingFacts.get(arrivalId);
    if (version === undefined || facts === undefined) return null;
    if (version.presence === 'evicting' || version.presence === 'evicted') return null;
    const { attributes, urgency } = facts;
    return { version: { ...version }, attributes, source: sources.get(arrivalId) ?? null, urgency };
  }

  async openCommitment(transaction: Argument<'openCommitment'>): Promise<void> {
    const tables = this.#open();
    const { commitments } = tables.holdings;
    if (commitments.has(transaction.transactionUid)) {
      throw new SpillwayError(
        'SPILLWAY_STORE_FAILED',
        `Expected a new transaction UID, got ${transaction.transactionUid}, which is open. Make one for each request.`,
      );
    }
    destinationEntry(tables, transaction.destinationId);
    commitments.set(transaction.transactionUid, transaction);
  }

  async commitments({ transactionUid, destinationId, limit }: Argument<'commitments'>): Answer<'commitments'> {
    const tables = this.#open();
    if (destinationId !== undefined && transactionUid === undefined) destinationEntry(tables, destinationId);
    return [...tables.holdings.commitments.values()]
      .filter((each) =>
        transactionUid !== undefined
          ? each.transactionUid === transactionUid
          : destinationId === undefined || each.destinationId === destinationId,
      )
      .sort((a, b) => a.requestedAt - b.requestedAt || (a.transactionUid < b.transactionUid ? -1 : 1))
      .slice(0, limit);
  }

  async closeCommitment(transactionUid: string): Promise<void> {
    this.#open().holdings.commitments.delete(transactionUid);
  }

  async appendLog({ at, kind, detail }: Argument<'appendLog'>): Answer<'appendLog'> {
    return this.#open().holdings.append(at, kind, detail);
  }

  async log({ afterId, limit }: Argument<'log'>): Answer<'log'> {
    return this.#open().holdings.log(afterId, limit);
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
    const discarded = destination.counts.pending + destination.counts.sent;
    tables.holdings.append(at, 'retired', { destinationId, reason, by, discarded });
    for (const study of destination.openStudies) {
      for (const delivery of study.open.values()) {
        tables.setState(delivery, 'discarded');
        delivery.reason = reason;
        tables.finish(delivery, at);
      }
    }
    for (const study of destination.studies.values()) {
      if (study.lease !== null) tables.endLease(study.lease);
      study.isInterrupted = false;
    }
  }

  async leaseStudies(request: Argument<'leaseStudies'>): Answer<'leaseStudies'> {
    const tables = this.#open();
    const destination = destinationEntry(tables, request.destinationId);
    return mostUrgent(destination, request).map((study): LeasedStudy => {
      tables.sequence += 1;
      const lease = tables.sequence;
      study.lease = lease;
      tables.leases.set(lease, { destination, study });
      return { studyInstanceUid: study.studyInstanceUid, rank: study.rank, lease, interrupted: study.isInterrupted };
    });
  }

  async releaseStudies(release: Argument<'releaseStudies'>): Promise<void> {
    const { destinationId, leases, deferUntil = 0, clarified } = release;
    const tables = this.#open();
    const destination = destinationEntry(tables, destinationId);
    for (const lease of leases) {
      const leased = tables.leases.get(lease);
      if (leased?.destination !== destination) continue;
      for (const delivery of leased.study.open.values()) {
        if (delivery.notBefore < deferUntil) tables.defer(delivery, deferUntil);
      }
      if (clarified !== undefined) leased.study.isInterrupted = !clarified;
      tables.endLease(lease);
    }
  }

  async boundDelays({ destinationId, latest }: Argument<'boundDelays'>): Promise<void> {
    const tables = this.#open();
    for (const delivery of [...destinationEntry(tables, destinationId).deferred]) {
      if (delivery.notBefore <= latest) continue;
      tables.defer(delivery, latest);
      tables.refreshDue(delivery.study);
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
        const lastArrivalId = tables.acceptedLast.get(studyInstanceUid) ?? '';
        return { studyInstanceUid, rank, lastArrivalId };
      });
  }

  async rankingFacts(page: Argument<'rankingFacts'>): Answer<'rankingFacts'> {
    const { rankingFacts, destinations, accepted, arrivals: known } = this.#open();
    const { arrivals } = destinationEntry({ destinations }, page.destinationId);
    const ids = accepted.get(page.studyInstanceUid) ?? [];
    const start = page.afterArrivalId === undefined ? 0 : ids.indexOf(page.afterArrivalId) + 1;
    const isTold = (id: string) => arrivals.has(id) && known.get(id)?.presence !== 'evicted';
    return pageOf(entriesFrom(ids, start), isTold, page.limit).flatMap(
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
      if (tables.acceptedLast.get(studyInstanceUid) === lastArrivalId) {
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

  async deliveries({ state, afterId, limit, ...filter }: Argument<'deliveries'>): Answer<'deliveries'> {
    const { deliveries } = destinationEntry(this.#open(), filter.destinationId);
    const belongs = (delivery: DeliveryEntry) =>
      delivery.state === state && isOfFilter(filter, deliveryOf(delivery), delivery.version.receivedAt);
    return deliveryPage(deliveries, belongs, { afterId, limit });
  }

  async redrive(request: Argument<'redrive'>): Answer<'redrive'> {
    return redrive(this.#open(), request);
  }

  async discard(request: Argument<'discard'>): Answer<'discard'> {
    return discard(this.#open(), request);
  }

  async returnToBacklog(lost: Argument<'returnToBacklog'>): Answer<'returnToBacklog'> {
    return returnToBacklog(this.#open(), lost);
  }

  async raiseEvidence(raise: Argument<'raiseEvidence'>): Answer<'raiseEvidence'> {
    return raiseEvidence(this.#open(), raise);
  }

  async recentlyVerified(page: Argument<'recentlyVerified'>): Answer<'recentlyVerified'> {
    return recentlyVerified(this.#open(), page);
  }

  async copyOpenDeliveries(copy: Argument<'copyOpenDeliveries'>): Answer<'copyOpenDeliveries'> {
    return copyOpenDeliveries(this.#open(), copy);
  }

  async oldestAnswerAt(destinationId: string): Answer<'oldestAnswerAt'> {
    return oldestAnswerAt(this.#open(), destinationId);
  }

  async openEpisode(episode: Argument<'openEpisode'>): Answer<'openEpisode'> {
    return openEpisode(this.#open(), episode);
  }

  async endPlan(end: Argument<'endPlan'>): Answer<'endPlan'> {
    return endPlan(this.#open(), end);
  }

  async planEpisode(plan: Argument<'planEpisode'>): Answer<'planEpisode'> {
    return planEpisode(this.#open(), plan);
  }

  async markEpisode(mark: Argument<'markEpisode'>): Answer<'markEpisode'> {
    return markEpisode(this.#open(), mark);
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
    return episodeRemains(episodeEntry(this.#open(), episodeId));
  }

  async countEpisode(episodeId: number): Answer<'countEpisode'> {
    return countEpisode(episodeEntry(this.#open(), episodeId));
  }

  async episodeDeliveries(page: Argument<'episodeDeliveries'>): Answer<'episodeDeliveries'> {
    return episodeDeliveries(episodeEntry(this.#open(), page.episodeId), page);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
  }

  #open(): MemoryTables {
    if (this.#isClosed) throw new SpillwayError('SPILLWAY_CLOSED', 'The catalog is closed. Open its store again.');
    return this.#tables;
  }
}

function byDestinationId(a: DestinationRecord, b: DestinationRecord): number {
  return a.destinationId < b.destinationId ? -1 : Number(a.destinationId > b.destinationId);
}
