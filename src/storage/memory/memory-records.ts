import type { Delivery } from '../../domain/delivery.ts';
import { SpillwayError } from '../../errors.ts';
import type { DestinationRecord } from '../catalog.ts';
import type { DeliveryEntry, DestinationEntry, EpisodeEntry, MemoryTables } from './memory-tables.ts';

export function destinationEntry(tables: Pick<MemoryTables, 'destinations'>, destinationId: string): DestinationEntry {
  const destination = tables.destinations.get(destinationId);
  if (destination !== undefined) return destination;
  throw new SpillwayError(
    'SPILLWAY_NOT_FOUND',
    `Expected a destination that the catalog knows, got "${destinationId}". Register it first.`,
  );
}

export function destinationInUse(tables: MemoryTables, destinationId: string): DestinationEntry {
  const destination = destinationEntry(tables, destinationId);
  if (destination.retired === null) return destination;
  throw new SpillwayError(
    'SPILLWAY_NOT_FOUND',
    `Expected deliveries to destinations in use, got the retired "${destinationId}". ` +
      'Leave it out of the route, or register it again.',
  );
}

export function episodeEntry(tables: MemoryTables, episodeId: number): EpisodeEntry {
  const episode = tables.episodes[episodeId - 1];
  if (episode !== undefined) return episode;
  throw new SpillwayError('SPILLWAY_NOT_FOUND', `Expected the id of an episode, got ${episodeId}: there is none such.`);
}

export function destinationOf({ destinationId, retired, rankedBy, counts }: DestinationEntry): DestinationRecord {
  return {
    destinationId,
    retiredAt: retired?.at ?? null,
    retiredReason: retired?.reason ?? null,
    retiredBy: retired?.by ?? null,
    rankedBy,
    ...counts,
  };
}

export function deliveryOf(delivery: DeliveryEntry): Delivery {
  const { arrivalId, identity, digest, bytes, blobRef } = delivery.version;
  return {
    id: delivery.id,
    destinationId: delivery.destination.destinationId,
    arrivalId,
    identity,
    digest,
    bytes,
    blobRef,
    state: delivery.state,
    evidence: delivery.evidence,
    attempts: delivery.attempts,
    furtherVersion: delivery.isFurther,
    reason: delivery.reason,
    answeredAt: delivery.answeredAt,
    settledAt: delivery.settledAt,
  };
}

export function* entriesFrom<T>(items: readonly T[], start: number): Generator<T> {
  for (let index = start; index < items.length; index += 1) yield items[index] as T;
}

export function pageOf<T>(items: Iterable<T>, belongs: (item: T) => boolean, limit: number): T[] {
  const page: T[] = [];
  for (const item of items) {
    if (page.length >= limit) break;
    if (belongs(item)) page.push(item);
  }
  return page;
}
