import type { EpisodeRecord } from '../../domain/episode.ts';
import type { Catalog } from '../catalog.ts';
import { EpisodeTally } from '../episode-tally.ts';
import { deliveryOf, destinationEntry, entriesFrom, episodeEntry, pageOf } from './memory-records.ts';
import { type DeliveryEntry, type EpisodeEntry, firstIndex, type MemoryTables } from './memory-tables.ts';

type Argument<Method extends keyof Omit<Catalog, 'durable'>> = Parameters<Catalog[Method]>[0];
type Answer<Method extends keyof Omit<Catalog, 'durable'>> = Awaited<ReturnType<Catalog[Method]>>;

export function openEpisode(tables: MemoryTables, episode: Argument<'openEpisode'>): EpisodeRecord {
  const { destinationId, cause, startedAt, detectedAt, planned = false, expectedEndAt = null, by } = episode;
  const destination = destinationEntry(tables, destinationId);
  const record: EpisodeRecord = {
    id: tables.episodes.length + 1,
    destinationId,
    cause,
    planned,
    expectedEndAt,
    planEndedAt: null,
    startedAt,
    detectedAt,
    endedAt: null,
    drainedAt: null,
    closedAt: null,
    pendingAtStart: destination.counts.pending + destination.counts.sent,
  };
  tables.holdings.append(detectedAt, 'episode-opened', {
    episodeId: record.id,
    destinationId,
    cause,
    ...(planned && { planned, expectedEndAt }),
    ...(by !== undefined && { by }),
  });
  for (const study of destination.openStudies) study.isBacklog = true;
  destination.outages += 1;
  tables.episodes.push({ record, destination, start: tables.sequence, end: Number.POSITIVE_INFINITY });
  return record;
}

export function planEpisode(tables: MemoryTables, plan: Argument<'planEpisode'>): EpisodeRecord {
  const { episodeId, cause, expectedEndAt, by, at } = plan;
  const episode = episodeEntry(tables, episodeId);
  if (episode.record.endedAt !== null) return episode.record;
  episode.record = { ...episode.record, planned: true, cause, expectedEndAt, planEndedAt: null };
  const { destinationId } = episode.record;
  tables.holdings.append(at, 'episode-planned', { episodeId, destinationId, cause, expectedEndAt, by });
  return episode.record;
}

export function endPlan(tables: MemoryTables, { episodeId, by, at }: Argument<'endPlan'>): EpisodeRecord {
  const episode = episodeEntry(tables, episodeId);
  const { planned, planEndedAt, destinationId } = episode.record;
  if (!planned || planEndedAt !== null) return episode.record;
  episode.record = { ...episode.record, planEndedAt: at };
  tables.holdings.append(at, 'planned-outage-ended', { episodeId, destinationId, by });
  return episode.record;
}

export function markEpisode(tables: MemoryTables, { episodeId, as, at }: Argument<'markEpisode'>): EpisodeRecord {
  const episode = episodeEntry(tables, episodeId);
  const field = `${as}At` as const;
  if (episode.record[field] !== null) return episode.record;
  const wasOutage = isOutage(episode.record);
  episode.record = { ...episode.record, [field]: at };
  if (as === 'ended') episode.end = tables.sequence;
  if (wasOutage && !isOutage(episode.record)) episode.destination.outages -= 1;
  tables.holdings.append(at, `episode-${as}`, { episodeId, destinationId: episode.record.destinationId });
  return episode.record;
}

function isOutage({ endedAt, closedAt }: EpisodeRecord): boolean {
  return endedAt === null && closedAt === null;
}

export function episodeRemains(episode: EpisodeEntry): Answer<'episodeRemains'> {
  let isOpen = false;
  for (const study of episode.destination.openStudies) {
    for (const delivery of study.open.values()) {
      if (!isInSet(episode, delivery)) continue;
      if (delivery.state === 'pending') return { pending: true, open: true };
      isOpen = true;
    }
  }
  return { pending: false, open: isOpen };
}

export function countEpisode(episode: EpisodeEntry): Answer<'countEpisode'> {
  const tally = new EpisodeTally(episode.record.pendingAtStart);
  for (const delivery of episode.destination.deliveries) {
    if (!isInSet(episode, delivery)) continue;
    const { id, state, study, bytes, settledAt } = delivery;
    const none = { verified: 0, quarantined: 0, discarded: 0, pending: 0, sent: 0 };
    const one = { key: study.studyInstanceUid, tier: study.rank.tier, bytes, settledAt };
    tally.add(Number(id > episode.start), [{ ...one, ...none, [state]: 1 }]);
  }
  return tally.result();
}

export function episodeDeliveries(
  episode: EpisodeEntry,
  { state, afterId, limit }: Argument<'episodeDeliveries'>,
): Answer<'episodeDeliveries'> {
  return deliveryPage(
    episode.destination.deliveries,
    (delivery) => delivery.state === state && isInSet(episode, delivery),
    { afterId, limit },
  );
}

/** A page of those that belong, and the id to go on after. */
export function deliveryPage(
  deliveries: readonly DeliveryEntry[],
  belongs: (delivery: DeliveryEntry) => boolean,
  { afterId, limit }: { readonly afterId: number; readonly limit: number },
): Answer<'deliveries'> {
  const start = firstIndex(deliveries, ({ id }) => id > afterId);
  const found = pageOf(entriesFrom(deliveries, start), belongs, limit + 1);
  const page = found.slice(0, limit);
  return { deliveries: page.map(deliveryOf), next: found.length > limit ? (page.at(-1)?.id ?? afterId) : null };
}

/** Accepted by its end, and not final at its start. */
function isInSet({ start, end }: EpisodeEntry, { id, settledSeq, former }: DeliveryEntry): boolean {
  if (id > end) return false;
  if (id > start) return true;
  if (settledSeq !== null && settledSeq <= start) return false;
  return !former.some(({ settled, until }) => settled <= start && until > start);
}
