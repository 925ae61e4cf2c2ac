/**
 * A store that is killed in the middle of looking after itself (test/rebuild-kills.test.ts): `rebuild`, `snapshot` and
 * `retire` end before the call of the file system or the SQL of a given number, `evict` after so many files. Prints how
 * many there were where it came to its end.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { CatalogOperations } from '../../src/storage/sqlite/operations.ts';

const [task = '', directory = '', at = '0'] = process.argv.slice(2);
const killAt = Number(at);
const file = join(directory, 'catalog.sqlite');
let steps = 0;

function step(): void {
  steps += 1;
  if (steps === killAt) process.kill(process.pid, 'SIGKILL');
}

/** Every call that changes what is on the disk, and every transaction's beginning and end. */
function countSteps(): void {
  const calls = [
    'openSync',
    'mkdirSync',
    'renameSync',
    'copyFileSync',
    'writeSync',
    'fsyncSync',
    'rmSync',
    'unlinkSync',
  ];
  for (const name of calls) {
    const call: unknown = Reflect.get(fs, name);
    if (typeof call !== 'function') throw new Error(name);
    Reflect.set(fs, name, (...parameters: readonly unknown[]) => {
      step();
      return call(...parameters);
    });
  }
  syncBuiltinESMExports();
  const { exec } = DatabaseSync.prototype;
  DatabaseSync.prototype.exec = function (sql) {
    step();
    exec.call(this, sql);
  };
}

async function evict(): Promise<void> {
  const { openFileStore } = await import('../../src/storage/file-store.ts');
  const { catalog, blobs } = await openFileStore(
    directory,
    (await import('../../src/storage/directory/file-system.ts')).nodeFileSystem,
  );
  const terms = { evidence: 'answered', receivedBefore: Number.MAX_SAFE_INTEGER, limit: 1 } as const;
  const [study] = await catalog.evictable(terms);
  const studyInstanceUid = study?.studyInstanceUid ?? '';
  step();
  const eviction = await catalog.beginEviction({ ...terms, studyInstanceUid, at: Date.now() });
  for (const ref of eviction?.blobRefs ?? []) {
    step();
    await blobs.remove(ref);
  }
  step();
  await catalog.endEviction({ studyInstanceUid, at: Date.now() });
  step();
}

async function run(): Promise<void> {
  if (task === 'evict') return evict();
  countSteps();
  const { openSqliteDatabase } = await import('../../src/storage/sqlite/sqlite-database.ts');
  const database = openSqliteDatabase({ file, rebuild: { blobRoot: directory, expected: true } });
  const operations: CatalogOperations = database.operations;
  if (task === 'rebuild') {
    const { unmarkDamaged } = await import('../../src/storage/sqlite/damaged-mark.ts');
    unmarkDamaged(file);
  }
  if (task === 'snapshot') {
    operations.appendLog({ at: Date.now(), kind: 'test', detail: {} });
    await database.snapshot({ betweenSteps: () => {}, check: async () => true });
  }
  if (task === 'retire')
    operations.retireDestination({ destinationId: 'archive', reason: 'gone', by: 'A', at: Date.now() });
  database.close();
}

await run();
process.stdout.write(`${steps}\n`);
process.exit(0);
