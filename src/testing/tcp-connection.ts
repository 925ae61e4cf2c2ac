import { connect, type Socket } from 'node:net';
import { type Changes, Lane } from './tcp-lane.ts';

/** How a connection breaks: both ends are told (FIN, or RST), or neither ever is. */
export type TcpBreak = 'cut' | 'reset' | 'half-open';

/** After a cut, what is still on its way from a side that does not hang up is taken for so long, in ms. */
const LINGER_MS = 1_000;

export interface TcpConnectionOptions {
  /** From the sender. */
  readonly client: Socket;
  /** Undefined where it leads nowhere from the beginning. */
  readonly target: { readonly host: string; readonly port: number } | undefined;
  readonly delayMs: () => number;
  readonly bytesPerSecond: () => number;
  readonly isStalled: () => boolean;
  readonly changes: Changes;
  /** Asked at all bytes from the peer, and at those to it: after how many of them it is to break, and how. */
  readonly endAtAnswer: () => TcpEnd | undefined;
  readonly endAfterBytes: (alreadyPassed: number, bytes: number) => TcpEnd | undefined;
}

/** An end that a connection comes to. */
export interface TcpEnd {
  readonly after: number;
  readonly how: TcpBreak;
  /** It has. */
  readonly done: () => void;
}

/** A sender's connection and the one to the peer that belongs to it. */
export class TcpConnection {
  readonly client: Socket;
  /** Resolves when both sockets are gone. */
  readonly closed: Promise<void>;
  readonly #upstream: Socket | undefined;
  readonly #lanes: readonly Lane[];
  readonly #requests: Lane | undefined;
  #isBroken: TcpBreak | undefined;

  constructor(options: TcpConnectionOptions) {
    const { client, target, changes } = options;
    this.client = client;
    client.setNoDelay(true);
    if (target === undefined) {
      this.#isBroken = 'half-open';
      this.#lanes = [];
      client.resume();
    } else {
      this.#upstream = connect({ ...target, allowHalfOpen: true, noDelay: true });
      const { delayMs, bytesPerSecond } = options;
      const limited = (end: TcpEnd | undefined) =>
        end === undefined ? undefined : { after: end.after, happen: () => this.#end(end) };
      const requests: Lane = new Lane(
        client,
        this.#upstream,
        {
          delayMs,
          bytesPerSecond,
          isStalled: options.isStalled,
          limit: (bytes) => limited(options.endAfterBytes(requests.passed, bytes)),
        },
        changes,
      );
      const answers = new Lane(
        this.#upstream,
        client,
        { delayMs, bytesPerSecond, isStalled: () => false, limit: () => limited(options.endAtAnswer()) },
        changes,
      );
      this.#requests = requests;
      this.#lanes = [requests, answers];
      for (const lane of this.#lanes) void lane.run();
    }
    this.closed = this.#watch();
  }

  /** Bytes that have passed to the peer. */
  get passed(): number {
    return this.#requests?.passed ?? 0;
  }

  break(how: TcpBreak): void {
    if (this.#isBroken === 'cut' || this.#isBroken === 'reset') return;
    this.#isBroken = how;
    for (const lane of this.#lanes) lane.stop();
    if (how === 'half-open') return;
    for (const socket of this.#sockets()) {
      if (how === 'reset') {
        socket.resetAndDestroy();
        continue;
      }
      // Closed with something unread, the system would send RST instead.
      socket.end();
      const lingering = setTimeout(() => socket.destroy(), LINGER_MS);
      socket.once('close', () => clearTimeout(lingering));
    }
  }

  /** Both sockets, at once and without a word more. */
  destroy(): void {
    for (const lane of this.#lanes) lane.stop();
    for (const socket of this.#sockets()) socket.destroy();
  }

  #end({ how, done }: TcpEnd): void {
    this.break(how);
    done();
  }

  #sockets(): readonly Socket[] {
    return this.#upstream === undefined ? [this.client] : [this.client, this.#upstream];
  }

  async #watch(): Promise<void> {
    const sockets = this.#sockets();
    for (const socket of sockets) {
      const other = sockets.find((candidate) => candidate !== socket);
      socket.on('error', () => {
        if (this.#isBroken === undefined) other?.resetAndDestroy();
      });
      // Nobody on the other side of a broken cable hears of it.
      socket.on('end', () => {
        if (this.#isBroken === 'half-open') socket.destroy();
      });
    }
    await Promise.all(sockets.map((socket) => new Promise<void>((resolve) => socket.once('close', () => resolve()))));
  }
}
