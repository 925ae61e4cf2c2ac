import type { EpisodeRecord } from '../domain/episode.ts';

/**
 * The instant that ages count from at a destination: the end of the outage whose backlog is still being sent, so that
 * no study slides out of its tier while it waits. While the outage lasts its end is 'now', as it is without one. What
 * is acquired after the reference is of the first tier.
 *
 * @param episodes - The destination's episodes that are not closed.
 */
export function referenceInstant(episodes: readonly EpisodeRecord[], now: number): number {
  const ends = episodes.filter((episode) => episode.drainedAt === null).map((episode) => episode.endedAt ?? now);
  return ends.length > 0 ? Math.max(...ends) : now;
}
