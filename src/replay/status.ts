import type { EpisodeRecord } from '../domain/episode.ts';
import type { DestinationState } from '../routing/destination.ts';
import { drainEstimate } from '../routing/estimate.ts';
import type { DestinationRecord, TierBacklog } from '../storage/catalog.ts';
import type { TierPolicy } from '../tiers/policy.ts';
import type { DestinationStatus } from './events.ts';
import type { RateMeter } from './rate-meter.ts';

/** Puts a destination's status together from what is known of it. */
export function describeStatus(known: {
  readonly destinationId: string;
  readonly state: DestinationState;
  readonly isPaused: boolean;
  readonly backlog: readonly TierBacklog[];
  readonly record: DestinationRecord | undefined;
  readonly meter: RateMeter;
  readonly now: number;
  readonly lagMs: number;
  readonly inFlight: number;
  readonly limit: number;
  readonly episode: EpisodeRecord | null;
  readonly tiers: TierPolicy;
}): DestinationStatus {
  const { meter, now, record } = known;
  const { phase, since, reason } = known.state.health;
  const samples = meter.samples(now);
  let bytesThrough = 0;
  const tiers = known.tiers.tiers.map(({ id }, index) => {
    const { studies = 0, instances = 0, bytes = 0 } = known.backlog.find(({ tier }) => tier === index) ?? {};
    // What is more urgent goes before it.
    bytesThrough += bytes;
    const drain = instances === 0 ? NOTHING_LEFT : drainEstimate({ bytes: bytesThrough, samples });
    return { tier: id, studies, instances, bytes, rate: meter.rate(now, index), drain };
  });
  const sum = (key: 'studies' | 'instances' | 'bytes') => known.backlog.reduce((total, row) => total + row[key], 0);
  const [instances, bytes] = [sum('instances'), sum('bytes')];
  return {
    destinationId: known.destinationId,
    health: { phase, since, reason },
    isPaused: known.isPaused,
    backlog: { studies: sum('studies'), instances, bytes, tiers },
    rate: meter.rate(now),
    drain: instances === 0 ? NOTHING_LEFT : drainEstimate({ bytes, samples }),
    verification: { instances: record?.sent ?? 0, lagMs: known.lagMs },
    concurrency: { inFlight: known.inFlight, limit: known.limit },
    verified: record?.verified ?? 0,
    quarantined: record?.quarantined ?? 0,
    discarded: record?.discarded ?? 0,
    episode: known.episode,
  };
}

const NOTHING_LEFT = { lowMs: 0, expectedMs: 0, highMs: 0 };
