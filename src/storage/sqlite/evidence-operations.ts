import { type Delivery, EVIDENCE, type Evidence, isOfUid } from '../../domain/delivery.ts';
import { askedAbout } from './commitment-operations.ts';
import type { Connection } from './connection.ts';
import type { Decision } from './decision-log.ts';
import { isHere, isSuperseded } from './decision-operations.ts';
import {
  CHANGING_COLUMNS,
  type ChangingRow,
  finishDelivery,
  hasOtherVersion,
  refreshDue,
  settleAnew,
} from './delivery-changes.ts';
import { MAX_EXAMINED } from './delivery-pages.ts';
import { destinationKey } from './destination-operations.ts';
import { appendLog } from './log-operations.ts';
import type { CatalogOperations } from './operations.ts';
import { DELIVERY_COLUMNS, type DeliveryRow, deliveryOf } from './rows.ts';

type RaisedRow = ChangingRow & { evidence: Evidence; further: number };

const RAISED = `SELECT ${CHANGING_COLUMNS}, d.evidence, d.further FROM deliveries d JOIN work w ON w.work_id = d.work_id
  WHERE d.id = ? AND d.destination_key = ?`;

const VERIFIED_COLUMNS = `${DELIVERY_COLUMNS}, d.settled_seq, d.destination_key, v.presence`;

// CROSS JOIN fixes the order of the tables, and so the index that is walked backwards.
export const LAST_SETTLED = `SELECT ${VERIFIED_COLUMNS} FROM deliveries d
  CROSS JOIN destinations t ON t.destination_key = d.destination_key CROSS JOIN versions v ON v.arrival_id = d.arrival_id
  WHERE d.destination_key = ? AND d.settled_seq IS NOT NULL AND d.settled_seq < ? ORDER BY d.settled_seq DESC LIMIT ?`;

/** All that was settled under one number: a whole batch, in what an older store wrote. */
export const SETTLED_TOGETHER = `SELECT ${VERIFIED_COLUMNS} FROM deliveries d
  CROSS JOIN destinations t ON t.destination_key = d.destination_key CROSS JOIN versions v ON v.arrival_id = d.arrival_id
  WHERE d.destination_key = ? AND d.settled_seq IS NOT NULL AND d.settled_seq = ?`;

const OLDEST_ANSWER = `SELECT answered_at FROM deliveries WHERE destination_key = ? AND state = 'sent' ORDER BY id LIMIT 1`;

type VerifiedRow = DeliveryRow & { settled_seq: number; destination_key: number; presence: string };

/** Evidence that comes by itself, and what evidence there is to doubt. */
export function evidenceOperations(
  connection: Connection,
): Pick<CatalogOperations, 'raiseEvidence' | 'recentlyVerified' | 'oldestAnswerAt'> {
  return {
    raiseEvidence: ({ destinationId, deliveryIds, evidence, settles, transactionUid, at }) =>
      connection.write(() => {
        const key = destinationKey(connection, destinationId);
        const decisions: Decision[] = [];
        const asked = transactionUid === undefined ? null : askedAbout(connection, transactionUid);
        const verified = [...new Set(deliveryIds)]
          .filter((id) => asked === null || asked.has(id))
          .sort((a, b) => a - b)
          .filter((id) => {
            const row = connection.get<RaisedRow>(RAISED, id, key);
            if (row === undefined || row.state === 'discarded') return false;
            if (isOfUid(evidence) && (row.further === 1 || hasOtherVersion(connection, row, 'begun'))) return false;
            const raised = higherOf(row.evidence, evidence);
            if (!settles || row.state === 'verified') {
              connection.run('UPDATE deliveries SET evidence = ? WHERE id = ?', raised, id);
              return false;
            }
            verifyRow(connection, row, raised, at);
            // No rebuild may put it into quarantine again.
            if (row.state === 'quarantined') {
              const decided = { at, arrivalId: row.arrival_id, destinationId, evidence: raised };
              decisions.push({ kind: 'settle', state: 'verified', reason: null, ...decided });
              appendLog(connection, at, 'verified-late', {
                destinationId,
                arrivalId: row.arrival_id,
                evidence: raised,
              });
            }
            return true;
          });
        connection.decide(decisions);
        return verified;
      }),

    recentlyVerified: ({ destinationId, before = Number.MAX_SAFE_INTEGER, since = 0, limit }) =>
      recentlyVerified(connection, destinationKey(connection, destinationId), { before, since, limit }),

    oldestAnswerAt: (destinationId) =>
      connection.get<{ answered_at: number | null }>(OLDEST_ANSWER, destinationKey(connection, destinationId))
        ?.answered_at ?? null,
  };
}

/** Evidence has come for a delivery that is open or in quarantine. Within a transaction. */
export function verifyRow(connection: Connection, row: ChangingRow, evidence: Evidence, at: number): void {
  const ending = { state: 'verified', evidence, attempts: row.attempts, reason: null, at } as const;
  if (row.state === 'quarantined') settleAnew(connection, row, ending);
  else finishDelivery(connection, row, ending);
  refreshDue(connection, row.work_id);
}

function higherOf(a: Evidence, b: Evidence): Evidence {
  return EVIDENCE.indexOf(a) >= EVIDENCE.indexOf(b) ? a : b;
}

function recentlyVerified(
  connection: Connection,
  key: number,
  { before, since, limit }: { readonly before: number; readonly since: number; readonly limit: number },
): ReturnType<CatalogOperations['recentlyVerified']> {
  const rows = connection.all<VerifiedRow>(LAST_SETTLED, key, before, MAX_EXAMINED);
  const last = rows.at(-1);
  const isCut = rows.length === MAX_EXAMINED;
  if (last !== undefined && isCut) {
    const known = new Set(rows.map(({ id }) => id));
    const rest = connection.all<VerifiedRow>(SETTLED_TOGETHER, key, last.settled_seq);
    rows.push(...rest.filter(({ id }) => !known.has(id)));
  }
  const isSince = ({ settled_at }: VerifiedRow) => settled_at === null || settled_at >= since;
  const deliveries: Delivery[] = [];
  let [evicted, unavailable] = [0, 0];
  let next: number | null = null;
  for (const [index, row] of rows.entries()) {
    // What was settled under one number is not taken apart: nobody could go on in its middle.
    if (deliveries.length >= limit && row.settled_seq !== next) {
      const hasMore = isCut || rows.slice(index).some(isSince);
      return { deliveries, evicted, unavailable, next: hasMore ? next : null };
    }
    next = row.settled_seq;
    if (row.state !== 'verified' || !isSince(row) || isSuperseded(connection, row)) continue;
    if (isHere(row)) deliveries.push(deliveryOf(row));
    else if (row.presence === 'missing') unavailable += 1;
    else evicted += 1;
  }
  // The clock may have gone back for a while, so that one that is older than asked for ends nothing.
  return { deliveries, evicted, unavailable, next: isCut && rows.some(isSince) ? next : null };
}
