import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { GatewayMessage } from './messages.ts';

const LATENCY_MS = 40;

/** A PACS that can be taken down and brought back. */
export interface Outageable {
  readonly url: string;
  down(): Promise<void>;
  up(): Promise<void>;
  stop(): Promise<void>;
}

/** The PACS of `spillway/testing`, as a process on a directory: down is `kill -9`. */
export async function ownPacs(directory: string): Promise<Outageable> {
  const script = fileURLToPath(new URL('../../src/testing/pacs-main.ts', import.meta.url));
  let port = 0;
  let child: ChildProcess | undefined;
  const up = async () => {
    const options = ['--directory', directory, '--port', String(port), '--latency-ms', String(LATENCY_MS)];
    child = spawn(process.execPath, [script, ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout ?? process.stdin });
    const [line] = (await once(lines, 'line')) as [string];
    ({ port } = JSON.parse(line) as { port: number });
  };
  await up();
  return {
    url: `http://127.0.0.1:${port}`,
    up,
    down: () => kill(child),
    stop: () => kill(child),
  };
}

/** A PACS that is somebody else's: down is a door before it that is shut. */
export async function foreignPacs(url: string): Promise<Outageable> {
  const target = new URL(url);
  const targetPort = Number(target.port || (target.protocol === 'https:' ? 443 : 80));
  if (target.protocol !== 'http:') throw new Error(`Expected --pacs to be an http: URL, got ${url}.`);
  const sockets = new Set<Socket>();
  let port = 0;
  let server: Server | undefined;
  const up = async () => {
    server = createServer((incoming) => {
      const outgoing = connect(targetPort, target.hostname);
      for (const socket of [incoming, outgoing]) {
        sockets.add(
          socket
            .setNoDelay(true)
            .on('error', () => {})
            .on('close', () => sockets.delete(socket)),
        );
      }
      incoming.pipe(outgoing).pipe(incoming);
      incoming.on('close', () => outgoing.destroy());
      outgoing.on('close', () => incoming.destroy());
    }).listen(port, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    port = typeof address === 'object' && address !== null ? address.port : port;
  };
  const down = async () => {
    const closed = server === undefined ? undefined : once(server, 'close');
    server?.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  await up();
  return { url: `http://127.0.0.1:${port}${target.pathname.replace(/\/$/, '')}`, up, down, stop: down };
}

/** The gateway, as a process on a store. */
export class Gateway {
  readonly #store: string;
  readonly #pacs: string;
  readonly #onMessage: (message: GatewayMessage) => void;
  #child: ChildProcess | undefined;
  #port = 0;

  constructor(store: string, pacs: string, onMessage: (message: GatewayMessage) => void) {
    this.#store = store;
    this.#pacs = pacs;
    this.#onMessage = onMessage;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/studies`;
  }

  async start(): Promise<void> {
    const script = fileURLToPath(new URL('./gateway.ts', import.meta.url));
    const child = fork(script, ['--store', this.#store, '--port', String(this.#port), '--pacs', this.#pacs]);
    this.#child = child;
    await new Promise<void>((resolve, reject) => {
      child.once('exit', (code, signal) => reject(new Error(`the gateway ended (${signal ?? code})`)));
      child.on('message', (message: GatewayMessage) => {
        if (message.type === 'listening') {
          this.#port = message.port;
          resolve();
        } else {
          this.#onMessage(message);
        }
      });
    });
  }

  /** `kill -9`: no chance to tidy up. */
  async kill(): Promise<void> {
    await kill(this.#child);
  }

  async stop(): Promise<void> {
    if (this.#child?.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    await exited;
  }
}

async function kill(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}
