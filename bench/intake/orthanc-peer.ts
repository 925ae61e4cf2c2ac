import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findProgram, hasOrthanc, Orthanc } from '../support/orthanc.ts';
import { type ObjectSet, objectsOf } from './objects.ts';

const LANES = 4;
/** Nagle's algorithm on either side makes one association wait 40 ms an instance; DCMTK reads this. */
const ENVIRONMENT = { ...process.env, TCP_NODELAY: '1' };

const storescu = findProgram('storescu');

/** What is not installed; undefined when nothing is missing. */
export function missingOrthanc(): string | undefined {
  if (!hasOrthanc) return 'Orthanc (Debian: orthanc)';
  return storescu === undefined ? 'storescu (Debian: dcmtk)' : undefined;
}

/**
 * Sends a set to a new Orthanc, which syncs what it stores (its default), by so many associations at once. Returns
 * instances per second, from the start of the senders to the end of the last.
 */
export async function orthancPass(directory: string, set: ObjectSet, associations: number): Promise<number> {
  const files = join(directory, 'files');
  const lanes = Array.from({ length: LANES }, (_, lane) => join(files, String(lane)));
  for (const lane of lanes) await mkdir(lane, { recursive: true });
  for (const [index, { bytes }] of objectsOf(set, set.instances, 2).entries()) {
    await writeFile(join(files, String(index % LANES), `${index}.dcm`), bytes);
  }
  // Syncing is said, though it is the default.
  const settings = { Plugins: [], SyncStorageArea: true };
  const orthanc = await Orthanc.start({ directory: join(directory, 'orthanc'), settings });
  try {
    const send = async (folders: readonly string[]): Promise<void> => {
      const child = spawn(
        storescu ?? 'storescu',
        ['+sd', '-aec', 'ORTHANC', '127.0.0.1', String(orthanc.dicomPort), ...folders],
        { env: ENVIRONMENT, stdio: ['ignore', 'ignore', 'inherit'] },
      );
      const [code] = await once(child, 'exit');
      if (code !== 0) throw new Error(`storescu ended with ${code}`);
    };
    const began = performance.now();
    await Promise.all(associations === 1 ? [send(lanes)] : lanes.map((lane) => send([lane])));
    const seconds = (performance.now() - began) / 1_000;
    const held = await orthanc.count();
    if (held !== set.instances) throw new Error(`Orthanc holds ${held} of ${set.instances} instances`);
    return set.instances / seconds;
  } finally {
    await orthanc.kill();
  }
}
