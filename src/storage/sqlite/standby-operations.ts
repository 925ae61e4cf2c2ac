import type { Connection } from './connection.ts';
import { destinationKey } from './destination-operations.ts';
import { addDelivery, destinationInUse } from './new-deliveries.ts';
import type { CatalogOperations } from './operations.ts';
import { type RankRow, rankOf } from './rows.ts';
import { countOpen } from './study-counters.ts';

type OwedRow = RankRow & {
  id: number;
  arrival_id: string;
  bytes: number;
  further: number;
  sop_instance_uid: string;
  study_instance_uid: string;
};

export const OWED = `SELECT d.id, d.arrival_id, v.bytes, d.further, v.sop_instance_uid, v.study_instance_uid,
    w.tier, w.urgency, w.acquired_at, w.basis, w.age_tier, w.ruled_tier
  FROM deliveries d JOIN work w ON w.work_id = d.work_id JOIN versions v ON v.arrival_id = d.arrival_id
  WHERE d.destination_key = ? AND d.state = ? AND d.id > ? ORDER BY d.id LIMIT ?`;

const IS_ROUTED = 'SELECT 1 AS found FROM deliveries WHERE arrival_id = ? AND destination_key = ? LIMIT 1';

// The other one was offered a later version already, and not as a copy of an earlier delivery.
export const IS_OVERTAKEN = `SELECT 1 AS found FROM versions v CROSS JOIN deliveries l ON l.arrival_id = v.arrival_id
  WHERE v.sop_instance_uid = ? AND l.destination_key = ? AND l.id > ? AND NOT EXISTS (
    SELECT 1 FROM deliveries f WHERE f.arrival_id = v.arrival_id AND f.destination_key = ? AND f.id < ?) LIMIT 1`;

/** A standby takes over what another destination is owed. */
export function standbyOperations(connection: Connection): Pick<CatalogOperations, 'copyOpenDeliveries'> {
  return {
    copyOpenDeliveries: ({ from, to, afterId, limit }) =>
      connection.write(() => {
        const key = destinationKey(connection, from);
        const { destination_key: standby } = destinationInUse(connection, to);
        const rows = (['pending', 'sent'] as const)
          .flatMap((state) => connection.all<OwedRow>(OWED, key, state, afterId, limit))
          .sort((a, b) => a.id - b.id)
          .slice(0, limit);
        const copied = rows.filter((row) => {
          const { id, arrival_id: arrivalId, sop_instance_uid } = row;
          if (connection.get(IS_ROUTED, arrivalId, standby) !== undefined) return false;
          if (connection.get(IS_OVERTAKEN, sop_instance_uid, standby, id, key, id) !== undefined) return false;
          const identity = { sopInstanceUid: sop_instance_uid, studyInstanceUid: row.study_instance_uid };
          addDelivery(connection, { arrivalId, bytes: row.bytes, identity }, row.further === 1, to, rankOf(row));
          countOpen(connection, row.study_instance_uid, 1);
          return true;
        });
        return { copied: copied.length, next: rows.length < limit ? null : (rows.at(-1)?.id ?? null) };
      }),
  };
}
