import { closeSync, fsyncSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { messageOf, SpillwayError } from '../../errors.ts';
import { acceptanceOperations } from './acceptance-operations.ts';
import { Connection } from './connection.ts';
import { deliveryOperations, voidLeases } from './delivery-operations.ts';
import { destinationOperations } from './destination-operations.ts';
import { episodeOperations } from './episode-operations.ts';
import type { CatalogOperations } from './operations.ts';
import { rankingOperations } from './ranking-operations.ts';
import { APPLICATION_ID, MIGRATIONS, SCHEMA, SCHEMA_VERSION } from './schema.ts';

// Primary result codes of SQLite (https://www.sqlite.org/rescode.html); extended ones carry them in the low byte.
const SQLITE_BUSY = 5;
const SQLITE_FULL = 13;
const SQLITE_NOTADB = 26;

/** The catalog on its own thread: synchronous, one transaction a call. */
export interface SqliteDatabase {
  readonly operations: CatalogOperations;
  close(): void;
}

/** Opens the catalog, creates it where there is none, and voids the leases of the former opening. */
export function openSqliteDatabase(file: string): SqliteDatabase {
  createFile(file);
  const database = new DatabaseSync(file);
  try {
    // The lock of the file is held until the end: leases are void at opening only if no other process works with them.
    database.exec('PRAGMA locking_mode = EXCLUSIVE');
    const version = examine(database, file);
    // FULL: a commit is on the disk before it is acknowledged.
    database.exec('PRAGMA journal_mode = WAL');
    database.exec('PRAGMA synchronous = FULL');
    database.exec('PRAGMA temp_store = MEMORY');
    database.exec('PRAGMA cache_size = -16384');
    const connection = new Connection(database);
    if (version < SCHEMA_VERSION) {
      // With the version in the same transaction, so that a kill leaves the one or the other, whole.
      const sql = version === 0 ? `${SCHEMA} PRAGMA application_id = ${APPLICATION_ID};` : migrationFrom(version);
      connection.write(() => connection.execute(`${sql} PRAGMA user_version = ${SCHEMA_VERSION};`));
    }
    voidLeases(connection);
    return { operations: catalogOperations(connection), close: () => connection.close() };
  } catch (error) {
    database.close();
    throw error;
  }
}

/** The methods of the catalog over a database that has its tables. */
export function catalogOperations(connection: Connection): CatalogOperations {
  return {
    ...acceptanceOperations(connection),
    ...destinationOperations(connection),
    ...deliveryOperations(connection),
    ...episodeOperations(connection),
    ...rankingOperations(connection),
  };
}

/** What a failure is to the caller of the catalog. */
export function toStoreError(error: unknown, file: string): SpillwayError {
  if (error instanceof SpillwayError) return error;
  const result = resultCode(error);
  const cause = messageOf(error);
  if (result === SQLITE_FULL || (error instanceof Error && 'code' in error && error.code === 'ENOSPC')) {
    return new SpillwayError('SPILLWAY_STORE_FULL', `The catalog ${file} has no room (${cause}). Free some space.`, {
      cause: error,
    });
  }
  if (result === SQLITE_BUSY) {
    return new SpillwayError(
      'SPILLWAY_STORE_LOCKED',
      `The catalog ${file} is open elsewhere (${cause}). Close it there: one process at a time may use it.`,
      { cause: error },
    );
  }
  return new SpillwayError(
    'SPILLWAY_STORE_FAILED',
    `The catalog ${file} could not read or write (${cause}). Nothing of this call was recorded.`,
    { cause: error },
  );
}

/** Made before SQLite opens it, because the files beside it take over its mode: they hold what the catalog holds. */
function createFile(file: string): void {
  try {
    closeSync(openSync(file, 'wx', 0o600));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return;
    throw error;
  }
  const directory = openSync(dirname(file), 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

/** What brings the tables from an older version here. */
function migrationFrom(version: number): string {
  return MIGRATIONS.slice(version - 1).join('\n');
}

/** Refuses what is no catalog that is known, before anything is changed. Returns its version, 0 for an empty file. */
function examine(database: DatabaseSync, file: string): number {
  let applicationId: unknown;
  let version: unknown;
  let objects: unknown;
  try {
    applicationId = database.prepare('PRAGMA application_id').get()?.application_id;
    version = database.prepare('PRAGMA user_version').get()?.user_version;
    objects = database.prepare('SELECT count(*) AS objects FROM sqlite_schema').get()?.objects;
  } catch (error) {
    if (resultCode(error) !== SQLITE_NOTADB) throw error;
    throw new SpillwayError('SPILLWAY_STORE_FORMAT', `Expected ${file} to be a spillway catalog, it is no database.`, {
      cause: error,
    });
  }
  if (applicationId === 0 && version === 0 && objects === 0) return 0;
  if (applicationId !== APPLICATION_ID) {
    throw new SpillwayError(
      'SPILLWAY_STORE_FORMAT',
      `Expected ${file} to be a spillway catalog, it is another program's database. Name another directory.`,
    );
  }
  if (typeof version !== 'number' || version < 1 || version > SCHEMA_VERSION) {
    throw new SpillwayError(
      'SPILLWAY_STORE_FORMAT',
      `Expected the catalog ${file} in a version up to ${SCHEMA_VERSION}, got version ${version}. ` +
        'Open it with the release of spillway that wrote it; it was left as it is.',
    );
  }
  return version;
}

function resultCode(error: unknown): number | null {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return null;
  return error.errcode & 0xff;
}
