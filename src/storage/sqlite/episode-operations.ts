import type { DeliveryState } from '../../domain/delivery.ts';
import type { EpisodeRecord } from '../../domain/episode.ts';
import { SpillwayError } from '../../errors.ts';
import type { Connection } from './connection.ts';
import { wholeMs } from './delivery-changes.ts';
import { pageOfDeliveries } from './delivery-pages.ts';
import { destinationKey, destinationRow } from './destination-operations.ts';
import { WAS_FINAL } from './episode-sets.ts';
import { appendLog } from './log-operations.ts';
import type { CatalogOperations } from './operations.ts';
import { type EpisodeRow, episodeOf } from './rows.ts';

export type StoredEpisode = EpisodeRow & {
  destination_key: number;
  start_seq: number;
  end_seq: number | null;
  first_id: number;
  pending: number;
  sent: number;
};

const EPISODES = 'SELECT e.*, t.destination_id FROM episodes e JOIN destinations t USING (destination_key)';

const INSERT_EPISODE = `INSERT INTO episodes (destination_key, cause, planned, expected_end_at, started_at, detected_at,
    pending_at_start, pending, sent, start_seq, first_id)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT sequence FROM counters), ?)`;

const MARK = {
  ended: `UPDATE episodes SET ended_at = ?, end_seq = (SELECT sequence FROM counters)
    WHERE episode_id = ? AND ended_at IS NULL`,
  drained: 'UPDATE episodes SET drained_at = ? WHERE episode_id = ? AND drained_at IS NULL',
  closed: 'UPDATE episodes SET closed_at = ? WHERE episode_id = ? AND closed_at IS NULL',
} as const;

/** What is open now is what the outage holds up. */
export const HOLD_UP = 'UPDATE work SET backlog = 1 WHERE destination_key = ? AND backlog = 0 AND open_instances > 0';

const FIRST_IN_STATE = 'SELECT min(id) AS id FROM deliveries WHERE destination_key = ? AND state = ?';

const OPEN_IN_SET = `SELECT 1 AS found FROM deliveries d WHERE d.destination_key = ? AND d.state = ? AND d.id <= ?
  AND NOT EXISTS (SELECT 1 FROM former_settlements f
    WHERE d.id <= ? AND f.delivery_id = d.id AND f.settled_seq <= ? AND f.until_seq > ?) LIMIT 1`;

/** Episodes: opening, marking, listing. */
export function episodeOperations(
  connection: Connection,
): Pick<
  CatalogOperations,
  'openEpisode' | 'planEpisode' | 'endPlan' | 'markEpisode' | 'episodes' | 'episodeRemains' | 'episodeDeliveries'
> {
  return {
    openEpisode: (episode) => connection.write(() => openEpisode(connection, episode)),

    planEpisode: ({ episodeId, cause, expectedEndAt, by, at }) =>
      connection.write(() => {
        const { destination_id: destinationId, ended_at } = storedEpisode(connection, episodeId);
        if (ended_at === null) {
          connection.run(
            'UPDATE episodes SET planned = 1, cause = ?, expected_end_at = ?, plan_ended_at = NULL WHERE episode_id = ?',
            cause,
            instantOf(expectedEndAt),
            episodeId,
          );
          appendLog(connection, at, 'episode-planned', { episodeId, destinationId, cause, expectedEndAt, by });
        }
        return episodeOf(storedEpisode(connection, episodeId));
      }),

    endPlan: ({ episodeId, by, at }) =>
      connection.write(() => {
        const { destination_id: destinationId, planned, plan_ended_at } = storedEpisode(connection, episodeId);
        if (planned === 1 && plan_ended_at === null) {
          connection.run('UPDATE episodes SET plan_ended_at = ? WHERE episode_id = ?', wholeMs(at), episodeId);
          appendLog(connection, at, 'planned-outage-ended', { episodeId, destinationId, by });
        }
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
      const episode = storedEpisode(connection, episodeId);
      // What is closed is counted no more.
      const remains = (state: 'pending' | 'sent') =>
        episode.closed_at === null ? episode[state] > 0 : hasOpen(connection, episode, state);
      const pending = remains('pending');
      return { pending, open: pending || remains('sent') };
    },

    episodeDeliveries: ({ episodeId, state, afterId, limit }) => {
      const { destination_key: key, start_seq, end_seq } = storedEpisode(connection, episodeId);
      return pageOfDeliveries(
        connection,
        { key, state, afterId, upToId: end_seq ?? Number.MAX_SAFE_INTEGER, limit },
        ({ id, settled_seq }) =>
          id > start_seq ||
          ((settled_seq === null || settled_seq > start_seq) &&
            connection.get(WAS_FINAL, id, start_seq, start_seq) === undefined),
      );
    },
  };
}

function openEpisode(connection: Connection, episode: Parameters<CatalogOperations['openEpisode']>[0]): EpisodeRecord {
  const { destinationId, cause, startedAt, detectedAt, planned = false, expectedEndAt = null, by } = episode;
  const { destination_key: key, pending, sent } = destinationRow(connection, destinationId);
  const first = (['pending', 'sent'] as const).flatMap(
    (state) => connection.get<{ id: number | null }>(FIRST_IN_STATE, key, state)?.id ?? [],
  );
  const episodeId = connection.insert(
    INSERT_EPISODE,
    key,
    cause,
    Number(planned),
    instantOf(expectedEndAt),
    startedAt,
    detectedAt,
    pending + sent,
    pending,
    sent,
    first.length === 0 ? 0 : Math.min(...first),
  );
  // Without any, the first of its set is yet to come.
  if (first.length === 0) connection.run('UPDATE episodes SET first_id = start_seq WHERE episode_id = ?', episodeId);
  connection.run(HOLD_UP, key);
  appendLog(connection, detectedAt, 'episode-opened', {
    episodeId,
    destinationId,
    cause,
    ...(planned && { planned, expectedEndAt }),
    ...(by !== undefined && { by }),
  });
  return episodeOf(storedEpisode(connection, episodeId));
}

function instantOf(at: number | null): number | null {
  return at === null ? null : wholeMs(at);
}

export function storedEpisode(connection: Connection, episodeId: number): StoredEpisode {
  const row = connection.get<StoredEpisode>(`${EPISODES} WHERE e.episode_id = ?`, episodeId);
  if (row === undefined) {
    throw new SpillwayError(
      'SPILLWAY_NOT_FOUND',
      `Expected the id of an episode, got ${episodeId}: there is none such.`,
    );
  }
  return row;
}

function hasOpen(
  connection: Connection,
  { destination_key, start_seq, end_seq }: StoredEpisode,
  state: DeliveryState,
): boolean {
  const last = end_seq ?? Number.MAX_SAFE_INTEGER;
  return connection.get(OPEN_IN_SET, destination_key, state, last, start_seq, start_seq, start_seq) !== undefined;
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
