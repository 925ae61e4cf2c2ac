import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, globSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { freePort } from '../../src/testing/free-port.ts';

/** An Orthanc of the running test's own, with the DICOMweb plugin and nothing else. */
export interface Orthanc {
  /** The root of its own REST interface; the same over all restarts. */
  readonly url: string;
  readonly dicomWebUrl: string;
  /** The latest of what it said, for the message of a test that failed. */
  log(): string;
  /** Ends it: SIGTERM lets it finish what it has begun, SIGKILL does not. Resolves when the process is gone. */
  stop(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>;
  /** Starts it again, on the same directory and port. Resolves when DICOMweb answers. */
  start(): Promise<void>;
}

const START_MS = 30_000;
const STOP_MS = 20_000;
const POLL_MS = 25;
const MAX_LOG_CHARACTERS = 8_000;

const executable = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin']
  .map((directory) => join(directory, 'Orthanc'))
  .find((path) => existsSync(path));
const plugin = [
  '/usr/share/orthanc/plugins/libOrthancDicomWeb.so',
  ...globSync('/usr/lib/orthanc/libOrthancDicomWeb.so*'),
].find((path) => existsSync(path));

/** What keeps Orthanc from being started here; undefined when nothing does. */
export function missingOrthanc(): string | undefined {
  if (executable === undefined) return 'Orthanc is not installed (Debian: orthanc)';
  return plugin === undefined
    ? 'the DICOMweb plugin of Orthanc is not installed (Debian: orthanc-dicomweb)'
    : undefined;
}

/** Starts an Orthanc on loopback whose files are all in `directory`. It is stopped when the test has finished. */
export async function startOrthanc({ directory }: { readonly directory: string }): Promise<Orthanc> {
  await mkdir(directory, { recursive: true });
  // It listens on every address, and answers to loopback alone.
  const orthanc = new OrthancProcess(directory, await freePort('0.0.0.0'));
  onTestFinished(() => orthanc.stop('SIGKILL'));
  await orthanc.start();
  return orthanc;
}

class OrthancProcess implements Orthanc {
  readonly url: string;
  readonly dicomWebUrl: string;
  readonly #directory: string;
  readonly #port: number;
  #child: ChildProcess | undefined;
  #log = '';

  constructor(directory: string, port: number) {
    this.#directory = directory;
    this.#port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.dicomWebUrl = `${this.url}/dicom-web`;
  }

  log(): string {
    return this.#log;
  }

  async start(): Promise<void> {
    const configuration = join(this.#directory, 'orthanc.json');
    await writeFile(configuration, JSON.stringify(this.#configuration()));
    const child = spawn(executable ?? 'Orthanc', [configuration], {
      cwd: this.#directory,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#log = (this.#log + text).slice(-MAX_LOG_CHARACTERS);
      });
    }
    // When the test runner ends without its hooks.
    const kill = () => child.kill('SIGKILL');
    process.once('exit', kill);
    child.once('exit', () => process.off('exit', kill));
    const deadline = Date.now() + START_MS;
    while (!(await this.#answers())) {
      if (hasEnded(child)) throw new Error(`Orthanc ended while it started. It said:\n${this.#log}`);
      if (Date.now() > deadline)
        throw new Error(`Orthanc does not answer after ${START_MS} ms. It said:\n${this.#log}`);
      await pause(POLL_MS);
    }
  }

  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    const child = this.#child;
    if (child === undefined || hasEnded(child)) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await gone;
    clearTimeout(late);
  }

  async #answers(): Promise<boolean> {
    const answer = await fetch(`${this.dicomWebUrl}/studies?limit=1`, { signal: AbortSignal.timeout(START_MS) }).catch(
      () => undefined,
    );
    await answer?.arrayBuffer();
    return answer?.ok === true;
  }

  /** All else is as Orthanc has it by default: what it holds already under a UID is kept, not replaced. */
  #configuration(): Readonly<Record<string, unknown>> {
    return {
      Name: 'spillway-test',
      StorageDirectory: join(this.#directory, 'storage'),
      IndexDirectory: join(this.#directory, 'index'),
      HttpPort: this.#port,
      RemoteAccessAllowed: false,
      AuthenticationEnabled: false,
      DicomServerEnabled: false,
      Plugins: [plugin],
      DicomWeb: { Enable: true, Root: '/dicom-web/' },
    };
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}
