import { closeSync, existsSync, openSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { messageOf, SpillwayError } from '../../errors.ts';
import type { Rebuild } from '../store.ts';
import { acceptanceOperations } from './acceptance-operations.ts';
import { commitmentOperations } from './commitment-operations.ts';
import { Connection } from './connection.ts';
import { isMarkedDamaged, markDamaged } from './damaged-mark.ts';
import { DecisionLog, syncDirectory } from './decision-log.ts';
import { decisionOperations } from './decision-operations.ts';
import { deliveryOperations } from './delivery-operations.ts';
import { destinationOperations } from './destination-operations.ts';
import { countEpisodePart } from './episode-count.ts';
import { episodeOperations } from './episode-operations.ts';
import { evictionOperations } from './eviction-operations.ts';
import { evidenceOperations } from './evidence-operations.ts';
import { holdingOperations } from './holding-operations.ts';
import { leaseOperations, voidLeases } from './lease-operations.ts';
import { appendLog, logOperations } from './log-operations.ts';
import type { CatalogOperations } from './operations.ts';
import { rankingOperations } from './ranking-operations.ts';
import { isDamage, resultCode, SQLITE_BUSY, SQLITE_FULL, SQLITE_NOTADB } from './result-codes.ts';
import { rollForward } from './roll-forward.ts';
import { APPLICATION_ID, MIGRATIONS, MIGRATIONS_TABLE, SCHEMA, SCHEMA_VERSION } from './schema.ts';
import { restoreSnapshot, type SnapshotSteps, snapshotNumbers, takeSnapshot } from './snapshot.ts';
import { standbyOperations } from './standby-operations.ts';

/** The catalog on its own thread: synchronous, one transaction a call. */
export interface SqliteDatabase {
  readonly operations: CatalogOperations;
  readonly rebuilt: Rebuild | null;
  /** Copies it beside itself, durably, unless nothing has changed since the last time; returns whether it did. */
  snapshot(steps: SnapshotSteps): Promise<boolean>;
  /** It was found to be damaged: the next opening rebuilds it. */
  markDamaged(): void;
  close(): void;
}

export interface SqliteOptions {
  readonly file: string;
  /**
   * The directory that references to blobs are paths in, where the catalog may be rebuilt from its snapshots. What is
   * `expected` was there before. What was rebuilt stays marked as damaged until `unmarkDamaged`. Without it a catalog that is lost is made anew, and one that is damaged refused.
   */
  readonly rebuild?: { readonly blobRoot: string; readonly expected: boolean } | undefined;
}

/**
 * Opens the catalog, creates it where there is none, carries out what was decided and not recorded, and voids the leases
 * of the former opening.
 */
export function openSqliteDatabase({ file, rebuild }: SqliteOptions): SqliteDatabase {
  if (rebuild === undefined) return openFile(file, null, null);
  const isLost = rebuild.expected && (!existsSync(file) || statSync(file).size === 0);
  if (!isLost && !isMarkedDamaged(file)) {
    try {
      return openFile(file, null, null);
    } catch (error) {
      const isForeign = error instanceof SpillwayError && resultCode(error.cause) !== SQLITE_NOTADB;
      if (isForeign || !(isDamage(error) || isDamage(error instanceof SpillwayError ? error.cause : null))) throw error;
    }
  }
  // Until it is whole again the mark stands, so that a kill in the middle leads here again.
  markDamaged(file);
  return openFile(file, restoreSnapshot(file), rebuild.blobRoot);
}

function openFile(file: string, rebuilt: Rebuild | null, blobRoot: string | null): SqliteDatabase {
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
    database.exec('PRAGMA cell_size_check = ON');
    database.exec('PRAGMA cache_size = -16384');
    const decisions = new DecisionLog(join(dirname(file), 'decisions'), snapshotNumbers(dirname(file))[0] ?? 0);
    const connection = new Connection(database, decisions);
    migrate(connection, version);
    rollForward(
      connection,
      decisions.read(),
      blobRoot === null ? undefined : (ref) => !existsSync(join(blobRoot, ...ref.split('/'))),
    );
    voidLeases(connection);
    if (rebuilt !== null) afterRebuild(connection, rebuilt);
    // What was changed before this opening may be in no snapshot.
    let changes = -1;
    return {
      operations: catalogOperations(connection),
      rebuilt,
      async snapshot(steps) {
        const now = connection.get<{ n: number }>('SELECT total_changes() AS n')?.n ?? 0;
        if (now === changes) return false;
        await takeSnapshot(database, dirname(file), decisions, steps);
        changes = now;
        return true;
      },
      markDamaged: () => markDamaged(file),
      close: () => connection.close(),
    };
  } catch (error) {
    database.close();
    throw error;
  }
}

/** With the version in the same transaction, so that a kill leaves the one or the other, whole. */
function migrate(connection: Connection, version: number): void {
  if (version === SCHEMA_VERSION) return;
  const sql = version === 0 ? `${SCHEMA} PRAGMA application_id = ${APPLICATION_ID};` : migrationFrom(version);
  // What is sorted on the way may be larger than memory.
  connection.execute('PRAGMA temp_store = FILE');
  connection.write(() => {
    connection.execute(MIGRATIONS_TABLE);
    connection.run('INSERT INTO migrations (version, applied_at) VALUES (?, ?)', SCHEMA_VERSION, Date.now());
    connection.execute(`${sql} PRAGMA user_version = ${SCHEMA_VERSION};`);
  });
  connection.execute('PRAGMA temp_store = MEMORY');
}

/** What was open in the older catalog may have arrived since: it is looked up before it is sent. */
function afterRebuild(connection: Connection, { snapshot, damaged }: Rebuild): void {
  connection.write(() => {
    connection.run('UPDATE work SET interrupted = 1 WHERE open_instances > 0');
    appendLog(connection, Date.now(), 'rebuilt', { snapshot, damaged });
  });
}

/** The methods of the catalog over a database that has its tables. */
export function catalogOperations(connection: Connection): CatalogOperations {
  return {
    ...acceptanceOperations(connection),
    ...holdingOperations(connection),
    ...evictionOperations(connection),
    ...destinationOperations(connection),
    ...leaseOperations(connection),
    ...deliveryOperations(connection),
    ...decisionOperations(connection),
    ...evidenceOperations(connection),
    ...standbyOperations(connection),
    ...episodeOperations(connection),
    countEpisodePart: (part) => countEpisodePart(connection, part),
    ...rankingOperations(connection),
    ...commitmentOperations(connection),
    ...logOperations(connection),
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
  if (isDamage(error)) {
    return new SpillwayError(
      'SPILLWAY_STORE_DAMAGED',
      `The catalog ${file} is damaged (${cause}). Nothing of this call was recorded, and nothing more is taken. Close and ` +
        'open the store: its catalog is rebuilt from its last snapshot and the files.',
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
  syncDirectory(dirname(file));
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
