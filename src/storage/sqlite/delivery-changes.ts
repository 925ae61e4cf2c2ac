import type { DeliveryState, Evidence } from '../../domain/delivery.ts';
import type { Connection } from './connection.ts';
import { countState, isInOutage } from './episode-sets.ts';
import { countOpen } from './study-counters.ts';

/** A delivery whose state changes. */
export type ChangingRow = {
  id: number;
  work_id: number;
  destination_key: number;
  arrival_id: string;
  state: DeliveryState;
  bytes: number;
  attempts: number;
  study_instance_uid: string;
};

export const CHANGING_COLUMNS = `d.id, d.work_id, d.destination_key, d.arrival_id, d.state, d.bytes, d.attempts,
  w.study_instance_uid`;

/** What an open delivery becomes when it is final. */
export interface Ending {
  readonly state: DeliveryState;
  readonly evidence: Evidence;
  readonly attempts: number;
  readonly reason: string | null;
  readonly at: number;
}

const SETTLE_FINAL = `UPDATE deliveries SET state = ?, evidence = ?, attempts = ?, reason = ?, settled_seq = ?,
  settled_at = ?, answered_at = coalesce(answered_at, ?), held = 0, not_before = 0 WHERE id = ?`;

const TAKE_OUT = 'UPDATE work SET open_instances = open_instances - ?, open_bytes = open_bytes - ? WHERE work_id = ?';

const PUT_IN = 'UPDATE work SET open_instances = open_instances + ?, open_bytes = open_bytes + ? WHERE work_id = ?';

// CROSS JOIN fixes the order of the tables: few versions share a SOP Instance UID, many deliveries a destination.
export const FIRST_OPEN_OF_INSTANCE = `SELECT d.id, d.work_id, d.held, d.not_before FROM versions s
  CROSS JOIN versions v ON v.sop_instance_uid = s.sop_instance_uid
  CROSS JOIN deliveries d ON d.arrival_id = v.arrival_id
  WHERE s.arrival_id = ? AND d.destination_key = ? AND d.settled_seq IS NULL ORDER BY d.id LIMIT 1`;

type FirstRow = { id: number; work_id: number; held: number; not_before: number };

const MOVE_DUE_FORWARD = 'UPDATE work SET due_at = min(coalesce(due_at, ?), ?) WHERE work_id = ?';

const REFRESH_DUE = `UPDATE work SET due_at = (
    SELECT min(not_before) FROM deliveries WHERE work_id = work.work_id AND settled_seq IS NULL AND held = 0)
  WHERE work_id = ? AND lease IS NULL`;

const KEEP_SETTLEMENT = `INSERT INTO former_settlements (delivery_id, settled_seq, until_seq)
  SELECT id, settled_seq, ? FROM deliveries WHERE id = ?`;

const REOPEN = `UPDATE deliveries SET state = 'pending', evidence = 'accepted', attempts = 0, reason = NULL, not_before = 0,
  settled_seq = NULL, settled_at = NULL, answered_at = NULL, held = ?, further = max(further, ?) WHERE id = ?`;

// CROSS JOIN fixes the order of the tables, as above.
export const HAS_OTHER_VERSION = `SELECT 1 AS found FROM versions s
  CROSS JOIN versions v ON v.sop_instance_uid = s.sop_instance_uid
  CROSS JOIN deliveries l ON l.arrival_id = v.arrival_id
  WHERE s.arrival_id = ? AND v.arrival_id <> ? AND l.destination_key = ? AND l.held <= ? LIMIT 1`;

const SETTLE_ANEW = `UPDATE deliveries SET state = ?, evidence = ?, reason = ?, settled_seq = ?, settled_at = ? WHERE id = ?`;

/** Makes an open delivery final, and everything that counts it right. */
export function finishDelivery(
  connection: Connection,
  row: ChangingRow,
  { state, evidence, attempts, reason, at }: Ending,
): void {
  countState(connection, row, row.state, state);
  connection.run(
    SETTLE_FINAL,
    state,
    evidence,
    attempts,
    reason,
    connection.advance(),
    wholeMs(at),
    // The answer is all that there was to wait for.
    state === 'verified' && evidence === 'answered' ? wholeMs(at) : null,
    row.id,
  );
  connection.accumulate(TAKE_OUT, [1, row.bytes], [row.work_id]);
  countOpen(connection, row.study_instance_uid, -1);
  releaseNextVersion(connection, row.arrival_id, row.destination_key);
}

/** A final delivery is owed again. A later version under its SOP Instance UID waits for it. */
export function reopenDelivery(connection: Connection, row: ChangingRow, isBacklog: boolean): void {
  const first = firstOpen(connection, row);
  const isHeld = first !== undefined && first.id < row.id;
  // Before it counts anywhere: it tells to which episodes.
  connection.run(KEEP_SETTLEMENT, connection.advance(), row.id);
  countState(connection, row, row.state, 'pending');
  connection.run(REOPEN, Number(isHeld), Number(hasOtherVersion(connection, row, 'owed')), row.id);
  setLane(connection, row, isBacklog);
  connection.accumulate(PUT_IN, [1, row.bytes], [row.work_id]);
  countOpen(connection, row.study_instance_uid, 1);
  if (first !== undefined && !isHeld) {
    connection.run('UPDATE deliveries SET held = 1 WHERE id = ?', first.id);
    refreshDue(connection, first.work_id);
  }
  refreshDue(connection, row.work_id);
}

/**
 * Whether another version under its SOP Instance UID is owed to the destination, or was, so that what shows the UID may
 * show that one. `begun`: it is not only waiting for its turn.
 */
export function hasOtherVersion(
  connection: Connection,
  { arrival_id, destination_key }: Pick<ChangingRow, 'arrival_id' | 'destination_key'>,
  which: 'owed' | 'begun',
): boolean {
  const held = which === 'begun' ? 0 : 1;
  return connection.get(HAS_OTHER_VERSION, arrival_id, arrival_id, destination_key, held) !== undefined;
}

/** Something else becomes of a delivery that is final already. It is settled now, and was settled before. */
export function settleAnew(connection: Connection, row: ChangingRow, { state, evidence, reason, at }: Ending): void {
  const sequence = connection.advance();
  connection.run(KEEP_SETTLEMENT, sequence, row.id);
  countState(connection, row, row.state, state);
  connection.run(SETTLE_ANEW, state, evidence, reason, sequence, wholeMs(at), row.id);
}

/** When a study has something due, unless it is leased: then it is set right when the lease ends. */
export function refreshDue(connection: Connection, workId: number): void {
  connection.run(REFRESH_DUE, workId);
}

/** The lane of a study that is owed something more. Within a transaction. */
function setLane(
  connection: Connection,
  { work_id, destination_key }: Pick<ChangingRow, 'work_id' | 'destination_key'>,
  isBacklog: boolean,
): void {
  const row = connection.get<{ backlog: number; open_instances: number }>(
    'SELECT backlog, open_instances FROM work WHERE work_id = ?',
    work_id,
  );
  if (row === undefined) return;
  const lane = laneOf(row, isBacklog || isInOutage(connection, destination_key));
  if (lane !== row.backlog) connection.run('UPDATE work SET backlog = ? WHERE work_id = ?', lane, work_id);
}

/** `backlog` of a study of `work` that is owed something more. */
export function laneOf(row: { readonly backlog: number; readonly open_instances: number }, isBacklog: boolean): number {
  if (isBacklog) return 1;
  return row.open_instances === 0 ? 0 : row.backlog;
}

/** A delivery has become final: the next open one of its SOP Instance UID, perhaps in another study, is its turn. */
function releaseNextVersion(connection: Connection, arrivalId: string, key: number): void {
  const next = firstOpen(connection, { arrival_id: arrivalId, destination_key: key });
  if (next === undefined || next.held === 0) return;
  connection.run('UPDATE deliveries SET held = 0 WHERE id = ?', next.id);
  connection.run(MOVE_DUE_FORWARD, next.not_before, next.not_before, next.work_id);
}

function firstOpen(
  connection: Connection,
  { arrival_id, destination_key }: Pick<ChangingRow, 'arrival_id' | 'destination_key'>,
): FirstRow | undefined {
  return connection.get<FirstRow>(FIRST_OPEN_OF_INSTANCE, arrival_id, destination_key);
}

/** An instant for an INTEGER column: delays drawn at random are seldom whole, and none may end early. */
export function wholeMs(instant: number): number {
  return Math.min(Math.ceil(instant), Number.MAX_SAFE_INTEGER);
}
