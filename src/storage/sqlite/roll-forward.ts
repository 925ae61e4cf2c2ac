import type { VersionRecord } from '../../domain/delivery.ts';
import { FIND_VERSION } from './acceptance-operations.ts';
import { disregardRequests } from './commitment-operations.ts';
import type { Connection } from './connection.ts';
import type { NumberedDecision } from './decision-log.ts';
import {
  DECIDED_DELIVERIES,
  type DecidedRow,
  discardRow,
  isHere,
  redriveRow,
  returnRow,
} from './decision-operations.ts';
import { finishDelivery, refreshDue } from './delivery-changes.ts';
import { destinationRow, registerDestination, retireDestination } from './destination-operations.ts';
import { verifyRow } from './evidence-operations.ts';
import { appendLog } from './log-operations.ts';
import { addSettledDelivery } from './new-deliveries.ts';
import { VERSION_COLUMNS, type VersionRow, versionOf } from './rows.ts';
import { countGone, countHeld } from './study-counters.ts';
import { keepDecision, withdrawQuarantine } from './waiting-decisions.ts';

const OF_VERSION = `${DECIDED_DELIVERIES} WHERE d.arrival_id = ? AND t.destination_id = ? ORDER BY d.id`;

const OPEN_OF_VERSION = `${DECIDED_DELIVERIES} WHERE d.arrival_id = ? AND d.settled_seq IS NULL`;

const EVICTING = `SELECT ${VERSION_COLUMNS}, attributes FROM versions
  WHERE presence = 'evicting' AND presence <> 'kept' ORDER BY arrival_id`;

type EvictingRow = VersionRow & { attributes: string };

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
      else if (decision.kind === 'redrive') redriveAgain(connection, decision);
      else if (decision.kind === 'return') returnAgain(connection, decision);
      else if (decision.kind === 'retire') retireAgain(connection, decision);
      else if (isGone !== undefined) evictAgain(connection, decision, isGone);
    }
    if (last > decided) connection.run('UPDATE counters SET decided = ?', last);
    if (isGone !== undefined) keepEvicting(connection, isGone);
  });
}

function settleAgain(connection: Connection, decision: Extract<NumberedDecision, { kind: 'settle' }>): void {
  const { at, destinationId, state, reason, by = null } = decision;
  const version = versionOfDecision(connection, decision);
  if (version === undefined) {
    if (state === 'verified') withdrawQuarantine(connection, decision.arrivalId, destinationId);
    else keepDecision(connection, decision);
    logSettled(connection, decision);
    return;
  }
  const rows = deliveriesOf(connection, version.arrivalId, destinationId);
  const last = rows.at(-1);
  // The last may be final: it was put into quarantine before a person gave it up, or evidence came.
  const settled = rows.filter((row) => isOpen(row) || (row === last && row.state === 'quarantined'));
  for (const row of settled) {
    if (state === 'discarded') discardRow(connection, row, reason, by, at);
    else if (state === 'verified') verifyRow(connection, row, decision.evidence ?? 'answered', at);
    else if (isOpen(row)) {
      finishDelivery(connection, row, { state, evidence: 'accepted', attempts: row.attempts, reason, at });
      refreshDue(connection, row.work_id);
      logSettled(connection, decision);
    }
  }
  const isMissing = last === undefined || (state === 'discarded' && last.state === 'verified');
  if (!isMissing || state === 'verified') return;
  addSettledDelivery(connection, version, destinationId, { state, reason, at });
  logSettled(connection, decision);
}

function logSettled(
  connection: Connection,
  { at, arrivalId, destinationId, state, reason, by }: Extract<NumberedDecision, { kind: 'settle' }>,
): void {
  appendLog(connection, at, state, { destinationId, arrivalId, reason, ...(by !== undefined && { by }) });
}

/** Out of quarantine, as it was decided. */
function redriveAgain(connection: Connection, decision: Extract<NumberedDecision, { kind: 'redrive' }>): void {
  const { at, arrivalId, destinationId, by } = decision;
  withdrawQuarantine(connection, arrivalId, destinationId);
  const last = deliveriesOf(connection, arrivalId, destinationId).at(-1);
  if (last === undefined) return;
  disregardRequests(connection, last.destination_key, [last.id]);
  if (last.state === 'quarantined' && isHere(last)) redriveRow(connection, last, by, at);
}

/** It was verified since, and found missing there. */
function returnAgain(connection: Connection, decision: Extract<NumberedDecision, { kind: 'return' }>): void {
  const { at, arrivalId, destinationId, reason } = decision;
  const last = deliveriesOf(connection, arrivalId, destinationId).at(-1);
  if (last === undefined || !isHere(last)) return;
  disregardRequests(connection, last.destination_key, [last.id]);
  // In an older catalog it may wait for its evidence, which came and is void.
  if (last.state === 'sent') verifyRow(connection, last, 'answered', at);
  if (last.state !== 'sent' && last.state !== 'verified') return;
  returnRow(connection, { ...last, state: 'verified' }, reason, at);
}

function deliveriesOf(connection: Connection, arrivalId: string, destinationId: string): readonly DecidedRow[] {
  return connection.all<DecidedRow>(OF_VERSION, arrivalId, destinationId);
}

function versionOfDecision(
  connection: Connection,
  { arrivalId, sopInstanceUid, transferSyntaxUid, digest }: Extract<NumberedDecision, { kind: 'settle' }>,
): VersionRecord | undefined {
  const isTold = sopInstanceUid !== undefined && transferSyntaxUid !== undefined && digest !== undefined;
  const row =
    connection.get<VersionRow>(`SELECT ${VERSION_COLUMNS} FROM versions WHERE arrival_id = ?`, arrivalId) ??
    (isTold ? connection.get<VersionRow>(FIND_VERSION, sopInstanceUid, transferSyntaxUid, digest) : undefined);
  return row && versionOf(row);
}

function isOpen({ state }: DecidedRow): boolean {
  return state === 'pending' || state === 'sent';
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
    for (const row of connection.all<DecidedRow>(OPEN_OF_VERSION, arrivalId)) verifyRow(connection, row, evidence, at);
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
