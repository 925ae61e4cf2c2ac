import type { DeliveryState } from '../../domain/delivery.ts';
import type { EpisodeCounts, EpisodeRecord } from '../../domain/episode.ts';
import { SpillwayError } from '../../errors.ts';
import type { Connection } from './connection.ts';
import { destinationKey, destinationRow } from './destination-operations.ts';
import { appendLog } from './log-operations.ts';
import type { CatalogOperations } from './operations.ts';
import { type EpisodeRow, episodeOf } from './rows.ts';

type StoredEpisode = EpisodeRow & { destination_key: number; start_seq: number; end_seq: number | null };

const EPISODES = 'SELECT e.*, t.destination_id FROM episodes e JOIN destinations t USING (destination_key)';

const MARK = {
  ended: `UPDATE episodes SET ended_at = ?, end_seq = (SELECT sequence FROM counters)
    WHERE episode_id = ? AND ended_at IS NULL`,
  drained: 'UPDATE episodes SET drained_at = ? WHERE episode_id = ? AND drained_at IS NULL',
  closed: 'UPDATE episodes SET closed_at = ? WHERE episode_id = ? AND closed_at IS NULL',
} as const;

const OPEN_IN_SET = 'SELECT 1 AS open FROM deliveries WHERE destination_key = ? AND state = ? AND id <= ? LIMIT 1';

const RECEIVED_SINCE = `SELECT count(*) AS received FROM deliveries WHERE destination_key = ?
  AND state IN ('pending', 'sent', 'verified', 'quarantined', 'discarded') AND id > ? AND id <= ?`;

// The set: accepted by its end, and not final before its start.
const COUNT_SET = `SELECT w.tier, d.state, count(*) AS deliveries FROM (
    SELECT work_id, state FROM deliveries WHERE destination_key = ? AND state IN ('pending', 'sent') AND id <= ?
    UNION ALL
    SELECT work_id, state FROM deliveries WHERE destination_key = ? AND settled_seq > ? AND id <= ?
  ) d JOIN work w ON w.work_id = d.work_id GROUP BY w.tier, d.state ORDER BY w.tier`;

/** Episodes: opening, marking, listing, counting. */
export function episodeOperations(
  connection: Connection,
): Pick<CatalogOperations, 'openEpisode' | 'markEpisode' | 'episodes' | 'episodeRemains' | 'countEpisode'> {
  return {
    openEpisode: ({ destinationId, cause, startedAt, detectedAt }) =>
      connection.write(() => {
        const destination = destinationRow(connection, destinationId);
        const episodeId = connection.insert(
          `INSERT INTO episodes (destination_key, cause, started_at, detected_at, pending_at_start, start_seq)
            VALUES (?, ?, ?, ?, ?, (SELECT sequence FROM counters))`,
          destination.destination_key,
          cause,
          startedAt,
          detectedAt,
          destination.pending + destination.sent,
        );
        appendLog(connection, detectedAt, 'episode-opened', { episodeId, destinationId, cause });
        return episodeOf(storedEpisode(connection, episodeId));
      }),

    markEpisode: ({ episodeId, as, at }) =>
      connection.write(() => {
        const before = storedEpisode(connection, episodeId);
        connection.run(MARK[as], at, episodeId);
        if (before[`${as}_at`] === null) {
          appendLog(connection, at, `episode-${as}`, { episodeId, destinationId: before.destination_id });
        }
        return episodeOf(storedEpisode(connection, episodeId));
      }),

    episodes: (filter) => listEpisodes(connection, filter),

    episodeRemains: (episodeId) => {
      const { destination_key, end_seq } = storedEpisode(connection, episodeId);
      const remains = (state: DeliveryState) =>
        connection.get(OPEN_IN_SET, destination_key, state, end_seq ?? Number.MAX_SAFE_INTEGER) !== undefined;
      const pending = remains('pending');
      return { pending, open: pending || remains('sent') };
    },

    countEpisode: (episodeId) => countEpisode(connection, storedEpisode(connection, episodeId)),
  };
}

function storedEpisode(connection: Connection, episodeId: number): StoredEpisode {
  const row = connection.get<StoredEpisode>(`${EPISODES} WHERE e.episode_id = ?`, episodeId);
  if (row === undefined) {
    throw new SpillwayError(
      'SPILLWAY_NOT_FOUND',
      `Expected the id of an episode, got ${episodeId}: there is none such.`,
    );
  }
  return row;
}

function listEpisodes(
  connection: Connection,
  { destinationId, openOnly = false, afterId = 0, limit }: Parameters<CatalogOperations['episodes']>[0],
): readonly EpisodeRecord[] {
  const unclosed = openOnly ? 'AND e.closed_at IS NULL' : '';
  const rows =
    destinationId === undefined
      ? connection.all<StoredEpisode>(
          `${EPISODES} WHERE e.episode_id > ? ${unclosed} ORDER BY e.episode_id LIMIT ?`,
          afterId,
          limit,
        )
      : connection.all<StoredEpisode>(
          `${EPISODES} WHERE e.destination_key = ? AND e.episode_id > ? ${unclosed} ORDER BY e.episode_id LIMIT ?`,
          destinationKey(connection, destinationId),
          afterId,
          limit,
        );
  return rows.map(episodeOf);
}

function countEpisode(connection: Connection, episode: StoredEpisode): ReturnType<CatalogOperations['countEpisode']> {
  const { destination_key, start_seq, pending_at_start } = episode;
  const endSeq = episode.end_seq ?? Number.MAX_SAFE_INTEGER;
  const since = connection.get<{ received: number }>(RECEIVED_SINCE, destination_key, start_seq, endSeq);
  const total = { received: pending_at_start + (since?.received ?? 0), ...emptyCounts() };
  const tiers = new Map<number, ReturnType<typeof emptyCounts>>();
  const rows = connection.all<{ tier: number; state: DeliveryState; deliveries: number }>(
    COUNT_SET,
    destination_key,
    endSeq,
    destination_key,
    start_seq,
    endSeq,
  );
  for (const { tier, state, deliveries } of rows) {
    const ofTier = tiers.get(tier) ?? emptyCounts();
    tiers.set(tier, ofTier);
    for (const counts of [total, ofTier]) {
      if (state === 'pending') counts.pending += deliveries;
      counts[state === 'pending' || state === 'sent' ? 'outstanding' : state] += deliveries;
    }
  }
  return { total, tiers: [...tiers].map(([tier, counts]) => ({ tier, ...counts })) };
}

function emptyCounts(): { -readonly [Count in Exclude<keyof EpisodeCounts, 'received'>]: number } {
  return { verified: 0, quarantined: 0, discarded: 0, outstanding: 0, pending: 0 };
}
