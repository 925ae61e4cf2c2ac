import { mergeRank, type Rank } from '../../domain/rank.ts';
import { SpillwayError } from '../../errors.ts';
import type { Acceptance, AcceptanceResult } from '../catalog.ts';
import type { Connection } from './connection.ts';
import { type DestinationRow, destinationRow } from './destination-operations.ts';
import type { CatalogOperations } from './operations.ts';
import { RANK_COLUMNS, type RankRow, rankOf, rankValues, VERSION_COLUMNS, type VersionRow, versionOf } from './rows.ts';

export const FIND_VERSION = `SELECT ${VERSION_COLUMNS} FROM versions
  WHERE sop_instance_uid = ? AND transfer_syntax_uid = ? AND digest = ?`;

export const VERSIONS_OF_STUDY = `SELECT ${VERSION_COLUMNS} FROM versions
  WHERE study_instance_uid = ? AND arrival_id > ? ORDER BY arrival_id LIMIT ?`;

const INSERT_VERSION = `INSERT INTO versions (${VERSION_COLUMNS}, attributes, source, urgency)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;

// CROSS JOIN fixes the order of the tables: few versions share a SOP Instance UID, many deliveries a destination.
export const IS_HELD = `SELECT 1 AS held FROM versions v CROSS JOIN deliveries d ON d.arrival_id = v.arrival_id
  WHERE v.sop_instance_uid = ? AND d.destination_key = ? AND d.settled_seq IS NULL LIMIT 1`;

const INSERT_WORK = `INSERT INTO work (destination_key, study_instance_uid, ${RANK_COLUMNS}, ranking)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`;

const WORK_OF_STUDY = `SELECT work_id, open_instances, ranking, ${RANK_COLUMNS} FROM work
  WHERE destination_key = ? AND study_instance_uid = ?`;

const MERGE_WORK = `UPDATE work SET (${RANK_COLUMNS}, ranking) = (?, ?, ?, ?, ?, ?, ?) WHERE work_id = ?`;

// What is not held is due at once, so the study is; what is held makes nothing due.
const ADD_TO_WORK = `UPDATE work SET open_instances = open_instances + 1, open_bytes = open_bytes + ?,
  due_at = CASE WHEN ? THEN due_at ELSE 0 END WHERE work_id = ?`;

const INSERT_DELIVERY = `INSERT INTO deliveries
  (id, destination_key, work_id, arrival_id, bytes, state, evidence, further, held)
  VALUES (?, ?, ?, ?, ?, 'pending', 'accepted', ?, ?)`;

/** Versions: taking them up and finding them. */
export function acceptanceOperations(
  connection: Connection,
): Pick<CatalogOperations, 'lastArrivalId' | 'hasArrival' | 'findVersion' | 'accept' | 'versions'> {
  return {
    lastArrivalId: () =>
      connection.get<{ last: string | null }>('SELECT max(arrival_id) AS last FROM versions')?.last ?? null,

    hasArrival: (arrivalId) =>
      connection.get('SELECT 1 AS known FROM versions WHERE arrival_id = ?', arrivalId) !== undefined,

    findVersion: (key) => {
      const row = connection.get<VersionRow>(FIND_VERSION, key.sopInstanceUid, key.transferSyntaxUid, key.digest);
      return row === undefined ? null : versionOf(row);
    },

    accept: (batch) => connection.write(() => batch.map((acceptance) => accept(connection, acceptance))),

    versions: ({ studyInstanceUid, afterArrivalId = '', limit }) => {
      const rows =
        studyInstanceUid === undefined
          ? connection.all<VersionRow>(
              `SELECT ${VERSION_COLUMNS} FROM versions WHERE arrival_id > ? ORDER BY arrival_id LIMIT ?`,
              afterArrivalId,
              limit,
            )
          : connection.all<VersionRow>(VERSIONS_OF_STUDY, studyInstanceUid, afterArrivalId, limit);
      return rows.map(versionOf);
    },
  };
}

function accept(
  connection: Connection,
  { version, attributes, source, urgency, deliveries }: Acceptance,
): AcceptanceResult {
  const { identity } = version;
  const known = connection.get<VersionRow>(
    FIND_VERSION,
    identity.sopInstanceUid,
    identity.transferSyntaxUid,
    version.digest,
  );
  if (known !== undefined) return { outcome: 'identical', version: versionOf(known) };
  const isFurther =
    connection.get('SELECT 1 AS further FROM versions WHERE sop_instance_uid = ? LIMIT 1', identity.sopInstanceUid) !==
    undefined;
  connection.run(
    INSERT_VERSION,
    version.arrivalId,
    identity.studyInstanceUid,
    identity.seriesInstanceUid,
    identity.sopInstanceUid,
    identity.sopClassUid,
    identity.transferSyntaxUid,
    version.digest,
    version.bytes,
    version.blobRef,
    version.receivedAt,
    JSON.stringify(version.oddities),
    JSON.stringify(attributes),
    source,
    urgency,
  );
  for (const { destinationId, rank } of deliveries) addDelivery(connection, version, isFurther, destinationId, rank);
  return { outcome: isFurther ? 'version' : 'created', version };
}

function addDelivery(
  connection: Connection,
  version: Acceptance['version'],
  isFurther: boolean,
  destinationId: string,
  rank: Rank,
): void {
  const destination = destinationRow(connection, destinationId);
  if (destination.retired_at !== null) {
    throw new SpillwayError(
      'SPILLWAY_NOT_FOUND',
      `Expected deliveries to destinations in use, got the retired "${destinationId}". ` +
        'Leave it out of the route, or register it again.',
    );
  }
  const key = destination.destination_key;
  const workId = mergeIntoWork(connection, destination, version.identity.studyInstanceUid, rank);
  const isHeld = isFurther && connection.get(IS_HELD, version.identity.sopInstanceUid, key) !== undefined;
  connection.run(
    INSERT_DELIVERY,
    connection.advance(),
    key,
    workId,
    version.arrivalId,
    version.bytes,
    Number(isFurther),
    Number(isHeld),
  );
  connection.run(ADD_TO_WORK, version.bytes, Number(isHeld), workId);
  connection.run('UPDATE destinations SET pending = pending + 1 WHERE destination_key = ?', key);
}

function mergeIntoWork(
  connection: Connection,
  { destination_key: key, ranking }: DestinationRow,
  studyInstanceUid: string,
  arrived: Rank,
): number {
  const row = connection.get<RankRow & { work_id: number; open_instances: number; ranking: number }>(
    WORK_OF_STUDY,
    key,
    studyInstanceUid,
  );
  if (row === undefined) return connection.insert(INSERT_WORK, key, studyInstanceUid, ...rankValues(arrived), ranking);
  // Judged by a policy that is none any more, and by nobody judged again since nothing was open.
  const isOutdated = row.open_instances === 0 && row.ranking !== ranking;
  const rank = isOutdated ? arrived : mergeRank(rankOf(row), arrived);
  connection.run(MERGE_WORK, ...rankValues(rank), ranking, row.work_id);
  return row.work_id;
}
