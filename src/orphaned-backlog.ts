import { SpillwayError } from './errors.ts';
import type { OpenStore } from './storage/store.ts';
import type { Destination } from './transports/transport.ts';

/** Refuses an opening without a destination that still has a backlog: what was promised to it would be forgotten. */
export async function assertNoOrphans(store: OpenStore, destinations: readonly Destination[]): Promise<void> {
  const given = new Set(destinations.map(({ id }) => id));
  const orphans = (await store.catalog.destinations()).filter(
    (record) => record.retiredAt === null && record.pending + record.sent > 0 && !given.has(record.destinationId),
  );
  if (orphans.length === 0) return;
  const list = orphans.map((record) => `"${record.destinationId}" (${record.pending + record.sent} deliveries)`);
  throw new SpillwayError(
    'SPILLWAY_BACKLOG_ORPHANED',
    `Expected every destination with a backlog among the destinations, got none for ${list.join(', ')}. ` +
      'Name it again, or give it up for good: open once more with it and call ' +
      'retireDestination({ id, reason, by }). Nothing was changed.',
  );
}
