import type { Connection } from './connection.ts';
import type { NumberedDecision } from './decision-log.ts';
import { finishDelivery, OPEN_DELIVERY_COLUMNS, type OpenDeliveryRow } from './delivery-operations.ts';
import { destinationRow, registerDestination, retireDestination } from './destination-operations.ts';
import { appendLog } from './log-operations.ts';
import { VERSION_COLUMNS, type VersionRow, versionOf } from './rows.ts';
import { countGone, countHeld } from './study-counters.ts';

const OPEN_OF_VERSION = `SELECT ${OPEN_DELIVERY_COLUMNS}, t.destination_id FROM deliveries d
  JOIN work w ON w.work_id = d.work_id JOIN destinations t ON t.destination_key = d.destination_key
  WHERE d.arrival_id = ? AND d.settled_seq IS NULL`;

const EVICTING = `SELECT ${VERSION_COLUMNS}, attributes FROM versions
  WHERE presence = 'evicting' AND presence <> 'kept' ORDER BY arrival_id`;

type EvictingRow = VersionRow & { attributes: string };

type OpenRow = OpenDeliveryRow & { destination_id: string };

/**
 * Carries out decisions that are on the disk, and whose rows did not change: a crash came between, or the catalog was
 * rebuilt from an older one. Those about versions that are not known wait for their files to be taken up. Carried out
 * again they change nothing.
 *
 * @param isGone - For a rebuilt catalog: whether there are no bytes behind a reference. Without it evictions are passed
 * over: one that was not committed has removed nothing.
 */
export function rollForward(
  connection: Connection,
  decisions: Iterable<NumberedDecision>,
  isGone?: (blobRef: string) => boolean,
): void {
  connection.write(() => {
    const decided = connection.get<{ decided: number }>('SELECT decided FROM counters')?.decided ?? 0;
    let last = decided;
    for (const decision of decisions) {
      if (decision.number <= decided) continue;
      last = Math.max(last, decision.number);
      if (decision.kind === 'settle') settleAgain(connection, decision);
      else if (decision.kind === 'retire') retireAgain(connection, decision);
      else if (isGone !== undefined) evictAgain(connection, decision, isGone);
    }
    if (last > decided) connection.run('UPDATE counters SET decided = ?', last);
    if (isGone !== undefined) keepEvicting(connection, isGone);
  });
}

function settleAgain(
  connection: Connection,
  { at, arrivalId, destinationId, state, reason }: Extract<NumberedDecision, { kind: 'settle' }>,
): void {
  const logged = { destinationId, arrivalId, reason };
  if (connection.get('SELECT 1 AS known FROM versions WHERE arrival_id = ?', arrivalId) === undefined) {
    connection.run('INSERT OR REPLACE INTO decisions VALUES (?, ?, ?, ?)', arrivalId, destinationId, state, reason);
    appendLog(connection, at, state, logged);
    return;
  }
  for (const row of connection.all<OpenRow>(OPEN_OF_VERSION, arrivalId)) {
    if (row.destination_id !== destinationId) continue;
    finishDelivery(
      connection,
      row,
      { state, evidence: 'accepted', attempts: row.attempts, reason },
      connection.advance(),
    );
    appendLog(connection, at, state, logged);
  }
}

function retireAgain(connection: Connection, decision: Extract<NumberedDecision, { kind: 'retire' }>): void {
  registerDestination(connection, decision.destinationId);
  if (destinationRow(connection, decision.destinationId).retired_at === null) retireDestination(connection, decision);
}

/** What is gone was verified everywhere, whatever the older catalog says. What is there, is kept. */
function evictAgain(
  connection: Connection,
  { at, studyInstanceUid, arrivalIds, evidence }: Extract<NumberedDecision, { kind: 'evict' }>,
  isGone: (blobRef: string) => boolean,
): void {
  let [instances, bytes] = [0, 0];
  for (const arrivalId of arrivalIds) {
    const version = connection.get<{ blob_ref: string; bytes: number; presence: string }>(
      "SELECT blob_ref, bytes, presence FROM versions WHERE arrival_id = ? AND presence NOT IN ('evicted', 'missing')",
      arrivalId,
    );
    if (version === undefined || !isGone(version.blob_ref)) continue;
    connection.run(
      "UPDATE versions SET presence = 'evicted', attributes = '{}', source = NULL WHERE arrival_id = ?",
      arrivalId,
    );
    if (version.presence !== 'evicting') countGone(connection, studyInstanceUid, 1, version.bytes);
    for (const row of connection.all<OpenRow>(OPEN_OF_VERSION, arrivalId)) {
      const { attempts } = row;
      finishDelivery(connection, row, { state: 'verified', evidence, attempts, reason: null }, connection.advance());
    }
    instances += 1;
    bytes += version.bytes;
  }
  if (instances > 0) appendLog(connection, at, 'evicted', { studyInstanceUid, instances, bytes });
}

/**
 * An eviction under way in an older catalog may have ended since, and what it had removed may have come again: what is
 * there now is kept, and may be evicted anew.
 */
function keepEvicting(connection: Connection, isGone: (blobRef: string) => boolean): void {
  for (const row of connection.all<EvictingRow>(EVICTING)) {
    if (isGone(row.blob_ref)) continue;
    connection.run("UPDATE versions SET presence = 'kept' WHERE arrival_id = ?", row.arrival_id);
    const attributes = JSON.parse(row.attributes) as Record<string, string>;
    countHeld(connection, versionOf(row), attributes, false);
  }
}
