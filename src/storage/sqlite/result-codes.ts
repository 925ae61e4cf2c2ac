// Primary result codes of SQLite (https://www.sqlite.org/rescode.html); extended ones carry them in the low byte.
export const SQLITE_BUSY = 5;
const SQLITE_CORRUPT = 11;
export const SQLITE_FULL = 13;
export const SQLITE_NOTADB = 26;

/** Whether the database itself is not sound (https://www.sqlite.org/rescode.html#corrupt, #notadb). */
export function isDamage(error: unknown): boolean {
  const code = resultCode(error);
  return code === SQLITE_CORRUPT || code === SQLITE_NOTADB;
}

/** The primary result code of an error of SQLite; null for another one. */
export function resultCode(error: unknown): number | null {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return null;
  return error.errcode & 0xff;
}
