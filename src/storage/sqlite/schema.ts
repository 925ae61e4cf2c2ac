/** Version of the tables below, kept in `PRAGMA user_version`. A newer one is refused, an older one is brought here. */
export const SCHEMA_VERSION = 4;

/** `PRAGMA application_id`: the letters "SPIL", so that a foreign SQLite file is never taken for a catalog. */
export const APPLICATION_ID = 0x5350494c;

/** When each version of the tables was made, and when brought to it; its row is the first thing that a migration writes. */
export const MIGRATIONS_TABLE = `CREATE TABLE IF NOT EXISTS migrations (
  version INTEGER PRIMARY KEY,
  applied_at INTEGER NOT NULL
) STRICT;`;

/** What version 3 added: what is held and since when, what was received, and what was decided. */
const ADDED_3 = `CREATE TABLE studies (
  study_key INTEGER PRIMARY KEY,
  study_instance_uid TEXT NOT NULL UNIQUE,
  last_arrival_id TEXT NOT NULL,
  patient_id TEXT,
  patient_name TEXT,
  name_key TEXT,
  accession_number TEXT,
  study_date TEXT,
  study_description TEXT,
  modalities TEXT NOT NULL,
  instances INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  open_deliveries INTEGER NOT NULL DEFAULT 0,
  first_received_at INTEGER NOT NULL,
  last_received_at INTEGER NOT NULL
) STRICT;
CREATE INDEX studies_by_patient ON studies (patient_id, study_instance_uid) WHERE instances > 0;
CREATE INDEX studies_by_name ON studies (name_key) WHERE instances > 0;
CREATE INDEX studies_by_accession ON studies (accession_number, study_instance_uid) WHERE instances > 0;
CREATE INDEX studies_by_date ON studies (study_date) WHERE instances > 0;
CREATE INDEX studies_settled ON studies (last_received_at, study_instance_uid) WHERE instances > 0 AND open_deliveries = 0;
CREATE INDEX versions_by_presence ON versions (presence, arrival_id) WHERE presence <> 'kept';

CREATE TABLE hourly_totals (
  hour INTEGER NOT NULL,
  modality TEXT NOT NULL,
  studies INTEGER NOT NULL,
  instances INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  PRIMARY KEY (hour, modality)
) STRICT, WITHOUT ROWID;

CREATE TABLE commitments (
  transaction_uid TEXT PRIMARY KEY,
  destination_key INTEGER NOT NULL REFERENCES destinations,
  requested_at INTEGER NOT NULL,
  delivery_ids TEXT NOT NULL
) STRICT;
CREATE INDEX commitments_by_destination ON commitments (destination_key, requested_at);

CREATE TABLE event_log (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  detail TEXT NOT NULL,
  hash TEXT NOT NULL
) STRICT;
CREATE TRIGGER event_log_is_not_changed BEFORE UPDATE ON event_log BEGIN SELECT raise(ABORT, 'the event log is append-only'); END;
CREATE TRIGGER event_log_is_not_deleted BEFORE DELETE ON event_log BEGIN SELECT raise(ABORT, 'the event log is append-only'); END;
`;

const DECISIONS_3 = `CREATE TABLE decisions (
  arrival_id TEXT NOT NULL,
  destination_id TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('quarantined', 'discarded')),
  reason TEXT,
  PRIMARY KEY (arrival_id, destination_id)
) STRICT, WITHOUT ROWID;
`;

/** What version 4 added: what became of a delivery before it was owed anew, and indexes by lane. */
const ADDED_4 = `CREATE TABLE former_settlements (
  delivery_id INTEGER NOT NULL REFERENCES deliveries,
  settled_seq INTEGER NOT NULL,
  until_seq INTEGER NOT NULL,
  PRIMARY KEY (delivery_id, settled_seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX decisions_by_instance ON decisions (sop_instance_uid) WHERE sop_instance_uid IS NOT NULL;
CREATE INDEX work_by_rank ON work (destination_key, backlog, tier, urgency, acquired_at, study_instance_uid, lease, due_at)
  WHERE open_instances > 0;
CREATE INDEX deliveries_deferred ON deliveries (destination_key, not_before, held)
  WHERE settled_seq IS NULL AND not_before > 0;
CREATE INDEX episodes_unclosed ON episodes (destination_key, episode_id) WHERE closed_at IS NULL;
`;

/**
 * - `sequence` of the one row of `counters` is monotone: acceptance (`deliveries.id`), settlement (`deliveries.settled_seq`) and
 *   leases draw from it, so that the set of an episode is a comparison of numbers, whatever the clocks did.
 * - A delivery is open while `settled_seq` is null. `held` marks a further version that waits for an earlier delivery
 *   of its SOP Instance UID: of the open deliveries of one SOP Instance UID to one destination all but the first are.
 * - `work` is one study × destination. Its `due_at` is the earliest `not_before` of the open deliveries that are not
 *   held; null when there is none. It may be stale while the study is leased, and is set right when the lease ends.
 * - `urgency` of a version is what the caller said of the order; `urgency` and `basis` of `work` are indexes into
 *   `URGENCIES` and `DATE_BASES`.
 * - The rowid of a version tells the order of acceptance, which is not that of arrival: instances of one study are made
 *   durable side by side, and each is committed when it is.
 * - `ranking` of a destination counts the changes of its policy; that of `work` tells by which its rank was judged.
 * - The counters in `destinations`, `work` and `studies` change in the transaction that changes the rows they count.
 * - `studies` counts the versions of a study whose bytes are here, and its open deliveries to all destinations. Its
 *   `last_arrival_id` is that of the version accepted last, by which ranking sees that more has come. What it says of the
 *   patient is that of the version accepted last, and is forgotten with the last of its bytes.
 * - `former_settlements` tells of a delivery that was final from `settled_seq` until `until_seq`, and became something else
 *   then: it was redriven, returned to the backlog, or verified late. With it the set of an episode stays what it was.
 * - `pending` and `sent` of an episode that is not closed count the open deliveries of its set, so that nobody has to look
 *   whether anything of it remains. No delivery of its set has an id below `first_id`.
 * - `backlog` of `work` tells the lane: what an outage held up (1), or what came after it (0).
 * - `decisions` are those of the decision log (decision-log.ts) that concern versions that the catalog does not know: it
 *   was rebuilt, and the walk has not come to their files yet. `decided` is the last line of that log that is in the tables.
 */
export const SCHEMA = `
CREATE TABLE counters (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  sequence INTEGER NOT NULL,
  instances INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0,
  decided INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO counters (only_row, sequence) VALUES (1, 0);

CREATE TABLE versions (
  arrival_id TEXT PRIMARY KEY,
  study_instance_uid TEXT NOT NULL,
  series_instance_uid TEXT NOT NULL,
  sop_instance_uid TEXT NOT NULL,
  sop_class_uid TEXT NOT NULL,
  transfer_syntax_uid TEXT NOT NULL,
  digest TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  blob_ref TEXT NOT NULL,
  received_at INTEGER NOT NULL,
  oddities TEXT NOT NULL,
  attributes TEXT NOT NULL,
  source TEXT,
  urgency TEXT,
  presence TEXT NOT NULL DEFAULT 'kept'
) STRICT;
CREATE INDEX versions_by_instance ON versions (sop_instance_uid, arrival_id);
CREATE INDEX versions_by_acceptance ON versions (study_instance_uid);

CREATE TABLE destinations (
  destination_key INTEGER PRIMARY KEY,
  destination_id TEXT NOT NULL UNIQUE,
  retired_at INTEGER,
  retired_reason TEXT,
  retired_by TEXT,
  ranked_by TEXT,
  ranking INTEGER NOT NULL DEFAULT 0,
  pending INTEGER NOT NULL DEFAULT 0,
  sent INTEGER NOT NULL DEFAULT 0,
  verified INTEGER NOT NULL DEFAULT 0,
  quarantined INTEGER NOT NULL DEFAULT 0,
  discarded INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE work (
  work_id INTEGER PRIMARY KEY,
  destination_key INTEGER NOT NULL REFERENCES destinations,
  study_instance_uid TEXT NOT NULL,
  tier INTEGER NOT NULL,
  urgency INTEGER NOT NULL,
  acquired_at INTEGER NOT NULL,
  basis INTEGER NOT NULL,
  age_tier INTEGER,
  ruled_tier INTEGER,
  ranking INTEGER NOT NULL DEFAULT 0,
  open_instances INTEGER NOT NULL DEFAULT 0,
  open_bytes INTEGER NOT NULL DEFAULT 0,
  due_at INTEGER,
  lease INTEGER,
  interrupted INTEGER NOT NULL DEFAULT 0,
  backlog INTEGER NOT NULL DEFAULT 0,
  UNIQUE (destination_key, study_instance_uid)
) STRICT;
CREATE INDEX work_open ON work (destination_key, study_instance_uid) WHERE open_instances > 0;
CREATE UNIQUE INDEX work_by_lease ON work (lease) WHERE lease IS NOT NULL;

CREATE TABLE deliveries (
  id INTEGER PRIMARY KEY,
  destination_key INTEGER NOT NULL REFERENCES destinations,
  work_id INTEGER NOT NULL REFERENCES work,
  arrival_id TEXT NOT NULL REFERENCES versions,
  bytes INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'verified', 'quarantined', 'discarded')),
  evidence TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  further INTEGER NOT NULL,
  held INTEGER NOT NULL,
  not_before INTEGER NOT NULL DEFAULT 0,
  reason TEXT,
  settled_seq INTEGER,
  answered_at INTEGER,
  settled_at INTEGER,
  CHECK ((settled_seq IS NULL) = (state IN ('pending', 'sent')))
) STRICT;
CREATE INDEX deliveries_open ON deliveries (work_id, id) WHERE settled_seq IS NULL;
CREATE INDEX deliveries_by_state ON deliveries (destination_key, state, id);
CREATE INDEX deliveries_settled ON deliveries (destination_key, settled_seq) WHERE settled_seq IS NOT NULL;
CREATE INDEX deliveries_by_arrival ON deliveries (arrival_id, destination_key);

CREATE TABLE episodes (
  episode_id INTEGER PRIMARY KEY,
  destination_key INTEGER NOT NULL REFERENCES destinations,
  cause TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  detected_at INTEGER NOT NULL,
  ended_at INTEGER,
  drained_at INTEGER,
  closed_at INTEGER,
  pending_at_start INTEGER NOT NULL,
  start_seq INTEGER NOT NULL,
  end_seq INTEGER,
  planned INTEGER NOT NULL DEFAULT 0,
  expected_end_at INTEGER,
  plan_ended_at INTEGER,
  first_id INTEGER NOT NULL DEFAULT 0,
  pending INTEGER NOT NULL DEFAULT 0,
  sent INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX episodes_by_destination ON episodes (destination_key, episode_id);

CREATE TABLE decisions (
  arrival_id TEXT NOT NULL,
  destination_id TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('quarantined', 'discarded')),
  reason TEXT,
  sop_instance_uid TEXT,
  transfer_syntax_uid TEXT,
  digest TEXT,
  PRIMARY KEY (arrival_id, destination_id)
) STRICT, WITHOUT ROWID;
${ADDED_3}
${ADDED_4}
`;

/**
 * What brings the tables from the version before each to it, for every version from 2 on. Columns are added at the end of
 * a table, so that no statement may rely on their order.
 */
export const MIGRATIONS: readonly string[] = [
  // 2: what the caller said of an order stands beside the version; version 1 had it in ranks alone. Ranks know what placed them, and whether a date is that of the examination.
  `ALTER TABLE versions ADD COLUMN urgency TEXT;
   ALTER TABLE destinations ADD COLUMN ranked_by TEXT;
   ALTER TABLE destinations ADD COLUMN ranking INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE work ADD COLUMN ranking INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE work RENAME COLUMN estimated TO basis;
   UPDATE work SET basis = 2 WHERE basis = 1;
   ALTER TABLE work ADD COLUMN age_tier INTEGER;
   ALTER TABLE work ADD COLUMN ruled_tier INTEGER;
   UPDATE work SET age_tier = tier;
   UPDATE versions SET urgency = (
     SELECT CASE min(w.urgency) WHEN 0 THEN 'stat' WHEN 1 THEN 'urgent' END
       FROM work w WHERE w.study_instance_uid = versions.study_instance_uid);
   CREATE INDEX versions_by_acceptance ON versions (study_instance_uid);
   CREATE INDEX work_open ON work (destination_key, study_instance_uid) WHERE open_instances > 0;`,
  // 3: what is held, by study; totals by hour and modality of what came before count from the rows that are there.
  `ALTER TABLE versions ADD COLUMN presence TEXT NOT NULL DEFAULT 'kept';
   ${ADDED_3}
   ${DECISIONS_3}
   DROP INDEX versions_by_study;
   ALTER TABLE sequence RENAME TO counters;
   ALTER TABLE counters RENAME COLUMN value TO sequence;
   ALTER TABLE counters ADD COLUMN instances INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE counters ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE counters ADD COLUMN decided INTEGER NOT NULL DEFAULT 0;
   UPDATE counters SET (instances, bytes) = (SELECT count(*), coalesce(sum(bytes), 0) FROM versions);
   INSERT INTO studies (study_instance_uid, last_arrival_id, patient_id, patient_name, name_key, accession_number, study_date, study_description,
       modalities, instances, bytes, open_deliveries, first_received_at, last_received_at)
     SELECT v.study_instance_uid, v.arrival_id, v.attributes ->> '$.PatientID', v.attributes ->> '$.PatientName', lower(v.attributes ->> '$.PatientName'),
       v.attributes ->> '$.AccessionNumber', v.attributes ->> '$.StudyDate', v.attributes ->> '$.StudyDescription',
       coalesce((SELECT group_concat(modality, '\\') FROM (SELECT DISTINCT m.attributes ->> '$.Modality' AS modality
         FROM versions m WHERE m.study_instance_uid = v.study_instance_uid AND modality <> '' ORDER BY modality)), ''),
       (SELECT count(*) FROM versions m WHERE m.study_instance_uid = v.study_instance_uid),
       (SELECT sum(bytes) FROM versions m WHERE m.study_instance_uid = v.study_instance_uid),
       coalesce((SELECT sum(open_instances) FROM work w WHERE w.study_instance_uid = v.study_instance_uid), 0),
       (SELECT min(received_at) FROM versions m WHERE m.study_instance_uid = v.study_instance_uid),
       (SELECT max(received_at) FROM versions m WHERE m.study_instance_uid = v.study_instance_uid)
     FROM versions v
     WHERE v.rowid IN (SELECT max(rowid) FROM versions GROUP BY study_instance_uid);
   INSERT INTO hourly_totals (hour, modality, studies, instances, bytes)
     SELECT received_at - received_at % 3600000, coalesce(attributes ->> '$.Modality', ''), 0, count(*), sum(bytes)
     FROM versions GROUP BY 1, 2;
   UPDATE hourly_totals SET studies = f.studies FROM (
       SELECT received_at - received_at % 3600000 AS hour, modality, count(*) AS studies FROM (
         SELECT min(rowid), received_at, coalesce(attributes ->> '$.Modality', '') AS modality
           FROM versions GROUP BY study_instance_uid, modality)
       GROUP BY 1, 2) f
     WHERE f.hour = hourly_totals.hour AND f.modality = hourly_totals.modality;`,
  // 4: lanes, instants, decisions by identity. What an outage that is not over for its set had held up is backlog.
  `ALTER TABLE work ADD COLUMN backlog INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE deliveries ADD COLUMN answered_at INTEGER;
   ALTER TABLE deliveries ADD COLUMN settled_at INTEGER;
   ALTER TABLE episodes ADD COLUMN planned INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE episodes ADD COLUMN expected_end_at INTEGER;
   ALTER TABLE episodes ADD COLUMN plan_ended_at INTEGER;
   ALTER TABLE episodes ADD COLUMN first_id INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE episodes ADD COLUMN pending INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE episodes ADD COLUMN sent INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE decisions ADD COLUMN sop_instance_uid TEXT;
   ALTER TABLE decisions ADD COLUMN transfer_syntax_uid TEXT;
   ALTER TABLE decisions ADD COLUMN digest TEXT;
   DROP INDEX work_by_rank;
   DROP INDEX deliveries_deferred;
   DROP INDEX episodes_unclosed;
   ${ADDED_4}
   UPDATE episodes SET
     pending = (SELECT count(*) FROM deliveries d
       WHERE d.destination_key = episodes.destination_key AND d.state = 'pending' AND d.id <= coalesce(end_seq, d.id)),
     sent = (SELECT count(*) FROM deliveries d
       WHERE d.destination_key = episodes.destination_key AND d.state = 'sent' AND d.id <= coalesce(end_seq, d.id))
     WHERE closed_at IS NULL;
   UPDATE work SET backlog = 1 WHERE open_instances > 0 AND EXISTS (SELECT 1 FROM episodes e
     WHERE e.destination_key = work.destination_key AND e.closed_at IS NULL AND (e.ended_at IS NULL OR EXISTS (
       SELECT 1 FROM deliveries d WHERE d.work_id = work.work_id AND d.settled_seq IS NULL AND d.id <= e.end_seq)));`,
];
