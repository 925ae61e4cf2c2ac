import type { Lane } from '../../domain/delivery.ts';
import { compareRank } from '../../domain/rank.ts';
import type { Settlement } from '../catalog.ts';
import { type DestinationEntry, firstIndex, type MemoryTables, type StudyEntry } from './memory-tables.ts';

/**
 * Returns whether the settlement held: false when its lease is stale, the delivery is final, or it waits for an earlier
 * version that was redriven since.
 */
export function settle(tables: MemoryTables, settlement: Settlement): boolean {
  const delivery = tables.deliveries.get(settlement.deliveryId);
  if (delivery === undefined || delivery.settledSeq !== null || delivery.study.lease !== settlement.lease) return false;
  if (delivery.isHeld) return false;
  tables.setState(delivery, settlement.state);
  delivery.evidence = settlement.evidence;
  delivery.attempts = settlement.attempts;
  delivery.reason = settlement.reason;
  if (settlement.state === 'pending' || settlement.state === 'sent') {
    tables.defer(delivery, settlement.notBefore);
    if (settlement.state === 'pending') delivery.answeredAt = null;
    else delivery.answeredAt ??= Math.ceil(settlement.at);
    return true;
  }
  tables.finish(delivery, settlement.at);
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
export function mostUrgent(
  { openStudies }: DestinationEntry,
  request: {
    readonly now: number;
    readonly limit: number;
    readonly lane?: Lane;
    readonly historyTier?: number;
  },
): StudyEntry[] {
  const { now, limit, lane, historyTier } = request;
  const first: StudyEntry[] = [];
  for (const study of openStudies) {
    if (study.lease !== null || study.dueAt > now) continue;
    if (lane !== undefined && lane !== laneOf(study, historyTier)) continue;
    const index = firstIndex(first, (other) => byUrgency(other, study) > 0);
    if (index >= limit) continue;
    first.splice(index, 0, study);
    if (first.length > limit) first.pop();
  }
  return first;
}

// While a backlog is ranked by a policy of fewer tiers, it may have later ones, which must not be left out.
function laneOf({ isBacklog, rank }: StudyEntry, historyTier: number | undefined): Lane {
  if (!isBacklog) return 'live';
  return historyTier !== undefined && rank.tier >= historyTier ? 'history' : 'backlog';
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
