import type { DeliveryState, Evidence } from '../../domain/delivery.ts';
import { disregardRequests } from './commitment-operations.ts';
import type { Connection } from './connection.ts';
import type { DecidedVersion, Decision } from './decision-log.ts';
import { CHANGING_COLUMNS, type ChangingRow, finishDelivery, refreshDue, reopenDelivery } from './delivery-changes.ts';
import { destinationKey } from './destination-operations.ts';
import { countState } from './episode-sets.ts';
import { appendLog } from './log-operations.ts';
import { destinationInUse } from './new-deliveries.ts';
import type { CatalogOperations } from './operations.ts';

/** A delivery as a decision about it finds it. */
export type DecidedRow = ChangingRow & {
  destination_id: string;
  evidence: Evidence;
  reason: string | null;
  sop_instance_uid: string;
  presence: string;
};

export const DECIDED_DELIVERIES = `SELECT ${CHANGING_COLUMNS}, t.destination_id, d.evidence, d.reason, v.sop_instance_uid,
    v.presence
  FROM deliveries d JOIN destinations t ON t.destination_key = d.destination_key
  JOIN work w ON w.work_id = d.work_id JOIN versions v ON v.arrival_id = d.arrival_id`;

const DECIDED_DELIVERY = `${DECIDED_DELIVERIES} WHERE d.id = ? AND d.destination_key = ?`;

// CROSS JOIN fixes the order of the tables: few versions share a SOP Instance UID, many deliveries a destination.
export const IS_SUPERSEDED = `SELECT 1 AS found FROM versions v CROSS JOIN deliveries l ON l.arrival_id = v.arrival_id
  WHERE v.sop_instance_uid = ? AND l.destination_key = ? AND l.id > ?
    AND (l.state IN ('sent', 'verified') OR l.evidence <> 'accepted') LIMIT 1`;

const DISCARD_QUARANTINED = "UPDATE deliveries SET state = 'discarded', reason = ? WHERE id = ?";

const IDENTITY = `SELECT sop_instance_uid AS sopInstanceUid, transfer_syntax_uid AS transferSyntaxUid, digest
  FROM versions WHERE arrival_id = ?`;

/** What a person makes of deliveries, or a destination that has lost something. */
export function decisionOperations(
  connection: Connection,
): Pick<CatalogOperations, 'redrive' | 'discard' | 'returnToBacklog'> {
  // By id, each once.
  const rowsOf = (key: number, ids: readonly number[], ...states: readonly DeliveryState[]): DecidedRow[] =>
    [...new Set(ids)]
      .sort((a, b) => a - b)
      .flatMap((id) => connection.get<DecidedRow>(DECIDED_DELIVERY, id, key) ?? [])
      .filter(({ state }) => states.includes(state));
  const inUse = (destinationId: string): number => destinationInUse(connection, destinationId).destination_key;
  const decisionAbout = ({ arrival_id: arrivalId, destination_id: destinationId }: DecidedRow, at: number) => ({
    at,
    arrivalId,
    destinationId,
  });
  return {
    redrive: ({ destinationId, deliveryIds, by, at }) =>
      connection.write(() => {
        const key = inUse(destinationId);
        const [redriven, superseded]: [DecidedRow[], DecidedRow[]] = [[], []];
        // The last version first: where it is tried again, the earlier ones may be as well.
        for (const row of rowsOf(key, deliveryIds, 'quarantined').filter(isHere).reverse()) {
          const isLeft = isSuperseded(connection, row);
          (isLeft ? superseded : redriven).unshift(row);
          if (!isLeft) redriveRow(connection, row, by, at);
        }
        disregardRequests(connection, key, redriven.map(idOf));
        connection.decide(redriven.map((row): Decision => ({ kind: 'redrive', ...decisionAbout(row, at), by })));
        return { redriven: redriven.map(idOf), superseded: superseded.map(idOf) };
      }),

    discard: ({ destinationId, deliveryIds, reason, by, at }) =>
      connection.write(() => {
        const rows = rowsOf(destinationKey(connection, destinationId), deliveryIds, 'pending', 'sent', 'quarantined');
        for (const row of rows) discardRow(connection, row, reason, by, at);
        const decisions = rows.map((row): Decision => {
          const decided = { ...decisionAbout(row, at), ...decidedVersion(connection, row.arrival_id) };
          return { kind: 'settle', state: 'discarded', reason, by, ...decided };
        });
        connection.decide(decisions);
        return rows.map(idOf);
      }),

    returnToBacklog: ({ destinationId, deliveryIds, reason, at }) =>
      connection.write(() => {
        const returned: DecidedRow[] = [];
        // The last version first: where it is owed again, the earlier ones may be as well.
        for (const row of rowsOf(inUse(destinationId), deliveryIds, 'verified').filter(isHere).reverse()) {
          if (isSuperseded(connection, row)) continue;
          returnRow(connection, row, reason, at);
          returned.unshift(row);
        }
        disregardRequests(connection, destinationKey(connection, destinationId), returned.map(idOf));
        connection.decide(returned.map((row): Decision => ({ kind: 'return', ...decisionAbout(row, at), reason })));
        return returned.map(idOf);
      }),
  };
}

/** Within a transaction, as those that follow. */
export function redriveRow(connection: Connection, row: DecidedRow, by: string, at: number): void {
  reopenDelivery(connection, row, false);
  const { destination_id: destinationId, arrival_id: arrivalId, reason } = row;
  appendLog(connection, at, 'redriven', { destinationId, arrivalId, reason, by });
}

export function returnRow(connection: Connection, row: DecidedRow, reason: string, at: number): void {
  reopenDelivery(connection, row, true);
  const { destination_id: destinationId, arrival_id: arrivalId, evidence } = row;
  appendLog(connection, at, 'returned', { destinationId, arrivalId, evidence, reason });
}

/** @param by - Null where it was not a person who said so. */
export function discardRow(
  connection: Connection,
  row: DecidedRow,
  reason: string | null,
  by: string | null,
  at: number,
): void {
  if (row.state === 'quarantined') {
    // It has become final before, and stays so.
    countState(connection, row, row.state, 'discarded');
    connection.run(DISCARD_QUARANTINED, reason, row.id);
  } else {
    finishDelivery(connection, row, { state: 'discarded', evidence: row.evidence, attempts: row.attempts, reason, at });
    refreshDue(connection, row.work_id);
  }
  const { destination_id: destinationId, arrival_id: arrivalId } = row;
  appendLog(connection, at, 'discarded', { destinationId, arrivalId, reason, ...(by !== null && { by }) });
}

export function isHere({ presence }: { readonly presence: string }): boolean {
  return presence === 'kept' || presence === 'unconfirmed';
}

/** Whether a later version under its SOP Instance UID is there already, which it would put back. */
export function isSuperseded(
  connection: Connection,
  row: Pick<DecidedRow, 'sop_instance_uid' | 'destination_key' | 'id'>,
): boolean {
  return connection.get(IS_SUPERSEDED, row.sop_instance_uid, row.destination_key, row.id) !== undefined;
}

/** By what a decision knows a version, under whatever arrival id. */
export function decidedVersion(connection: Connection, arrivalId: string): DecidedVersion {
  return connection.get<DecidedVersion & Record<string, string>>(IDENTITY, arrivalId) ?? {};
}

function idOf({ id }: DecidedRow): number {
  return id;
}
