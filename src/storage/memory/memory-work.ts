import type { EpisodeCounts } from '../../domain/episode.ts';
import { compareRank } from '../../domain/rank.ts';
import type { Catalog, Settlement } from '../catalog.ts';
import {
  type DestinationEntry,
  type EpisodeEntry,
  firstIndex,
  type MemoryTables,
  type StudyEntry,
} from './memory-tables.ts';

/** Returns whether the settlement held: false when its lease is stale or the delivery is final. */
export function settle(tables: MemoryTables, settlement: Settlement): boolean {
  const delivery = tables.deliveries.get(settlement.deliveryId);
  if (delivery === undefined || delivery.settledAt !== null || delivery.study.lease !== settlement.lease) return false;
  tables.setState(delivery, settlement.state);
  delivery.evidence = settlement.evidence;
  delivery.attempts = settlement.attempts;
  delivery.reason = settlement.reason;
  if (settlement.state === 'pending' || settlement.state === 'sent') {
    tables.defer(delivery, settlement.notBefore);
    return true;
  }
  tables.finish(delivery);
  if (settlement.state !== 'verified') {
    const { destination, version } = delivery;
    const detail = {
      destinationId: destination.destinationId,
      arrivalId: version.arrivalId,
      reason: settlement.reason,
    };
    tables.holdings.append(settlement.at, settlement.state, detail);
  }
  return true;
}

/** The `limit` first studies in the order of replay, kept in order while all are looked at once. */
export function mostUrgent({ openStudies }: DestinationEntry, now: number, limit: number): StudyEntry[] {
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

export function countEpisode({
  record,
  destination,
  start,
  end,
}: EpisodeEntry): Awaited<ReturnType<Catalog['countEpisode']>> {
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
export function byStudy(a: Pick<StudyEntry, 'studyInstanceUid'>, b: Pick<StudyEntry, 'studyInstanceUid'>): number {
  return a.studyInstanceUid < b.studyInstanceUid ? -1 : Number(a.studyInstanceUid > b.studyInstanceUid);
}

export function byTier(a: { readonly tier: number }, b: { readonly tier: number }): number {
  return a.tier - b.tier;
}
