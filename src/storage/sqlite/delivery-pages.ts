import type { Delivery, DeliveryFilter, DeliveryState } from '../../domain/delivery.ts';
import { isOfFilter } from '../delivery-filter.ts';
import type { Connection } from './connection.ts';
import { DELIVERY_COLUMNS, type DeliveryRow, deliveryOf } from './rows.ts';

/** Rows that one call looks at: they are joined and read in less time than a commit takes. */
export const MAX_EXAMINED = 1_000;

export const DELIVERIES_IN_STATE = `SELECT ${DELIVERY_COLUMNS}, d.settled_seq, v.received_at FROM destinations t
  JOIN deliveries d ON d.destination_key = t.destination_key
  JOIN versions v ON v.arrival_id = d.arrival_id
  WHERE t.destination_key = ? AND d.state = ? AND d.id > ? AND d.id <= ? ORDER BY d.id LIMIT ?`;

export type ExaminedRow = DeliveryRow & { settled_seq: number | null; received_at: number };

/** Those of a destination's deliveries in one state that belong, by id, looking at a bounded number; `next` is where to go on. */
export function pageOfDeliveries(
  connection: Connection,
  page: {
    readonly key: number;
    readonly state: DeliveryState;
    readonly afterId: number;
    readonly upToId?: number;
    readonly limit: number;
  },
  belongs: ((row: ExaminedRow) => boolean) | null,
): { readonly deliveries: readonly Delivery[]; readonly next: number | null } {
  const { key, state, afterId, upToId = Number.MAX_SAFE_INTEGER, limit } = page;
  const examined = belongs === null ? limit : MAX_EXAMINED;
  // One more than is looked at, to see whether any follow.
  const rows = connection.all<ExaminedRow>(DELIVERIES_IN_STATE, key, state, afterId, upToId, examined + 1);
  const deliveries: Delivery[] = [];
  let last = 0;
  for (const row of rows.slice(0, examined)) {
    if (belongs === null || belongs(row)) {
      if (deliveries.length >= limit) return { deliveries, next: last };
      deliveries.push(deliveryOf(row));
    }
    last = row.id;
  }
  return { deliveries, next: rows.length > examined ? last : null };
}

/** Null where the filter says nothing that each delivery to its destination does not meet. */
export function belongsTo(filter: DeliveryFilter): ((row: ExaminedRow) => boolean) | null {
  const { destinationId: _, ...rest } = filter;
  if (Object.values(rest).every((value) => value === undefined)) return null;
  return (row) => isOfFilter(filter, deliveryOf(row), row.received_at);
}
