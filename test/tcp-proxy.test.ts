import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { TcpProxy, type TcpProxyOptions } from '../src/testing/tcp-proxy.ts';

const MIB = 1024 * 1024;

interface Peer {
  readonly port: number;
  readonly received: () => number;
  /** The connections that came, each with how it ended so far. */
  readonly sockets: readonly { readonly socket: Socket; ended: boolean; error: string | undefined; closed: boolean }[];
  readonly server: Server;
}

/** A peer that answers with what it is sent, or with whatever `onData` says. */
async function peer(
  onData: (socket: Socket, chunk: Buffer) => void = (socket, chunk) => socket.write(chunk),
): Promise<Peer> {
  let received = 0;
  const sockets: Peer['sockets'][number][] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const seen: Peer['sockets'][number] = { socket, ended: false, error: undefined, closed: false };
    sockets.push(seen);
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
      onData(socket, chunk);
    });
    socket.on('end', () => {
      seen.ended = true;
      socket.end();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      seen.error = error.code;
    });
    socket.on('close', () => {
      seen.closed = true;
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const { socket } of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return { port: address.port, received: () => received, sockets, server };
}

async function proxyTo({ port }: Pick<Peer, 'port'>, line: Omit<TcpProxyOptions, 'target'> = {}): Promise<TcpProxy> {
  const proxy = await TcpProxy.start({ target: { port }, ...line });
  onTestFinished(() => proxy.close());
  return proxy;
}

async function sender(port: number) {
  const socket = sending(port);
  await once(socket, 'connect');
  return socket;
}

function sending(port: number) {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  onTestFinished(() => {
    socket.destroy();
  });
  const state = { error: undefined as string | undefined, ended: false, received: 0 };
  socket.on('data', (chunk: Buffer) => {
    state.received += chunk.length;
  });
  socket.on('end', () => {
    state.ended = true;
  });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    state.error = error.code;
  });
  return Object.assign(socket, { state });
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 5_000; turn += 1) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  throw new Error(`It never came about: ${what}`);
}

describe('passes on', () => {
  test('bytes both ways as they are, and each end by itself', async () => {
    const pieces: Buffer[] = [];
    const there = await peer((_, chunk) => pieces.push(chunk));
    there.server.prependListener('connection', (socket: Socket) => {
      socket.on('end', () => socket.write(Buffer.concat(pieces)));
    });
    const proxy = await proxyTo(there);
    const here = await sender(proxy.port);
    const sent = Buffer.from(Uint8Array.from({ length: 300_000 }, (_, index) => (index * 7 + (index >> 8)) & 255));
    const answer: Buffer[] = [];
    here.on('data', (chunk: Buffer) => answer.push(chunk));
    here.end(sent);
    await once(here, 'end');
    expect(Buffer.concat(pieces).equals(sent)).toBe(true);
    expect(Buffer.concat(answer).equals(sent)).toBe(true);
    await until('no connection stands', () => proxy.connections === 0);
  });

  test('a reset, as a reset', async () => {
    const there = await peer();
    const proxy = await proxyTo(there);
    const here = await sender(proxy.port);
    here.write('x');
    await until('answered', () => here.state.received === 1);
    here.resetAndDestroy();
    await until('it reached the peer', () => there.sockets[0]?.error === 'ECONNRESET');
    const again = await sender(proxy.port);
    again.write('x');
    await until('answered', () => again.state.received === 1);
    there.sockets[1]?.socket.resetAndDestroy();
    await until('it reached the sender', () => again.state.error === 'ECONNRESET');
    await until('no connection stands', () => proxy.connections === 0);
  });

  test('a peer that is not there, as a reset', async () => {
    const there = await peer();
    there.server.close();
    const proxy = await proxyTo(there);
    const here = await sender(proxy.port);
    await until('it reached the sender', () => here.state.error === 'ECONNRESET');
  });
});

describe('the line', () => {
  test('delay: nothing arrives before its time, both ways', async () => {
    const there = await peer();
    const proxy = await proxyTo(there, { delayMs: 60 });
    const here = await sender(proxy.port);
    const before = performance.now();
    here.write('x');
    await until('answered', () => here.state.received === 1);
    // A timer may be early by one ms.
    expect(performance.now() - before).toBeGreaterThanOrEqual(118);
  });

  test('rate: so many bytes take at least so long; a change counts at once', async () => {
    const there = await peer(() => {});
    const proxy = await proxyTo(there, { bytesPerSecond: 1 * MIB });
    const here = await sender(proxy.port);
    const before = performance.now();
    here.write(new Uint8Array(MIB / 4));
    await until('it arrived', () => there.received() === MIB / 4);
    // What 20 ms allow goes at once, as does the last piece.
    expect(performance.now() - before).toBeGreaterThanOrEqual(200);
    proxy.set({ bytesPerSecond: 1 });
    here.write(new Uint8Array(MIB));
    await until('one piece went', () => there.received() > MIB / 4);
    const stuck = there.received();
    expect(stuck).toBeLessThan(MIB / 2);
    proxy.reset();
    const next = await sender(proxy.port);
    proxy.set({ bytesPerSecond: 1024 * MIB });
    next.write(new Uint8Array(MIB));
    await until('it arrived', () => there.received() === stuck + MIB);
  });

  test('a reader that has stopped: little is taken, and all arrives once it reads again', async () => {
    const there = await peer(() => {});
    const proxy = await proxyTo(there, { stallReads: true });
    const here = await sender(proxy.port);
    let written = 0;
    here.write(new Uint8Array(256 * MIB), () => {
      written = 256 * MIB;
    });
    const before = proxy.accepted;
    // Others come and go meanwhile.
    for (let turn = 0; turn < 20; turn += 1) (await sender(proxy.port)).destroy();
    expect(proxy.accepted).toBe(before + 20);
    expect(there.received()).toBe(0);
    expect(written).toBe(0);
    proxy.set({ stallReads: false });
    await until('it arrived', () => there.received() === 256 * MIB);
  });

  test('a peer that reads slowly fills no memory', async () => {
    const there = await peer(() => {});
    there.server.prependListener('connection', (socket: Socket) => socket.pause());
    const proxy = await proxyTo(there, { delayMs: 1 });
    const here = await sender(proxy.port);
    await until('connected', () => there.sockets.length === 1);
    there.sockets[0]?.socket.pause();
    const chunk = new Uint8Array(64 * 1024);
    const taken = () => here.bytesWritten - here.writableLength;
    let last = -1;
    // Writes until nothing is taken for a good while.
    for (let still = 0; still < 50 && last < 40 * MIB; ) {
      while (here.writableLength < 4 * MIB) here.write(chunk);
      await new Promise((resolve) => setTimeout(resolve, 2));
      still = taken() === last ? still + 1 : 0;
      last = taken();
    }
    // The system's buffers of four sockets take their part.
    expect(last).toBeLessThan(40 * MIB);
    there.sockets[0]?.socket.resume();
    here.end();
    await until('it arrived', () => there.received() === here.bytesWritten);
  });

  test('one connection too many is reset, until another has ended', async () => {
    const there = await peer();
    const proxy = await proxyTo(there, { maxConnections: 1 });
    const first = await sender(proxy.port);
    const second = sending(proxy.port);
    await until('it is reset', () => second.state.error === 'ECONNRESET');
    first.destroy();
    await until('it is gone', () => proxy.connections === 0);
    const third = await sender(proxy.port);
    third.write('x');
    await until('answered', () => third.state.received === 1);
  });

  test.each([{ delayMs: -1 }, { bytesPerSecond: 0 }, { maxConnections: Number.NaN }])('%o is refused', async (line) => {
    const there = await peer();
    await expect(TcpProxy.start({ target: there, ...line })).rejects.toMatchObject({ code: 'SPILLWAY_OPTION_INVALID' });
    const proxy = await proxyTo(there);
    expect(() => proxy.set(line)).toThrow(/Expected/);
  });
});

describe('breaks', () => {
  async function standing() {
    const there = await peer();
    const proxy = await proxyTo(there);
    const here = await sender(proxy.port);
    here.write('x');
    await until('answered', () => here.state.received === 1);
    return { there, proxy, here, seen: there.sockets[0] as Peer['sockets'][number] };
  }

  test('a cut: both sides are told by FIN, also in mid-stream', async () => {
    const { proxy, here, seen } = await standing();
    here.write(new Uint8Array(MIB));
    proxy.cut();
    await until('both are told', () => here.state.ended && seen.ended);
    expect([here.state.error, seen.error]).toEqual([undefined, undefined]);
    here.end();
    await until('nothing stands', () => proxy.connections === 0);
  });

  test('a reset: both sides are told by RST', async () => {
    const { proxy, here, seen } = await standing();
    proxy.reset();
    await until('both are told', () => here.state.error === 'ECONNRESET' && seen.error === 'ECONNRESET');
    expect(proxy.connections).toBe(0);
  });

  test('half-open: bytes vanish, nobody is told, and what has lost bytes stays dead', async () => {
    const { there, proxy, here, seen } = await standing();
    proxy.halfOpen();
    here.write(new Uint8Array(8 * MIB));
    await until('it is taken', () => here.writableLength === 0);
    seen.socket.write('unheard');
    const late = await sender(proxy.port);
    late.write('lost');
    await until('it is taken', () => late.writableLength === 0);
    expect(there.received()).toBe(1);
    expect(there.sockets).toHaveLength(1);
    await proxy.restore();
    here.write('still lost');
    const fresh = await sender(proxy.port);
    fresh.write('xyz');
    await until('answered', () => fresh.state.received === 3);
    expect(there.received()).toBe(4);
    expect(here.state).toEqual({ error: undefined, ended: false, received: 1 });
    here.destroy();
    late.destroy();
    await until('the sender gave up', () => proxy.connections === 1 || proxy.connections === 2);
    expect([seen.ended, seen.error, seen.closed]).toEqual([false, undefined, false]);
  });

  test('refusing: those that stand go on, new ones are refused, until it listens again', async () => {
    const { proxy, here } = await standing();
    await proxy.refuse();
    await expect(sender(proxy.port)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    here.write('y');
    await until('answered', () => here.state.received === 2);
    await proxy.restore();
    const again = await sender(proxy.port);
    again.write('z');
    await until('answered', () => again.state.received === 1);
  });

  test.each(['cut', 'reset', 'half-open'] as const)('after so many bytes: %s', async (how) => {
    const { there, proxy, here, seen } = await standing();
    const done = proxy.cutAfterBytes(100_000, how);
    here.write(new Uint8Array(300_000));
    expect(await done).toBe(true);
    // A reset takes back what the peer has not read.
    if (how !== 'reset') await until('they arrived', () => there.received() === 100_001);
    if (how === 'cut') await until('told', () => seen.ended && here.state.ended);
    if (how === 'reset') await until('told', () => seen.error !== undefined && here.state.error !== undefined);
    if (how === 'half-open') expect([seen.ended, seen.error, here.state.ended]).toEqual([false, undefined, false]);
    const received = there.received();
    if (how === 'reset') expect(received).toBeLessThanOrEqual(100_001);
    else expect(received).toBe(100_001);
    // Once.
    const again = await sender(proxy.port);
    again.write(new Uint8Array(300_000));
    await until('answered', () => again.state.received === 300_000);
  });

  test.each(['cut', 'reset', 'half-open'] as const)('at the answer: %s', async (how) => {
    const { there, proxy, here, seen } = await standing();
    const replaced = proxy.cutAtAnswer(how);
    const done = proxy.cutAtAnswer(how);
    expect(await replaced).toBe(false);
    here.write('request');
    expect(await done).toBe(true);
    expect(there.received()).toBe(8);
    expect(here.state.received).toBe(1);
    if (how === 'cut') await until('told', () => seen.ended && here.state.ended);
    if (how === 'reset') await until('told', () => seen.error !== undefined && here.state.error !== undefined);
    expect(here.state.received).toBe(1);
    const again = await sender(proxy.port);
    again.write('z');
    await until('answered', () => again.state.received === 1);
  });

  test('closing ends everything, also what is asked for and did not come', async () => {
    const { there, proxy, here } = await standing();
    const never = [proxy.cutAtAnswer(), proxy.cutAfterBytes(1_000)];
    proxy.set({ stallReads: true });
    here.write(new Uint8Array(32 * MIB));
    await proxy.close();
    await proxy.close();
    expect(await Promise.all(never)).toEqual([false, false]);
    expect(proxy.connections).toBe(0);
    await expect(sender(proxy.port)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await until('the peer is told', () => there.sockets[0]?.closed === true);
  });
});
