import type { DeliveryState } from '../../domain/delivery.ts';
import type { Settlement } from '../catalog.ts';
import type { Connection } from './connection.ts';
import type { Decision } from './decision-log.ts';
import { COUNT_STATE, destinationKey } from './destination-operations.ts';
import { appendLog } from './log-operations.ts';
import type { CatalogOperations } from './operations.ts';
import { DELIVERY_COLUMNS, type DeliveryRow, deliveryOf, RANK_COLUMNS, type RankRow, rankOf } from './rows.ts';
import { countOpen } from './study-counters.ts';

export const LEASABLE_STUDIES = `SELECT work_id, study_instance_uid, ${RANK_COLUMNS}, interrupted
  FROM work WHERE destination_key = ? AND open_instances > 0 AND lease IS NULL AND due_at <= ?
  ORDER BY tier, urgency, acquired_at, study_instance_uid LIMIT ?`;

export const DUE_DELIVERIES = `SELECT ${DELIVERY_COLUMNS} FROM destinations t
  JOIN work w ON w.destination_key = t.destination_key
  JOIN deliveries d ON d.work_id = w.work_id
  JOIN versions v ON v.arrival_id = d.arrival_id
  WHERE t.destination_key = ? AND w.study_instance_uid = ? AND d.settled_seq IS NULL AND d.held = 0
    AND d.not_before <= ? AND d.id > ? ORDER BY d.id LIMIT ?`;

const DELIVERIES_IN_STATE = `SELECT ${DELIVERY_COLUMNS} FROM destinations t
  JOIN deliveries d ON d.destination_key = t.destination_key
  JOIN versions v ON v.arrival_id = d.arrival_id
  WHERE t.destination_key = ? AND d.state = ? AND d.id > ? ORDER BY d.id LIMIT ?`;

export const NEXT_DUE = `SELECT not_before FROM deliveries
  WHERE destination_key = ? AND settled_seq IS NULL AND held = 0 AND not_before > 0 AND not_before > ?
  ORDER BY not_before LIMIT 1`;

const DEFER = 'UPDATE deliveries SET not_before = max(not_before, ?) WHERE work_id = ? AND settled_seq IS NULL';

const END_LEASE = `UPDATE work SET lease = NULL, due_at = (
    SELECT min(not_before) FROM deliveries WHERE work_id = work.work_id AND settled_seq IS NULL AND held = 0)
  WHERE work_id = ?`;

/** An open delivery as it is made final. */
export type OpenDeliveryRow = {
  id: number;
  work_id: number;
  destination_key: number;
  arrival_id: string;
  state: DeliveryState;
  bytes: number;
  attempts: number;
  study_instance_uid: string;
};

export const OPEN_DELIVERY_COLUMNS = `d.id, d.work_id, d.destination_key, d.arrival_id, d.state, d.bytes, d.attempts,
  w.study_instance_uid`;

export const LEASED_DELIVERY = `SELECT ${OPEN_DELIVERY_COLUMNS}
  FROM deliveries d JOIN work w ON w.work_id = d.work_id
  WHERE d.id = ? AND d.settled_seq IS NULL AND w.lease = ?`;

const SETTLE_OPEN = `UPDATE deliveries SET state = ?, evidence = ?, attempts = ?, reason = ?, not_before = ?
  WHERE id = ?`;

const SETTLE_FINAL = `UPDATE deliveries SET state = ?, evidence = ?, attempts = ?, reason = ?, settled_seq = ?,
  held = 0, not_before = 0 WHERE id = ?`;

// CROSS JOIN fixes the order of the tables: few versions share a SOP Instance UID, many deliveries a destination.
export const FIRST_OPEN_OF_INSTANCE = `SELECT d.id, d.work_id, d.held, d.not_before FROM versions s
  CROSS JOIN versions v ON v.sop_instance_uid = s.sop_instance_uid
  CROSS JOIN deliveries d ON d.arrival_id = v.arrival_id
  WHERE s.arrival_id = ? AND d.destination_key = ? AND d.settled_seq IS NULL ORDER BY d.id LIMIT 1`;

const MOVE_DUE_FORWARD = 'UPDATE work SET due_at = min(coalesce(due_at, ?), ?) WHERE work_id = ?';

/** Deliveries: leasing studies, listing, settling. */
export function deliveryOperations(
  connection: Connection,
): Pick<
  CatalogOperations,
  'leaseStudies' | 'releaseStudies' | 'dueDeliveries' | 'settle' | 'nextDueAt' | 'backlog' | 'deliveries'
> {
  const keyOf = (destinationId: string): number => destinationKey(connection, destinationId);
  return {
    leaseStudies: ({ destinationId, now, limit }) => leaseStudies(connection, keyOf(destinationId), now, limit),

    releaseStudies: ({ destinationId, leases, deferUntil = 0 }) =>
      releaseStudies(connection, keyOf(destinationId), leases, wholeMs(deferUntil)),

    dueDeliveries: ({ destinationId, studyInstanceUid, now, afterId, limit }) =>
      connection
        .all<DeliveryRow>(DUE_DELIVERIES, keyOf(destinationId), studyInstanceUid, now, afterId, limit)
        .map(deliveryOf),

    settle: (settlements) =>
      connection.write(() => {
        const sequence = connection.advance();
        const decisions: Decision[] = [];
        const stale = settlements.filter((settlement) => !settle(connection, settlement, sequence, decisions));
        connection.decide(decisions);
        return stale.map((settlement) => settlement.deliveryId);
      }),

    nextDueAt: ({ destinationId, now }) =>
      connection.get<{ not_before: number }>(NEXT_DUE, keyOf(destinationId), now)?.not_before ?? null,

    backlog: (destinationId) =>
      connection
        .all<{ tier: number; studies: number; instances: number; bytes: number }>(
          `SELECT tier, count(*) AS studies, sum(open_instances) AS instances, sum(open_bytes) AS bytes
            FROM work WHERE destination_key = ? AND open_instances > 0 GROUP BY tier ORDER BY tier`,
          keyOf(destinationId),
        )
        .map(({ tier, studies, instances, bytes }) => ({ tier, studies, instances, bytes })),

    deliveries: ({ destinationId, state, afterId, limit }) =>
      connection.all<DeliveryRow>(DELIVERIES_IN_STATE, keyOf(destinationId), state, afterId, limit).map(deliveryOf),
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

function leaseStudies(connection: Connection, key: number, now: number, limit: number) {
  type LeasableRow = RankRow & { work_id: number; study_instance_uid: string; interrupted: number };
  return connection.write(() => {
    const rows = connection.all<LeasableRow>(LEASABLE_STUDIES, key, now, limit);
    return rows.map((row) => {
      const lease = connection.advance();
      connection.run('UPDATE work SET lease = ?, interrupted = 0 WHERE work_id = ?', lease, row.work_id);
      return {
        studyInstanceUid: row.study_instance_uid,
        rank: rankOf(row),
        lease,
        interrupted: row.interrupted === 1,
      };
    });
  });
}

function releaseStudies(connection: Connection, key: number, leases: readonly number[], deferUntil: number): void {
  connection.write(() => {
    for (const lease of leases) {
      const row = connection.get<{ work_id: number }>(
        'SELECT work_id FROM work WHERE lease = ? AND destination_key = ?',
        lease,
        key,
      );
      if (row === undefined) continue;
      if (deferUntil > 0) connection.run(DEFER, deferUntil, row.work_id);
      connection.run(END_LEASE, row.work_id);
    }
  });
}

/** Returns whether the settlement held: false when its lease is stale or the delivery is final. */
function settle(connection: Connection, settlement: Settlement, sequence: number, decisions: Decision[]): boolean {
  const { deliveryId, lease, state, evidence, attempts, reason, at } = settlement;
  const row = connection.get<OpenDeliveryRow>(LEASED_DELIVERY, deliveryId, lease);
  if (row === undefined) return false;
  if (state === 'pending' || state === 'sent') {
    countChange(connection, row, state);
    connection.run(SETTLE_OPEN, state, evidence, attempts, reason, wholeMs(settlement.notBefore), deliveryId);
    return true;
  }
  finishDelivery(connection, row, { state, evidence, attempts, reason }, sequence);
  if (state !== 'verified') {
    const destinationId = destinationIdOf(connection, row.destination_key);
    decisions.push({ kind: 'settle', at, arrivalId: row.arrival_id, destinationId, state, reason });
    appendLog(connection, at, state, { destinationId, arrivalId: row.arrival_id, reason });
  }
  return true;
}

/** Makes an open delivery final, and everything that counts it right. */
export function finishDelivery(
  connection: Connection,
  row: OpenDeliveryRow,
  { state, evidence, attempts, reason }: Pick<Settlement, 'state' | 'evidence' | 'attempts' | 'reason'>,
  sequence: number,
): void {
  countChange(connection, row, state);
  connection.run(SETTLE_FINAL, state, evidence, attempts, reason, sequence, row.id);
  connection.run(
    'UPDATE work SET open_instances = open_instances - 1, open_bytes = open_bytes - ? WHERE work_id = ?',
    row.bytes,
    row.work_id,
  );
  countOpen(connection, row.study_instance_uid, -1);
  releaseNextVersion(connection, row.arrival_id, row.destination_key);
}

function countChange(connection: Connection, row: OpenDeliveryRow, state: DeliveryState): void {
  if (state === row.state) return;
  connection.accumulate(COUNT_STATE[row.state], [-1], [row.destination_key]);
  connection.accumulate(COUNT_STATE[state], [1], [row.destination_key]);
}

function destinationIdOf(connection: Connection, key: number): string {
  return (
    connection.get<{ id: string }>('SELECT destination_id AS id FROM destinations WHERE destination_key = ?', key)
      ?.id ?? ''
  );
}

/** A delivery has become final: the next open one of its SOP Instance UID, perhaps in another study, is its turn. */
function releaseNextVersion(connection: Connection, arrivalId: string, key: number): void {
  const next = connection.get<{ id: number; work_id: number; held: number; not_before: number }>(
    FIRST_OPEN_OF_INSTANCE,
    arrivalId,
    key,
  );
  if (next === undefined || next.held === 0) return;
  connection.run('UPDATE deliveries SET held = 0 WHERE id = ?', next.id);
  connection.run(MOVE_DUE_FORWARD, next.not_before, next.not_before, next.work_id);
}

/** An instant for an INTEGER column: delays drawn at random are seldom whole, and none may end early. */
function wholeMs(instant: number): number {
  return Math.min(Math.ceil(instant), Number.MAX_SAFE_INTEGER);
}
