import type { DeliveryState, VersionRecord } from '../../domain/delivery.ts';
import type { Connection } from './connection.ts';
import type { DecidedVersion } from './decision-log.ts';
import { addSettledDelivery } from './new-deliveries.ts';

const KEEP_DECISION = `INSERT OR REPLACE INTO decisions
  (arrival_id, destination_id, state, reason, sop_instance_uid, transfer_syntax_uid, digest) VALUES (?, ?, ?, ?, ?, ?, ?)`;

const WITHDRAW_QUARANTINE = `DELETE FROM decisions
  WHERE arrival_id = ? AND destination_id = ? AND state = 'quarantined'`;

const TAKE_BY_ARRIVAL = `DELETE FROM decisions WHERE arrival_id = ? RETURNING destination_id, state, reason`;

export const TAKE_BY_IDENTITY = `DELETE FROM decisions
  WHERE sop_instance_uid = ? AND transfer_syntax_uid = ? AND digest = ? RETURNING destination_id, state, reason`;

const NONE: ReadonlySet<string> = new Set();

/** A decision about a version that is not known: it waits for its file, or for its coming again. Within a transaction. */
export function keepDecision(
  connection: Connection,
  decision: {
    readonly arrivalId: string;
    readonly destinationId: string;
    readonly state: DeliveryState;
    readonly reason: string | null;
  } & DecidedVersion,
): void {
  const { arrivalId, destinationId, state, reason, sopInstanceUid, transferSyntaxUid, digest } = decision;
  connection.run(
    KEEP_DECISION,
    arrivalId,
    destinationId,
    state,
    reason,
    sopInstanceUid ?? null,
    transferSyntaxUid ?? null,
    digest ?? null,
  );
}

/** It left quarantine again, or never was refused. Within a transaction. */
export function withdrawQuarantine(connection: Connection, arrivalId: string, destinationId: string): void {
  connection.run(WITHDRAW_QUARANTINE, arrivalId, destinationId);
}

/**
 * What was decided about a version that has become known, under whatever arrival id, becomes deliveries that are final.
 * Returns to which destinations. Within a transaction.
 */
export function carryOutDecisions(connection: Connection, version: VersionRecord, at: number): ReadonlySet<string> {
  // As a rule there are none, and this is asked for each instance.
  const areAny = connection.once(
    'decisions',
    () => connection.get('SELECT 1 AS found FROM decisions LIMIT 1') !== undefined,
  );
  if (!areAny) return NONE;
  type Waiting = { destination_id: string; state: DeliveryState; reason: string | null };
  const { sopInstanceUid, transferSyntaxUid } = version.identity;
  const waiting = new Map<string, Waiting>();
  const rows = [
    ...connection.all<Waiting>(TAKE_BY_IDENTITY, sopInstanceUid, transferSyntaxUid, version.digest),
    ...connection.all<Waiting>(TAKE_BY_ARRIVAL, version.arrivalId),
  ];
  for (const row of rows)
    if (waiting.get(row.destination_id)?.state !== 'discarded') waiting.set(row.destination_id, row);
  for (const { destination_id, state, reason } of waiting.values()) {
    addSettledDelivery(connection, version, destination_id, { state, reason, at });
  }
  return new Set(waiting.keys());
}
