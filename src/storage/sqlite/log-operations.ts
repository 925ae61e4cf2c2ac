import type { LogDetail, LogEntry } from '../../domain/log.ts';
import { hashOfEntry, LOG_BEGINNING } from '../event-log.ts';
import type { Connection } from './connection.ts';
import type { CatalogOperations } from './operations.ts';

type LogRow = { id: number; at: number; kind: string; detail: string; hash: string };

/** The event log: appending and listing. */
export function logOperations(connection: Connection): Pick<CatalogOperations, 'appendLog' | 'log'> {
  return {
    appendLog: ({ at, kind, detail }) => connection.write(() => appendLog(connection, at, kind, detail)),

    log: ({ afterId, limit }) =>
      connection
        .all<LogRow>('SELECT * FROM event_log WHERE id > ? ORDER BY id LIMIT ?', afterId, limit)
        .map((row) => ({ ...row, detail: JSON.parse(row.detail) as LogDetail })),
  };
}

/** Within a transaction. */
export function appendLog(connection: Connection, at: number, kind: string, detail: LogDetail): LogEntry {
  const last = connection.get<{ id: number; hash: string }>('SELECT id, hash FROM event_log ORDER BY id DESC LIMIT 1');
  const entry = { id: (last?.id ?? 0) + 1, at: Math.round(at), kind, detail };
  const hash = hashOfEntry(last?.hash ?? LOG_BEGINNING, entry);
  connection.run(
    'INSERT INTO event_log (id, at, kind, detail, hash) VALUES (?, ?, ?, ?, ?)',
    entry.id,
    entry.at,
    kind,
    JSON.stringify(detail),
    hash,
  );
  return { ...entry, hash };
}
