/** The tables of a catalog in version 1, as they were. */
export const SCHEMA_1 = `
CREATE TABLE sequence (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  value INTEGER NOT NULL
) STRICT;
INSERT INTO sequence VALUES (1, 0);

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
  source TEXT
) STRICT;
CREATE INDEX versions_by_instance ON versions (sop_instance_uid, arrival_id);
CREATE INDEX versions_by_study ON versions (study_instance_uid, arrival_id);

CREATE TABLE destinations (
  destination_key INTEGER PRIMARY KEY,
  destination_id TEXT NOT NULL UNIQUE,
  retired_at INTEGER,
  retired_reason TEXT,
  retired_by TEXT,
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
  estimated INTEGER NOT NULL,
  open_instances INTEGER NOT NULL DEFAULT 0,
  open_bytes INTEGER NOT NULL DEFAULT 0,
  due_at INTEGER,
  lease INTEGER,
  interrupted INTEGER NOT NULL DEFAULT 0,
  UNIQUE (destination_key, study_instance_uid)
) STRICT;
CREATE INDEX work_by_rank
  ON work (destination_key, tier, urgency, acquired_at, study_instance_uid, lease, due_at) WHERE open_instances > 0;
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
`;
