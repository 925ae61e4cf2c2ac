/**
 * Accepts instances as fast as it can and prints each receipt; kills itself with SIGKILL at a named step of the order of
 * writing: `node kill-child.js DIRECTORY SEED STEP OCCURRENCE before|after`. The step `none` is for a parent that kills.
 */
import { appendFileSync } from 'node:fs';
import { openSpillway } from '../../src/spillway.ts';
import { type FileSystem, nodeFileSystem, type WritableFile } from '../../src/storage/directory/file-system.ts';
import { openFileStore } from '../../src/storage/file-store.ts';
import type { OpenStore } from '../../src/storage/store.ts';
import { syntheticInstance } from '../../src/testing/synthetic.ts';

const [directory = '', seed = '0', step = 'none', occurrence = '1', moment = 'before'] = process.argv.slice(2);
let left = Number(occurrence);

/** A step: it is over with the process, before or after what it does. */
async function at<T>(name: string, action: () => Promise<T>): Promise<T> {
  if (name === step) left -= 1;
  const isIt = name === step && left === 0;
  if (isIt && moment === 'before') process.kill(process.pid, 'SIGKILL');
  try {
    return await action();
  } finally {
    if (isIt) process.kill(process.pid, 'SIGKILL');
  }
}

function steppedFile(file: WritableFile): WritableFile {
  return {
    write: (chunk, offset) => at('write', () => file.write(chunk, offset)),
    size: () => file.size(),
    sync: () => at('sync-file', () => file.sync()),
    close: () => at('close', () => file.close()),
  };
}

const steppedFileSystem: FileSystem = {
  ...nodeFileSystem,
  create: (path) => at('create', async () => steppedFile(await nodeFileSystem.create(path))),
  makeDirectory: (path) => at('make-directory', () => nodeFileSystem.makeDirectory(path)),
  syncDirectory: (path) => at('sync-directory', () => nodeFileSystem.syncDirectory(path)),
  link: (path, name) => at('link', () => nodeFileSystem.link(path, name)),
  // The name in incoming/ goes once the catalog has committed.
  unlink: (path) => at('release', () => nodeFileSystem.unlink(path)),
};

async function open(): Promise<OpenStore> {
  const store = await openFileStore(directory, steppedFileSystem);
  const { accept } = store.catalog;
  store.catalog.accept = (batch) => at('commit', () => accept(batch));
  return store;
}

const spillway = await openSpillway({ store: { open }, destinations: [] });
let next = Number(seed);
const worker = async () => {
  for (;;) {
    next += 1;
    const bytes = syntheticInstance({ rows: 16, columns: 16, seed: next, studyInstanceUid: `1.2.${next % 5}` });
    const { arrivalId, digest } = await spillway.accept(bytes);
    // In one write to the pipe, so that what was said was said before the end.
    await at('acknowledge', async () => appendFileSync(1, `${arrivalId} ${digest}\n`));
  }
};
await Promise.all(Array.from({ length: 4 }, worker));
