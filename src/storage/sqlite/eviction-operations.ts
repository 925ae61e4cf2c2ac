import { EVIDENCE, type Evidence } from '../../domain/delivery.ts';
import type { Eviction, EvictionBlock, EvictionTerms } from '../catalog.ts';
import type { Connection } from './connection.ts';
import { studyOf } from './holding-operations.ts';
import { appendLog } from './log-operations.ts';
import type { CatalogOperations } from './operations.ts';
import { countGone, type StudyRow } from './study-counters.ts';

/** Of a version's deliveries to a destination the last one counts: what was restored is delivered again. */
const LAST_TO_DESTINATIONS_IN_USE = `FROM deliveries d JOIN destinations t ON t.destination_key = d.destination_key
  WHERE d.arrival_id = v.arrival_id AND t.retired_at IS NULL AND NOT EXISTS (SELECT 1 FROM deliveries l
    WHERE l.arrival_id = d.arrival_id AND l.destination_key = d.destination_key AND l.id > d.id)`;

const HELD_OF_STUDY = `FROM versions v
  WHERE v.study_instance_uid = s.study_instance_uid AND v.presence IN ('kept', 'unconfirmed')`;

const IS_UNVERIFIED = `EXISTS (SELECT 1 ${HELD_OF_STUDY}
  AND EXISTS (SELECT 1 ${LAST_TO_DESTINATIONS_IN_USE} AND d.state <> 'verified'))`;

const IS_UNROUTED = `EXISTS (SELECT 1 ${HELD_OF_STUDY}
  AND NOT EXISTS (SELECT 1 ${LAST_TO_DESTINATIONS_IN_USE} AND d.state = 'verified'))`;

// No kind of evidence has a name that is a part of another's.
const LACKS_EVIDENCE = `EXISTS (SELECT 1 ${HELD_OF_STUDY}
  AND EXISTS (SELECT 1 ${LAST_TO_DESTINATIONS_IN_USE} AND instr(?, d.evidence) = 0))`;

// One look at each version, and the first that may not go ends it.
const MAY_GO = `NOT EXISTS (SELECT 1 ${HELD_OF_STUDY} AND (
    NOT EXISTS (SELECT 1 ${LAST_TO_DESTINATIONS_IN_USE} AND d.state = 'verified')
    OR EXISTS (SELECT 1 ${LAST_TO_DESTINATIONS_IN_USE} AND (d.state <> 'verified' OR instr(?, d.evidence) = 0))))`;

export const EVICTABLE = `SELECT * FROM studies s WHERE instances > 0 AND open_deliveries = 0 AND last_received_at < ?
  AND ${MAY_GO} ORDER BY last_received_at, study_instance_uid LIMIT ?`;

export const MAY_EVICT = `SELECT * FROM studies s WHERE study_instance_uid = ? AND instances > 0 AND open_deliveries = 0
  AND last_received_at < ? AND ${MAY_GO}`;

const BLOCKS = `SELECT reason, count(*) AS studies, sum(bytes) AS bytes FROM (SELECT bytes, CASE
    WHEN open_deliveries > 0 THEN 'pending'
    WHEN ${IS_UNVERIFIED} THEN 'unverified'
    WHEN ${IS_UNROUTED} THEN 'unrouted'
    WHEN ${LACKS_EVIDENCE} THEN 'evidence'
    WHEN last_received_at >= ? THEN 'recent'
    ELSE 'none' END AS reason FROM studies s WHERE instances > 0) GROUP BY reason ORDER BY reason`;

const EVICTING = `SELECT study_instance_uid, arrival_id, blob_ref, bytes FROM versions
  WHERE presence = 'evicting' AND presence <> 'kept' ORDER BY arrival_id`;

type EvictingRow = { study_instance_uid: string; arrival_id: string; blob_ref: string; bytes: number };

/** Eviction: what may go and why not, and its two commits. */
export function evictionOperations(
  connection: Connection,
): Pick<CatalogOperations, 'evictable' | 'evictionBlocks' | 'beginEviction' | 'endEviction' | 'evictions'> {
  return {
    evictable: ({ evidence, receivedBefore, limit }) =>
      connection.all<StudyRow>(EVICTABLE, receivedBefore, atLeast(evidence), limit).map(studyOf),

    evictionBlocks: ({ evidence, receivedBefore }) =>
      connection
        .all<EvictionBlock & Record<string, string | number>>(BLOCKS, atLeast(evidence), receivedBefore)
        .map(({ reason, studies, bytes }) => ({ reason, studies, bytes })),

    beginEviction: (request) => connection.write(() => beginEviction(connection, request)),

    endEviction: ({ studyInstanceUid, at }) =>
      connection.write(() => {
        const rows = connection.all<{ bytes: number }>(
          `UPDATE versions SET presence = 'evicted', attributes = '{}', source = NULL
            WHERE study_instance_uid = ? AND presence = 'evicting' RETURNING bytes`,
          studyInstanceUid,
        );
        if (rows.length === 0) return;
        const bytes = rows.reduce((total, row) => total + row.bytes, 0);
        appendLog(connection, at, 'evicted', { studyInstanceUid, instances: rows.length, bytes });
      }),

    evictions: ({ limit }) => {
      const byStudy = new Map<string, EvictingRow[]>();
      for (const row of connection.all<EvictingRow>(EVICTING)) {
        const rows = byStudy.get(row.study_instance_uid);
        if (rows !== undefined) rows.push(row);
        else if (byStudy.size < limit) byStudy.set(row.study_instance_uid, [row]);
      }
      return [...byStudy].map(([study, rows]) => evictionOf(study, rows));
    },
  };
}

function beginEviction(
  connection: Connection,
  {
    studyInstanceUid,
    evidence,
    receivedBefore,
    at,
  }: EvictionTerms & { readonly studyInstanceUid: string; readonly at: number },
): Eviction | null {
  const study = connection.get<StudyRow>(MAY_EVICT, studyInstanceUid, receivedBefore, atLeast(evidence));
  if (study === undefined) return null;
  const rows = connection.all<EvictingRow>(
    `UPDATE versions SET presence = 'evicting' WHERE study_instance_uid = ? AND presence = 'kept'
      RETURNING study_instance_uid, arrival_id, blob_ref, bytes`,
    studyInstanceUid,
  );
  const eviction = evictionOf(studyInstanceUid, rows);
  countGone(connection, studyInstanceUid, rows.length, eviction.bytes);
  const arrivalIds = rows.map((row) => row.arrival_id);
  connection.decide([{ kind: 'evict', at, studyInstanceUid, arrivalIds, evidence }]);
  return eviction;
}

function evictionOf(studyInstanceUid: string, rows: readonly EvictingRow[]): Eviction {
  return {
    studyInstanceUid,
    bytes: rows.reduce((total, row) => total + row.bytes, 0),
    blobRefs: rows.map((row) => row.blob_ref),
  };
}

/** The names of that evidence and of all that is stronger. */
function atLeast(evidence: Evidence): string {
  return EVIDENCE.slice(EVIDENCE.indexOf(evidence)).join(' ');
}
