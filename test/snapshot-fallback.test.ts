import { mkdir, readdir, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { unmarkDamaged } from '../src/storage/sqlite/damaged-mark.ts';
import { openSqliteDatabase } from '../src/storage/sqlite/sqlite-database.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

// As in Node before 22.16.
vi.mock('node:sqlite', async (importOriginal) => ({ ...(await importOriginal<object>()), backup: undefined }));

test('where Node cannot copy in steps, a snapshot is made at once, and the catalog is rebuilt from it', async () => {
  const blobRoot = join(await temporaryDirectory(), "it's a store");
  await mkdir(blobRoot);
  const file = join(blobRoot, 'catalog.sqlite');
  const options = { file, rebuild: { blobRoot, expected: true } };
  const first = openSqliteDatabase(options);
  unmarkDamaged(file);
  first.operations.registerDestination('pacs');
  for (let at = 1; at <= 3; at += 1) first.operations.appendLog({ at, kind: 'test', detail: { at } });
  expect(await first.snapshot({ betweenSteps: () => {}, check: async () => true })).toBe(true);
  first.operations.retireDestination({ destinationId: 'pacs', reason: 'replaced', by: 'A. Person', at: 4 });
  first.close();
  expect(await readdir(join(blobRoot, 'snapshots'))).toEqual(['00000002.sqlite']);
  expect((await stat(join(blobRoot, 'snapshots', '00000002.sqlite'))).mode & 0o777).toBe(0o600);

  await unlink(file);
  const second = openSqliteDatabase(options);
  expect(second.rebuilt).toEqual({ snapshot: 'snapshots/00000002.sqlite', damaged: null });
  expect(second.operations.log({ afterId: 0, limit: 10 }).map(({ kind }) => kind)).toEqual(
    expect.arrayContaining(['test', 'test', 'test', 'retired', 'rebuilt']),
  );
  expect(second.operations.destinations()).toMatchObject([{ destinationId: 'pacs', retiredReason: 'replaced' }]);
  second.close();
});
