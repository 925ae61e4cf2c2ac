import type { Delivery, DeliveryState, Evidence, Presence, VersionRecord } from '../../domain/delivery.ts';
import type { EpisodeRecord } from '../../domain/episode.ts';
import { DATE_BASES, type Rank, URGENCIES } from '../../domain/rank.ts';

type IdentityColumns = {
  study_instance_uid: string;
  series_instance_uid: string;
  sop_instance_uid: string;
  sop_class_uid: string;
  transfer_syntax_uid: string;
};

export type VersionRow = IdentityColumns & {
  arrival_id: string;
  digest: string;
  bytes: number;
  blob_ref: string;
  received_at: number;
  oddities: string;
  presence: Presence;
};

export type DeliveryRow = IdentityColumns & {
  id: number;
  destination_id: string;
  arrival_id: string;
  digest: string;
  bytes: number;
  blob_ref: string;
  state: DeliveryState;
  evidence: Evidence;
  attempts: number;
  further: number;
  reason: string | null;
  answered_at: number | null;
  settled_at: number | null;
};

export type RankRow = {
  tier: number;
  urgency: number;
  acquired_at: number;
  basis: number;
  age_tier: number | null;
  ruled_tier: number | null;
};

export const RANK_COLUMNS = 'tier, urgency, acquired_at, basis, age_tier, ruled_tier';

export type EpisodeRow = {
  episode_id: number;
  destination_id: string;
  cause: string;
  planned: number;
  expected_end_at: number | null;
  plan_ended_at: number | null;
  started_at: number;
  detected_at: number;
  ended_at: number | null;
  drained_at: number | null;
  closed_at: number | null;
  pending_at_start: number;
};

export const VERSION_COLUMNS = `arrival_id, study_instance_uid, series_instance_uid, sop_instance_uid, sop_class_uid,
  transfer_syntax_uid, digest, bytes, blob_ref, received_at, oddities, presence`;

/** Columns of `deliveries d`, `versions v` and `destinations t` that make a `DeliveryRow`. */
export const DELIVERY_COLUMNS = `d.id, t.destination_id, d.arrival_id, v.study_instance_uid, v.series_instance_uid,
  v.sop_instance_uid, v.sop_class_uid, v.transfer_syntax_uid, v.digest, v.bytes, v.blob_ref, d.state, d.evidence,
  d.attempts, d.further, d.reason, d.answered_at, d.settled_at`;

function identityOf(row: IdentityColumns): VersionRecord['identity'] {
  return {
    studyInstanceUid: row.study_instance_uid,
    seriesInstanceUid: row.series_instance_uid,
    sopInstanceUid: row.sop_instance_uid,
    sopClassUid: row.sop_class_uid,
    transferSyntaxUid: row.transfer_syntax_uid,
  };
}

export function versionOf(row: VersionRow): VersionRecord {
  return {
    arrivalId: row.arrival_id,
    identity: identityOf(row),
    digest: row.digest,
    bytes: row.bytes,
    blobRef: row.blob_ref,
    receivedAt: row.received_at,
    oddities: JSON.parse(row.oddities) as string[],
    presence: row.presence,
  };
}

export function deliveryOf(row: DeliveryRow): Delivery {
  return {
    id: row.id,
    destinationId: row.destination_id,
    arrivalId: row.arrival_id,
    identity: identityOf(row),
    digest: row.digest,
    bytes: row.bytes,
    blobRef: row.blob_ref,
    state: row.state,
    evidence: row.evidence,
    attempts: row.attempts,
    furtherVersion: row.further === 1,
    reason: row.reason,
    answeredAt: row.answered_at,
    settledAt: row.settled_at,
  };
}

export function rankOf(row: RankRow): Rank {
  return {
    tier: row.tier,
    urgency: URGENCIES[row.urgency] ?? 'unknown',
    acquiredAt: row.acquired_at,
    basis: DATE_BASES[row.basis] ?? 'estimated',
    ageTier: row.age_tier,
    ruledTier: row.ruled_tier,
  };
}

/** A rank as values of `RANK_COLUMNS`. */
export function rankValues(rank: Rank): readonly (number | null)[] {
  return [
    rank.tier,
    URGENCIES.indexOf(rank.urgency),
    rank.acquiredAt,
    DATE_BASES.indexOf(rank.basis),
    rank.ageTier,
    rank.ruledTier,
  ];
}

export function episodeOf(row: EpisodeRow): EpisodeRecord {
  return {
    id: row.episode_id,
    destinationId: row.destination_id,
    cause: row.cause,
    planned: row.planned === 1,
    expectedEndAt: row.expected_end_at,
    planEndedAt: row.plan_ended_at,
    startedAt: row.started_at,
    detectedAt: row.detected_at,
    endedAt: row.ended_at,
    drainedAt: row.drained_at,
    closedAt: row.closed_at,
    pendingAtStart: row.pending_at_start,
  };
}
