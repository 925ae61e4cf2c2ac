import type { EpisodeRecord } from '../domain/episode.ts';

/**
 * The instant that ages count from at a destination.
 *
 * - `outage-end`: the end of the outage whose backlog is still being sent; until it ends its end is now. No study slides
 *   out of its tier while it waits for its turn.
 * - `outage-start`: the start of that outage: what was fresh when the PACS failed stays so, however long it lasts.
 * - `now`: the present, at every ranking: studies slide into later tiers while they wait.
 * - a number: that instant, in ms since the epoch, for rehearsals and for re-ranking by a fixed date.
 *
 * Without an outage the first three are now. What is acquired after the reference is of the first tier.
 */
export type ReferenceInstant = 'outage-end' | 'outage-start' | 'now' | number;

/** @param episodes - The destination's episodes that are not closed. */
export function referenceInstant(
  episodes: readonly Pick<EpisodeRecord, 'startedAt' | 'endedAt' | 'drainedAt'>[],
  now: number,
  reference: ReferenceInstant,
): number {
  if (typeof reference === 'number') return reference;
  const undrained = episodes.filter((episode) => episode.drainedAt === null);
  if (reference === 'now' || undrained.length === 0) return now;
  if (reference === 'outage-start') return Math.min(...undrained.map((episode) => episode.startedAt));
  return Math.max(...undrained.map((episode) => episode.endedAt ?? now));
}
