import type { DeliveryState, Presence, VersionRecord } from '../../domain/delivery.ts';
import { mergeUrgency, type Urgency } from '../../domain/rank.ts';
import { SpillwayError } from '../../errors.ts';
import type { Acceptance, AcceptanceResult } from '../catalog.ts';
import type { Connection } from './connection.ts';
import { appendLog } from './log-operations.ts';
import { addDelivery, destinationInUse, isFurtherVersion, mergeIntoWork } from './new-deliveries.ts';
import type { CatalogOperations } from './operations.ts';
import { VERSION_COLUMNS, type VersionRow, versionOf } from './rows.ts';
import { countGone, countHeld, countOpen } from './study-counters.ts';
import { carryOutDecisions } from './waiting-decisions.ts';

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
  // A person may have given it up in what was rebuilt, and the walk has not come to its old file.
  const decided = carryOutDecisions(connection, version, version.receivedAt);
  const wanted = acceptance.deliveries.filter(({ destinationId }) => !decided.has(destinationId));
  const destinations = addDeliveries(connection, version, isFurther, wanted);
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
