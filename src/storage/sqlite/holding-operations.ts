import type { Presence, VersionRecord } from '../../domain/delivery.ts';
import type { Urgency } from '../../domain/rank.ts';
import type { FoundInstance, HourlyTotal, StudyFilter, StudyRecord } from '../catalog.ts';
import { FIND_VERSION, INSERT_VERSION, versionValues } from './acceptance-operations.ts';
import type { Connection } from './connection.ts';
import { appendLog } from './log-operations.ts';
import type { CatalogOperations } from './operations.ts';
import { VERSION_COLUMNS, type VersionRow, versionOf } from './rows.ts';
import { countGone, countHeld, modalitiesOf, nameKey, type StudyRow } from './study-counters.ts';
import { carryOutDecisions } from './waiting-decisions.ts';

type AcceptanceRow = VersionRow & { attributes: string; source: string | null; urgency: Urgency | null };

// Each condition has its index; the planner takes the one that leaves least, but knows nothing of names.
const FIND_STUDIES = (
  conditions: string,
  index: string,
) => `SELECT * FROM studies ${index} WHERE instances > 0 AND study_instance_uid > ?
  ${conditions} ORDER BY study_instance_uid LIMIT ?`;

export const HOURS = `SELECT * FROM hourly_totals WHERE (hour, modality) > (?, ?) AND hour >= ? AND hour < ?
  ORDER BY hour, modality LIMIT ?`;

// What was never accepted is not kept: accepting it would be `identical` then, and it would be delivered nowhere.
const FOUND_AGAIN = `UPDATE versions SET blob_ref = ?, bytes = ?, attributes = ?,
  presence = CASE WHEN EXISTS (SELECT 1 FROM deliveries WHERE arrival_id = ? AND state IN ('pending', 'sent', 'verified'))
    THEN 'kept' ELSE 'unconfirmed' END WHERE arrival_id = ?`;

/** What is held: searching it, counting it, and what a walk through the blobs has found. */
export function holdingOperations(
  connection: Connection,
): Pick<
  CatalogOperations,
  'studies' | 'held' | 'hourlyTotals' | 'unknownArrivals' | 'takeUp' | 'markMissing' | 'acceptanceOf'
> {
  return {
    studies: (filter) => findStudies(connection, filter),

    held: () => {
      const row = connection.get<{ instances: number; bytes: number }>('SELECT instances, bytes FROM counters');
      const count = (presence: Presence) =>
        connection.get<{ n: number }>(
          "SELECT count(*) AS n FROM versions WHERE presence = ? AND presence <> 'kept'",
          presence,
        )?.n ?? 0;
      return {
        instances: row?.instances ?? 0,
        bytes: row?.bytes ?? 0,
        unconfirmed: count('unconfirmed'),
        missing: count('missing'),
      };
    },

    // Modalities may be empty, and the first of an hour is not to be passed over.
    hourlyTotals: ({ from, to, after = { hour: from - 1, modality: '' }, limit }) =>
      connection
        .all<HourlyTotal & Record<string, string | number>>(HOURS, after.hour, after.modality, from, to, limit)
        .map(({ hour, modality, studies, instances, bytes }) => ({ hour, modality, studies, instances, bytes })),

    unknownArrivals: (arrivalIds) =>
      connection
        .all<{ value: string }>(
          `SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM versions
            WHERE arrival_id = value AND presence IN ('kept', 'unconfirmed', 'evicting'))`,
          JSON.stringify(arrivalIds),
        )
        .map(({ value }) => value),

    takeUp: ({ instances, at }) =>
      connection.write(() => {
        const outcomes = instances.map((instance) => takeUp(connection, instance, at));
        const taken = outcomes.filter((outcome) => outcome === 'taken').length;
        if (taken > 0) appendLog(connection, at, 'taken-up', { instances: taken });
        return outcomes;
      }),

    markMissing: ({ arrivalId, at }) =>
      connection.write(() => {
        const row = connection.get<VersionRow>(
          `UPDATE versions SET presence = 'missing' WHERE arrival_id = ? AND presence IN ('kept', 'unconfirmed')
            RETURNING ${VERSION_COLUMNS}`,
          arrivalId,
        );
        if (row === undefined) return false;
        countGone(connection, row.study_instance_uid, 1, row.bytes);
        appendLog(connection, at, 'missing', { arrivalId, sopInstanceUid: row.sop_instance_uid });
        return true;
      }),

    acceptanceOf: (arrivalId) => {
      const row = connection.get<AcceptanceRow>(
        `SELECT ${VERSION_COLUMNS}, attributes, source, urgency FROM versions
          WHERE arrival_id = ? AND presence NOT IN ('evicting', 'evicted')`,
        arrivalId,
      );
      if (row === undefined) return null;
      const attributes = JSON.parse(row.attributes) as Record<string, string>;
      return { version: versionOf(row), attributes, source: row.source, urgency: row.urgency };
    },
  };
}

export function studyOf(row: StudyRow): StudyRecord {
  return {
    studyInstanceUid: row.study_instance_uid,
    patientId: row.patient_id,
    patientName: row.patient_name,
    accessionNumber: row.accession_number,
    studyDate: row.study_date,
    studyDescription: row.study_description,
    modalities: modalitiesOf(row.modalities),
    instances: row.instances,
    bytes: row.bytes,
    openDeliveries: row.open_deliveries,
    firstReceivedAt: row.first_received_at,
    lastReceivedAt: row.last_received_at,
  };
}

function findStudies(connection: Connection, filter: StudyFilter): readonly StudyRecord[] {
  const { sql, values } = studyQuery(filter);
  return connection.all<StudyRow>(sql, ...values).map(studyOf);
}

/** The query of a search: its conditions are of a fixed set of texts, so that there are few statements. */
export function studyQuery(filter: StudyFilter): {
  readonly sql: string;
  readonly values: readonly (string | number)[];
} {
  const conditions: string[] = [];
  let index = '';
  const values: (string | number)[] = [filter.after ?? ''];
  const where = (condition: string, value: string | undefined) => {
    if (value === undefined) return;
    conditions.push(`AND ${condition}`);
    values.push(value);
  };
  where('study_instance_uid = ?', filter.studyInstanceUid);
  where('patient_id = ?', filter.patientId);
  where('accession_number = ?', filter.accessionNumber);
  if (filter.patientName !== undefined) {
    const name = nameKey(filter.patientName) ?? '';
    // A pattern with escapes uses no index, so what it begins with is said apart.
    where("name_key LIKE ? ESCAPE '\\'", likePattern(name));
    const [beginning = ''] = name.split(/[*?]/, 1);
    if (beginning !== '') {
      where('name_key >= ?', beginning);
      where('name_key < ?', `${beginning}\u{10FFFF}`);
      if ((filter.studyInstanceUid ?? filter.patientId ?? filter.accessionNumber) === undefined) {
        index = 'INDEXED BY studies_by_name';
      }
    }
  }
  where('study_date >= ?', filter.studyDate?.from);
  where('study_date <= ?', filter.studyDate?.to);
  where("instr('\\' || modalities || '\\', '\\' || ? || '\\') > 0", filter.modality);
  values.push(filter.limit);
  return { sql: FIND_STUDIES(conditions.join('\n  '), index), values };
}

function likePattern(wildcards: string): string {
  return wildcards
    .replace(/[\\%_]/g, '\\$&')
    .replaceAll('*', '%')
    .replaceAll('?', '_');
}

function isSameVersion(a: VersionRecord, b: VersionRecord): boolean {
  const { sopInstanceUid, transferSyntaxUid } = b.identity;
  return (
    a.digest === b.digest &&
    a.identity.sopInstanceUid === sopInstanceUid &&
    a.identity.transferSyntaxUid === transferSyntaxUid
  );
}

/** What became of a file that no row knew. */
function takeUp(
  connection: Connection,
  { version, attributes }: FoundInstance,
  at: number,
): 'known' | 'taken' | 'duplicate' {
  const { identity, arrivalId, digest } = version;
  const standing =
    connection.get<VersionRow>(`SELECT ${VERSION_COLUMNS} FROM versions WHERE arrival_id = ?`, arrivalId) ??
    connection.get<VersionRow>(FIND_VERSION, identity.sopInstanceUid, identity.transferSyntaxUid, digest);
  // Other bytes under a name that was another's: whatever they are, they are not that.
  if (standing !== undefined && !isSameVersion(versionOf(standing), version)) return 'known';
  if (standing?.presence === 'missing' || standing?.presence === 'evicted') {
    connection.run(
      FOUND_AGAIN,
      version.blobRef,
      version.bytes,
      JSON.stringify(attributes),
      standing.arrival_id,
      standing.arrival_id,
    );
    countHeld(connection, { ...versionOf(standing), bytes: version.bytes }, attributes, false);
    return 'taken';
  }
  if (standing !== undefined) return standing.arrival_id === arrivalId ? 'known' : 'duplicate';
  connection.run(
    INSERT_VERSION,
    ...versionValues({ ...version, presence: 'unconfirmed' }),
    JSON.stringify(attributes),
    null,
    null,
  );
  countHeld(connection, version, attributes, true);
  carryOutDecisions(connection, version, at);
  return 'taken';
}
