// One pass of the bare loop: `node bare-pass.ts DIRECTORY SET IN_FLIGHT each|shared`.

import { mkdir, open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { DirectorySync } from '../../src/storage/directory/directory-sync.ts';
import { nodeFileSystem } from '../../src/storage/directory/file-system.ts';
import { type BenchObject, eachInFlight, objectsOf, SETS } from './objects.ts';

const [root = '', name = '', inFlight = '', syncs = ''] = process.argv.slice(2);
const set = SETS[name];
if (set === undefined) throw new Error(`no set "${name}"`);

const WARM_UP = 500;
const warmUp = objectsOf(set, WARM_UP, 1);
const objects = objectsOf(set, set.instances, 2);
// Made beforehand: that much easier than what spillway has to do.
await mkdir(join(root, 'incoming'), { recursive: true });
for (const { directory } of [...warmUp, ...objects]) await mkdir(join(root, directory), { recursive: true });
await nodeFileSystem.syncDirectory(root);

const shared = new DirectorySync(root, nodeFileSystem);
const syncDirectory = async (directory: string): Promise<void> => {
  if (syncs === 'shared') return shared.sync(directory);
  const handle = await open(directory, 'r');
  await handle.sync();
  await handle.close();
};

let names = 0;
async function keep({ bytes, directory, name }: BenchObject): Promise<void> {
  names += 1;
  const incoming = join(root, 'incoming', `${names}.part`);
  const file = await open(incoming, 'wx', 0o600);
  const { bytesWritten } = await file.write(bytes);
  if (bytesWritten !== bytes.byteLength) throw new Error('a short write');
  await file.sync();
  await file.close();
  await rename(incoming, join(root, directory, name));
  await syncDirectory(join(root, directory));
}

await eachInFlight(warmUp, Number(inFlight), keep);
const cpu = process.cpuUsage();
const began = performance.now();
await eachInFlight(objects, Number(inFlight), keep);
const seconds = (performance.now() - began) / 1_000;
const { user, system } = process.cpuUsage(cpu);
console.log(JSON.stringify({ perSecond: objects.length / seconds, cpuMs: (user + system) / 1_000 / objects.length }));
