import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { toNodeListener } from '../examples/support/node-adapter.ts';
import { createStowHandler, type InstanceAcceptor, type StowHandlerOptions } from '../src/handler/index.ts';
import { dicomwebDestination } from '../src/transports/dicomweb/destination.ts';
import { answerOf, bodyOf, ct, FakeAcceptor, identityOf, post, RELATED, refusal, uid } from './support/stow-request.ts';

/** Turns of the event loop, in which timers do not move. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 100; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

describe('a sender that stalls', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
  afterEach(() => void vi.useRealTimers());

  /** Sends that much, and then nothing more. */
  function stalling(bytes: Uint8Array): Request {
    const body = new ReadableStream<Uint8Array>({ start: (controller) => controller.enqueue(bytes) });
    const headers = { 'content-type': RELATED };
    return new Request('http://spillway/studies', { method: 'POST', headers, body, duplex: 'half' });
  }

  test('is answered for what is durable', async () => {
    const acceptor = new FakeAcceptor();
    let response: Response | undefined;
    const request = stalling(bodyOf([ct(1), ct(2)]).subarray(0, -2000));
    void createStowHandler(acceptor)(request).then((given) => {
      response = given;
    });
    await turns();
    expect(acceptor.receipts).toHaveLength(1);
    vi.advanceTimersByTime(59_999);
    await turns();
    expect(response).toBeUndefined();
    vi.advanceTimersByTime(1);
    await turns();
    if (response === undefined) throw new Error('no answer');
    expect(await answerOf(response)).toEqual({
      status: 202,
      retryAfter: null,
      stored: [uid(1)],
      failed: [[uid(2), 0x0110]],
      others: [],
    });
    expect(vi.getTimerCount()).toBe(0);
  });

  test.each([
    ['in its first instance', 2000],
    ['before it', 10],
  ])('%s is told that it was waited for', async (_, bytes) => {
    const handle = createStowHandler(new FakeAcceptor(), { idleTimeoutMs: 5 });
    const answer = handle(stalling(bodyOf([ct(1)]).subarray(0, bytes)));
    await turns();
    vi.advanceTimersByTime(5);
    expect((await answer).status).toBe(408);
  });

  test('is not the one whose instance takes long to be made durable', async () => {
    let promise = (_: unknown) => {};
    const promised = new Promise((resolve) => {
      promise = resolve;
    });
    const inner = new FakeAcceptor();
    const acceptor: InstanceAcceptor = {
      async accept(source) {
        await promised;
        return inner.accept(source);
      },
    };
    const answer = createStowHandler(acceptor)(post([ct(1), ct(2)]));
    await turns();
    vi.advanceTimersByTime(3_600_000);
    promise(undefined);
    expect((await answer).status).toBe(200);
    expect(vi.getTimerCount()).toBe(0);
  });
});

test('a sender that stalls on a real connection is answered on it', async () => {
  const acceptor = new FakeAcceptor();
  const server = createServer(toNodeListener(createStowHandler(acceptor, { idleTimeoutMs: 300 })));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  try {
    const body = bodyOf([ct(1), ct(2)]);
    socket.write(
      `POST /studies HTTP/1.1\r\nHost: x\r\nContent-Type: ${RELATED}\r\nContent-Length: ${body.length}\r\n\r\n`,
    );
    socket.write(body.subarray(0, -2000));
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 202 /);
    expect(acceptor.receipts).toHaveLength(1);
  } finally {
    socket.destroy();
    server.closeAllConnections();
    server.close();
  }
});

/** What our own sender makes of the answers to instances that it sends in one request. */
async function sent(acceptor: InstanceAcceptor, options: StowHandlerOptions, seeds: readonly number[]) {
  const server = createServer(toNodeListener(createStowHandler(acceptor, options)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const { port } = server.address() as AddressInfo;
    const { transport } = dicomwebDestination({ id: 'next', url: `http://127.0.0.1:${port}` });
    const outgoing = seeds.map((seed) => {
      const bytes = ct(seed);
      return { identity: identityOf(seed), bytes: bytes.length, open: () => Readable.from([bytes]) };
    });
    return await transport.send(outgoing, new AbortController().signal);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test('a full store is push-back to the DICOMweb destination, for every instance and with the wait', async () => {
  const full: InstanceAcceptor = { accept: () => Promise.reject(refusal('SPILLWAY_STORE_FULL')) };
  const pushedBack = { kind: 'push-back', reason: 'A700 out of resources', retryAfterMs: 60_000 };
  expect(await sent(full, {}, [1, 2])).toEqual([pushedBack, pushedBack]);
});

test('parts beyond the limit are not taken for stored by the DICOMweb destination', async () => {
  const outcomes = await sent(new FakeAcceptor(), { maxParts: 2 }, [1, 2, 3]);
  expect(outcomes.map(({ kind }) => kind)).toEqual(['stored', 'stored', 'unanswered']);
});

test('parts beyond the limit are passed over, and the sender is told that there were more', async () => {
  const acceptor = new FakeAcceptor();
  const handle = createStowHandler(acceptor, { maxParts: 2 });
  expect(await answerOf(await handle(post([ct(1), ct(2), ct(3), ct(4), Buffer.alloc(0)])))).toEqual({
    status: 202,
    retryAfter: '60',
    stored: [uid(1), uid(2)],
    failed: [],
    others: [0xa700],
  });
  expect(acceptor.receipts).toHaveLength(2);
  expect((await handle(post([ct(5), ct(6)]))).status).toBe(200);
  // Cut off later, it is told both.
  const cutAt = bodyOf([ct(1), ct(2), ct(3)]).length - 2000;
  const cut = await answerOf(await handle(post([ct(1), ct(2), ct(3)], { cutAt })));
  expect(cut).toMatchObject({ status: 202, others: [0xa700, 0x0110] });
});

test.each<[string, object]>([
  ['maxParts', { maxParts: 0 }],
  ['maxParts', { maxParts: 1.5 }],
  ['idleTimeoutMs', { idleTimeoutMs: 0 }],
  ['idleTimeoutMs', { idleTimeoutMs: 2 ** 31 }],
  ['idleTimeoutMs', { idleTimeoutMs: Number.POSITIVE_INFINITY }],
])('%s out of its range is refused', (name, options) => {
  expect(() => createStowHandler(new FakeAcceptor(), options)).toThrow(
    expect.objectContaining({ code: 'SPILLWAY_OPTION_INVALID', message: expect.stringContaining(name) }),
  );
});
