import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Orthanc } from '../support/orthanc.ts';
import { type Routing, routingScript } from './auto-routing.ts';
import type { DestinationB } from './destination.ts';
import type { GatewayMessage } from './gateway.ts';

/** What receives from the modalities and is to bring it to B. */
export interface Sender {
  readonly name: string;
  /** Where instances are stored by STOW-RS. */
  readonly dicomWebUrl: string;
  start(): Promise<void>;
  /** By SIGKILL. */
  kill(): Promise<void>;
  /** Whether it says that it has nothing left to do. */
  isIdle(): Promise<boolean>;
  /** What it says has become of what it took. */
  claims(): Promise<string>;
  /** Instances that it began to send, whatever became of them; null where it does not say. */
  readonly attempts: number | null;
  /** When it knew that B is back, ms since the epoch; null where it does not say. */
  readonly noticedAt: number | null;
  /** Its balance of the outage. */
  readonly reconciliation: string;
}

const START_MS = 20_000;
const POLL_MS = 25;
const STABLE_SECONDS = 3;

/** A: an Orthanc that forwards by one of its usual scripts. */
export class OrthancSender implements Sender {
  readonly name: string;
  readonly #directory: string;
  readonly #routing: Routing;
  readonly #httpPort: number;
  readonly #b: DestinationB;
  #orthanc: Orthanc | undefined;
  #failures = 0;

  constructor(directory: string, routing: Routing, httpPort: number, b: DestinationB) {
    this.name = routing === 'instance' ? 'Orthanc, each instance as it comes' : 'Orthanc, each stable study as a job';
    this.#directory = directory;
    this.#routing = routing;
    this.#httpPort = httpPort;
    this.#b = b;
  }

  get dicomWebUrl(): string {
    return `http://127.0.0.1:${this.#httpPort}/dicom-web`;
  }

  async start(): Promise<void> {
    this.#orthanc = await Orthanc.start({
      directory: this.#directory,
      httpPort: this.#httpPort,
      settings: {
        LuaScripts: [routingScript(this.#directory, this.#routing)],
        DicomModalities: { B: ['ORTHANC', '127.0.0.1', this.#b.dicomPort] },
        StableAge: STABLE_SECONDS,
      },
    });
  }

  async kill(): Promise<void> {
    this.#failures += this.#failed();
    await this.#orthanc?.kill();
  }

  async isIdle(): Promise<boolean> {
    const states = await this.#jobStates();
    return states.every((state) => state === 'Success' || state === 'Failure');
  }

  async claims(): Promise<string> {
    const states = await this.#jobStates();
    const of = (wanted: string) => states.filter((state) => state === wanted).length;
    return `${of('Success')} jobs Success, ${of('Failure')} Failure`;
  }

  readonly attempts = null;
  readonly noticedAt = null;

  get reconciliation(): string {
    return `none; ${this.#failures + this.#failed()} errors in its log`;
  }

  #failed(): number {
    return this.#orthanc?.lines.filter(({ text }) => text.startsWith('E')).length ?? 0;
  }

  async #jobStates(): Promise<readonly string[]> {
    const jobs = await this.#orthanc?.get<readonly { readonly State: string }[]>('/jobs?expand');
    return (jobs ?? []).map(({ State }) => State);
  }
}

/** A gateway with spillway in it, in a process of its own. */
export class SpillwaySender implements Sender {
  readonly name = 'spillway';
  attempts = 0;
  noticedAt: number | null = null;
  reconciliation = 'none';
  readonly #directory: string;
  readonly #port: number;
  readonly #b: DestinationB;
  #child: ChildProcess | undefined;
  #idle: Extract<GatewayMessage, { type: 'idle' }> | undefined;

  constructor(directory: string, port: number, b: DestinationB) {
    this.#directory = directory;
    this.#port = port;
    this.#b = b;
  }

  get dicomWebUrl(): string {
    return `http://127.0.0.1:${this.#port}/dicom-web`;
  }

  async start(): Promise<void> {
    this.#idle = undefined;
    const file = fileURLToPath(new URL('./gateway.ts', import.meta.url));
    const child = spawn(process.execPath, [file, this.#directory, String(this.#port), this.#b.dicomWebUrl], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#child = child;
    process.once('exit', () => child.kill('SIGKILL'));
    createInterface({ input: child.stdout }).on('line', (line) => this.#told(JSON.parse(line) as GatewayMessage));
    const deadline = Date.now() + START_MS;
    for (;;) {
      const answer = await fetch(this.dicomWebUrl).catch(() => undefined);
      await answer?.arrayBuffer();
      if (answer !== undefined) return;
      if (child.exitCode !== null || Date.now() > deadline) throw new Error('the gateway did not start');
      await pause(POLL_MS);
    }
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'close');
    child.kill('SIGKILL');
    await gone;
  }

  async isIdle(): Promise<boolean> {
    return this.#idle !== undefined;
  }

  async claims(): Promise<string> {
    if (this.#idle === undefined) return 'still at work';
    return `${this.#idle.verified} verified, ${this.#idle.quarantined} quarantined`;
  }

  #told(message: GatewayMessage): void {
    switch (message.type) {
      case 'attempts':
        this.attempts += message.instances;
        return;
      case 'recovery':
        this.noticedAt = message.at;
        return;
      case 'idle':
        this.#idle = message;
        return;
      case 'closed': {
        const { received, verified, unaccounted } = message;
        this.reconciliation = `received ${received}, verified ${verified}, unaccounted for ${unaccounted}`;
        return;
      }
      case 'fault':
        console.log(`spillway: fault: ${message.message}`);
    }
  }
}
