import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, globSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';

const START_MS = 30_000;
const POLL_MS = 25;
/** Below those that systems give to outgoing connections. */
const FIRST_PORT = 15_000;
const LAST_PORT = 32_000;
/** Nagle's algorithm on either side makes one connection wait 40 ms an object; DCMTK, inside Orthanc, reads this. */
const ENVIRONMENT = { ...process.env, TCP_NODELAY: '1' };

const executable = findProgram('Orthanc', '/usr/sbin');
export const hasOrthanc = executable !== undefined;
const dicomWeb = [
  '/usr/share/orthanc/plugins/libOrthancDicomWeb.so',
  ...globSync('/usr/lib/orthanc/libOrthancDicomWeb.so*'),
].find((path) => existsSync(path));

/** What is not installed; undefined when nothing is missing. */
export function missingOrthancDicomWeb(): string | undefined {
  if (executable === undefined) return 'Orthanc (Debian: orthanc)';
  return dicomWeb === undefined ? 'the DICOMweb plugin of Orthanc (Debian: orthanc-dicomweb)' : undefined;
}

export interface OrthancOptions {
  /** All that it keeps is in there. */
  readonly directory: string;
  /** @default a free one */
  readonly httpPort?: number;
  readonly dicomPort?: number;
  /** Further settings, or others in place of these. */
  readonly settings?: Readonly<Record<string, unknown>>;
}

/** An Orthanc with the DICOMweb plugin, durable as it is by default; ended with the process that started it. */
export class Orthanc {
  readonly url: string;
  readonly dicomWebUrl: string;
  readonly dicomPort: number;
  /** What it has said, with when, in ms since the epoch. */
  readonly lines: { readonly text: string; readonly at: number }[] = [];
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, httpPort: number, dicomPort: number) {
    this.#child = child;
    this.dicomPort = dicomPort;
    this.url = `http://127.0.0.1:${httpPort}`;
    this.dicomWebUrl = `${this.url}/dicom-web`;
    for (const input of [child.stdout, child.stderr]) {
      if (input === null) continue;
      createInterface({ input }).on('line', (text) => this.lines.push({ text, at: Date.now() }));
    }
  }

  static async start(options: OrthancOptions): Promise<Orthanc> {
    const { directory, httpPort = await freePort(), dicomPort = await freePort(), settings } = options;
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
      Plugins: dicomWeb === undefined ? [] : [dicomWeb],
      DicomWeb: { Enable: true, Root: '/dicom-web/' },
      ...settings,
    };
    await writeFile(file, JSON.stringify(configuration));
    const child = spawn(executable ?? 'Orthanc', [file], {
      cwd: directory,
      env: ENVIRONMENT,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const orthanc = new Orthanc(child, httpPort, dicomPort);
    process.once('exit', orthanc.#kill);
    const deadline = Date.now() + START_MS;
    for (;;) {
      const answer = await fetch(`${orthanc.url}/system`).catch(() => undefined);
      await answer?.arrayBuffer();
      if (answer?.ok) return orthanc;
      if (child.exitCode !== null || Date.now() > deadline) {
        throw new Error(`Orthanc did not start: ${orthanc.lines.map(({ text }) => text).join('\n')}`);
      }
      await pause(POLL_MS);
    }
  }

  async get<Answer>(path: string): Promise<Answer> {
    const answer = await fetch(`${this.url}${path}`);
    return (await answer.json()) as Answer;
  }

  /** How many instances it holds. */
  async count(): Promise<number> {
    return (await this.get<{ readonly CountInstances: number }>('/statistics')).CountInstances;
  }

  async kill(): Promise<void> {
    process.off('exit', this.#kill);
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#kill();
    await gone;
  }

  readonly #kill = (): void => {
    this.#child.kill('SIGKILL');
  };
}

export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(FIRST_PORT, LAST_PORT + 1);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

/** Where a program is: on the path, or in one of these directories. */
export function findProgram(name: string, ...further: readonly string[]): string | undefined {
  const directories = [...(process.env.PATH ?? '').split(delimiter), ...further];
  return directories.map((directory) => join(directory, name)).find((path) => existsSync(path));
}
