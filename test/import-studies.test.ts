import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { VersionRecord } from '../src/domain/delivery.ts';
import { SpillwayError } from '../src/errors.ts';
import { type ImportedFile, importStudies } from '../src/folders/import-studies.ts';
import { inParallel } from '../src/folders/in-parallel.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import { all, digestsOf, filesUnder, filled, instance, open, opened } from './support/study-folders.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

test('closing the spillway ends an export and an import', async () => {
  const { spillway } = await filled(fileStore({ directory: join(await temporaryDirectory(), 's') }));
  const directory = await temporaryDirectory();
  await spillway.exportStudies({ directory: join(directory, 'whole') });
  let told = 0;
  const close = () => {
    told += 1;
    void spillway.close();
  };
  const options = { concurrency: 1, directory: join(directory, 'part') };
  const target = await open(memoryStore());
  const ended = target.importStudies({ ...options, directory, onFile: () => void target.close() });
  await expect(ended).rejects.toMatchObject({ code: 'SPILLWAY_CLOSED' });
  const exporting = spillway.exportStudies({ ...options, onInstance: close });
  await expect(exporting).rejects.toMatchObject({ code: 'SPILLWAY_CLOSED' });
  expect(told).toBe(1);
  await expect(spillway.exportStudies(options)).rejects.toMatchObject({ code: 'SPILLWAY_CLOSED' });
  await expect(spillway.importStudies(options)).rejects.toMatchObject({ code: 'SPILLWAY_CLOSED' });
});

test('an export is imported as the same versions, those of one instance in the order of their arrival', async () => {
  const { spillway, store } = await filled();
  const big = instance('1.2.1', '1.2.1.1', 9, 1, { pixelBytes: 3_000_000 });
  await spillway.accept(big);
  await spillway.accept(instance('1.2.1', '1.2.1.1', 9, 2));
  const directory = await temporaryDirectory();
  await spillway.exportStudies({ directory });
  const target = await opened(fileStore({ directory: join(await temporaryDirectory(), 's') }));
  const told: ImportedFile[] = [];
  const summary = await target.spillway.importStudies({ directory, onFile: (file) => void told.push(file) });
  // The manifest is the one that is skipped.
  expect(summary).toMatchObject({ created: 5, version: 3, identical: 0, refused: 0, skipped: 1 });
  const before = await all(store);
  const after = await all(target.store);
  expect(digestsOf(after).map(String).sort()).toEqual(digestsOf(before).map(String).sort());
  const orderOf = (versions: readonly VersionRecord[], uid: string) =>
    versions.filter(({ identity }) => identity.sopInstanceUid === uid).map(({ digest }) => digest);
  for (const uid of ['1.2.1.1.1', '1.2.1.1.9']) expect(orderOf(after, uid)).toEqual(orderOf(before, uid));
  expect(told).toHaveLength(9);
  expect(told.find(({ outcome }) => outcome === 'skipped')).toEqual({
    outcome: 'skipped',
    path: 'manifest.tsv',
    reason: 'not-dicom',
  });
  // Exported once more, it is the same tree but for arrival ids.
  const again = await temporaryDirectory();
  await target.spillway.exportStudies({ directory: again });
  const plain = (file: string) => !/\.[0-9a-f]{16}\.dcm$/.test(file) && file.endsWith('.dcm');
  for (const file of (await filesUnder(directory)).filter(plain)) {
    expect(Buffer.compare(await readFile(join(again, file)), await readFile(join(directory, file))), file).toBe(0);
  }
});

test('the studies of a store whose catalog is lost are imported in the order of their arrival', async () => {
  const root = join(await temporaryDirectory(), 's');
  const { spillway, store } = await filled(fileStore({ directory: root }));
  // Read longer than the one after it.
  await spillway.accept(instance('1.2.1', '1.2.1.1', 9, 1, { pixelBytes: 3_000_000 }));
  await spillway.accept(instance('1.2.1', '1.2.1.1', 9, 2));
  const before = await all(store);
  const target = await opened();
  const summary = await target.spillway.importStudies({ directory: root });
  expect(summary).toMatchObject({ created: 5, version: 3, refused: 0 });
  const of = (versions: readonly VersionRecord[], uid: string) =>
    versions.filter(({ identity }) => identity.sopInstanceUid === uid).map(({ digest }) => digest);
  for (const uid of ['1.2.1.1.1', '1.2.1.1.9']) expect(of(await all(target.store), uid)).toEqual(of(before, uid));
  await spillway.close();
});

test('any folders: what is no instance is skipped with the reason, and links lead nowhere', async () => {
  const root = await temporaryDirectory();
  const directory = join(root, 'DISK 1');
  await mkdir(join(directory, 'A/B/C'), { recursive: true });
  await writeFile(join(directory, 'A/B/C/IM0001'), instance('1.2.1', '1.2.1.1', 1));
  await writeFile(join(directory, 'A/again.txt'), instance('1.2.1', '1.2.1.1', 1));
  await writeFile(join(directory, 'A/x.dcm'), instance('1.2.1', '1.2.1.1', 2));
  await writeFile(join(directory, 'A/no-series'), instance('1.2.1', '1.2.1.1', 3, 1, { omit: ['0020000e'] }));
  await writeFile(join(directory, 'dicomdir'), 'whatever');
  const medium = instance('1.2.1', '1.2.1.1', 4, 1, {
    sopClassUid: '1.2.840.10008.1.3.10',
    omit: ['0020000d', '0020000e'],
  });
  await writeFile(join(directory, 'A/DIR'), medium);
  await writeFile(join(directory, 'A/readme.txt'), 'This disk holds images of the examination of today. '.repeat(20));
  await writeFile(join(directory, 'A/empty'), '');
  await writeFile(join(directory, 'A/.spillway-export-1.part'), instance('1.2.1', '1.2.1.1', 5).subarray(0, 600));
  await writeFile(join(root, 'outside.dcm'), instance('1.2.9', '1.2.9.1', 1));
  await symlink(join(root, 'outside.dcm'), join(directory, 'A/link.dcm'));
  await symlink('..', join(directory, 'A/loop'));
  const { spillway, store } = await opened();
  const told = new Map<string, unknown>();
  const summary = await spillway.importStudies({
    directory,
    source: 'disk',
    onFile: (file) => void told.set(file.path, 'reason' in file ? file.reason : file.outcome),
  });
  expect(summary).toMatchObject({ created: 2, identical: 1, refused: 1, skipped: 7 });
  expect(Object.fromEntries(told)).toEqual({
    'A/.spillway-export-1.part': 'unfinished',
    'A/B/C/IM0001': 'identical',
    'A/DIR': 'dicomdir',
    'A/again.txt': 'created',
    'A/empty': 'not-dicom',
    'A/link.dcm': 'symbolic-link',
    'A/loop': 'symbolic-link',
    'A/no-series': 'refused',
    'A/readme.txt': 'not-dicom',
    'A/x.dcm': 'created',
    dicomdir: 'dicomdir',
  });
  expect(await all(store)).toHaveLength(2);
});

test('source, urgency and signal reach accept', async () => {
  const { spillway } = await filled();
  const directory = await temporaryDirectory();
  await spillway.exportStudies({ directory, studyInstanceUids: ['1.2.2'] });
  const { signal } = new AbortController();
  const given: unknown[] = [];
  const accept = async (path: string, options: unknown) => {
    given.push([path, options]);
    return spillway.accept(path);
  };
  await importStudies({ accept }, { directory: join(directory, '1.2.2'), source: 'disk', urgency: 'stat', signal });
  expect(given).toEqual([
    [join(directory, '1.2.2/1.2.2.1/1.2.2.1.1.dcm'), { source: 'disk', urgency: 'stat', signal }],
  ]);
});

test('a store that is full ends the import, says how far it came, and importing again goes on', async () => {
  const { spillway } = await filled();
  const directory = await temporaryDirectory();
  await spillway.exportStudies({ directory });
  const target = await opened();
  let room = 3; // the manifest is asked about too
  const accept = async (path: string) => {
    room -= 1;
    if (room < 0) throw new SpillwayError('SPILLWAY_STORE_FULL', 'No room.');
    return target.spillway.accept(path);
  };
  const told: ImportedFile[] = [];
  const onFile = (file: ImportedFile) => void told.push(file);
  const error = await importStudies({ accept }, { directory, concurrency: 1, onFile }).catch((thrown) => thrown);
  expect(error).toMatchObject({ code: 'SPILLWAY_STORE_FULL', isRetryable: true });
  expect(error.message).toMatch(/after 1 created, 1 further versions, 0 identical, 0 refused and 1 skipped: No room\./);
  expect(told).toHaveLength(3);
  const summary = await target.spillway.importStudies({ directory });
  expect(summary).toMatchObject({ created: 3, version: 1, identical: 2 });
});

test('after the end of an import no later version of an instance is taken before an earlier one', async () => {
  const { spillway } = await filled();
  const directory = await temporaryDirectory();
  await spillway.exportStudies({ directory, studyInstanceUids: ['1.2.1'] });
  const asked: string[] = [];
  const accept = async (path: string) => {
    if (!path.includes('/1.2.1.1.1.')) return spillway.accept(path);
    asked.push(path);
    await new Promise((resolve) => setImmediate(resolve));
    throw new SpillwayError('SPILLWAY_STORE_FULL', 'No room.');
  };
  await expect(importStudies({ accept }, { directory })).rejects.toMatchObject({ code: 'SPILLWAY_STORE_FULL' });
  expect(asked).toHaveLength(1);
});

test('an import is aborted, and what it took stays', async () => {
  const { spillway } = await filled();
  const directory = await temporaryDirectory();
  await spillway.exportStudies({ directory });
  const target = await opened();
  const controller = new AbortController();
  const { signal } = controller;
  const run = target.spillway.importStudies({ directory, concurrency: 1, signal, onFile: () => controller.abort() });
  await expect(run).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' });
  expect(await target.spillway.importStudies({ directory })).toMatchObject({ refused: 0, skipped: 1 });
  expect(await all(target.store)).toHaveLength(6);
});

test('a directory that is not there, and one that is a file, are told', async () => {
  const spillway = await open(memoryStore());
  const root = await temporaryDirectory();
  await writeFile(join(root, 'file'), '');
  const failed = { code: 'SPILLWAY_DIRECTORY_FAILED' };
  await expect(spillway.importStudies({ directory: join(root, 'none') })).rejects.toMatchObject(failed);
  await expect(spillway.importStudies({ directory: join(root, 'file') })).rejects.toMatchObject(failed);
  await expect(spillway.exportStudies({ directory: join(root, 'file/x') })).rejects.toMatchObject(failed);
});

test.each<[string, object]>([
  ['no directory', {}],
  ['an empty directory', { directory: '' }],
  ['an unknown option', { directory: '/x', overwrite: true }],
  ['no concurrency', { directory: '/x', concurrency: 0 }],
  ['too much of it', { directory: '/x', concurrency: 65 }],
  ['no signal', { directory: '/x', signal: {} }],
  ['no function', { directory: '/x', onFile: 1, onInstance: 1 }],
])('%s is refused', async (_, options) => {
  const spillway = await open(memoryStore());
  const refusal = { code: 'SPILLWAY_OPTION_INVALID' };
  await expect(spillway.exportStudies(options as never)).rejects.toMatchObject(refusal);
  await expect(spillway.importStudies(options as never)).rejects.toMatchObject(refusal);
  await expect(spillway.exportStudies({ directory: '/x', studyInstanceUids: '1.2' as never })).rejects.toMatchObject(
    refusal,
  );
});

test('no more is under way at once than asked for, and every result is given', async () => {
  let running = 0;
  let most = 0;
  async function* items() {
    for (let item = 0; item < 50; item += 1) yield item;
  }
  const results: number[] = [];
  for await (const result of inParallel(items(), 4, async (item) => {
    running += 1;
    most = Math.max(most, running);
    for (let turn = 0; turn < (item * 7) % 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    running -= 1;
    return item;
  })) {
    results.push(result);
  }
  expect(most).toBe(4);
  expect(results.sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, item) => item));
});

test('after a failure no more is taken, what is under way is given, and then the error', async () => {
  const taken: number[] = [];
  async function* items() {
    for (let item = 0; item < 50; item += 1) yield item;
  }
  const results: number[] = [];
  const run = async () => {
    for await (const result of inParallel(items(), 4, async (item) => {
      taken.push(item);
      if (item === 1) throw new Error('one');
      for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
      if (item === 2) throw new Error('two');
      return item;
    })) {
      results.push(result);
    }
  };
  await expect(run()).rejects.toThrow('one');
  expect(taken).toEqual([0, 1, 2, 3]);
  expect(results.sort()).toEqual([0, 3]);
});

test('a tree copied elsewhere is present there, and is imported as identical', async () => {
  const { spillway } = await filled();
  const directory = await temporaryDirectory();
  await spillway.exportStudies({ directory });
  const copy = join(await temporaryDirectory(), 'copy');
  await cp(directory, copy, { recursive: true });
  expect(await spillway.exportStudies({ directory: copy })).toMatchObject({ written: 0, present: 6 });
  expect(await spillway.importStudies({ directory: copy })).toMatchObject({ created: 0, version: 0, identical: 6 });
});

test('where the items themselves fail, what is under way is given before the error', async () => {
  async function* items() {
    yield 0;
    yield 1;
    throw new Error('no more');
  }
  const results: number[] = [];
  const run = async () => {
    for await (const result of inParallel(items(), 4, async (item) => item)) results.push(result);
  };
  await expect(run()).rejects.toThrow('no more');
  expect(results).toEqual([0, 1]);
});
