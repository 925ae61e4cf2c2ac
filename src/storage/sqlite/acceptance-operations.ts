import type { DeliveryState, Presence, VersionRecord } from '../../domain/delivery.ts';
import { mergeRank, mergeUrgency, type Rank, type Urgency } from '../../domain/rank.ts';
import { SpillwayError } from '../../errors.ts';
import type { Acceptance, AcceptanceResult } from '../catalog.ts';
import type { Connection } from './connection.ts';
import { COUNT_STATE, type DestinationRow, destinationRow, registerDestination } from './destination-operations.ts';
import { appendLog } from './log-operations.ts';
import type { CatalogOperations } from './operations.ts';
import { RANK_COLUMNS, type RankRow, rankOf, rankValues, VERSION_COLUMNS, type VersionRow, versionOf } from './rows.ts';
import { countGone, countHeld, countOpen } from './study-counters.ts';

export const FIND_VERSION = `SELECT ${VERSION_COLUMNS} FROM versions
  WHERE sop_instance_uid = ? AND transfer_syntax_uid = ? AND digest = ?`;

/**
 * Versions by arrival: of those whose bytes are here or of those in one state, of a study or of all. The term that says
 * less is that of the partial index: SQLite draws no conclusions.
 */
const LIST_VERSIONS = {
  here: "presence IN ('kept', 'unconfirmed')",
  kept: "presence = 'kept'",
  unconfirmed: "presence = 'unconfirmed' AND presence <> 'kept'",
  evicting: "presence = 'evicting' AND presence <> 'kept'",
  evicted: "presence = 'evicted' AND presence <> 'kept'",
  missing: "presence = 'missing' AND presence <> 'kept'",
} as const satisfies Readonly<Record<Presence | 'here', string>>;

export function listVersions(presence: Presence | undefined, isOfStudy: boolean): string {
  // Without statistics the planner would take the index by presence; few are of one study.
  const where = isOfStudy
    ? `study_instance_uid = ? AND +${LIST_VERSIONS[presence ?? 'here']}`
    : LIST_VERSIONS[presence ?? 'here'];
  return `SELECT ${VERSION_COLUMNS} FROM versions WHERE ${where} AND arrival_id > ? ORDER BY arrival_id LIMIT ?`;
}

export const INSERT_VERSION = `INSERT INTO versions (${VERSION_COLUMNS}, attributes, source, urgency)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;

const RESTORE_VERSION = `UPDATE versions SET presence = 'kept', blob_ref = ?, bytes = ?, attributes = ?,
  source = coalesce(?, source), urgency = ? WHERE arrival_id = ?`;

const URGENCY_OF_VERSION = 'SELECT urgency FROM versions WHERE arrival_id = ?';

// Also of one that was there: whoever read ranks before must not overwrite what its rank was merged into.
const ACCEPTED_LAST = 'UPDATE studies SET last_arrival_id = ? WHERE study_instance_uid = ?';

// What a person has discarded does not come back with another copy.
const OPEN_OR_DISCARDED = `SELECT d.state FROM deliveries d
  WHERE d.arrival_id = ? AND d.destination_key = ? AND d.state IN ('pending', 'sent', 'discarded') LIMIT 1`;

// CROSS JOIN fixes the order of the tables: few versions share a SOP Instance UID, many deliveries a destination.
export const IS_HELD = `SELECT 1 AS held FROM versions v CROSS JOIN deliveries d ON d.arrival_id = v.arrival_id
  WHERE v.sop_instance_uid = ? AND d.destination_key = ? AND d.settled_seq IS NULL LIMIT 1`;

const INSERT_WORK = `INSERT INTO work (destination_key, study_instance_uid, ${RANK_COLUMNS}, ranking)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`;

const WORK_OF_STUDY = `SELECT work_id, open_instances, ranking, ${RANK_COLUMNS} FROM work
  WHERE destination_key = ? AND study_instance_uid = ?`;

const MERGE_WORK = `UPDATE work SET (${RANK_COLUMNS}, ranking) = (?, ?, ?, ?, ?, ?, ?) WHERE work_id = ?`;

// What is not held is due at once, so the study is; what is held makes nothing due.
const ADD_DUE = `UPDATE work SET open_instances = open_instances + ?, open_bytes = open_bytes + ?, due_at = 0
  WHERE work_id = ?`;

const ADD_HELD = 'UPDATE work SET open_instances = open_instances + ?, open_bytes = open_bytes + ? WHERE work_id = ?';

const INSERT_DELIVERY = `INSERT INTO deliveries
  (id, destination_key, work_id, arrival_id, bytes, state, evidence, further, held)
  VALUES (?, ?, ?, ?, ?, 'pending', 'accepted', ?, ?)`;

const INSERT_SETTLED = `INSERT INTO deliveries
  (id, destination_key, work_id, arrival_id, bytes, state, evidence, further, held, reason, settled_seq)
  VALUES (?, ?, ?, ?, ?, ?, 'accepted', ?, 0, ?, ?)`;

const IS_FURTHER = 'SELECT 1 AS further FROM versions WHERE sop_instance_uid = ? AND arrival_id <> ? LIMIT 1';

/** Versions: taking them up and finding them. */
export function acceptanceOperations(
  connection: Connection,
): Pick<CatalogOperations, 'lastArrivalId' | 'hasArrival' | 'findVersion' | 'accept' | 'versions'> {
  return {
    lastArrivalId: () =>
      connection.get<{ last: string | null }>('SELECT max(arrival_id) AS last FROM versions')?.last ?? null,

    hasArrival: (arrivalId) =>
      connection.get(
        "SELECT 1 AS known FROM versions WHERE arrival_id = ? AND presence IN ('kept', 'unconfirmed')",
        arrivalId,
      ) !== undefined,

    findVersion: (key) => {
      const row = connection.get<VersionRow>(FIND_VERSION, key.sopInstanceUid, key.transferSyntaxUid, key.digest);
      return row === undefined ? null : versionOf(row);
    },

    accept: (batch) => connection.write(() => batch.map((acceptance) => accept(connection, acceptance))),

    versions: ({ studyInstanceUid, presence, afterArrivalId = '', limit }) => {
      const sql = listVersions(presence, studyInstanceUid !== undefined);
      const study = studyInstanceUid === undefined ? [] : [studyInstanceUid];
      return connection.all<VersionRow>(sql, ...study, afterArrivalId, limit).map(versionOf);
    },
  };
}

function accept(connection: Connection, acceptance: Acceptance): AcceptanceResult {
  const { version, attributes, source, urgency } = acceptance;
  const { identity } = version;
  const known = connection.get<VersionRow>(
    FIND_VERSION,
    identity.sopInstanceUid,
    identity.transferSyntaxUid,
    version.digest,
  );
  if (known?.presence === 'kept') return { outcome: 'identical', version: versionOf(known), destinations: [] };
  if (known !== undefined) return restore(connection, versionOf(known), acceptance);
  const isFurther = isFurtherVersion(connection, version);
  connection.run(
    INSERT_VERSION,
    ...versionValues({ ...version, presence: 'kept' }),
    JSON.stringify(attributes),
    source,
    urgency,
  );
  countHeld(connection, version, attributes, true);
  const destinations = addDeliveries(connection, version, isFurther, acceptance.deliveries);
  return { outcome: isFurther ? 'version' : 'created', version: { ...version, presence: 'kept' }, destinations };
}

/** A version that is known, but whose bytes were not here, or of which only the file told. */
function restore(
  connection: Connection,
  known: VersionRecord,
  { version: offered, attributes, source, urgency, deliveries }: Acceptance,
): AcceptanceResult {
  const { arrivalId } = known;
  if (known.presence === 'evicting') {
    throw new SpillwayError('SPILLWAY_STORE_FAILED', `The version ${arrivalId} is being evicted. Send it again.`);
  }
  const version: VersionRecord = { ...known, presence: 'kept', blobRef: offered.blobRef, bytes: offered.bytes };
  connection.run(
    RESTORE_VERSION,
    version.blobRef,
    version.bytes,
    JSON.stringify(attributes),
    source,
    higherOf(connection.get<{ urgency: Urgency | null }>(URGENCY_OF_VERSION, arrivalId)?.urgency ?? null, urgency),
    arrivalId,
  );
  const { studyInstanceUid } = known.identity;
  if (known.presence === 'unconfirmed') countGone(connection, studyInstanceUid, 1, known.bytes);
  countHeld(connection, { ...version, receivedAt: offered.receivedAt }, attributes, false);
  connection.run(ACCEPTED_LAST, arrivalId, studyInstanceUid);
  const wanted = deliveries.filter(({ destinationId, rank }) => {
    const destination = destinationInUse(connection, destinationId);
    const standing = connection.get<{ state: DeliveryState }>(
      OPEN_OR_DISCARDED,
      arrivalId,
      destination.destination_key,
    );
    if (standing !== undefined && standing.state !== 'discarded') {
      mergeIntoWork(connection, destination, studyInstanceUid, rank);
    }
    return standing === undefined;
  });
  const destinations = addDeliveries(connection, version, isFurtherVersion(connection, version), wanted);
  appendLog(connection, offered.receivedAt, 'restored', { arrivalId, was: known.presence });
  return { outcome: 'restored', version, destinations };
}

function higherOf(known: Urgency | null, said: Urgency | null): Urgency | null {
  return known === null || said === null ? (known ?? said) : mergeUrgency(known, said);
}

function isFurtherVersion(connection: Connection, { identity, arrivalId }: VersionRecord): boolean {
  return connection.get(IS_FURTHER, identity.sopInstanceUid, arrivalId) !== undefined;
}

/** A version as values of `VERSION_COLUMNS`. */
export function versionValues(version: VersionRecord): readonly (string | number)[] {
  const { identity } = version;
  return [
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
    version.presence,
  ];
}

function addDeliveries(
  connection: Connection,
  version: VersionRecord,
  isFurther: boolean,
  deliveries: Acceptance['deliveries'],
): readonly string[] {
  for (const { destinationId, rank } of deliveries) addDelivery(connection, version, isFurther, destinationId, rank);
  if (deliveries.length > 0) countOpen(connection, version.identity.studyInstanceUid, deliveries.length);
  return deliveries.map(({ destinationId }) => destinationId);
}

/** Rank columns and ranking of a study of which nothing is open. */
const NO_RANK = [0, 2, 0, 2, null, null, -1] as const;

/** A delivery that was decided before the catalog was rebuilt. */
export function addSettledDelivery(
  connection: Connection,
  version: VersionRecord,
  destinationId: string,
  state: Extract<DeliveryState, 'quarantined' | 'discarded'> | DeliveryState,
  reason: string | null,
): void {
  registerDestination(connection, destinationId);
  const destination = destinationRow(connection, destinationId);
  const { studyInstanceUid } = version.identity;
  const work = connection.get<{ work_id: number }>(WORK_OF_STUDY, destination.destination_key, studyInstanceUid);
  // By no policy that ever is: what comes next of the study is ranked by itself.
  const workId =
    work?.work_id ?? connection.insert(INSERT_WORK, destination.destination_key, studyInstanceUid, ...NO_RANK);
  connection.run(
    INSERT_SETTLED,
    connection.advance(),
    destination.destination_key,
    workId,
    version.arrivalId,
    version.bytes,
    state,
    Number(isFurtherVersion(connection, version)),
    reason,
    connection.advance(),
  );
  connection.run(COUNT_STATE[state], 1, destination.destination_key);
}

function addDelivery(
  connection: Connection,
  version: Acceptance['version'],
  isFurther: boolean,
  destinationId: string,
  rank: Rank,
): void {
  const destination = destinationInUse(connection, destinationId);
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
  connection.accumulate(isHeld ? ADD_HELD : ADD_DUE, [1, version.bytes], [workId]);
  connection.accumulate(COUNT_STATE.pending, [1], [key]);
}

function destinationInUse(connection: Connection, destinationId: string): DestinationRow {
  const destination = destinationRow(connection, destinationId);
  if (destination.retired_at === null) return destination;
  throw new SpillwayError(
    'SPILLWAY_NOT_FOUND',
    `Expected deliveries to destinations in use, got the retired "${destinationId}". ` +
      'Leave it out of the route, or register it again.',
  );
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
  if (row.ranking !== ranking || !isSameRank(rank, rankOf(row))) {
    connection.run(MERGE_WORK, ...rankValues(rank), ranking, row.work_id);
  }
  return row.work_id;
}

function isSameRank(a: Rank, b: Rank): boolean {
  const values = rankValues(b);
  return rankValues(a).every((value, index) => value === values[index]);
}
