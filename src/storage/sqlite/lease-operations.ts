import type { Lane } from '../../domain/delivery.ts';
import { compareRank } from '../../domain/rank.ts';
import type { LeasedStudy } from '../catalog.ts';
import type { Connection } from './connection.ts';
import { wholeMs } from './delivery-changes.ts';
import { destinationKey } from './destination-operations.ts';
import type { CatalogOperations } from './operations.ts';
import { DELIVERY_COLUMNS, type DeliveryRow, deliveryOf, RANK_COLUMNS, type RankRow, rankOf } from './rows.ts';

/** The most urgent studies of a lane, with one condition more on their tier. */
const leasable = (lane: 0 | 1, tiers: string) => `SELECT work_id, study_instance_uid, ${RANK_COLUMNS}, interrupted
  FROM work WHERE destination_key = ? AND backlog = ${lane} AND open_instances > 0 AND lease IS NULL AND due_at <= ?${tiers}
  ORDER BY tier, urgency, acquired_at, study_instance_uid LIMIT ?`;

export const LEASABLE: Readonly<Record<'live' | 'held up' | 'backlog' | 'history', string>> = {
  live: leasable(0, ''),
  'held up': leasable(1, ''),
  backlog: leasable(1, ' AND tier < ?'),
  // While a backlog is ranked by a policy of fewer tiers, it may have later ones, which must not be left out.
  history: leasable(1, ' AND tier >= ?'),
};

export const DUE_DELIVERIES = `SELECT ${DELIVERY_COLUMNS} FROM destinations t
  JOIN work w ON w.destination_key = t.destination_key
  JOIN deliveries d ON d.work_id = w.work_id
  JOIN versions v ON v.arrival_id = d.arrival_id
  WHERE t.destination_key = ? AND w.study_instance_uid = ? AND d.settled_seq IS NULL AND d.held = 0
    AND d.not_before <= ? AND d.id > ? ORDER BY d.id LIMIT ?`;

export const NEXT_DUE = `SELECT not_before FROM deliveries
  WHERE destination_key = ? AND settled_seq IS NULL AND not_before > 0 AND not_before > ? AND held = 0
  ORDER BY not_before LIMIT 1`;

const DEFER = 'UPDATE deliveries SET not_before = max(not_before, ?) WHERE work_id = ? AND settled_seq IS NULL';

const LATE = 'destination_key = ? AND settled_seq IS NULL AND not_before > 0 AND not_before > ?';

export const BOUND_WORK = `UPDATE work SET due_at = ? WHERE due_at > ?
  AND work_id IN (SELECT work_id FROM deliveries WHERE ${LATE})`;

export const BOUND_DELIVERIES = `UPDATE deliveries SET not_before = ? WHERE ${LATE}`;

const END_LEASE = `UPDATE work SET lease = NULL, due_at = (
    SELECT min(not_before) FROM deliveries WHERE work_id = work.work_id AND settled_seq IS NULL AND held = 0)
  WHERE work_id = ?`;

/** Leases, and what is due when. */
export function leaseOperations(
  connection: Connection,
): Pick<CatalogOperations, 'leaseStudies' | 'releaseStudies' | 'boundDelays' | 'dueDeliveries' | 'nextDueAt'> {
  const keyOf = (destinationId: string): number => destinationKey(connection, destinationId);
  return {
    leaseStudies: ({ destinationId, ...request }) => leaseStudies(connection, keyOf(destinationId), request),

    releaseStudies: (release) => releaseStudies(connection, keyOf(release.destinationId), release),

    boundDelays: ({ destinationId, latest }) =>
      connection.write(() => {
        const [key, bound] = [keyOf(destinationId), wholeMs(latest)];
        connection.run(BOUND_WORK, bound, bound, key, bound);
        connection.run(BOUND_DELIVERIES, bound, key, bound);
      }),

    dueDeliveries: ({ destinationId, studyInstanceUid, now, afterId, limit }) =>
      connection
        .all<DeliveryRow>(DUE_DELIVERIES, keyOf(destinationId), studyInstanceUid, now, afterId, limit)
        .map(deliveryOf),

    nextDueAt: ({ destinationId, now }) =>
      connection.get<{ not_before: number }>(NEXT_DUE, keyOf(destinationId), now)?.not_before ?? null,
  };
}

/** Ends the leases of the former opening: what they had leased is marked, and is free again. */
export function voidLeases(connection: Connection): void {
  connection.write(() => {
    for (const { work_id } of connection.all<{ work_id: number }>('SELECT work_id FROM work WHERE lease IS NOT NULL')) {
      connection.run('UPDATE work SET interrupted = 1 WHERE work_id = ?', work_id);
      connection.run(END_LEASE, work_id);
    }
  });
}

type LeasableRow = RankRow & { work_id: number; study_instance_uid: string; interrupted: number };

interface LeaseRequest {
  readonly now: number;
  readonly limit: number;
  readonly lane?: Lane;
  readonly historyTier?: number;
}

function leaseStudies(connection: Connection, key: number, request: LeaseRequest): readonly LeasedStudy[] {
  return connection.write(() =>
    leasableStudies(connection, key, request).map((row) => {
      const lease = connection.advance();
      connection.run('UPDATE work SET lease = ? WHERE work_id = ?', lease, row.work_id);
      return {
        studyInstanceUid: row.study_instance_uid,
        rank: rankOf(row),
        lease,
        interrupted: row.interrupted === 1,
      };
    }),
  );
}

function leasableStudies(
  connection: Connection,
  key: number,
  { now, limit, lane, historyTier }: LeaseRequest,
): readonly LeasableRow[] {
  const find = (sql: string, ...tiers: number[]) => connection.all<LeasableRow>(sql, key, now, ...tiers, limit);
  if (lane === 'live') return find(LEASABLE.live);
  if (lane === 'history') return historyTier === undefined ? [] : find(LEASABLE.history, historyTier);
  const heldUp =
    lane === 'backlog' && historyTier !== undefined ? find(LEASABLE.backlog, historyTier) : find(LEASABLE['held up']);
  if (lane === 'backlog') return heldUp;
  return [...find(LEASABLE.live), ...heldUp].sort(byUrgency).slice(0, limit);
}

function byUrgency(a: LeasableRow, b: LeasableRow): number {
  return compareRank(rankOf(a), rankOf(b)) || (a.study_instance_uid < b.study_instance_uid ? -1 : 1);
}

function releaseStudies(
  connection: Connection,
  key: number,
  { leases, deferUntil = 0, clarified }: Parameters<CatalogOperations['releaseStudies']>[0],
): void {
  connection.write(() => {
    for (const lease of leases) {
      const row = connection.get<{ work_id: number }>(
        'SELECT work_id FROM work WHERE lease = ? AND destination_key = ?',
        lease,
        key,
      );
      if (row === undefined) continue;
      if (deferUntil > 0) connection.run(DEFER, wholeMs(deferUntil), row.work_id);
      if (clarified !== undefined) {
        connection.run('UPDATE work SET interrupted = ? WHERE work_id = ?', Number(!clarified), row.work_id);
      }
      connection.run(END_LEASE, row.work_id);
    }
  });
}
