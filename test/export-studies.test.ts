import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SpillwayError } from '../src/errors.ts';
import { type ExportedInstance, exportStudies } from '../src/folders/export-studies.ts';
import { linkOnce } from '../src/folders/link-once.ts';
import { type FileSystem, nodeFileSystem } from '../src/storage/directory/file-system.ts';
import { fileStore } from '../src/storage/file-store.ts';
import type { OpenStore } from '../src/storage/store.ts';
import { all, filesUnder, filled, instance, opened } from './support/study-folders.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

test('an export is the files that came, byte for byte, the latest version under the plain name', async () => {
  const { spillway, sources, receipts } = await filled(fileStore({ directory: join(await temporaryDirectory(), 's') }));
  const directory = join(await temporaryDirectory(), 'made/by the export');
  const told: ExportedInstance[] = [];
  const summary = await spillway.exportStudies({ directory, onInstance: (exported) => void told.push(exported) });
  const none = { present: 0, damaged: 0, missing: 0, unreadable: 0, conflict: 0 };
  expect(summary).toEqual({
    ...none,
    studies: 2,
    written: 6,
    bytes: sources.reduce((sum, { byteLength }) => sum + byteLength, 0),
    manifest: join(directory, 'manifest.tsv'),
  });
  const arrival = (index: number) => receipts[index]?.arrivalId;
  const hashed = createHash('sha256').update(Buffer.from('odd series (ä)', 'utf8').toString('latin1')).digest('hex');
  const odd = `1.2.1/x${hashed.slice(0, 40)}/x`;
  const files = await filesUnder(directory);
  expect(files.filter((file) => !file.startsWith(odd))).toEqual(
    [
      `1.2.1/1.2.1.1/1.2.1.1.1.${arrival(0)}.dcm`,
      `1.2.1/1.2.1.1/1.2.1.1.1.${arrival(3)}.dcm`,
      '1.2.1/1.2.1.1/1.2.1.1.1.dcm',
      '1.2.1/1.2.1.1/1.2.1.1.2.dcm',
      '1.2.2/1.2.2.1/1.2.2.1.1.dcm',
      'manifest.tsv',
    ].sort(),
  );
  expect(files).toHaveLength(7);
  for (const { path, version } of told) {
    const index = receipts.findIndex(({ arrivalId }) => arrivalId === version.arrivalId);
    expect(Buffer.compare(await readFile(join(directory, path)), sources[index] as Uint8Array), path).toBe(0);
  }
});

test('the manifest names every file with the digests of file and data set', async () => {
  const { spillway, receipts } = await filled();
  const directory = await temporaryDirectory();
  const { manifest } = await spillway.exportStudies({ directory });
  const [head, ...lines] = (await readFile(manifest, 'utf8')).trimEnd().split('\n');
  expect(head?.split('\t').slice(0, 5)).toEqual(['file_sha256', 'path', 'outcome', 'bytes', 'data_set_sha256']);
  expect(lines).toHaveLength(6);
  for (const line of lines) {
    const [fileSha256, path = '', outcome, bytes, dataSetSha256, , uid, arrivalId] = line.split('\t');
    const file = await readFile(join(directory, path));
    expect([fileSha256, outcome, bytes]).toEqual([
      createHash('sha256').update(file).digest('hex'),
      'written',
      String(file.length),
    ]);
    const receipt = receipts.find((given) => given.arrivalId === arrivalId);
    expect([dataSetSha256, uid]).toEqual([receipt?.digest, receipt?.identity.sopInstanceUid]);
  }
});

test('named studies only; one that is not known is told before anything is written', async () => {
  const { spillway } = await filled();
  const directory = join(await temporaryDirectory(), 'out');
  await expect(spillway.exportStudies({ directory, studyInstanceUids: ['1.2.2', '1.2.3'] })).rejects.toMatchObject({
    code: 'SPILLWAY_NOT_FOUND',
    message: expect.stringContaining('1.2.3'),
  });
  await expect(readdir(directory)).rejects.toMatchObject({ code: 'ENOENT' });
  const summary = await spillway.exportStudies({ directory, studyInstanceUids: ['1.2.2', '1.2.2'] });
  expect(summary).toMatchObject({ studies: 1, written: 1 });
  expect(await filesUnder(directory)).toEqual(['1.2.2/1.2.2.1/1.2.2.1.1.dcm', 'manifest.tsv']);
});

test('nothing is exported into a store', async () => {
  const root = await temporaryDirectory();
  const { spillway } = await filled(fileStore({ directory: root }));
  const before = await filesUnder(root);
  for (const directory of [root, join(root, 'studies'), join(root, 'a/b')]) {
    await expect(spillway.exportStudies({ directory })).rejects.toMatchObject({
      code: 'SPILLWAY_OPTION_INVALID',
      message: expect.stringContaining('outside'),
    });
  }
  expect(await filesUnder(root)).toEqual(before);
});

test('again to the same directory: what is equal is present, nothing is overwritten, what is missing is written', async () => {
  const { spillway } = await filled();
  const directory = await temporaryDirectory();
  await spillway.exportStudies({ directory });
  await rm(join(directory, '1.2.2'), { recursive: true });
  const altered = join(directory, '1.2.1/1.2.1.1/1.2.1.1.2.dcm');
  await writeFile(altered, 'somebody’s notes');
  await rm(join(directory, '1.2.1/1.2.1.1/1.2.1.1.1.dcm'));
  await mkdir(join(directory, '1.2.1/1.2.1.1/1.2.1.1.1.dcm'));
  const told = new Map<string, ExportedInstance>();
  const summary = await spillway.exportStudies({
    directory,
    onInstance: (exported) => void told.set(exported.path, exported),
  });
  expect(summary).toMatchObject({ written: 1, present: 3, conflict: 2, manifest: join(directory, 'manifest-2.tsv') });
  expect(await readFile(altered, 'utf8')).toBe('somebody’s notes');
  expect(told.get('1.2.1/1.2.1.1/1.2.1.1.2.dcm')).toMatchObject({
    outcome: 'conflict',
    fileSha256: null,
    problem: expect.stringContaining('another file'),
  });
  expect(told.get('1.2.2/1.2.2.1/1.2.2.1.1.dcm')?.outcome).toBe('written');
});

test('another version under the plain name is a conflict, not an equal', async () => {
  const { spillway } = await opened();
  await spillway.accept(instance('1.2.1', '1.2.1.1', 1, 1));
  const directory = await temporaryDirectory();
  await spillway.exportStudies({ directory });
  await spillway.accept(instance('1.2.1', '1.2.1.1', 1, 2));
  expect(await spillway.exportStudies({ directory })).toMatchObject({ written: 1, present: 0, conflict: 1 });
});

test('a damaged, a missing and an unreadable instance are reported, leave nothing, and the rest goes on', async () => {
  const { store } = await filled();
  const versions = await all(store);
  const [damaged, missing, unreadable, cut, garbage] = versions;
  const blobs: Pick<OpenStore['blobs'], 'read'> = {
    async *read(ref) {
      if (ref === missing?.blobRef) throw new SpillwayError('SPILLWAY_NOT_FOUND', 'Expected a file, got none.');
      const bytes = Buffer.concat(await Array.fromAsync(store.blobs.read(ref)));
      if (ref === damaged?.blobRef) bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
      if (ref === garbage?.blobRef) bytes.fill(0);
      yield bytes.subarray(0, 300);
      if (ref === unreadable?.blobRef) throw new SpillwayError('SPILLWAY_STORE_FAILED', 'EIO');
      yield bytes.subarray(300, ref === cut?.blobRef ? -2 : undefined);
    },
  };
  const directory = await temporaryDirectory();
  const told = new Map<string, string>();
  const summary = await exportStudies(
    { catalog: store.catalog, blobs },
    { directory, onInstance: ({ version, outcome }) => void told.set(version.arrivalId, outcome) },
  );
  expect(summary).toMatchObject({ written: 1, damaged: 3, missing: 1, unreadable: 1 });
  expect(versions.map(({ arrivalId }) => told.get(arrivalId))).toEqual([
    'damaged',
    'missing',
    'unreadable',
    'damaged',
    'damaged',
    'written',
  ]);
  expect(await filesUnder(directory)).toEqual(['1.2.1/1.2.1.1/1.2.1.1.1.dcm', 'manifest.tsv']);
  const manifest = await readFile(summary.manifest, 'utf8');
  expect(manifest.match(/^-\t/gm)).toHaveLength(5);
});

test('what arrives while it runs does not keep it from ending', async () => {
  const { spillway, store } = await opened();
  // More than a page of the catalog, so that it is asked again while more arrives.
  for (let n = 1; n <= 501; n += 1) await spillway.accept(instance('1.2.1', '1.2.1.1', n));
  let arrived = 0;
  const onInstance = async () => {
    if (arrived === 600) return;
    arrived += 1;
    await spillway.accept(instance('1.2.1', '1.2.1.1', 1, 1 + arrived));
    await spillway.accept(instance(`1.2.${1 + arrived}`, `1.2.${1 + arrived}.1`, 1));
  };
  const summary = await exportStudies(store, { directory: await temporaryDirectory(), concurrency: 1, onInstance });
  expect(summary).toMatchObject({ studies: 1, written: 501 });
});

test('every study is exported once, however many come in turn', async () => {
  const count = 1_100;
  const { store } = await filled();
  const [version] = await all(store);
  if (version === undefined) throw new Error('none');
  const versions = Array.from({ length: 2 * count }, (_, index) => ({
    ...version,
    arrivalId: String(index).padStart(16, '0'),
    identity: { ...version.identity, studyInstanceUid: `1.2.${index % count}` },
  }));
  const byStudy = Map.groupBy(versions, ({ identity }) => identity.studyInstanceUid);
  const catalog: Parameters<typeof exportStudies>[0]['catalog'] = {
    lastArrivalId: async () => versions.at(-1)?.arrivalId ?? null,
    versions: async ({ studyInstanceUid, afterArrivalId = '', limit }) => {
      const among = studyInstanceUid === undefined ? versions : (byStudy.get(studyInstanceUid) ?? []);
      return among.filter(({ arrivalId }) => arrivalId > afterArrivalId).slice(0, limit);
    },
  };
  const read = async function* (): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(0);
    throw new SpillwayError('SPILLWAY_NOT_FOUND', 'Expected a file, got none.');
  };
  const summary = await exportStudies({ catalog, blobs: { read } }, { directory: await temporaryDirectory() });
  expect(summary).toMatchObject({ studies: count, missing: 2 * count, written: 0 });
});

test.each(['SPILLWAY_ABORTED', 'SPILLWAY_CLOSED'] as const)('%s in the middle of a file', async (code) => {
  const { store } = await filled();
  const directory = await temporaryDirectory();
  const controller = new AbortController();
  const read = async function* (ref: string) {
    const bytes = Buffer.concat(await Array.fromAsync(store.blobs.read(ref)));
    yield bytes.subarray(0, 300);
    controller.abort(code === 'SPILLWAY_CLOSED' ? new SpillwayError(code, 'Closed.') : undefined);
    yield bytes.subarray(300);
  };
  const told: unknown[] = [];
  const run = exportStudies(
    { catalog: store.catalog, blobs: { read } },
    { directory, concurrency: 1, signal: controller.signal, onInstance: (exported) => void told.push(exported) },
  );
  await expect(run).rejects.toMatchObject({ code });
  expect(told).toEqual([]);
  expect(await filesUnder(directory)).toEqual([]);
});

test('aborted: it says so, whole files stay, nothing half-written does', async () => {
  const { spillway } = await filled();
  const directory = await temporaryDirectory();
  const controller = new AbortController();
  const run = spillway.exportStudies({
    directory,
    concurrency: 1,
    signal: controller.signal,
    onInstance: () => controller.abort(),
  });
  await expect(run).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' });
  expect(await filesUnder(directory)).toEqual([expect.stringMatching(/\.dcm$/)]);
  expect(await spillway.exportStudies({ directory })).toMatchObject({ written: 5, present: 1 });
});

test('what onInstance throws ends the export, and no unfinished file stays', async () => {
  const { spillway } = await filled();
  const directory = await temporaryDirectory();
  const error = new TypeError('of the caller');
  const onInstance = () => Promise.reject(error);
  await expect(spillway.exportStudies({ directory, onInstance })).rejects.toBe(error);
  expect((await filesUnder(directory)).filter((file) => !file.endsWith('.dcm'))).toEqual([]);
});

test.each(['create', 'write', 'sync', 'link', 'makeDirectory', 'syncDirectory'] as const)(
  '%s fails in the directory: the export ends with a coded error, nothing half-written has a name, and again goes on',
  async (call) => {
    const { store } = await filled();
    const directory = await temporaryDirectory();
    let countdown = 4;
    const fail = async () => {
      countdown -= 1;
      if (countdown === 0) throw Object.assign(new Error('ENOSPC: /outbox/DOE^JOHN'), { code: 'ENOSPC' });
    };
    const faulty: FileSystem = {
      ...nodeFileSystem,
      create: async (path) => {
        if (call === 'create') await fail();
        const file = await nodeFileSystem.create(path);
        return {
          write: async (chunk, offset) => {
            if (call === 'write') await fail();
            return file.write(chunk, offset);
          },
          size: () => file.size(),
          sync: async () => {
            if (call === 'sync') await fail();
            await file.sync();
          },
          close: () => file.close(),
        };
      },
      link: async (path, name) => {
        if (call === 'link') await fail();
        await nodeFileSystem.link(path, name);
      },
      makeDirectory: async (path) => {
        if (call === 'makeDirectory') await fail();
        await nodeFileSystem.makeDirectory(path);
      },
      syncDirectory: async (path) => {
        if (call === 'syncDirectory') await fail();
        await nodeFileSystem.syncDirectory(path);
      },
    };
    const error = await exportStudies({ ...store, fileSystem: faulty }, { directory }).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'SPILLWAY_DIRECTORY_FAILED', isRetryable: true, cause: { code: 'ENOSPC' } });
    expect(error.message).toMatch(/no room/);
    expect(error.message).not.toContain('DOE');
    expect((await filesUnder(directory)).filter((file) => !file.endsWith('.dcm'))).toEqual([]);
    const { written, present } = await exportStudies(store, { directory });
    expect(written + present).toBe(6);
  },
);

test('a file is synced before it has its name, and its directory before it is told of', async () => {
  const { store } = await filled();
  const directory = await temporaryDirectory();
  const calls: string[] = [];
  const listening: FileSystem = {
    ...nodeFileSystem,
    create: async (path) => {
      const file = await nodeFileSystem.create(path);
      return {
        write: (chunk, offset) => file.write(chunk, offset),
        size: () => file.size(),
        sync: async () => {
          await file.sync();
          calls.push(`sync ${path}`);
        },
        close: () => file.close(),
      };
    },
    link: async (path, name) => {
      calls.push(calls.includes(`sync ${path}`) ? `link ${name}` : `link of what is not synced ${name}`);
      await nodeFileSystem.link(path, name);
    },
    syncDirectory: async (path) => {
      const linked = calls.filter((call) => call.startsWith(`link ${path}/`)).map((call) => call.slice(5));
      await nodeFileSystem.syncDirectory(path);
      calls.push(...linked.map((name) => `durable ${name}`));
    },
  };
  await exportStudies(
    { ...store, fileSystem: listening },
    { directory, onInstance: ({ path }) => expect(calls).toContain(`durable ${join(directory, path)}`) },
  );
  expect(calls.filter((call) => call.startsWith('link of'))).toEqual([]);
  expect(calls).toContain(`durable ${join(directory, 'manifest.tsv')}`);
});

test('a name that somebody takes in the last moment is left to them', async () => {
  const directory = await temporaryDirectory();
  const [temporary, path] = [join(directory, '.part'), join(directory, 'a.dcm')];
  await writeFile(temporary, 'ours');
  await writeFile(path, 'theirs');
  const link = () => Promise.reject(Object.assign(new Error('none here'), { code: 'EPERM' }));
  expect(await linkOnce(nodeFileSystem, temporary, path)).toBe(false);
  expect(await linkOnce({ ...nodeFileSystem, link }, temporary, path)).toBe(false);
  expect([await readFile(path, 'utf8'), await readFile(temporary, 'utf8')]).toEqual(['theirs', 'ours']);
});

test('where there are no hard links files are renamed, and nothing is overwritten', async () => {
  const { store } = await filled();
  const directory = await temporaryDirectory();
  const link = () => Promise.reject(Object.assign(new Error('none here'), { code: 'EPERM' }));
  const ports = { ...store, fileSystem: { ...nodeFileSystem, link } };
  await mkdir(join(directory, '1.2.2/1.2.2.1'), { recursive: true });
  await writeFile(join(directory, '1.2.2/1.2.2.1/1.2.2.1.1.dcm'), 'mine');
  expect(await exportStudies(ports, { directory })).toMatchObject({ written: 5, conflict: 1 });
  expect(await readFile(join(directory, '1.2.2/1.2.2.1/1.2.2.1.1.dcm'), 'utf8')).toBe('mine');
  expect(await exportStudies(ports, { directory })).toMatchObject({ present: 5, conflict: 1 });
});
