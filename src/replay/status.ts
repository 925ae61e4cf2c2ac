import type { EpisodeRecord } from '../domain/episode.ts';
import type { DestinationState } from '../routing/destination.ts';
import type { DestinationRecord, TierBacklog } from '../storage/catalog.ts';
import type { TierPolicy } from '../tiers/policy.ts';
import type { DestinationStatus } from './events.ts';

/** Puts a destination's status together from what is known of it. */
export function describeStatus(known: {
  readonly destinationId: string;
  readonly state: DestinationState;
  readonly backlog: readonly TierBacklog[];
  readonly record: DestinationRecord | undefined;
  readonly rate: DestinationStatus['rate'];
  readonly inFlight: number;
  readonly limit: number;
  readonly episode: EpisodeRecord | null;
  readonly tiers: TierPolicy;
}): DestinationStatus {
  const { health } = known.state;
  const tiers = known.tiers.tiers.map(({ id }, index) => {
    const row = known.backlog.find((backlog) => backlog.tier === index);
    return { tier: id, studies: row?.studies ?? 0, instances: row?.instances ?? 0, bytes: row?.bytes ?? 0 };
  });
  const sum = (key: 'studies' | 'instances' | 'bytes') => known.backlog.reduce((total, row) => total + row[key], 0);
  const bytes = sum('bytes');
  const { bytesPerSecond } = known.rate;
  const estimatedDrainMs = bytes === 0 ? 0 : bytesPerSecond > 0 ? (bytes / bytesPerSecond) * 1000 : null;
  return {
    destinationId: known.destinationId,
    health: { phase: health.phase, since: health.since, reason: health.reason },
    backlog: { studies: sum('studies'), instances: sum('instances'), bytes, tiers },
    rate: known.rate,
    estimatedDrainMs,
    concurrency: { inFlight: known.inFlight, limit: known.limit },
    verified: known.record?.verified ?? 0,
    quarantined: known.record?.quarantined ?? 0,
    discarded: known.record?.discarded ?? 0,
    episode: known.episode,
  };
}
