import { type ChildProcess, fork, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe } from '../support/figures.ts';
import type { PendingStore } from '../support/pending-store.ts';
import type { Announcement, ServerFigures } from './discarding-server.ts';
import type { PassJob, PassResult } from './pass.ts';

/** How one client did. */
export interface Pass {
  readonly perSecond: number;
  readonly mbPerSecond: number;
  /** For each instance. */
  readonly cpuMs: number;
  /** From the first request until the last of those watched was answered. */
  readonly watchedSeconds: number;
}

let children: ChildProcess[] = [];

/** Ends what is still running. */
export function endPasses(): void {
  for (const child of children) child.kill();
}

/** The server that discards, and what it saw of each pass. */
export class DiscardingServer {
  readonly #child: ChildProcess;
  readonly #port: number;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.#port = port;
  }

  static async start(): Promise<DiscardingServer> {
    const child = fork(fileURLToPath(new URL('./discarding-server.ts', import.meta.url)));
    children.push(child);
    const [port] = (await once(child, 'message')) as [number];
    return new DiscardingServer(child, port);
  }

  async pass(
    script: string,
    store: PendingStore,
    job: Pick<PassJob, 'inFlight' | 'instancesPerRequest'>,
    watched: readonly string[] = [],
  ): Promise<Pass> {
    store.reset();
    spawnSync('sync');
    const files = store.files.map(({ sopInstanceUid, bytes }) => [sopInstanceUid, bytes] as const);
    await this.#ask({ files, watched });
    const { endedAt, cpuMs } = await runPass(script, store, { ...job, url: `http://127.0.0.1:${this.#port}` });
    const figures = await this.#ask('figures');
    const count = store.files.length;
    if (figures.instances !== count) throw new Error(`${figures.instances} of ${count} instances came`);
    const seconds = (endedAt - figures.firstRequestAt) / 1_000;
    return {
      perSecond: count / seconds,
      mbPerSecond: figures.bytes / 1e6 / seconds,
      cpuMs: cpuMs / count,
      watchedSeconds: (figures.lastWatchedAt - figures.firstRequestAt) / 1_000,
    };
  }

  async #ask(message: Announcement | 'figures'): Promise<ServerFigures> {
    this.#child.send(message);
    const [answer] = (await once(this.#child, 'message')) as [ServerFigures];
    return answer;
  }
}

/** In a process of its own. */
export async function runPass(
  script: string,
  { directory, listing }: PendingStore,
  job: Omit<PassJob, 'directory' | 'files'>,
): Promise<PassResult> {
  const whole: PassJob = { ...job, directory, files: listing };
  const file = fileURLToPath(new URL(`./${script}`, import.meta.url));
  const child = spawn(process.execPath, [file, JSON.stringify(whole)], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  let told = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    told += text;
  });
  const [code, signal] = await once(child, 'close');
  children = children.filter((other) => other !== child);
  if (code !== 0) throw new Error(`${script} ended with ${code ?? signal}`);
  return JSON.parse(told) as PassResult;
}

/** Who goes first changes, so that a machine that grows slower or faster favours nobody. */
export async function inTurn(passes: number, kinds: readonly (() => Promise<unknown>)[]): Promise<void> {
  for (let pass = 0; pass < passes; pass += 1) {
    for (const kind of pass % 2 === 0 ? kinds : kinds.toReversed()) await kind();
  }
}

export function describePasses(name: string, passes: readonly Pass[]): void {
  const of = (key: keyof Pass, digits: number) =>
    describe(
      passes.map((pass) => pass[key]),
      digits,
    );
  console.log(`${name}: ${of('perSecond', 0)}/s, ${of('mbPerSecond', 0)} MB/s, ${of('cpuMs', 2)} ms of CPU each`);
}
