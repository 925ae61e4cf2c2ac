/**
 * Accepts instances as fast as it can and delivers them, until the store takes none any more, and prints what it was told:
 * `node shutdown-child.js DIRECTORY PEER FIRST synced|unsynced`. Instances are numbered from FIRST; `unsynced` leaves out
 * every sync of a file.
 *
 * It prints `accepted ID DIGEST`, `delivered ID STATE`, `refused CODE`, `fault CODE` and at the end `closed CODE`.
 */
import { appendFileSync } from 'node:fs';
import { SpillwayError } from '../../src/errors.ts';
import { openSpillway } from '../../src/spillway.ts';
import { type FileSystem, nodeFileSystem, type WritableFile } from '../../src/storage/directory/file-system.ts';
import { openFileStore } from '../../src/storage/file-store.ts';
import { FilePeer } from './file-peer.ts';
import { numberedInstance } from './numbered-instance.ts';

const [directory = '', peer = '', first = '0', syncs = 'synced'] = process.argv.slice(2);
const LANES = 6;
/** By then the file system is long gone. */
const MAX_INSTANCES = 10_000;

// In one write to the pipe, so that what was said was said before the end.
const say = (line: string) => appendFileSync(1, `${line}\n`);
const codeOf = (error: unknown) => (error instanceof SpillwayError ? error.code : `uncoded ${error}`);

function unsynced(file: WritableFile): WritableFile {
  return {
    write: (chunk, offset) => file.write(chunk, offset),
    size: () => file.size(),
    sync: async () => {},
    close: () => file.close(),
  };
}

const fileSystem: FileSystem =
  syncs === 'synced'
    ? nodeFileSystem
    : { ...nodeFileSystem, create: async (path) => unsynced(await nodeFileSystem.create(path)) };

const spillway = await openSpillway({
  store: { open: () => openFileStore(directory, fileSystem, {}) },
  destinations: [{ id: 'peer', transport: new FilePeer(peer), maxConcurrency: 2 }],
  closeTimeoutMs: 2_000,
});
spillway.on('delivery', ({ arrivalId, state }) => say(`delivered ${arrivalId} ${state}`));
spillway.on('quarantine', ({ arrivalId, state }) => say(`delivered ${arrivalId} ${state}`));
spillway.on('fault', ({ error }) => say(`fault ${codeOf(error)}`));

let next = Number(first);
const last = next + MAX_INSTANCES;
const lane = async () => {
  while (next < last) {
    const number = next;
    next += 1;
    try {
      const { arrivalId, digest } = await spillway.accept(numberedInstance(number));
      say(`accepted ${arrivalId} ${digest}`);
    } catch (error) {
      say(`refused ${codeOf(error)}`);
      return;
    }
  }
};
await Promise.all(Array.from({ length: LANES }, lane));
await spillway.close().then(
  () => say('closed'),
  (error) => say(`closed ${codeOf(error)}`),
);
