import { mkdir, readdir, readFile, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openSpillway } from '../src/spillway.ts';
import { type FileSystem, nodeFileSystem } from '../src/storage/directory/file-system.ts';
import { fileStore, openFileStore } from '../src/storage/file-store.ts';
import { numberedInstance } from './support/numbered-instance.ts';
import { ScriptedTransport } from './support/scripted-transport.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

/** A store with a backlog of three instances, closed. */
async function backlog(): Promise<string> {
  const directory = join(await temporaryDirectory(), 'store');
  const spillway = await open(directory);
  for (const number of [1, 2, 3]) await spillway.accept(numberedInstance(number));
  await spillway.close();
  return directory;
}

function open(directory: string, fileSystem: FileSystem = nodeFileSystem) {
  const transport = new ScriptedTransport();
  transport.reachable = false;
  const store = { open: () => openFileStore(directory, fileSystem, {}) };
  return openSpillway({ store, destinations: [{ id: 'pacs', transport }], checksPerSecond: 1_000_000 });
}

test('images that are not there at an opening, moved or not mounted, are no reason to give a backlog up', async () => {
  const directory = await backlog();
  const studies = join(directory, 'studies');
  await rename(studies, `${studies}.elsewhere`);
  const refusal = { code: 'SPILLWAY_STORE_FORMAT', message: expect.stringContaining('3 instances') };
  // However often it is started again; and where they are mounted there is an empty folder.
  for (let opening = 1; opening <= 3; opening += 1) await expect(open(directory)).rejects.toMatchObject(refusal);
  await rmdir(studies);
  await rename(`${studies}.elsewhere`, studies);
  const spillway = await open(directory);
  await new Promise((resolve) => spillway.on('walked', resolve));
  expect((await spillway.status()).storage).toMatchObject({ instances: 3, missing: 0 });
  expect((await spillway.status()).destinations[0]?.backlog.instances).toBe(3);
  await spillway.close();
});

test('images that are gone for good are put on record as missing, once a person has said so', async () => {
  const directory = await backlog();
  await rm(join(directory, 'studies'), { recursive: true });
  await expect(open(directory)).rejects.toMatchObject({ code: 'SPILLWAY_STORE_FORMAT' });
  await mkdir(join(directory, 'studies'), { recursive: true });
  await writeFile(join(directory, 'studies', 'gone'), '');
  const spillway = await open(directory);
  await new Promise((resolve) => spillway.on('walked', resolve));
  expect((await spillway.status()).storage).toMatchObject({ instances: 0, missing: 3 });
  await spillway.close();
});

test('a study that cannot be looked into is counted, and the rest of the walk goes on', async () => {
  const directory = await backlog();
  const [study = ''] = await readdir(join(directory, 'studies'));
  const isBad = (path: string) => path.includes(study);
  const bad = () => Promise.reject(Object.assign(new Error('EIO: i/o error'), { code: 'EIO' }));
  const spillway = await open(directory, {
    ...nodeFileSystem,
    list: (path) => (isBad(path) ? bad() : nodeFileSystem.list(path)),
    status: (path) => (isBad(path) ? bad() : nodeFileSystem.status(path)),
  });
  const report = await new Promise((resolve) => spillway.on('walked', resolve));
  expect(report).toMatchObject({ phase: 'done', rows: 3, missing: 0, foreign: 0 });
  expect((report as { unreadable: number }).unreadable).toBeGreaterThan(0);
  expect((await spillway.status()).storage).toMatchObject({ instances: 3, missing: 0 });
  await spillway.close();
});

test('an opening that fails half way lets go of everything', async () => {
  const directory = await backlog();
  const studies = join(directory, 'studies');
  await rename(studies, `${studies}.elsewhere`);
  await expect(fileStore({ directory, minFreeBytes: 0 }).open()).rejects.toMatchObject({
    code: 'SPILLWAY_STORE_FORMAT',
  });
  await rm(studies, { recursive: true });
  await rename(`${studies}.elsewhere`, studies);
  await (await fileStore({ directory, minFreeBytes: 0 }).open()).close();
});

test('where directories cannot be synced (Windows) the status says so', async () => {
  const directory = join(await temporaryDirectory(), 'store');
  const spillway = await open(directory, { ...nodeFileSystem, canSyncDirectories: false });
  const { storage } = await spillway.status();
  expect(storage.caveats).toEqual([expect.stringContaining('Directories cannot be synced')]);
  await spillway.close();
  const usual = await open(directory);
  expect((await usual.status()).storage.caveats).toEqual([]);
  await usual.close();
});

test('a copy of the catalog needs no file beside it to be read', async () => {
  const directory = join(await temporaryDirectory(), 'store');
  const store = await openFileStore(directory, nodeFileSystem, {});
  await store.catalog.appendLog({ at: 1, kind: 'test', detail: {} });
  expect(await store.snapshot?.()).toBe(true);
  await store.close();
  const [name = ''] = await readdir(join(directory, 'snapshots'));
  const header = await readFile(join(directory, 'snapshots', name));
  // Versions of the file format for writing and reading: 1 is a database without a log (WAL).
  expect([header[18], header[19]]).toEqual([1, 1]);
});

test('there is no copy of the catalog where it would take what is kept free, and somebody is told', async () => {
  const directory = join(await temporaryDirectory(), 'store');
  const { free, total } = await nodeFileSystem.space(await temporaryDirectory());
  const scarce: FileSystem = { ...nodeFileSystem, space: async () => ({ free: 1_000_000, total }) };
  expect(free).toBeGreaterThan(0);
  const store = await openFileStore(directory, scarce, { minFreeBytes: 999_999 });
  await store.catalog.appendLog({ at: 1, kind: 'test', detail: {} });
  await expect(store.snapshot?.()).rejects.toMatchObject({ code: 'SPILLWAY_STORE_FULL' });
  expect(await readdir(directory)).not.toContain('snapshots');
  await store.close();
});

test.each([
  ['EIO', 'restored'],
  ['EMFILE', 'SPILLWAY_STORE_FAILED'],
])(
  'what comes again while its file cannot be read (%s): %s, and the file that was there is not lost',
  async (code, outcome) => {
    const directory = join(await temporaryDirectory(), 'store');
    let isBroken = false;
    const spillway = await open(directory, {
      ...nodeFileSystem,
      async *read(path, chunkBytes) {
        if (isBroken) throw Object.assign(new Error(code), { code });
        yield* nodeFileSystem.read(path, chunkBytes);
      },
    });
    const receipt = await spillway.accept(numberedInstance(1));
    isBroken = true;
    const again = await spillway.accept(numberedInstance(1)).then(
      (accepted) => accepted.outcome,
      (error) => error.code,
    );
    expect(again).toBe(outcome);
    isBroken = false;
    expect((await spillway.status()).storage).toMatchObject({ instances: 1, missing: 0 });
    expect(await spillway.accept(numberedInstance(1))).toMatchObject({
      outcome: 'identical',
      arrivalId: receipt.arrivalId,
    });
    expect(await readdir(directory)).toEqual(
      code === 'EIO' ? expect.arrayContaining(['damaged']) : expect.not.arrayContaining(['damaged']),
    );
    await spillway.close();
  },
);
