import type { DeliveryState, VersionRecord } from '../../domain/delivery.ts';
import type { InstanceIdentity } from '../../domain/identity.ts';
import { mergeRank, type Rank } from '../../domain/rank.ts';
import { SpillwayError } from '../../errors.ts';
import type { Connection } from './connection.ts';
import { laneOf, wholeMs } from './delivery-changes.ts';
import { type DestinationRow, destinationRow, registerDestination } from './destination-operations.ts';
import { countState, isInOutage } from './episode-sets.ts';
import { RANK_COLUMNS, type RankRow, rankOf, rankValues } from './rows.ts';

// CROSS JOIN fixes the order of the tables: few versions share a SOP Instance UID, many deliveries a destination.
export const IS_HELD = `SELECT 1 AS held FROM versions v CROSS JOIN deliveries d ON d.arrival_id = v.arrival_id
  WHERE v.sop_instance_uid = ? AND d.destination_key = ? AND d.settled_seq IS NULL LIMIT 1`;

const INSERT_WORK = `INSERT INTO work (destination_key, study_instance_uid, ${RANK_COLUMNS}, ranking, backlog)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;

const WORK_OF_STUDY = `SELECT work_id, open_instances, ranking, backlog, ${RANK_COLUMNS} FROM work
  WHERE destination_key = ? AND study_instance_uid = ?`;

const MERGE_WORK = `UPDATE work SET (${RANK_COLUMNS}, ranking, backlog) = (?, ?, ?, ?, ?, ?, ?, ?) WHERE work_id = ?`;

// What is not held is due at once, so the study is; what is held makes nothing due.
const ADD_DUE = `UPDATE work SET open_instances = open_instances + ?, open_bytes = open_bytes + ?, due_at = 0
  WHERE work_id = ?`;

const ADD_HELD = 'UPDATE work SET open_instances = open_instances + ?, open_bytes = open_bytes + ? WHERE work_id = ?';

const INSERT_DELIVERY = `INSERT INTO deliveries
  (id, destination_key, work_id, arrival_id, bytes, state, evidence, further, held)
  VALUES (?, ?, ?, ?, ?, 'pending', 'accepted', ?, ?)`;

const INSERT_SETTLED = `INSERT INTO deliveries
  (id, destination_key, work_id, arrival_id, bytes, state, evidence, further, held, reason, settled_seq, settled_at)
  VALUES (?, ?, ?, ?, ?, ?, 'accepted', ?, 0, ?, ?, ?)`;

const IS_FURTHER = 'SELECT 1 AS further FROM versions WHERE sop_instance_uid = ? AND arrival_id <> ? LIMIT 1';

/** Rank columns and ranking of a study of which nothing is open. */
const NO_RANK = [0, 2, 0, 2, null, null, -1, 0] as const;

/** A delivery that was decided before the catalog was rebuilt. */
export function addSettledDelivery(
  connection: Connection,
  version: VersionRecord,
  destinationId: string,
  { state, reason, at }: { readonly state: DeliveryState; readonly reason: string | null; readonly at: number },
): void {
  registerDestination(connection, destinationId);
  const destination = destinationRow(connection, destinationId);
  const { studyInstanceUid } = version.identity;
  const work = connection.get<{ work_id: number }>(WORK_OF_STUDY, destination.destination_key, studyInstanceUid);
  // By no policy that ever is: what comes next of the study is ranked by itself.
  const workId =
    work?.work_id ?? connection.insert(INSERT_WORK, destination.destination_key, studyInstanceUid, ...NO_RANK);
  const id = connection.advance();
  connection.run(
    INSERT_SETTLED,
    id,
    destination.destination_key,
    workId,
    version.arrivalId,
    version.bytes,
    state,
    Number(isFurtherVersion(connection, version)),
    reason,
    connection.advance(),
    wholeMs(at),
  );
  countState(connection, { id, destination_key: destination.destination_key }, null, state);
}

/** Owes a version to a destination. Within a transaction. */
export function addDelivery(
  connection: Connection,
  version: {
    readonly arrivalId: string;
    readonly bytes: number;
    readonly identity: Pick<InstanceIdentity, 'sopInstanceUid' | 'studyInstanceUid'>;
  },
  isFurther: boolean,
  destinationId: string,
  rank: Rank,
): void {
  const destination = destinationInUse(connection, destinationId);
  const key = destination.destination_key;
  const workId = mergeIntoWork(connection, destination, version.identity.studyInstanceUid, rank);
  const isHeld = isFurther && connection.get(IS_HELD, version.identity.sopInstanceUid, key) !== undefined;
  const id = connection.advance();
  connection.run(INSERT_DELIVERY, id, key, workId, version.arrivalId, version.bytes, Number(isFurther), Number(isHeld));
  connection.accumulate(isHeld ? ADD_HELD : ADD_DUE, [1, version.bytes], [workId]);
  countState(connection, { id, destination_key: key }, null, 'pending');
}

export function destinationInUse(connection: Connection, destinationId: string): DestinationRow {
  const destination = destinationRow(connection, destinationId);
  if (destination.retired_at === null) return destination;
  throw new SpillwayError(
    'SPILLWAY_NOT_FOUND',
    `Expected deliveries to destinations in use, got the retired "${destinationId}". ` +
      'Leave it out of the route, or register it again.',
  );
}

/** The row of a study that receives something, in the order and the lane that it has then. Within a transaction. */
export function mergeIntoWork(
  connection: Connection,
  { destination_key: key, ranking }: DestinationRow,
  studyInstanceUid: string,
  arrived: Rank,
): number {
  const row = connection.get<RankRow & { work_id: number; open_instances: number; ranking: number; backlog: number }>(
    WORK_OF_STUDY,
    key,
    studyInstanceUid,
  );
  const isBacklog = isInOutage(connection, key);
  if (row === undefined) {
    return connection.insert(INSERT_WORK, key, studyInstanceUid, ...rankValues(arrived), ranking, Number(isBacklog));
  }
  // Judged by a policy that is none any more, and by nobody judged again since nothing was open.
  const isOutdated = row.open_instances === 0 && row.ranking !== ranking;
  const rank = isOutdated ? arrived : mergeRank(rankOf(row), arrived);
  const lane = laneOf(row, isBacklog);
  if (row.ranking !== ranking || row.backlog !== lane || !isSameRank(rank, rankOf(row))) {
    connection.run(MERGE_WORK, ...rankValues(rank), ranking, lane, row.work_id);
  }
  return row.work_id;
}

function isSameRank(a: Rank, b: Rank): boolean {
  const values = rankValues(b);
  return rankValues(a).every((value, index) => value === values[index]);
}

/** Whether other versions were offered under its SOP Instance UID. */
export function isFurtherVersion(connection: Connection, { identity, arrivalId }: VersionRecord): boolean {
  return connection.get(IS_FURTHER, identity.sopInstanceUid, arrivalId) !== undefined;
}
