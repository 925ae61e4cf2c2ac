import type { Settlement } from '../catalog.ts';
import type { Connection } from './connection.ts';
import type { Decision } from './decision-log.ts';
import { decidedVersion } from './decision-operations.ts';
import { CHANGING_COLUMNS, type ChangingRow, finishDelivery, wholeMs } from './delivery-changes.ts';
import { belongsTo, pageOfDeliveries } from './delivery-pages.ts';
import { destinationKey } from './destination-operations.ts';
import { countState } from './episode-sets.ts';
import { appendLog } from './log-operations.ts';
import type { CatalogOperations } from './operations.ts';

// What waits for an earlier version was sent before that one was redriven: it has its turn again.
export const LEASED_DELIVERY = `SELECT ${CHANGING_COLUMNS}
  FROM deliveries d JOIN work w ON w.work_id = d.work_id
  WHERE d.id = ? AND d.settled_seq IS NULL AND d.held = 0 AND w.lease = ?`;

const SETTLE_PENDING = `UPDATE deliveries SET state = 'pending', evidence = ?, attempts = ?, reason = ?, not_before = ?,
  answered_at = NULL WHERE id = ?`;

const SETTLE_SENT = `UPDATE deliveries SET state = 'sent', evidence = ?, attempts = ?, reason = ?, not_before = ?,
  answered_at = coalesce(answered_at, ?) WHERE id = ?`;

// By the index, which knows the lanes before the tiers.
export const BACKLOG = `SELECT tier, count(*) AS studies, sum(open_instances) AS instances, sum(open_bytes) AS bytes
  FROM work WHERE destination_key = ? AND backlog = ? AND open_instances > 0 GROUP BY tier ORDER BY tier`;

/** Deliveries: listing, settling. */
export function deliveryOperations(
  connection: Connection,
): Pick<CatalogOperations, 'settle' | 'backlog' | 'deliveries'> {
  const keyOf = (destinationId: string): number => destinationKey(connection, destinationId);
  return {
    settle: (settlements) =>
      connection.write(() => {
        const decisions: Decision[] = [];
        const stale = settlements.filter((settlement) => !settle(connection, settlement, decisions));
        connection.decide(decisions);
        return stale.map((settlement) => settlement.deliveryId);
      }),

    backlog: (destinationId) => backlog(connection, keyOf(destinationId)),

    deliveries: ({ state, afterId, limit, ...filter }) =>
      pageOfDeliveries(connection, { key: keyOf(filter.destinationId), state, afterId, limit }, belongsTo(filter)),
  };
}

/** Returns whether the settlement held: false when its lease is stale or the delivery is final. */
function settle(connection: Connection, settlement: Settlement, decisions: Decision[]): boolean {
  const { deliveryId, lease, state, evidence, attempts, reason, at } = settlement;
  const row = connection.get<ChangingRow>(LEASED_DELIVERY, deliveryId, lease);
  if (row === undefined) return false;
  const notBefore = wholeMs(settlement.notBefore);
  if (state === 'pending') {
    countState(connection, row, row.state, state);
    connection.run(SETTLE_PENDING, evidence, attempts, reason, notBefore, deliveryId);
    return true;
  }
  if (state === 'sent') {
    countState(connection, row, row.state, state);
    connection.run(SETTLE_SENT, evidence, attempts, reason, notBefore, wholeMs(at), deliveryId);
    return true;
  }
  finishDelivery(connection, row, { state, evidence, attempts, reason, at });
  if (state !== 'verified') {
    const destinationId = destinationIdOf(connection, row.destination_key);
    const { arrival_id: arrivalId } = row;
    const identity = state === 'discarded' ? decidedVersion(connection, arrivalId) : {};
    decisions.push({ kind: 'settle', at, arrivalId, destinationId, state, reason, ...identity });
    appendLog(connection, at, state, { destinationId, arrivalId, reason });
  }
  return true;
}

function backlog(connection: Connection, key: number): ReturnType<CatalogOperations['backlog']> {
  const tiers = new Map<number, { tier: number; studies: number; instances: number; bytes: number }>();
  for (const lane of [0, 1]) {
    const rows = connection.all<{ tier: number; studies: number; instances: number; bytes: number }>(
      BACKLOG,
      key,
      lane,
    );
    for (const { tier, studies, instances, bytes } of rows) {
      const sum = tiers.get(tier) ?? { tier, studies: 0, instances: 0, bytes: 0 };
      tiers.set(tier, sum);
      sum.studies += studies;
      sum.instances += instances;
      sum.bytes += bytes;
    }
  }
  return [...tiers.values()].sort((a, b) => a.tier - b.tier);
}

function destinationIdOf(connection: Connection, key: number): string {
  return (
    connection.get<{ id: string }>('SELECT destination_id AS id FROM destinations WHERE destination_key = ?', key)
      ?.id ?? ''
  );
}
