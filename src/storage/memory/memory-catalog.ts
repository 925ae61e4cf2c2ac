import type { Presence, VersionRecord } from '../../domain/delivery.ts';
import type { EpisodeRecord } from '../../domain/episode.ts';
import { mergeUrgency } from '../../domain/rank.ts';
import { SpillwayError } from '../../errors.ts';
import type { Acceptance, Catalog, DestinationRecord, EvictionBlock, LeasedStudy, Settlement } from '../catalog.ts';
import { blockOf, evictionOf, type LastDelivery } from './memory-holdings.ts';
import {
  deliveryOf,
  destinationEntry,
  destinationInUse,
  destinationOf,
  entriesFrom,
  episodeEntry,
  pageOf,
} from './memory-records.ts';
import { firstIndex, type MemoryTables, newDestination } from './memory-tables.ts';

type Argument<Method extends keyof Omit<Catalog, 'durable'>> = Parameters<Catalog[Method]>[0];
type Answer<Method extends keyof Omit<Catalog, 'durable'>> = ReturnType<Catalog[Method]>;

import { accept, findVersion, isHere, takeUp } from './memory-acceptance.ts';
import { byStudy, byTier, countEpisode, mostUrgent, settle } from './memory-work.ts';
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
    const tables = this.#open();
    return tables.holdings
      .all()
      .filter((study) => blockOf(study, lastDeliveries(tables, study.studyInstanceUid), terms) === null)
      .sort((a, b) => a.lastReceivedAt - b.lastReceivedAt || byStudy(a, b))
      .slice(0, terms.limit);
  }

  async evictionBlocks(terms: Argument<'evictionBlocks'>): Answer<'evictionBlocks'> {
    const tables = this.#open();
    const blocks = new Map<EvictionBlock['reason'], { studies: number; bytes: number }>();
    for (const study of tables.holdings.all()) {
      const reason = blockOf(study, lastDeliveries(tables, study.studyInstanceUid), terms) ?? 'none';
      const block = blocks.get(reason) ?? { studies: 0, bytes: 0 };
      blocks.set(reason, { studies: block.studies + 1, bytes: block.bytes + study.bytes });
    }
    return [...blocks].map(([reason, block]) => ({ reason, ...block })).sort((a, b) => (a.reason < b.reason ? -1 : 1));
  }

  async beginEviction({ studyInstanceUid, ...terms }: Argument<'beginEviction'>): Answer<'beginEviction'> {
    const tables = this.#open();
    const study = tables.holdings.study(studyInstanceUid);
    if (study === undefined || study.instances === 0) return null;
    if (blockOf(study, lastDeliveries(tables, studyInstanceUid), terms) !== null) return null;
    const versions = (tables.versionsByStudy.get(studyInstanceUid) ?? []).filter(({ presence }) => presence === 'kept');
    for (const version of versions) version.presence = 'evicting';
    tables.holdings.remove(versions);
    return evictionOf(studyInstanceUid, versions);
  }

  async endEviction({ studyInstanceUid, at }: Argument<'endEviction'>): Promise<void> {
    const tables = this.#open();
    const versions = (tables.versionsByStudy.get(studyInstanceUid) ?? []).filter(
      ({ presence }) => presence === 'evicting',
    );
    if (versions.length === 0) return;
    for (const version of versions) {
      version.presence = 'evicted';
      const facts = tables.rankingFacts.get(version.arrivalId);
      if (facts !== undefined) tables.rankingFacts.set(version.arrivalId, { ...facts, attributes: {} });
      tables.sources.set(version.arrivalId, null);
    }
    const { bytes } = evictionOf(studyInstanceUid, versions);
    tables.holdings.append(at, 'evicted', { studyInstanceUid, instances: versions.length, bytes });
  }

  async evictions({ limit }: Argument<'evictions'>): Answer<'evictions'> {
    const byStudy = new Map<string, VersionRecord[]>();
    for (const version of this.#open().versions) {
      if (version.presence !== 'evicting') continue;
      const { studyInstanceUid } = version.identity;
      byStudy.set(studyInstanceUid, [...(byStudy.get(studyInstanceUid) ?? []), version]);
    }
    return [...byStudy].slice(0, limit).map(([study, versions]) => evictionOf(study, versions));
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
    tables.holdings.append(episode.detectedAt, 'episode-opened', {
      episodeId: record.id,
      destinationId,
      cause: episode.cause,
    });
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
    tables.holdings.append(at, `episode-${as}`, { episodeId, destinationId: episode.record.destinationId });
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

/** Of each version of a study the last delivery to each destination. */
function lastDeliveries({ versionsByStudy, destinations }: MemoryTables, studyInstanceUid: string) {
  return (versionsByStudy.get(studyInstanceUid) ?? []).map((version) => ({
    presence: version.presence,
    deliveries: [...destinations.values()].flatMap(({ retired, deliveries }): LastDelivery[] => {
      const last = deliveries.findLast((delivery) => delivery.version === version);
      if (last === undefined) return [];
      return [{ isRetired: retired !== null, isVerified: last.state === 'verified', evidence: last.evidence }];
    }),
  }));
}

function byDestinationId(a: DestinationRecord, b: DestinationRecord): number {
  return a.destinationId < b.destinationId ? -1 : Number(a.destinationId > b.destinationId);
}
