import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { DirectorySync } from '../src/storage/directory/directory-sync.ts';
import { nodeFileSystem } from '../src/storage/directory/file-system.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import { storeContract } from '../src/testing/store-contract.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

describe('fileStore keeps the contract', () => {
  const makeStore = async (limits: { readonly maxBytes?: number } = {}) => {
    const directory = await mkdtemp(join(tmpdir(), 'spillway-store-'));
    const store = fileStore({ directory, ...limits });
    return { store, dispose: () => rm(directory, { recursive: true, force: true }) };
  };
  storeContract({ test, makeStore, makeBoundedStore: (maxBytes) => makeStore({ maxBytes }) });
});

describe('memoryStore keeps the contract', () => {
  const makeStore = async (maxBytes?: number) => ({ store: memoryStore({ maxBytes }), dispose: async () => {} });
  storeContract({ test, makeStore: () => makeStore(), makeBoundedStore: makeStore });
});

describe('fileStore and its directory', () => {
  test('a second opening, in this process or in another, is told so at once', async () => {
    const directory = await temporaryDirectory();
    const store = await fileStore({ directory }).open();
    await expect(fileStore({ directory }).open()).rejects.toMatchObject({ code: 'SPILLWAY_STORE_LOCKED' });
    const script = `
      const { fileStore } = await import(${JSON.stringify(new URL('../src/storage/file-store.ts', import.meta.url))});
      await fileStore({ directory: ${JSON.stringify(directory)} }).open().catch((error) => console.log(error.code));`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [output] = await Promise.all([new Response(child.stdout as never).text(), once(child, 'close')]);
    expect(output.trim()).toBe('SPILLWAY_STORE_LOCKED');
    await store.close();
    await (await fileStore({ directory }).open()).close();
  });

  test('a second opening that was refused leaves the lock where it is', async () => {
    const directory = await temporaryDirectory();
    const store = await fileStore({ directory }).open();
    await expect(fileStore({ directory }).open()).rejects.toMatchObject({ code: 'SPILLWAY_STORE_LOCKED' });
    const script = `
      const { DatabaseSync } = await import('node:sqlite');
      try {
        new DatabaseSync(${JSON.stringify(join(directory, 'lock'))}).exec('BEGIN EXCLUSIVE');
        console.log('it was free');
      } catch {
        console.log('it is held');
      }`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [output] = await Promise.all([new Response(child.stdout as never).text(), once(child, 'close')]);
    expect(output.trim()).toBe('it is held');
    await store.close();
  });

  test.each(['--max-old-space-size=512', '--expose-gc', '--title=gateway'])(
    'a process that was started with %s can open it',
    async (flag) => {
      const directory = await temporaryDirectory();
      const script = `
        const { fileStore } = await import(${JSON.stringify(new URL('../src/storage/file-store.ts', import.meta.url))});
        await (await fileStore({ directory: ${JSON.stringify(directory)} }).open()).close();
        console.log('opened');`;
      const child = spawn(process.execPath, [flag, '--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const [output] = await Promise.all([new Response(child.stdout as never).text(), once(child, 'close')]);
      expect(output.trim()).toBe('opened');
    },
  );

  test('directories that were forgotten are made sure of again', async () => {
    const root = await temporaryDirectory();
    const directories = new DirectorySync(root, nodeFileSystem, 3);
    for (let index = 0; index < 20; index += 1) await directories.ensure(join(root, 'studies', `${index}`, 'series'));
    await directories.ensure(join(root, 'studies', '0', 'series'));
    expect(await readdir(join(root, 'studies'))).toHaveLength(20);
  });

  test('a process that is killed leaves no lock behind', async () => {
    const directory = await temporaryDirectory();
    const script = `
      const { fileStore } = await import(${JSON.stringify(new URL('../src/storage/file-store.ts', import.meta.url))});
      await fileStore({ directory: ${JSON.stringify(directory)} }).open();
      console.log('open');
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'close');
    await (await fileStore({ directory }).open()).close();
  });

  test('an unknown version, and a directory that is used for something else, are refused and left alone', async () => {
    const directory = await temporaryDirectory();
    await (await fileStore({ directory }).open()).close();
    const format = join(directory, 'spillway.json');
    await writeFile(format, '{"format":"spillway-store","version":99}\n');
    await expect(fileStore({ directory }).open()).rejects.toMatchObject({
      code: 'SPILLWAY_STORE_FORMAT',
      message: expect.stringContaining('99'),
    });
    expect(await readFile(format, 'utf8')).toContain('99');

    const other = await temporaryDirectory();
    await writeFile(join(other, 'thesis.txt'), 'mine');
    await expect(fileStore({ directory: other }).open()).rejects.toMatchObject({ code: 'SPILLWAY_STORE_FORMAT' });
    expect((await readdir(other)).filter((name) => name !== 'lock')).toEqual(['thesis.txt']);
  });

  test('images whose catalog is gone are not passed over in silence', async () => {
    const directory = await temporaryDirectory();
    const store = await fileStore({ directory }).open();
    await store.close();
    await mkdir(join(directory, 'studies', '1.2'), { recursive: true });
    await rm(join(directory, 'catalog.sqlite'));
    const opened = await fileStore({ directory }).open();
    expect(opened.rebuilt).toEqual({ snapshot: null, damaged: null });
    await opened.close();
  });

  test('files are 0600 and directories 0700', async () => {
    const directory = await temporaryDirectory();
    const store = await fileStore({ directory: join(directory, 'deep', 'store') }).open();
    const writer = await store.blobs.create();
    await writer.write(Buffer.from('x'));
    await writer.place({
      identity: {
        studyInstanceUid: '1.2',
        seriesInstanceUid: '1.3',
        sopInstanceUid: '1.4',
        sopClassUid: '1.5',
        transferSyntaxUid: '1.6',
      },
      arrivalId: '0000000000000001',
      digest: 'a'.repeat(64),
    });
    await writer.release();
    for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
      const { mode } = await stat(join(entry.parentPath, entry.name));
      expect([entry.name, (mode & 0o777).toString(8)]).toEqual([entry.name, entry.isDirectory() ? '700' : '600']);
    }
    await store.close();
  });

  test('a directory option that is no path is refused', () => {
    expect(() => fileStore({ directory: '' })).toThrow(expect.objectContaining({ code: 'SPILLWAY_OPTION_INVALID' }));
  });
});
