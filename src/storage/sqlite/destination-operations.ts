import type { DeliveryState } from '../../domain/delivery.ts';
import { SpillwayError } from '../../errors.ts';
import type { DestinationRecord } from '../catalog.ts';
import type { Connection } from './connection.ts';
import { appendLog } from './log-operations.ts';
import type { CatalogOperations } from './operations.ts';

export type DestinationRow = {
  destination_key: number;
  destination_id: string;
  retired_at: number | null;
  retired_reason: string | null;
  retired_by: string | null;
  ranked_by: string | null;
  ranking: number;
  pending: number;
  sent: number;
  verified: number;
  quarantined: number;
  discarded: number;
};

/** The row of a destination that was registered, in use or retired. */
export function destinationRow(connection: Connection, destinationId: string): DestinationRow {
  const row = connection.get<DestinationRow>('SELECT * FROM destinations WHERE destination_id = ?', destinationId);
  if (row === undefined) {
    throw new SpillwayError(
      'SPILLWAY_NOT_FOUND',
      `Expected a destination that the catalog knows, got "${destinationId}". Register it first.`,
    );
  }
  return row;
}

export function destinationKey(connection: Connection, destinationId: string): number {
  return destinationRow(connection, destinationId).destination_key;
}

export const COUNT_STATE: Readonly<Record<DeliveryState, string>> = {
  pending: 'UPDATE destinations SET pending = pending + ? WHERE destination_key = ?',
  sent: 'UPDATE destinations SET sent = sent + ? WHERE destination_key = ?',
  verified: 'UPDATE destinations SET verified = verified + ? WHERE destination_key = ?',
  quarantined: 'UPDATE destinations SET quarantined = quarantined + ? WHERE destination_key = ?',
  discarded: 'UPDATE destinations SET discarded = discarded + ? WHERE destination_key = ?',
};

export function registerDestination(connection: Connection, destinationId: string): void {
  connection.run('INSERT INTO destinations (destination_id) VALUES (?) ON CONFLICT DO NOTHING', destinationId);
}

/** Destinations: registering, listing, retiring. */
export function destinationOperations(
  connection: Connection,
): Pick<CatalogOperations, 'registerDestination' | 'destinations' | 'retireDestination'> {
  return {
    registerDestination: (destinationId) => {
      connection.run(
        `INSERT INTO destinations (destination_id) VALUES (?) ON CONFLICT (destination_id)
          DO UPDATE SET retired_at = NULL, retired_reason = NULL, retired_by = NULL WHERE retired_at IS NOT NULL`,
        destinationId,
      );
    },

    destinations: () =>
      connection
        .all<DestinationRow>('SELECT * FROM destinations ORDER BY destination_id')
        .map((row) => destinationOf(row)),

    retireDestination: (retirement) =>
      connection.write(() => {
        retireDestination(connection, retirement);
        connection.decide([{ kind: 'retire', ...retirement }]);
      }),
  };
}

/** Within a transaction. */
export function retireDestination(
  connection: Connection,
  {
    destinationId,
    reason,
    by,
    at,
  }: { readonly destinationId: string; readonly reason: string; readonly by: string; readonly at: number },
): void {
  connection.flush();
  const { destination_key: key, pending, sent } = destinationRow(connection, destinationId);
  connection.run(
    `UPDATE destinations SET retired_at = ?, retired_reason = ?, retired_by = ?,
      discarded = discarded + pending + sent, pending = 0, sent = 0 WHERE destination_key = ?`,
    at,
    reason,
    by,
    key,
  );
  // One state at a time keeps the updates on the index by state.
  const sequence = connection.advance();
  for (const state of ['pending', 'sent']) {
    connection.run(
      `UPDATE deliveries SET state = 'discarded', reason = ?, settled_seq = ?, settled_at = ?, held = 0, not_before = 0
        WHERE destination_key = ? AND state = ?`,
      reason,
      sequence,
      Math.ceil(at),
      key,
      state,
    );
  }
  connection.run(
    `UPDATE studies SET open_deliveries = open_deliveries - w.open_instances FROM work w
      WHERE w.destination_key = ? AND w.open_instances > 0 AND w.study_instance_uid = studies.study_instance_uid`,
    key,
  );
  connection.run(
    `UPDATE work SET open_instances = 0, open_bytes = 0, due_at = NULL, lease = NULL, interrupted = 0
      WHERE destination_key = ?`,
    key,
  );
  connection.run('UPDATE episodes SET pending = 0, sent = 0 WHERE destination_key = ? AND closed_at IS NULL', key);
  appendLog(connection, at, 'retired', { destinationId, reason, by, discarded: pending + sent });
}

function destinationOf(row: DestinationRow): DestinationRecord {
  return {
    destinationId: row.destination_id,
    retiredAt: row.retired_at,
    retiredReason: row.retired_reason,
    retiredBy: row.retired_by,
    rankedBy: row.ranked_by,
    pending: row.pending,
    sent: row.sent,
    verified: row.verified,
    quarantined: row.quarantined,
    discarded: row.discarded,
  };
}
