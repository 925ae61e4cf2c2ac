import type { VersionRecord } from '../../domain/delivery.ts';
import type { Connection } from './connection.ts';

const HOUR_MS = 3_600_000;

/** Modalities stand in one column as in a data set, between backslashes, which no value can hold (PS3.5 section 6.2). */
const SEPARATOR = '\\';

export type StudyRow = {
  study_key: number;
  study_instance_uid: string;
  last_arrival_id: string;
  patient_id: string | null;
  patient_name: string | null;
  accession_number: string | null;
  study_date: string | null;
  study_description: string | null;
  modalities: string;
  instances: number;
  bytes: number;
  open_deliveries: number;
  first_received_at: number;
  last_received_at: number;
};

const INSERT_STUDY = `INSERT INTO studies (study_instance_uid, modalities, instances, bytes, first_received_at,
  last_received_at, last_arrival_id, patient_id, patient_name, accession_number, study_date, study_description, name_key)
  VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;

const ADD_TO_STUDY = `UPDATE studies SET instances = instances + 1, bytes = bytes + ?,
  first_received_at = min(first_received_at, ?), last_received_at = max(last_received_at, ?), last_arrival_id = ?
  WHERE study_key = ?`;

const DESCRIBE_STUDY = `UPDATE studies SET modalities = ?, patient_id = ?, patient_name = ?, accession_number = ?,
  study_date = ?, study_description = ?, name_key = ? WHERE study_key = ?`;

const ADD_TO_HOUR = `INSERT INTO hourly_totals (studies, instances, bytes, hour, modality) VALUES (?, ?, ?, ?, ?)
  ON CONFLICT DO UPDATE SET studies = studies + excluded.studies, instances = instances + excluded.instances,
    bytes = bytes + excluded.bytes`;

const ADD_TO_HELD = 'UPDATE counters SET instances = instances + ?, bytes = bytes + ?';

const ADD_TO_OPEN = 'UPDATE studies SET open_deliveries = open_deliveries + ? WHERE study_instance_uid = ?';

export function modalitiesOf(column: string): readonly string[] {
  return column === '' ? [] : column.split(SEPARATOR);
}

/** The bytes of a version are here: counts it to its study, and to its hour unless it was received before. */
export function countHeld(
  connection: Connection,
  { arrivalId, identity, bytes, receivedAt }: Pick<VersionRecord, 'arrivalId' | 'identity' | 'bytes' | 'receivedAt'>,
  attributes: Readonly<Record<string, string>>,
  isNew: boolean,
): void {
  const row = connection.get<StudyRow>('SELECT * FROM studies WHERE study_instance_uid = ?', identity.studyInstanceUid);
  const { Modality: modality = '' } = attributes;
  const known = modalitiesOf(row?.modalities ?? '');
  const isFirst = row === undefined || (modality === '' ? row.instances === 0 : !known.includes(modality));
  const modalities = (modality === '' || known.includes(modality) ? [...known] : [...known, modality].sort()).join(
    SEPARATOR,
  );
  const values = [
    // One instance that does not say it must not take the study out of a search.
    attributes.PatientID ?? row?.patient_id ?? null,
    attributes.PatientName ?? row?.patient_name ?? null,
    attributes.AccessionNumber ?? row?.accession_number ?? null,
    attributes.StudyDate ?? row?.study_date ?? null,
    attributes.StudyDescription ?? row?.study_description ?? null,
  ];
  if (row === undefined) {
    connection.run(
      INSERT_STUDY,
      identity.studyInstanceUid,
      modalities,
      bytes,
      receivedAt,
      receivedAt,
      arrivalId,
      ...values,
      nameKey(values[1]),
    );
  } else {
    connection.run(ADD_TO_STUDY, bytes, receivedAt, receivedAt, isNew ? arrivalId : row.last_arrival_id, row.study_key);
    const standing = [row.patient_id, row.patient_name, row.accession_number, row.study_date, row.study_description];
    // Rarely, and it touches every index.
    if (row.modalities !== modalities || values.some((value, index) => value !== standing[index])) {
      connection.run(DESCRIBE_STUDY, modalities, ...values, nameKey(values[1]), row.study_key);
    }
  }
  connection.accumulate(ADD_TO_HELD, [1, bytes], []);
  if (!isNew) return;
  connection.accumulate(ADD_TO_HOUR, [Number(isFirst), 1, bytes], [receivedAt - (receivedAt % HOUR_MS), modality]);
}

/** What a name is found by, whatever its case: SQLite itself knows ASCII only. */
export function nameKey(name: string | null | undefined): string | null {
  return name?.toLowerCase() ?? null;
}

/** Versions of a study are not here any more. What the study said of its patient goes with the last of them. */
export function countGone(connection: Connection, studyInstanceUid: string, instances: number, bytes: number): void {
  connection.run(
    'UPDATE studies SET instances = instances - ?, bytes = bytes - ? WHERE study_instance_uid = ?',
    instances,
    bytes,
    studyInstanceUid,
  );
  connection.run(
    `UPDATE studies SET patient_id = NULL, patient_name = NULL, name_key = NULL, accession_number = NULL, study_date = NULL,
      study_description = NULL WHERE study_instance_uid = ? AND instances = 0`,
    studyInstanceUid,
  );
  connection.accumulate(ADD_TO_HELD, [-instances, -bytes], []);
}

export function countOpen(connection: Connection, studyInstanceUid: string, deliveries: number): void {
  connection.accumulate(ADD_TO_OPEN, [deliveries], [studyInstanceUid]);
}
