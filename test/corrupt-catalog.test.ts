import { type FileHandle, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import { SpillwayError } from '../src/errors.ts';
import { openSpillway, type Spillway } from '../src/spillway.ts';
import { nodeFileSystem } from '../src/storage/directory/file-system.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';
import { numberedInstance } from './support/numbered-instance.ts';
import { ScriptedTransport } from './support/scripted-transport.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const PAGE_BYTES = 4096;
const DAMAGES = 8;

/** One store whose catalog is damaged: what was acknowledged, and everything that failed. */
class Damaged {
  readonly directory: string;
  readonly digests = new Map<string, string>();
  readonly failures: unknown[] = [];

  constructor(directory: string) {
    this.directory = directory;
  }

  async open(): Promise<Spillway> {
    const store = fileStore({ directory: this.directory, minFreeBytes: 0 });
    const destinations = [{ id: 'peer', transport: new ScriptedTransport() }];
    const spillway = await openSpillway({ store, destinations, closeTimeoutMs: 500 });
    return spillway.on('fault', ({ error }) => this.failures.push(error));
  }

  async accept(spillway: Spillway, first: number, count: number): Promise<void> {
    const accepting = Array.from({ length: count }, async (_, index) => {
      const { arrivalId, digest } = await spillway.accept(numberedInstance(first + index));
      this.digests.set(arrivalId, digest);
    });
    for (const result of await Promise.allSettled(accepting)) {
      if (result.status === 'rejected') this.failures.push(result.reason);
    }
  }

  /** A page of it but the first, which tells whether it is a database at all, is overwritten. */
  async damage(random: () => number): Promise<void> {
    await withFile(join(this.directory, 'catalog.sqlite'), async (file) => {
      const pages = (await file.stat()).size / PAGE_BYTES;
      const page = 1 + Math.floor(random() * (pages - 1));
      const rubbish = Uint8Array.from({ length: PAGE_BYTES }, () => Math.floor(random() * 256));
      await file.write(rubbish, 0, PAGE_BYTES, page * PAGE_BYTES);
    });
  }

  /** What was acknowledged and has no whole file of its own, by which the catalog could be made anew. */
  async lost(): Promise<readonly string[]> {
    const studies = join(this.directory, 'studies');
    const whole = new Map<string, string>();
    for (const entry of await readdir(studies, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const { digest } = await readAndDigest(nodeFileSystem.read(join(entry.parentPath, entry.name), 65_536));
      whole.set(entry.name.split('-')[0]?.split('.').at(-1) ?? '', digest);
    }
    const there = new Set(whole.values());
    return [...this.digests].filter(([, digest]) => !there.has(digest)).map(([id]) => id);
  }

  /** Opens it, again where it says so, and says which acknowledged ones it does not know once its files were looked at. */
  async forgotten(): Promise<{ readonly ids: readonly string[]; readonly isRebuilt: boolean }> {
    for (let opening = 1; ; opening += 1) {
      try {
        return await this.#held();
      } catch (error) {
        this.failures.push(error);
        // The damage was found in this opening: the next one rebuilds.
        expect(opening).toBe(1);
      }
    }
  }

  async #held(): Promise<{ readonly ids: readonly string[]; readonly isRebuilt: boolean }> {
    const store = fileStore({ directory: this.directory, minFreeBytes: 0 });
    const spillway = await openSpillway({
      store,
      destinations: [{ id: 'peer', transport: new ScriptedTransport() }],
      checksPerSecond: 1_000_000,
      closeTimeoutMs: 500,
    });
    try {
      await new Promise((resolve, reject) => {
        spillway.on('walked', resolve);
        spillway.on('fault', ({ error }) => reject(error));
      });
      const held = new Map<string, string>();
      for await (const { studyInstanceUid } of spillway.studies()) {
        const exported = join(this.directory, '..', `export-${Date.now()}`);
        await spillway.exportStudies({
          directory: exported,
          studyInstanceUids: [studyInstanceUid],
          onInstance: ({ version }) => void held.set(version.arrivalId, version.digest),
        });
      }
      // What was sent again to a rebuilt catalog may stand under its new arrival id, and the old file have gone as its double.
      const there = new Set(held.values());
      const ids = [...this.digests].filter(([, digest]) => !there.has(digest)).map(([id]) => id);
      return { ids, isRebuilt: (await spillway.status()).storage.rebuilt !== null };
    } finally {
      await spillway.close().catch((error) => this.failures.push(error));
    }
  }
}

async function withFile(path: string, action: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await action(file);
  } finally {
    await file.close();
  }
}

test.each(['closed', 'open'] as const)(
  'a page of the catalog is overwritten while it is %s: what fails has a code, and nothing that was acknowledged is without its file',
  async (when) => {
    const random = seededRandom(when === 'closed' ? 81 : 82);
    let [noticed, rebuilt] = [0, 0];
    for (let round = 0; round < DAMAGES; round += 1) {
      const store = new Damaged(join(await temporaryDirectory(), 'store'));
      const first = await store.open();
      await store.accept(first, 0, 40);
      // What is closed is in the file, and no longer in the log beside it.
      await first.close();
      expect(store.failures).toEqual([]);
      if (when === 'closed') await store.damage(random);
      const second = await store.open().catch((error) => {
        store.failures.push(error);
      });
      if (when === 'open') await store.damage(random);
      if (second !== undefined) {
        await store.accept(second, 40, 20);
        await store.accept(second, 0, 40);
        await second.close().catch((error) => store.failures.push(error));
      }
      const { ids, isRebuilt } = await store.forgotten();
      expect(ids, `round ${round}`).toEqual([]);
      if (isRebuilt) rebuilt += 1;
      expect(await store.lost(), `round ${round}`).toEqual([]);
      const foreign = store.failures.filter((failure) => !(failure instanceof SpillwayError));
      expect(foreign, `round ${round}`).toEqual([]);
      for (const failure of store.failures) {
        expect(failure).toMatchObject({
          code: 'SPILLWAY_STORE_DAMAGED',
          message: expect.stringContaining('malformed'),
        });
      }
      if (store.failures.length > 0) noticed += 1;
    }
    console.log(
      `a page overwritten while ${when}: ${DAMAGES} times, noticed ${noticed} times, rebuilt ${rebuilt} times`,
    );
    expect(rebuilt).toBeGreaterThan(0);
  },
  120_000,
);
