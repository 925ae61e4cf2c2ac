import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { FileSystem } from './file-system.ts';

/** Makes a directory, and syncs every one that is made into its parent, so that a power cut cannot take the whole of it. */
export async function makeDurably(directory: string, fileSystem: FileSystem): Promise<void> {
  const first = await mkdir(directory, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let at = directory; at.length >= first.length; at = dirname(at)) await fileSystem.syncDirectory(dirname(at));
}
