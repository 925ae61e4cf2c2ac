import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type ObjectSet, objectsOf } from './objects.ts';

const START_MS = 30_000;
const POLL_MS = 25;
const LANES = 4;
/** Nagle's algorithm on either side makes one association wait 40 ms an instance; DCMTK reads this. */
const ENVIRONMENT = { ...process.env, TCP_NODELAY: '1' };

const executable = find('Orthanc', '/usr/sbin');
const storescu = find('storescu');

/** What is not installed; undefined when nothing is missing. */
export function missingOrthanc(): string | undefined {
  if (executable === undefined) return 'Orthanc (Debian: orthanc)';
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
  const [httpPort, dicomPort] = [await freePort(), await freePort()];
  const orthanc = await start(join(directory, 'orthanc'), httpPort, dicomPort);
  try {
    const send = async (folders: readonly string[]): Promise<void> => {
      const child = spawn(
        storescu ?? 'storescu',
        ['+sd', '-aec', 'ORTHANC', '127.0.0.1', String(dicomPort), ...folders],
        { env: ENVIRONMENT, stdio: ['ignore', 'ignore', 'inherit'] },
      );
      const [code] = await once(child, 'exit');
      if (code !== 0) throw new Error(`storescu ended with ${code}`);
    };
    const began = performance.now();
    await Promise.all(associations === 1 ? [send(lanes)] : lanes.map((lane) => send([lane])));
    const seconds = (performance.now() - began) / 1_000;
    const statistics = await fetch(`http://127.0.0.1:${httpPort}/statistics`);
    const { CountInstances: held } = (await statistics.json()) as { readonly CountInstances?: number };
    if (held !== set.instances) throw new Error(`Orthanc holds ${held} of ${set.instances} instances`);
    return set.instances / seconds;
  } finally {
    const gone = once(orthanc, 'exit');
    orthanc.kill('SIGKILL');
    await gone;
  }
}

async function start(directory: string, httpPort: number, dicomPort: number): Promise<ChildProcess> {
  await mkdir(directory, { recursive: true });
  const file = join(directory, 'orthanc.json');
  const configuration = {
    StorageDirectory: join(directory, 'storage'),
    IndexDirectory: join(directory, 'index'),
    HttpPort: httpPort,
    DicomPort: dicomPort,
    RemoteAccessAllowed: false,
    AuthenticationEnabled: false,
    DicomAlwaysAllowStore: true,
    // Said, though it is the default.
    SyncStorageArea: true,
  };
  await writeFile(file, JSON.stringify(configuration));
  const child = spawn(executable ?? 'Orthanc', [file], { cwd: directory, env: ENVIRONMENT, stdio: 'ignore' });
  process.once('exit', () => child.kill('SIGKILL'));
  const deadline = Date.now() + START_MS;
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${httpPort}/system`).catch(() => undefined);
    await answer?.arrayBuffer();
    if (answer?.ok) return child;
    if (child.exitCode !== null || Date.now() > deadline) throw new Error('Orthanc did not start');
    await pause(POLL_MS);
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

function find(name: string, ...further: readonly string[]): string | undefined {
  const directories = [...(process.env.PATH ?? '').split(delimiter), ...further];
  return directories.map((directory) => join(directory, name)).find((path) => existsSync(path));
}
