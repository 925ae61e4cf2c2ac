import { mergeUrgency, URGENCIES, type Urgency } from '../../domain/rank.ts';
import type { RankedStudy, RankingFacts } from '../catalog.ts';
import type { Connection } from './connection.ts';
import { type DestinationRow, destinationKey, destinationRow } from './destination-operations.ts';
import type { CatalogOperations } from './operations.ts';
import { RANK_COLUMNS, type RankRow, rankOf, rankValues } from './rows.ts';

// The last that was accepted: an arrival id may be committed after a greater one, and no rank of one may be missed.
export const LAST_ARRIVAL = `SELECT s.last_arrival_id FROM work w
  JOIN studies s ON s.study_instance_uid = w.study_instance_uid
  WHERE w.destination_key = ? AND w.study_instance_uid = ?`;

export const RANKED_STUDIES = `SELECT w.study_instance_uid, ${RANK_COLUMNS}, s.last_arrival_id
  FROM work w CROSS JOIN studies s ON s.study_instance_uid = w.study_instance_uid
  WHERE w.destination_key = ? AND w.study_instance_uid > ? AND w.open_instances > 0
  ORDER BY w.study_instance_uid LIMIT ?`;

export const RANKING_FACTS = `SELECT arrival_id, attributes, received_at, urgency FROM versions v
  WHERE study_instance_uid = ? AND presence <> 'evicted' AND rowid > coalesce((SELECT rowid FROM versions WHERE arrival_id = ?), 0) AND EXISTS (
    SELECT 1 FROM deliveries d WHERE d.arrival_id = v.arrival_id AND d.destination_key = ?)
  ORDER BY rowid LIMIT ?`;

const SET_RANK = `UPDATE work SET (${RANK_COLUMNS}, ranking) = (?, ?, ?, ?, ?, ?, ?)
  WHERE destination_key = ? AND study_instance_uid = ?`;

const WORK_OF_VERSION = `SELECT w.work_id, w.urgency FROM deliveries d JOIN work w ON w.work_id = d.work_id
  WHERE d.arrival_id = ?`;

/** Ranks: reading and replacing them, and what they were judged by. */
export function rankingOperations(
  connection: Connection,
): Pick<CatalogOperations, 'rankedStudies' | 'rankingFacts' | 'setRanks' | 'markRanked' | 'restateUrgency'> {
  const keyOf = (destinationId: string): number => destinationKey(connection, destinationId);
  return {
    rankedStudies: ({ destinationId, afterStudy = '', limit }) =>
      connection
        .all<RankRow & { study_instance_uid: string; last_arrival_id: string }>(
          RANKED_STUDIES,
          keyOf(destinationId),
          afterStudy,
          limit,
        )
        .map((row) => ({
          studyInstanceUid: row.study_instance_uid,
          rank: rankOf(row),
          lastArrivalId: row.last_arrival_id,
        })),

    rankingFacts: ({ destinationId, studyInstanceUid, afterArrivalId = '', limit }) =>
      connection
        .all<{ arrival_id: string; attributes: string; received_at: number; urgency: Urgency | null }>(
          RANKING_FACTS,
          studyInstanceUid,
          afterArrivalId,
          keyOf(destinationId),
          limit,
        )
        .map((row) => ({
          arrivalId: row.arrival_id,
          attributes: JSON.parse(row.attributes) as RankingFacts['attributes'],
          receivedAt: row.received_at,
          urgency: row.urgency,
        })),

    setRanks: ({ destinationId, ranks }) =>
      connection.write(() => {
        const destination = destinationRow(connection, destinationId);
        return ranks.filter((study) => !setRank(connection, destination, study)).map((study) => study.studyInstanceUid);
      }),

    markRanked: ({ destinationId, rankedBy }) =>
      connection.run(
        'UPDATE destinations SET ranked_by = ?, ranking = ranking + ? WHERE destination_key = ?',
        rankedBy,
        Number(rankedBy === null),
        keyOf(destinationId),
      ),

    restateUrgency: ({ arrivalId, urgency }) => connection.write(() => restateUrgency(connection, arrivalId, urgency)),
  };
}

/** Returns false when the study has received a version since its rank was read. */
function setRank(
  connection: Connection,
  { destination_key: key, ranking }: DestinationRow,
  { studyInstanceUid, rank, lastArrivalId }: RankedStudy,
): boolean {
  const study = connection.get<{ last_arrival_id: string }>(LAST_ARRIVAL, key, studyInstanceUid);
  if (study === undefined) return true;
  if (study.last_arrival_id !== lastArrivalId) return false;
  connection.run(SET_RANK, ...rankValues(rank), ranking, key, studyInstanceUid);
  return true;
}

function restateUrgency(connection: Connection, arrivalId: string, urgency: Urgency): boolean {
  const version = connection.get<{ study_instance_uid: string; urgency: Urgency | null }>(
    'SELECT study_instance_uid, urgency FROM versions WHERE arrival_id = ?',
    arrivalId,
  );
  if (version === undefined || mergeUrgency(version.urgency ?? 'unknown', urgency) === version.urgency) return false;
  connection.run('UPDATE versions SET urgency = ? WHERE arrival_id = ?', urgency, arrivalId);
  const rows = connection.all<{ work_id: number; urgency: number }>(WORK_OF_VERSION, arrivalId);
  for (const row of rows) {
    const merged = mergeUrgency(URGENCIES[row.urgency] ?? 'unknown', urgency);
    connection.run('UPDATE work SET urgency = ? WHERE work_id = ?', URGENCIES.indexOf(merged), row.work_id);
  }
  return true;
}
