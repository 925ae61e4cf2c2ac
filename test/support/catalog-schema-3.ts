/** The tables of a catalog in version 3, as they were. */
export const SCHEMA_3 = `
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
  UNIQUE (destination_key, study_instance_uid)
) STRICT;
CREATE INDEX work_by_rank
  ON work (destination_key, tier, urgency, acquired_at, study_instance_uid, lease, due_at) WHERE open_instances > 0;
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
  CHECK ((settled_seq IS NULL) = (state IN ('pending', 'sent')))
) STRICT;
CREATE INDEX deliveries_open ON deliveries (work_id, id) WHERE settled_seq IS NULL;
CREATE INDEX deliveries_deferred ON deliveries (destination_key, not_before)
  WHERE settled_seq IS NULL AND held = 0 AND not_before > 0;
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
  end_seq INTEGER
) STRICT;
CREATE INDEX episodes_by_destination ON episodes (destination_key, episode_id);
CREATE INDEX episodes_unclosed ON episodes (episode_id) WHERE closed_at IS NULL;
CREATE TABLE studies (
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

CREATE TABLE decisions (
  arrival_id TEXT NOT NULL,
  destination_id TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('quarantined', 'discarded')),
  reason TEXT,
  PRIMARY KEY (arrival_id, destination_id)
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
