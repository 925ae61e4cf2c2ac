import { pbkdf2 } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import { openSpillway } from '../src/spillway.ts';
import { type FileSystem, nodeFileSystem, type WritableFile } from '../src/storage/directory/file-system.ts';
import { openFileStore } from '../src/storage/file-store.ts';
import { syntheticInstance } from '../src/testing/synthetic.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const derive = promisify(pbkdf2);

/** Calls of the order of writing, each of which may fail. */
const CALLS = ['create', 'write', 'size', 'sync', 'close', 'makeDirectory', 'syncDirectory', 'link'] as const;
const CODES = ['ENOSPC', 'EDQUOT', 'EIO', 'EMFILE', 'EROFS'] as const;
type Call = (typeof CALLS)[number] | 'unlink' | 'space';

/** The real file system, of which one call fails once it is armed. */
class FaultyFileSystem {
  #armed: { readonly call: Call; readonly code: string; occurrence: number } | undefined;

  arm(call: Call, code: string, occurrence = 1): void {
    this.#armed = { call, code, occurrence };
  }

  get isArmed(): boolean {
    return this.#armed !== undefined;
  }

  readonly fileSystem: FileSystem = {
    ...nodeFileSystem,
    create: (path) => this.#try('create', async () => this.#file(await nodeFileSystem.create(path))),
    makeDirectory: (path) => this.#try('makeDirectory', () => nodeFileSystem.makeDirectory(path)),
    syncDirectory: (path) => this.#try('syncDirectory', () => nodeFileSystem.syncDirectory(path)),
    link: (path, name) => this.#try('link', () => nodeFileSystem.link(path, name)),
    unlink: (path) => this.#try('unlink', () => nodeFileSystem.unlink(path)),
    space: (path) => this.#try('space', () => nodeFileSystem.space(path)),
  };

  #file(file: WritableFile): WritableFile {
    return {
      write: (chunk, offset) => this.#try('write', () => file.write(chunk, offset)),
      size: () => this.#try('size', () => file.size()),
      sync: () => this.#try('sync', () => file.sync()),
      close: () => this.#try('close', () => file.close()),
    };
  }

  async #try<T>(call: Call, action: () => Promise<T>): Promise<T> {
    const armed = this.#armed;
    if (armed?.call === call) {
      armed.occurrence -= 1;
      if (armed.occurrence === 0) {
        this.#armed = undefined;
        throw Object.assign(new Error(`${armed.code}: injected`), { code: armed.code });
      }
    }
    return action();
  }
}

async function rig() {
  const directory = join(await temporaryDirectory(), 'store');
  const faulty = new FaultyFileSystem();
  const open = () => openFileStore(directory, faulty.fileSystem);
  const spillway = await openSpillway({ store: { open }, destinations: [] });
  const faults: unknown[] = [];
  spillway.on('fault', ({ error }) => faults.push(error));
  const filesIn = async (folder: string) =>
    (await readdir(join(directory, folder), { recursive: true, withFileTypes: true })).filter((entry) =>
      entry.isFile(),
    );
  return { directory, faulty, spillway, faults, open, filesIn };
}

const instance = (seed: number) =>
  syntheticInstance({
    rows: 16,
    columns: 16,
    seed,
    studyInstanceUid: `1.2.${seed}`,
    seriesInstanceUid: `1.2.${seed}.1`,
  });

test.each(CALLS)(
  '%s fails: the refusal is coded, nothing of the instance stays, and the same is taken afterwards',
  async (call) => {
    const { faulty, spillway, filesIn, open } = await rig();
    const accepted = [await spillway.accept(instance(1))];
    let seed = 1;
    for (const code of CODES) {
      // Of the directories above it first, and of the one that holds its name last.
      for (const occurrence of call === 'syncDirectory' ? [1, 2, 3] : [1]) {
        seed += 1;
        faulty.arm(call, code, occurrence);
        const refusal = await spillway.accept(instance(seed)).catch((error) => error);
        expect(faulty.isArmed, `${call} ${occurrence} came about`).toBe(false);
        expect(refusal).toMatchObject({
          code: code === 'ENOSPC' || code === 'EDQUOT' ? 'SPILLWAY_STORE_FULL' : 'SPILLWAY_STORE_FAILED',
          isRetryable: true,
          cause: { code },
        });
        expect(await filesIn('incoming')).toEqual([]);
        expect(await filesIn('studies')).toHaveLength(accepted.length);
        accepted.push(await spillway.accept(instance(seed)));
        expect(accepted.at(-1)?.outcome).toBe('created');
      }
    }
    await spillway.close();
    const store = await open();
    const versions = await store.catalog.versions({ limit: 100 });
    expect(versions.map(({ arrivalId }) => arrivalId)).toEqual(accepted.map(({ arrivalId }) => arrivalId));
    for (const { blobRef, digest } of versions) {
      expect((await readAndDigest(store.blobs.read(blobRef))).digest).toBe(digest);
    }
    await store.close();
  },
);

test('the trace that cannot be removed after the commit refuses nobody: it is told of, and the next opening removes it', async () => {
  const { faulty, spillway, faults, filesIn, open } = await rig();
  faulty.arm('unlink', 'EIO');
  expect((await spillway.accept(instance(1))).outcome).toBe('created');
  await spillway.close();
  expect(faults).toMatchObject([{ code: 'SPILLWAY_STORE_FAILED', cause: { code: 'EIO' } }]);
  expect(await filesIn('incoming')).toHaveLength(1);
  const again = await openSpillway({ store: { open }, destinations: [] });
  expect(await filesIn('incoming')).toEqual([]);
  expect((await again.accept(instance(1))).outcome).toBe('identical');
  expect(await filesIn('studies')).toHaveLength(1);
  await again.close();
});

test('what was in flight and cannot be removed at the opening is a coded refusal, and the next opening removes it', async () => {
  const { faulty, spillway, filesIn, open } = await rig();
  faulty.arm('unlink', 'EIO');
  await spillway.accept(instance(1));
  await spillway.close();
  faulty.arm('unlink', 'EIO');
  await expect(openSpillway({ store: { open }, destinations: [] })).rejects.toMatchObject({
    code: 'SPILLWAY_STORE_FAILED',
    cause: { code: 'EIO' },
  });
  await (await openSpillway({ store: { open }, destinations: [] })).close();
  expect(await filesIn('incoming')).toEqual([]);
});

test('free space that cannot be asked for is a coded refusal', async () => {
  const { faulty, spillway } = await rig();
  faulty.arm('space', 'EIO');
  await expect(spillway.accept(instance(1))).rejects.toMatchObject({ code: 'SPILLWAY_STORE_FAILED' });
  await spillway.accept(instance(1));
  await spillway.close();
});

test('closing a file waits for what is to be written to it, and does it once', async () => {
  const path = join(await temporaryDirectory(), 'file');
  const file = await nodeFileSystem.create(path);
  // The thread pool takes one after the other, and these before the write.
  const busy = Array.from({ length: 64 }, () => derive('a', 'b', 10_000, 32, 'sha256'));
  const written = file.write(Buffer.from('whole'), 0);
  await Promise.all([file.close(), written, ...busy]);
  const next = await nodeFileSystem.create(`${path}.next`);
  // The next file has its number by now.
  await file.close();
  await next.sync();
  await next.close();
  expect((await stat(path)).size).toBe(5);
  await expect(file.sync()).rejects.toThrow('closed');
});
