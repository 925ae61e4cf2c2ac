import { createServer, type Server, type Socket } from 'node:net';
import { SpillwayError } from '../errors.ts';
import { freePort } from './free-port.ts';
import { type TcpBreak, TcpConnection, type TcpEnd } from './tcp-connection.ts';
import { Changes } from './tcp-lane.ts';

export type { TcpBreak } from './tcp-connection.ts';

/** How a line behaves; may be changed at any time, and counts for what passes from then on. */
export interface TcpLine {
  /** Each way, in ms, as a distance has it; at most 1 MiB is under way in each direction. @default 0 */
  readonly delayMs?: number;
  /** Of each connection, each way, as a thin or a shared line has it. @default unbounded */
  readonly bytesPerSecond?: number;
  /**
   * Nothing more is read from the sender: a peer whose disk is stuck or whose threads are all taken. The connection stands, and
   * what was taken is acknowledged, until buffers are full. @default false
   */
  readonly stallReads?: boolean;
  /** Of senders at once; one more is reset as it comes, as by a peer whose associations are all in use. @default 256 */
  readonly maxConnections?: number;
}

/** How a proxy is started. */
export interface TcpProxyOptions extends TcpLine {
  /** The peer. It need not be there yet: who connects meanwhile is reset. */
  readonly target: { readonly host?: string; readonly port: number };
  /** @default a free one, below those that are given to outgoing connections */
  readonly port?: number;
}

const HOST = '127.0.0.1';
const MAX_CONNECTIONS = 256;

/**
 * A proxy on loopback between a sender and its peer, for the faults of networks that no peer can be asked for. It passes
 * bytes and ends as they come, no faster than they are taken; what it holds is bounded.
 */
export class TcpProxy implements AsyncDisposable {
  readonly port: number;
  readonly #target: { readonly host: string; readonly port: number };
  readonly #changes = new Changes();
  readonly #connections = new Set<TcpConnection>();
  #line: TcpLine;
  #server: Server | undefined;
  #isHalfOpen = false;
  #accepted = 0;
  #endAtAnswer: { readonly how: TcpBreak; readonly done: (happened: boolean) => void } | undefined;
  #endAfterBytes:
    | {
        readonly how: TcpBreak;
        readonly bytes: number;
        /** What had passed when it was asked for. */
        readonly before: ReadonlyMap<TcpConnection, number>;
        readonly done: (happened: boolean) => void;
      }
    | undefined;

  private constructor(port: number, target: TcpProxyOptions['target'], line: TcpLine) {
    this.port = port;
    this.#target = { host: HOST, ...target };
    this.#line = line;
  }

  /** @throws SpillwayError `SPILLWAY_OPTION_INVALID`; errors of listening as they come */
  static async start(options: TcpProxyOptions): Promise<TcpProxy> {
    const { target, port = await freePort(HOST), ...line } = options;
    checkLine(line);
    const proxy = new TcpProxy(port, target, line);
    await proxy.#listen();
    return proxy;
  }

  /** Connections of senders that stand. */
  get connections(): number {
    return this.#connections.size;
  }

  /** Connections of senders since it was started. */
  get accepted(): number {
    return this.#accepted;
  }

  /**
   * Changes what is given of the line.
   *
   * @throws SpillwayError `SPILLWAY_OPTION_INVALID`
   */
  set(line: TcpLine): void {
    checkLine(line);
    this.#line = { ...this.#line, ...line };
    this.#changes.notify();
  }

  /** Every connection ends in mid-stream by FIN: a peer that is shut down, or a load balancer that is set up anew. */
  cut(): void {
    this.#breakAll('cut');
  }

  /** Every connection ends by RST: a peer that crashed, or a firewall that wants nothing more of it. */
  reset(): void {
    this.#breakAll('reset');
  }

  /**
   * Bytes vanish both ways, and nobody is told: a cable was pulled, a switch died, a firewall forgot the connections. New ones
   * are taken and lead nowhere. After `restore`, those that stand stay dead, since a stream has no gaps.
   */
  halfOpen(): void {
    this.#isHalfOpen = true;
    this.#breakAll('half-open');
  }

  /** Takes no new connections (ECONNREFUSED): the peer's process is gone, its host is there. Those that stand go on. */
  async refuse(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    // Resolves only when its connections have ended, yet it listens no more at once.
    server?.close();
  }

  /** Ends `halfOpen` and `refuse`: new connections are taken and lead to the peer. */
  async restore(): Promise<void> {
    this.#isHalfOpen = false;
    if (this.#server === undefined) await this.#listen();
  }

  /**
   * Breaks the first connection over which so many further bytes have gone to the peer: a loss in mid-body. By RST, the
   * peer may not have read them all. Once; asking again replaces it. Resolves when it has happened, with false where it was replaced or the proxy was closed before.
   */
  cutAfterBytes(bytes: number, how: TcpBreak = 'cut'): Promise<boolean> {
    check('cutAfterBytes', bytes, 0);
    this.#endAfterBytes?.done(false);
    return new Promise((done) => {
      const before = new Map([...this.#connections].map((connection) => [connection, connection.passed]));
      this.#endAfterBytes = { how, bytes, before, done };
    });
  }

  /**
   * Breaks the first connection over which the peer answers, before the sender hears any of it: a loss after the last byte, of
   * which nobody can say whether it was stored. Once; resolves as `cutAfterBytes` does.
   */
  cutAtAnswer(how: TcpBreak = 'cut'): Promise<boolean> {
    this.#endAtAnswer?.done(false);
    return new Promise((done) => {
      this.#endAtAnswer = { how, done };
    });
  }

  /** Ends everything. Idempotent. */
  async close(): Promise<void> {
    this.#endAfterBytes?.done(false);
    this.#endAtAnswer?.done(false);
    await this.refuse();
    const closing = [...this.#connections].map((connection) => {
      connection.destroy();
      return connection.closed;
    });
    await Promise.all(closing);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #listen(): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (client) => this.#accept(client));
    this.#server = server;
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.port, HOST, () => {
        server.off('error', reject);
        resolve();
      });
    });
  }

  #accept(client: Socket): void {
    this.#accepted += 1;
    const { maxConnections = MAX_CONNECTIONS } = this.#line;
    if (this.#connections.size >= maxConnections) {
      client.on('error', () => {});
      client.resetAndDestroy();
      return;
    }
    const connection: TcpConnection = new TcpConnection({
      client,
      target: this.#isHalfOpen ? undefined : this.#target,
      delayMs: () => this.#line.delayMs ?? 0,
      bytesPerSecond: () => this.#line.bytesPerSecond ?? Number.POSITIVE_INFINITY,
      isStalled: () => this.#line.stallReads ?? false,
      changes: this.#changes,
      endAtAnswer: () => this.#takeEndAtAnswer(),
      endAfterBytes: (passed, bytes) => this.#takeEndAfterBytes(connection, passed, bytes),
    });
    this.#connections.add(connection);
    void connection.closed.then(() => this.#connections.delete(connection));
  }

  #takeEndAtAnswer(): TcpEnd | undefined {
    const end = this.#endAtAnswer;
    this.#endAtAnswer = undefined;
    return end && { after: 0, how: end.how, done: () => end.done(true) };
  }

  #takeEndAfterBytes(connection: TcpConnection, passed: number, bytes: number): TcpEnd | undefined {
    const end = this.#endAfterBytes;
    if (end === undefined) return undefined;
    const after = end.bytes + (end.before.get(connection) ?? 0) - passed;
    if (after > bytes) return undefined;
    this.#endAfterBytes = undefined;
    return { after, how: end.how, done: () => end.done(true) };
  }

  #breakAll(how: TcpBreak): void {
    for (const connection of this.#connections) connection.break(how);
    this.#changes.notify();
  }
}

function checkLine({ delayMs, bytesPerSecond, maxConnections }: TcpLine): void {
  check('delayMs', delayMs, 0);
  check('bytesPerSecond', bytesPerSecond, 1);
  check('maxConnections', maxConnections, 0);
}

function check(name: string, value: number | undefined, least: number): void {
  if (value === undefined || (typeof value === 'number' && value >= least)) return;
  throw new SpillwayError('SPILLWAY_OPTION_INVALID', `Expected ${name} to be at least ${least}, got ${value}.`);
}
