import { constants, copyFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openSpillway } from '../../src/spillway.ts';
import { blobRefOf } from '../../src/storage/directory/blob-names.ts';
import { fileStore } from '../../src/storage/file-store.ts';
import type { Transport } from '../../src/transports/transport.ts';

export const DESTINATION = 'pacs';

/** One instance of a store, as a client without spillway needs it. */
export interface PendingFile {
  readonly path: string;
  readonly bytes: number;
  readonly studyInstanceUid: string;
  readonly sopInstanceUid: string;
  /** Id of the tier that it was judged to be in when it came. */
  readonly tier: string;
}

/** A `fileStore` that was closed with everything pending, and can be put back to that. */
export interface PendingStore {
  readonly directory: string;
  /** In the order in which they were accepted. */
  readonly files: readonly PendingFile[];
  /** The same as a JSON file. */
  readonly listing: string;
  /** Everything is pending again: a drain changes the catalog, never the files. */
  reset(): void;
}

const IN_FLIGHT = 16;

/** Asks for an hour of patience: no outage is declared, and nothing is sent. */
const busy: Transport = {
  supports: { lookUp: true, readBack: false },
  batch: { maxInstances: 1, maxBytes: 1 },
  send: async (instances) =>
    instances.map(() => ({ kind: 'push-back', reason: 'the store is being filled', retryAfterMs: 3_600_000 })),
  probe: async () => ({ alive: true }),
  lookUp: async () => null,
  readBack: async () => null,
  close: async () => {},
};

/** Takes instances in as they come, and leaves them pending. */
export async function pendingStore(directory: string, instances: Iterable<Uint8Array>): Promise<PendingStore> {
  const files: PendingFile[] = [];
  const spillway = await openSpillway({
    store: fileStore({ directory }),
    destinations: [{ id: DESTINATION, transport: busy }],
  });
  const source = instances[Symbol.iterator]();
  let index = 0;
  const lane = async () => {
    for (let next = source.next(); next.done !== true; next = source.next()) {
      const position = index;
      index += 1;
      const receipt = await spillway.accept(next.value);
      if (receipt.outcome !== 'created') throw new Error(`the instance is ${receipt.outcome}`);
      const { studyInstanceUid, sopInstanceUid } = receipt.identity;
      const path = join(directory, blobRefOf(receipt));
      files[position] = { path, bytes: receipt.bytes, studyInstanceUid, sopInstanceUid, tier: receipt.tier };
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, lane));
  await spillway.close();
  const catalog = join(directory, 'catalog.sqlite');
  const pristine = `${directory}.catalog`;
  copyFileSync(catalog, pristine, constants.COPYFILE_FICLONE);
  const listing = `${directory}.json`;
  writeFileSync(listing, JSON.stringify(files));
  const reset = () => {
    for (const suffix of ['', '-wal', '-shm']) rmSync(`${catalog}${suffix}`, { force: true });
    copyFileSync(pristine, catalog, constants.COPYFILE_FICLONE);
  };
  return { directory, files, listing, reset };
}
