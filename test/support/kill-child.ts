/**
 * A file store that is killed (test/kill.test.ts): its steps are also the calls that it makes of the file system. With a
 * lie as second argument it promises what it has not done, to see whether that is found.
 */
import type { Catalog } from '../../src/storage/catalog.ts';
import { type FileSystem, nodeFileSystem, type WritableFile } from '../../src/storage/directory/file-system.ts';
import { openFileStore } from '../../src/storage/file-store.ts';
import type { OpenStore } from '../../src/storage/store.ts';
import { intakeUntilKilled, type KillStep } from '../../src/testing/kill/intake-until-killed.ts';

const [directory = '', lie = 'none'] = process.argv.slice(2);
const LATE_MS = 1_000;

function steppedFile(file: WritableFile, step: KillStep): WritableFile {
  return {
    write: (chunk, offset) => step('write', () => file.write(chunk, offset)),
    size: () => file.size(),
    sync: () => step('sync-file', () => file.sync()),
    close: () => step('close', () => file.close()),
  };
}

function steppedFileSystem(step: KillStep): FileSystem {
  return {
    ...nodeFileSystem,
    create: (path) => step('create', async () => steppedFile(await nodeFileSystem.create(path), step)),
    makeDirectory: (path) => step('make-directory', () => nodeFileSystem.makeDirectory(path)),
    syncDirectory: (path) => step('sync-directory', () => nodeFileSystem.syncDirectory(path)),
    link: (path, name) => step('link', () => nodeFileSystem.link(path, name)),
    unlink: (path) => step('unlink', () => nodeFileSystem.unlink(path)),
  };
}

/** Commits only after a while what it has said is committed. */
const earlyCommit = (catalog: Catalog): Partial<Catalog> => ({
  async accept(batch) {
    setTimeout(() => void catalog.accept(batch), LATE_MS);
    return batch.map(({ version }) => ({ outcome: 'created', version, destinations: ['receiver'] }));
  },
});

/** Records as verified what it is only about to send. */
const earlyVerification = (catalog: Catalog): Partial<Catalog> => ({
  async leaseStudies(request) {
    const leased = await catalog.leaseStudies(request);
    for (const { studyInstanceUid, lease } of leased) {
      const due = await catalog.dueDeliveries({ ...request, studyInstanceUid, afterId: 0, limit: 100 });
      const verified = {
        lease,
        state: 'verified',
        evidence: 'found',
        attempts: 0,
        reason: null,
        notBefore: 0,
        at: 0,
      } as const;
      await catalog.settle(due.map(({ id }) => ({ ...verified, deliveryId: id })));
    }
    return leased;
  },
});

async function open(step: KillStep): Promise<OpenStore> {
  const store = await openFileStore(directory, steppedFileSystem(step));
  if (lie === 'early-commit') Object.assign(store.catalog, earlyCommit({ ...store.catalog }));
  if (lie === 'early-verification') Object.assign(store.catalog, earlyVerification({ ...store.catalog }));
  return store;
}

await intakeUntilKilled((step) => ({ open: () => open(step) }));
