import { createHash } from 'node:crypto';
import type { LogDetail, LogEntry } from '../domain/log.ts';

/** What the first entry of an event log is chained to. */
export const LOG_BEGINNING = '0'.repeat(64);

/**
 * The hash of an entry: SHA-256 over the hash before it and, as JSON in one array, id, instant, kind and the detail's
 * pairs in the order of their names.
 */
export function hashOfEntry(
  previousHash: string,
  {
    id,
    at,
    kind,
    detail,
  }: { readonly id: number; readonly at: number; readonly kind: string; readonly detail: LogDetail },
): string {
  const pairs = Object.entries(detail).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256')
    .update(`${previousHash}\n${JSON.stringify([id, at, kind, pairs])}`)
    .digest('hex');
}

/** The first entry, of those that follow `previous` in the log, that is not chained to the one before it; null if all are. */
export function brokenLink(
  previous: Pick<LogEntry, 'id' | 'hash'> | null,
  entries: readonly LogEntry[],
): LogEntry | null {
  let last = previous ?? { id: 0, hash: LOG_BEGINNING };
  for (const entry of entries) {
    if (entry.id !== last.id + 1 || entry.hash !== hashOfEntry(last.hash, entry)) return entry;
    last = entry;
  }
  return null;
}
