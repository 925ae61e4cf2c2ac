import { createServer as createTcpServer } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import type { OutgoingInstance } from '../src/transports/transport.ts';

import {
  allStored,
  answerJson,
  bodyOf,
  cleanUp,
  cleanups,
  instance,
  kinds,
  listen,
  never,
  serve,
  transportTo,
  zeros,
} from './support/dicomweb-peer.ts';

afterEach(cleanUp);

describe('a peer that cannot be reached', () => {
  test('refuses the connection: nothing is read', async () => {
    const server = createTcpServer();
    const port = await listen(server);
    await cleanups.pop()?.();
    let wasRead = false;
    const outgoing = zeros(1, 1000, () => {
      wasRead = true;
    });
    const transport = transportTo(`http://127.0.0.1:${port}`);
    expect(await transport.send([outgoing, instance(2)], never)).toEqual(
      Array(2).fill({ kind: 'unreachable', reason: expect.stringContaining('ECONNREFUSED') }),
    );
    expect(wasRead).toBe(false);
    expect(await transport.probe(never)).toEqual({
      alive: false,
      reason: expect.stringContaining('ECONNREFUSED'),
    });
    expect(await transport.lookUp([instance(1).identity], never)).toBeNull();
    expect(await transport.readBack(instance(1).identity, never)).toBeNull();
  });

  test('a name that does not resolve', async () => {
    const [outcome] = await transportTo('http://pacs.invalid').send([instance(1)], never);
    expect(outcome).toMatchObject({ kind: 'unreachable', reason: expect.stringMatching(/ENOTFOUND|EAI_AGAIN/) });
  });

  test('a name of several addresses, none of which answers, still has a reason', async () => {
    const port = await listen(createTcpServer());
    await cleanups.pop()?.();
    const [outcome] = await transportTo(`http://localhost:${port}`).send([instance(1)], never);
    expect(outcome).toMatchObject({ kind: 'unreachable', reason: expect.stringContaining('ECONNREFUSED') });
  });

  test('takes the connection, but never agrees on TLS', async () => {
    const port = await listen(createTcpServer((socket) => socket.resume()));
    const transport = transportTo(`https://127.0.0.1:${port}`, { connectTimeoutMs: 50 });
    expect(await transport.send([instance(1)], never)).toEqual([
      { kind: 'unreachable', reason: 'no connection within 50 ms' },
    ]);
  });

  test('headers that cannot be had are a matter of set-up', async () => {
    const url = await serve((_, response) => response.end());
    const failing = transportTo(url, { headers: () => Promise.reject(new Error('token service is down')) });
    const [outcome] = await failing.send([instance(1)], never);
    expect(outcome).toMatchObject({ kind: 'unreachable', reason: expect.stringContaining('token service is down') });
    const hanging = transportTo(url, { idleTimeoutMs: 30, headers: () => new Promise(() => {}) });
    expect(kinds(await hanging.send([instance(1)], never))).toEqual(['unreachable']);
  });
});

describe('a connection that is lost', () => {
  test('in mid-body: what had gone out whole is ambiguous, the rest was not sent', async () => {
    const url = await serve((request) => {
      let received = 0;
      request.on('data', (chunk: Buffer) => {
        received += chunk.length;
        if (received > 1024 * 1024) request.socket.destroy();
      });
    });
    const outcomes = await transportTo(url).send([instance(1), zeros(2, 256 * 1024 * 1024), instance(3)], never);
    expect(kinds(outcomes)).toEqual(['ambiguous', 'unreachable', 'unreachable']);
  });

  test('after the last byte: all are ambiguous', async () => {
    const url = await serve(async (request) => {
      await bodyOf(request);
      request.socket.destroy();
    });
    expect(kinds(await transportTo(url).send([instance(1), instance(2)], never))).toEqual(['ambiguous', 'ambiguous']);
  });

  test('on a kept connection that the peer closes as the next request comes', async () => {
    let requests = 0;
    const url = await serve(async (request, response) => {
      requests += 1;
      if (requests > 1) return request.socket.destroy();
      await bodyOf(request);
      return answerJson(response, 200, allStored(instance(1)));
    });
    const transport = transportTo(url);
    expect(kinds(await transport.send([instance(1)], never))).toEqual(['stored']);
    const outcomes = await transport.send([instance(1)], never);
    expect(['ambiguous', 'unreachable']).toContain(outcomes[0]?.kind);
    expect(requests).toBe(2);
  });

  test('in the middle of the answer: a success is lost, a refusal stands', async () => {
    const statuses = [200, 503];
    const url = await serve(async (request, response) => {
      await bodyOf(request);
      response.writeHead(statuses.shift() ?? 500, { 'content-length': '1000' });
      response.write('{"00081199":', () => request.socket.destroy());
    });
    const transport = transportTo(url);
    expect(kinds(await transport.send([instance(1)], never))).toEqual(['ambiguous']);
    expect(kinds(await transport.send([instance(1)], never))).toEqual(['push-back']);
  });

  test('stored is not believed of an instance that had not gone out whole', async () => {
    const [small, large] = [instance(1), zeros(2, 64 * 1024 * 1024)];
    // Answers when the request begins, and takes nothing more of it.
    const url = await serve((_, response) => answerJson(response, 200, allStored(small, large)));
    const outcomes = await transportTo(url).send([small, large], never);
    expect(kinds(outcomes)[1]).toBe('ambiguous');
  });

  test('no answer comes', async () => {
    const url = await serve((request) => request.resume());
    const transport = transportTo(url, { idleTimeoutMs: 250 });
    expect(await transport.send([instance(1)], never)).toEqual([
      { kind: 'ambiguous', reason: 'no byte moved for 250 ms' },
    ]);
    expect(await transport.probe(never)).toEqual({ alive: false, reason: 'no byte moved for 250 ms' });
    expect(await transport.lookUp([instance(1).identity], never)).toBeNull();
  });

  test('the answer stops coming', async () => {
    const url = await serve(async (request, response) => {
      await bodyOf(request);
      response.writeHead(200);
      response.write('[');
    });
    const transport = transportTo(url, { idleTimeoutMs: 250 });
    expect(await transport.send([instance(1)], never)).toEqual([
      { kind: 'ambiguous', reason: 'no byte moved for 250 ms' },
    ]);
    expect(await transport.lookUp([instance(1).identity], never)).toBeNull();
    expect(await transport.readBack(instance(1).identity, never)).toBeNull();
  });

  test('the peer takes nothing more', async () => {
    const port = await listen(createTcpServer((socket) => socket.pause()));
    const transport = transportTo(`http://127.0.0.1:${port}`, { idleTimeoutMs: 500 });
    const outcomes = await transport.send([instance(1), zeros(2, 256 * 1024 * 1024)], never);
    expect(outcomes.map((outcome) => [outcome.kind, 'reason' in outcome && outcome.reason])).toEqual([
      ['ambiguous', 'no byte moved for 500 ms'],
      ['unreachable', 'no byte moved for 500 ms'],
    ]);
  });
});

describe('answers out of the ordinary', () => {
  test.each([413, 503, 409])('%i comes before the body was sent', async (status) => {
    const url = await serve((request, response) => {
      request.once('data', () => {
        request.pause();
        response.writeHead(status, { 'retry-after': '3' }).end();
      });
    });
    const [outcome] = await transportTo(url).send([zeros(1, 256 * 1024 * 1024)], never);
    expect(outcome).toMatchObject({ reason: expect.stringContaining(`HTTP ${status}`) });
    expect(outcome?.kind).toBe(status === 503 ? 'push-back' : 'refused');
  });

  test.each([
    ['garbage', 'not json {'],
    ['JSON of another shape', '{"message":"ok"}'],
    ['a list', '[1,2]'],
    ['XML', '<NativeDicomModel/>'],
    ['too much', ' '.repeat(9 * 1024 * 1024)],
    ['nothing', ''],
  ])('200 with %s says nothing of the instances', async (_, body) => {
    const url = await serve(async (request, response) => {
      await bodyOf(request);
      response.end(body);
    });
    expect(kinds(await transportTo(url).send([instance(1)], never))).toEqual(['unanswered']);
  });

  test.each([
    [200, true],
    [204, true],
    [400, true],
    [429, true],
    [302, false],
    [401, false],
    [403, false],
    [404, false],
    [500, false],
    [503, false],
  ])('a probe that is answered by %i: alive is %s', async (status, alive) => {
    const urls: string[] = [];
    const url = await serve((request, response) => {
      urls.push(request.url ?? '');
      response.writeHead(status).end();
    });
    expect((await transportTo(url).probe(never)).alive).toBe(alive);
    expect(urls).toEqual(['/dicom-web/studies?limit=1']);
  });
});

describe('an instance that cannot be read here', () => {
  const failing = (): OutgoingInstance => ({
    ...instance(2),
    async *open() {
      yield new Uint8Array(10);
      throw new Error('EIO: disk');
    },
  });
  const long = (): OutgoingInstance => ({ ...instance(2), bytes: instance(2).bytes - 1 });
  const short = (): OutgoingInstance => ({ ...instance(2), bytes: instance(2).bytes + 1 });
  const throwing = (): OutgoingInstance => ({
    ...instance(2),
    open() {
      throw new Error('no such blob');
    },
  });
  const hanging = (): OutgoingInstance => ({
    ...instance(2),
    async *open() {
      yield new Uint8Array(10);
      await new Promise(() => {});
    },
  });

  test.each([
    ['fails', failing, 'EIO: disk'],
    ['is too long', long, 'got more'],
    ['is too short', short, `expected ${instance(2).bytes + 1} bytes, got ${instance(2).bytes}`],
    ['throws', throwing, 'no such blob'],
    ['hangs', hanging, 'nothing could be read for 200 ms'],
  ])('%s: it alone is refused, and the destination is not blamed', async (what, broken, reason) => {
    let answered = false;
    const url = await serve(async (request, response) => {
      const whole = await bodyOf(request).catch(() => undefined);
      answered = whole !== undefined;
      if (answered) answerJson(response, 200, allStored(instance(1), instance(2), instance(3)));
    });
    const transport = transportTo(url, what === 'hangs' ? { idleTimeoutMs: 200 } : {});
    expect(await transport.send([instance(1), broken(), instance(3)], never)).toEqual([
      { kind: 'unanswered', reason: expect.any(String) },
      { kind: 'refused', reason: expect.stringContaining(reason), mayRetry: true },
      { kind: 'unanswered', reason: expect.any(String) },
    ]);
    expect(answered).toBe(false);
  });
});

describe('an abort', () => {
  test('rejects, and destroys the request', async () => {
    const abort = new AbortController();
    let whenClosed = (_: unknown) => {};
    const closed = new Promise((resolve) => {
      whenClosed = resolve;
    });
    const url = await serve((request) => {
      request.resume();
      request.socket.on('close', whenClosed);
      request.on('end', () => abort.abort(new Error('enough')));
    });
    await expect(transportTo(url).send([instance(1)], abort.signal)).rejects.toMatchObject({
      code: 'SPILLWAY_ABORTED',
      cause: expect.objectContaining({ message: 'enough' }),
    });
    await closed;
  });

  test('in mid-body frees what was being read', async () => {
    const abort = new AbortController();
    let whenFreed = (_: unknown) => {};
    const freed = new Promise((resolve) => {
      whenFreed = resolve;
    });
    const url = await serve((request) => {
      request.once('data', () => abort.abort());
    });
    const large = zeros(1, 256 * 1024 * 1024);
    const outgoing: OutgoingInstance = {
      ...large,
      async *open() {
        try {
          yield* large.open();
        } finally {
          whenFreed(undefined);
        }
      },
    };
    await expect(transportTo(url).send([outgoing], abort.signal)).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' });
    await freed;
  });

  test('that came before asks nobody', async () => {
    const transport = transportTo('http://127.0.0.1:1');
    const aborted = AbortSignal.abort();
    const { identity } = instance(1);
    for (const call of [
      transport.send([instance(1)], aborted),
      transport.probe(aborted),
      transport.lookUp([identity], aborted),
      transport.readBack(identity, aborted),
    ]) {
      await expect(call).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' });
    }
  });
});
