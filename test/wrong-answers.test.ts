import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, onTestFinished, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import { boundaryOf, readMultipart } from '../src/dicom/multipart.ts';
import { ownPacs, PeerRig } from './support/peer-rig.ts';

const REFERENCED_SOP_INSTANCE = '00081155';
const STORED = '00081199';
const FAILED = '00081198';

/** How an answer to a store request goes wrong; what it answers to the body has been passed on, or not. */
interface WrongAnswer {
  /** Whether the PACS behind it is given the request first. */
  readonly passesOn: boolean;
  readonly answer: (response: ServerResponse, socket: Socket) => void;
}

/**
 * An HTTP server before a PACS: its first store requests are answered wrongly, everything else as the PACS does. Returns
 * its root, and how many it has answered wrongly.
 */
async function front(pacsPort: number, wrong: WrongAnswer, times: number) {
  let answered = 0;
  const url = await serve((request, response) => {
    if (request.method !== 'POST' || answered >= times) return void pass(request, response, pacsPort);
    answered += 1;
    if (!wrong.passesOn) {
      request.resume();
      return wrong.answer(response, request.socket);
    }
    void forward(request, pacsPort).then((real) => {
      real.resume();
      wrong.answer(response, request.socket);
    });
  });
  return { url, wrong: () => answered };
}

/** An HTTP server of the running test's own; returns its root. */
async function serve(listener: (request: IncomingMessage, response: ServerResponse) => unknown): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((request, response) => {
    request.on('error', () => {});
    response.on('error', () => {});
    listener(request, response);
  });
  server.keepAliveTimeout = 60_000;
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function forward(request: IncomingMessage, port: number): Promise<IncomingMessage> {
  const { method, url, headers } = request;
  const onward = httpRequest({ host: '127.0.0.1', port, method, path: url, headers, agent: false });
  request.pipe(onward);
  const [response] = (await once(onward, 'response')) as [IncomingMessage];
  return response;
}

async function pass(request: IncomingMessage, response: ServerResponse, port: number): Promise<void> {
  const real = await forward(request, port).catch(() => undefined);
  if (real === undefined) return void response.destroy();
  response.writeHead(real.statusCode ?? 500, real.headers);
  real.pipe(response);
}

const ends =
  (status: number, body = '', headers: Readonly<Record<string, string>> = {}) =>
  (response: ServerResponse) => {
    response.writeHead(status, { 'content-type': 'application/dicom+json', ...headers }).end(body);
  };
const html = (status: number) =>
  ends(status, '<!doctype html><title>Welcome</title><h1>It works!</h1>', { 'content-type': 'text/html' });
const listed = (tag: string, uids: readonly string[]) =>
  JSON.stringify({
    [tag]: { vr: 'SQ', Value: uids.map((uid) => ({ [REFERENCED_SOP_INSTANCE]: { vr: 'UI', Value: [uid] } })) },
  });
const lists = (tag: string, uid: string) => listed(tag, [uid]);
const raw = (text: string, then: 'end' | 'reset' | 'nothing') => (_: ServerResponse, socket: Socket) => {
  socket.write(text, () => {
    if (then === 'end') socket.end();
    if (then === 'reset') socket.resetAndDestroy();
  });
};

const ANSWERS: readonly [string, (response: ServerResponse, socket: Socket) => void][] = [
  ['200 with nothing', ends(200)],
  ['204', ends(204)],
  ['an HTML page with 200', html(200)],
  ['an HTML page with 500', html(500)],
  ['an HTML page with 502, as of a proxy', html(502)],
  ['a redirection to a login', ends(302, '', { location: '/login' })],
  ['401, then it is let in', ends(401, '', { 'www-authenticate': 'Bearer' })],
  ['404', ends(404)],
  ['400 without a word', ends(400)],
  ['409 without a word', ends(409)],
  ['a status that there is none of', ends(299)],
  ['JSON that is cut short, in a whole answer', ends(200, lists(STORED, '1.2.3').slice(0, 40))],
  ['JSON of another data set', ends(200, '{"00100020":{"vr":"LO","Value":["X"]}}')],
  ['null', ends(200, 'null')],
  ['a success of an instance that was not sent', ends(200, lists(STORED, '1.2.3.4.5.6.7'))],
  ['a failure of an instance that was not sent', ends(409, lists(FAILED, '1.2.3.4.5.6.7'))],
  ['JSON that is cut short by the connection', raw('HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"000811', 'end')],
  ['JSON that is cut short by a reset', raw('HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"000811', 'reset')],
  ['a status line that is none', raw('HTTP/9.9 OK OK\r\n\r\n', 'end')],
  ['what is no HTTP', raw('220 mail.example ESMTP\r\n', 'nothing')],
  ['headers without an end', raw(`HTTP/1.1 200 OK\r\nX-A: ${'a'.repeat(200_000)}\r\n`, 'nothing')],
  ['100 Continue, then silence', raw('HTTP/1.1 100 Continue\r\n\r\n', 'nothing')],
  ['103 Early Hints, then silence', raw('HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n', 'nothing')],
  ['an end without a word', raw('', 'end')],
];

/** What says that nothing of it was stored: it is sent again without being asked for. */
const SAY_NONE_STORED = ['a redirection to a login', '401, then it is let in', '404'];

describe.each([
  ['stores what it is sent', true],
  ['passes nothing on', false],
])('a server that %s, and twice', (_, passesOn) => {
  test.each(ANSWERS)('answers with %s', async (name, answer) => {
    const pacs = await ownPacs();
    const { url, wrong } = await front(pacs.port, { passesOn, answer }, 2);
    const gateway = await PeerRig.open(url, name.endsWith('silence') ? { idleTimeoutMs: 500 } : {});
    await gateway.accept(1, 5);
    await gateway.accept(2, 2);
    await gateway.verified();
    expect(wrong()).toBe(2);
    const doubled = gateway.expectStored(await pacs.journal());
    if (passesOn && SAY_NONE_STORED.includes(name)) expect(doubled).toBeLessThanOrEqual(8);
    else expect(doubled).toBe(0);
    expect(gateway.told('outage')).toEqual([]);
  });
});

/** A request's body as the PACS would have it, and the UIDs in it. */
async function uidsIn(request: IncomingMessage): Promise<readonly string[]> {
  const boundary = boundaryOf(request.headers['content-type'] ?? '');
  const uids: string[] = [];
  for await (const part of readMultipart(request, boundary)) {
    uids.push((await readAndDigest(part.body)).header.identity.sopInstanceUid);
  }
  return uids;
}

describe('a server that', () => {
  test('says success of what it drops: it is asked, sent again after a grace, and never called verified before', async () => {
    const pacs = await ownPacs();
    let dropped = 0;
    const url = await serve(async (request, response) => {
      if (request.method !== 'POST' || dropped >= 7) return pass(request, response, pacs.port);
      const uids = await uidsIn(request);
      dropped += uids.length;
      ends(200, listed(STORED, uids))(response);
    });
    const gateway = await PeerRig.open(url, { retry: { lookUpMs: 500 } });
    await gateway.accept(1, 5);
    await gateway.accept(2, 2);
    await gateway.until('all is said to be stored', () => dropped >= 7);
    expect(await gateway.status()).toMatchObject({ verified: 0, backlog: { instances: 7 } });
    await gateway.verified();
    gateway.expectStored(await pacs.journal());
    expect(await pacs.journal()).toHaveLength(7);
  });

  test('says failure of what it has stored: it is looked up, and not sent twice', async () => {
    const pacs = await ownPacs();
    let failed = 0;
    const url = await serve(async (request, response) => {
      if (request.method !== 'POST' || failed >= 1) return pass(request, response, pacs.port);
      failed += 1;
      const real = await forward(request, pacs.port);
      const body = await text(real);
      ends(
        409,
        body.replace(STORED, FAILED).replaceAll('"00081190"', '"00081197":{"vr":"US","Value":[272]},"00081190"'),
      )(response);
    });
    const gateway = await PeerRig.open(url);
    await gateway.accept(1, 3);
    await gateway.verified();
    expect(failed).toBe(1);
    expect(gateway.expectStored(await pacs.journal())).toBe(0);
  });

  test.each([200, 400, 503])(
    'answers %i before the body is read: no instance is believed to be stored',
    async (status) => {
      const pacs = await ownPacs();
      let early = 0;
      const url = await serve((request, response) => {
        if (request.method !== 'POST' || early >= 2) return void pass(request, response, pacs.port);
        early += 1;
        request.pause();
        response.writeHead(status, { connection: 'close' }).end();
      });
      const gateway = await PeerRig.open(url);
      await gateway.accept(1, 6, { pixelBytes: 3_000_000 });
      await gateway.verified();
      expect(early).toBe(2);
      expect(gateway.expectStored(await pacs.journal())).toBe(0);
    },
  );

  test('closes every kept connection at once: what goes out on one is not lost, and no outage is declared', async () => {
    const pacs = await ownPacs();
    const url = await serve(async (request, response) => {
      const real = await forward(request, pacs.port);
      const body = await text(real);
      const head = `HTTP/1.1 ${real.statusCode} OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=600\r\n`;
      const type = `Content-Type: application/dicom+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`;
      response.socket?.end(head + type + body, () => response.socket?.destroySoon());
    });
    const gateway = await PeerRig.open(url, { maxConcurrency: 4, maxInstancesPerRequest: 1 });
    for (let seed = 1; seed <= 10; seed += 1) await gateway.accept(seed, 5);
    await gateway.verified();
    expect(gateway.expectStored(await pacs.journal())).toBe(0);
    expect(gateway.told('outage')).toEqual([]);
  });

  test('says 100 Continue again and again: that keeps no slot for ever', async () => {
    const pacs = await ownPacs();
    let dripping = 0;
    const timers: NodeJS.Timeout[] = [];
    onTestFinished(() => {
      for (const timer of timers) clearInterval(timer);
    });
    const url = await serve((request, response) => {
      if (request.method !== 'POST' || dripping >= 2) return void pass(request, response, pacs.port);
      dripping += 1;
      request.resume();
      const timer = setInterval(() => {
        if (request.socket.writable) request.socket.write('HTTP/1.1 100 Continue\r\n\r\n');
      }, 20);
      timers.push(timer);
    });
    const gateway = await PeerRig.open(url, { idleTimeoutMs: 100 });
    await gateway.accept(1, 3);
    await gateway.verified();
    expect(dripping).toBe(2);
    expect(gateway.expectStored(await pacs.journal())).toBe(0);
  });

  test('never answers rightly: nothing is called verified, put aside, or given up; then it does', async () => {
    const pacs = await ownPacs();
    let isWrong = true;
    let asked = 0;
    const url = await serve((request, response) => {
      if (!isWrong) return void pass(request, response, pacs.port);
      asked += 1;
      request.resume();
      html(200)(response);
    });
    const gateway = await PeerRig.open(url);
    await gateway.accept(1, 5);
    await gateway.accept(2, 5, { ageMs: 90 * 24 * 3_600_000 });
    await gateway.until('an outage is declared', () => gateway.told('outage').length > 0);
    await gateway.until('it is asked many times', () => asked > 30);
    expect(await gateway.status()).toMatchObject({ verified: 0, quarantined: 0, backlog: { instances: 10 } });
    isWrong = false;
    await gateway.verified();
    expect(gateway.expectStored(await pacs.journal())).toBe(0);
    expect(gateway.told('outage')).toHaveLength(1);
  });
});

test('a server that wants other credentials, also after a restart: one outage that says so, until they are mended', async () => {
  const pacs = await ownPacs();
  const url = await serve((request, response) => {
    if (request.headers.authorization === 'Bearer new') return void pass(request, response, pacs.port);
    request.resume();
    ends(401, '', { 'www-authenticate': 'Bearer' })(response);
  });
  let token = 'old';
  const gateway = await PeerRig.open(url, { durable: true, headers: () => ({ authorization: `Bearer ${token}` }) });
  await gateway.accept(1, 4);
  await gateway.accept(2, 4, { ageMs: 90 * 24 * 3_600_000 });
  await gateway.until('an outage', () => gateway.told('outage').length > 0);
  expect(gateway.told('outage')).toMatchObject([{ cause: expect.stringMatching(/HTTP 401: check the credentials/) }]);
  await gateway.close();
  await gateway.open();
  await gateway.phase('down', 'probing');
  token = 'new';
  await gateway.verified();
  await gateway.until('it is closed', () => gateway.told('closed').length > 0);
  expect(gateway.told('outage')).toHaveLength(1);
  expect(gateway.told('closed')).toMatchObject([{ received: 8, verified: 8, unaccounted: 0 }]);
  expect(gateway.expectStored(await pacs.journal())).toBe(0);
});

describe('queries that are answered wrongly prove nothing', () => {
  const shows = (...uids: readonly string[]) =>
    JSON.stringify(uids.map((uid) => ({ '00080018': { vr: 'UI', Value: [uid] } })));
  const queries: readonly [string, (response: ServerResponse, socket: Socket) => void][] = [
    ['an HTML page with 200', html(200)],
    ['500', html(500)],
    ['401', ends(401)],
    ['nothing at all', ends(204)],
    ['an empty list', ends(200, '[]')],
    ['an object', ends(200, '{}')],
    ['other instances', ends(200, shows('1.2.3', '1.2.4'))],
    ['JSON that is cut short', ends(200, shows('1.2.3').slice(0, 30))],
    [
      'a page that never ends',
      (response) => ends(200, shows(...Array.from({ length: 500 }, (_, at) => `1.2.${at}`)))(response),
    ],
    ['an answer that is cut off', raw('HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n[{"000800', 'end')],
    ['silence', () => {}],
  ];

  test.each(queries)('%s', async (_, answer) => {
    const pacs = await ownPacs();
    let isWrong = true;
    let asked = 0;
    const url = await serve((request, response) => {
      if (!isWrong || request.method === 'POST') return void pass(request, response, pacs.port);
      asked += 1;
      answer(response, request.socket);
    });
    // What is dropped on its way to the PACS would be called verified, if any of this were believed.
    const gateway = await PeerRig.open(url, { idleTimeoutMs: 500 });
    const receipts = await gateway.accept(1, 4);
    await gateway.until('it is asked again', () => asked >= 3);
    expect(await gateway.status()).toMatchObject({
      verified: 0,
      quarantined: 0,
      backlog: { instances: receipts.length },
    });
    isWrong = false;
    await gateway.verified();
    // Sent again at the most once each, after the grace.
    expect(gateway.expectStored(await pacs.journal())).toBeLessThanOrEqual(receipts.length);
  });
});
