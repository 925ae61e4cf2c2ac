import { SpillwayError } from '../../errors.ts';
import type { Connection } from './connection.ts';
import { destinationKey } from './destination-operations.ts';
import type { CatalogOperations } from './operations.ts';

type CommitmentRow = { transaction_uid: string; destination_id: string; requested_at: number; delivery_ids: string };

const COMMITMENTS = `SELECT c.transaction_uid, t.destination_id, c.requested_at, c.delivery_ids
  FROM commitments c JOIN destinations t USING (destination_key)`;

const DISREGARD = `UPDATE commitments SET delivery_ids = (
    SELECT json_group_array(value) FROM json_each(delivery_ids) WHERE value NOT IN (SELECT value FROM json_each(?)))
  WHERE destination_key = ?
    AND EXISTS (SELECT 1 FROM json_each(delivery_ids) WHERE value IN (SELECT value FROM json_each(?)))`;

/** What was asked about deliveries before says nothing of them any more: they are owed anew. Within a transaction. */
export function disregardRequests(connection: Connection, key: number, deliveryIds: readonly number[]): void {
  if (deliveryIds.length === 0) return;
  const ids = JSON.stringify(deliveryIds);
  connection.run(DISREGARD, ids, key, ids);
}

/** Deliveries that a transaction still names. */
export function askedAbout(connection: Connection, transactionUid: string): ReadonlySet<number> {
  const row = connection.get<CommitmentRow>(`${COMMITMENTS} WHERE c.transaction_uid = ?`, transactionUid);
  return new Set(row === undefined ? [] : (JSON.parse(row.delivery_ids) as number[]));
}

/** Storage commitment: requests that wait for their answer. */
export function commitmentOperations(
  connection: Connection,
): Pick<CatalogOperations, 'openCommitment' | 'commitments' | 'closeCommitment'> {
  return {
    openCommitment: ({ transactionUid, destinationId, requestedAt, deliveryIds }) =>
      connection.write(() => {
        if (
          connection.get('SELECT 1 AS found FROM commitments WHERE transaction_uid = ?', transactionUid) !== undefined
        ) {
          throw new SpillwayError(
            'SPILLWAY_STORE_FAILED',
            `Expected a new transaction UID, got ${transactionUid}, which is open. Make one for each request.`,
          );
        }
        connection.run(
          'INSERT INTO commitments (transaction_uid, destination_key, requested_at, delivery_ids) VALUES (?, ?, ?, ?)',
          transactionUid,
          destinationKey(connection, destinationId),
          requestedAt,
          JSON.stringify(deliveryIds),
        );
      }),

    commitments: ({ transactionUid, destinationId, limit }) => {
      const rows =
        transactionUid !== undefined
          ? connection.all<CommitmentRow>(`${COMMITMENTS} WHERE c.transaction_uid = ? LIMIT ?`, transactionUid, limit)
          : destinationId !== undefined
            ? connection.all<CommitmentRow>(
                `${COMMITMENTS} WHERE c.destination_key = ? ORDER BY c.requested_at, c.transaction_uid LIMIT ?`,
                destinationKey(connection, destinationId),
                limit,
              )
            : connection.all<CommitmentRow>(`${COMMITMENTS} ORDER BY c.requested_at, c.transaction_uid LIMIT ?`, limit);
      return rows.map((row) => ({
        transactionUid: row.transaction_uid,
        destinationId: row.destination_id,
        requestedAt: row.requested_at,
        deliveryIds: JSON.parse(row.delivery_ids) as number[],
      }));
    },

    closeCommitment: (transactionUid) =>
      connection.run('DELETE FROM commitments WHERE transaction_uid = ?', transactionUid),
  };
}
