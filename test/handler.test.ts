import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { expect, test, vi } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import { closing, partHeader } from '../src/dicom/multipart.ts';
import type { SpillwayErrorCode } from '../src/errors.ts';
import { createStowHandler, type InstanceAcceptor } from '../src/handler/index.ts';
import { dicomwebDestination } from '../src/transports/dicomweb/destination.ts';

import {
  answerOf,
  bodyOf,
  ct,
  FakeAcceptor,
  identityOf,
  type Post,
  post,
  RELATED,
  refusal,
  uid,
} from './support/stow-request.ts';

test('everything stored is 200, named one by one, and identical is stored', async () => {
  const acceptor = new FakeAcceptor();
  const handle = createStowHandler(acceptor, { source: (request) => request.headers.get('x-ae') ?? undefined });
  const response = await handle(post([ct(1), ct(2), ct(1)]));
  expect(await answerOf(response)).toEqual({
    status: 200,
    retryAfter: null,
    stored: [uid(1), uid(2), uid(1)],
    failed: [],
    others: [],
  });
  expect(acceptor.receipts.map((receipt) => receipt.outcome)).toEqual(['created', 'created', 'identical']);
  const digests = await Promise.all([1, 2, 1].map(async (seed) => (await readAndDigest([ct(seed)])).digest));
  expect(acceptor.receipts.map((receipt) => receipt.digest)).toEqual(digests);
});

test('the answer is a Store Instances Response Module (PS3.18 Table I.1-1)', async () => {
  const acceptor = new FakeAcceptor();
  acceptor.refuse = ({ sopInstanceUid }) => (sopInstanceUid === uid(2) ? refusal('SPILLWAY_STORE_FULL') : undefined);
  const response = await createStowHandler(acceptor)(post([ct(1), ct(2), Buffer.from('nonsense')]));
  const reference = (seed: number) => ({
    '00081150': { vr: 'UI', Value: ['1.2.840.10008.5.1.4.1.1.2'] },
    '00081155': { vr: 'UI', Value: [uid(seed)] },
  });
  expect(JSON.parse(await response.text())).toEqual({
    '00081190': { vr: 'UR' },
    '00081198': { vr: 'SQ', Value: [{ ...reference(2), '00081197': { vr: 'US', Value: [0xa700] } }] },
    '00081199': { vr: 'SQ', Value: [{ ...reference(1), '00081190': { vr: 'UR' } }] },
    '0008119A': { vr: 'SQ', Value: [{ '00081197': { vr: 'US', Value: [0xc000] } }] },
  });
});

test('a part that is no instance fails by itself, unnamed', async () => {
  const handle = createStowHandler(new FakeAcceptor());
  const missing = ct(3, { omit: ['00080018', '00020003'] });
  const path = ct(4, { studyInstanceUid: '../../x' });
  const parts = [Buffer.from('no dicom'), ct(1), missing, path, Buffer.alloc(0)];
  expect(await answerOf(await handle(post(parts)))).toMatchObject({
    status: 202,
    stored: [uid(1)],
    failed: [],
    others: [0xc000, 0xc000, 0xc000, 0xc000],
  });
  expect(await answerOf(await handle(post([Buffer.from('no dicom')])))).toMatchObject({
    status: 409,
    others: [0xc000],
  });
});

test.each<[SpillwayErrorCode, number, number]>([
  ['SPILLWAY_NOT_DICOM', 0xc000, 409],
  ['SPILLWAY_IDENTITY_MISSING', 0xc000, 409],
  ['SPILLWAY_UID_UNSAFE', 0xc000, 409],
  ['SPILLWAY_TOO_LARGE', 0xc000, 409],
  ['SPILLWAY_STORE_FULL', 0xa700, 507],
  ['SPILLWAY_STORE_FAILED', 0xa700, 503],
  ['SPILLWAY_STORE_LOCKED', 0xa700, 503],
  ['SPILLWAY_CLOSED', 0xa700, 503],
  ['SPILLWAY_ABORTED', 0xa700, 503],
  ['SPILLWAY_INCOMPLETE', 0x0110, 409],
  ['SPILLWAY_ROUTE_INVALID', 0x0110, 409],
  ['SPILLWAY_OPTION_INVALID', 0x0110, 409],
  ['SPILLWAY_STORE_FORMAT', 0x0110, 409],
  ['SPILLWAY_BACKLOG_ORPHANED', 0x0110, 409],
  ['SPILLWAY_NOT_FOUND', 0x0110, 409],
])('%s is answered as %i, and as %i when it is everybody’s', async (code, reason, status) => {
  const acceptor = new FakeAcceptor();
  acceptor.refuse = () => refusal(code);
  const response = await createStowHandler(acceptor)(post([ct(1), ct(2)]));
  expect(await answerOf(response)).toEqual({
    status,
    retryAfter: reason === 0xa700 ? '60' : null,
    stored: [],
    failed: [
      [uid(1), reason],
      [uid(2), reason],
    ],
    others: [],
  });
});

test('an instance is named even if it is refused before it was read', async () => {
  const full: InstanceAcceptor = { accept: () => Promise.reject(refusal('SPILLWAY_STORE_FULL')) };
  expect(await answerOf(await createStowHandler(full)(post([ct(1), ct(2)])))).toMatchObject({
    status: 507,
    failed: [
      [uid(1), 0xa700],
      [uid(2), 0xa700],
    ],
  });
});

test('an error of another kind is a processing failure, is not told to the sender, and reaches onError', async () => {
  const acceptor = new FakeAcceptor();
  const defect = new TypeError('secret of the house');
  acceptor.refuse = ({ sopInstanceUid }) => (sopInstanceUid === uid(2) ? defect : undefined);
  const onError = vi.fn();
  const response = await createStowHandler(acceptor, { onError })(post([ct(1), ct(2), ct(3)]));
  const text = await response.clone().text();
  expect(text).not.toContain('secret');
  expect(await answerOf(response)).toMatchObject({ status: 202, stored: [uid(1), uid(3)], failed: [[uid(2), 0x0110]] });
  expect(onError.mock.calls).toEqual([[defect]]);
});

test.each(['end', 'error'] as const)(
  'a body that is cut off by an %s keeps what was accepted before, and nothing of the rest',
  async (cut) => {
    const acceptor = new FakeAcceptor();
    const handle = createStowHandler(acceptor);
    const cutAt = bodyOf([ct(1), ct(2)]).length - 2000;
    expect(await answerOf(await handle(post([ct(1), ct(2), ct(3)], { cutAt, cut })))).toMatchObject({
      status: 202,
      stored: [uid(1)],
      failed: [[uid(2), 0x0110]],
      others: [],
    });
    expect(acceptor.receipts).toHaveLength(1);

    const first = await handle(post([ct(4)], { cutAt: 3000, cut }));
    expect(await answerOf(first)).toMatchObject({ status: 400, stored: [], failed: [[uid(4), 0x0110]] });
    expect(acceptor.receipts).toHaveLength(1);
  },
);

test('a body without its closing boundary tells that more may have been lost', async () => {
  const acceptor = new FakeAcceptor();
  const boundary = partHeader('b', 'application/dicom').length;
  const cutAt = bodyOf([ct(1)]).length - closing('b').length + boundary - 3;
  const response = await createStowHandler(acceptor)(post([ct(1), ct(2)], { cutAt }));
  expect(await answerOf(response)).toMatchObject({ status: 202, stored: [uid(1)], failed: [], others: [0x0110] });
});

test('at every place that a body may be cut, nothing is answered as stored that did not come whole', async () => {
  const whole = bodyOf([ct(1, { pixelBytes: 4 }), ct(2, { pixelBytes: 4 })]);
  const small = [ct(1, { pixelBytes: 4 }), ct(2, { pixelBytes: 4 })];
  const firstEnd = bodyOf(small.slice(0, 1)).length - closing('b').length;
  const secondEnd = whole.length - closing('b').length;
  for (let cutAt = 0; cutAt < whole.length; cutAt += 7) {
    const acceptor = new FakeAcceptor();
    const response = await createStowHandler(acceptor)(post(small, { cutAt, chunkBytes: 333 }));
    const stored = acceptor.receipts.map((receipt) => receipt.identity.sopInstanceUid);
    // A part is whole once the boundary after it has been seen.
    if (stored.length > 0) expect(cutAt).toBeGreaterThan(firstEnd);
    if (stored.length > 1) expect(cutAt).toBeGreaterThan(secondEnd);
    if (response.headers.get('content-type') === 'application/dicom+json') {
      expect((await answerOf(response)).stored).toEqual(stored);
    } else {
      expect([response.status, stored]).toEqual([400, []]);
    }
  }
});

test('with a study in the path, an instance of another one is refused and not kept', async () => {
  const acceptor = new FakeAcceptor();
  const handle = createStowHandler(acceptor);
  const other = ct(2, { studyInstanceUid: '2.25.99' });
  expect(await answerOf(await handle(post([ct(1), other], { path: '/studies/2.25.1' })))).toEqual({
    status: 202,
    retryAfter: null,
    stored: [uid(1)],
    failed: [[uid(2), 43264]],
    others: [],
  });
  expect(acceptor.receipts.map((receipt) => receipt.identity)).toEqual([identityOf(1)]);
  expect((await handle(post([other], { path: '/studies/2.25.99/' }))).status).toBe(200);
});

test('an answer is given only after accept has promised', async () => {
  let promise = (_: unknown) => {};
  const promised = new Promise((resolve) => {
    promise = resolve;
  });
  const inner = new FakeAcceptor();
  const acceptor: InstanceAcceptor = {
    async accept(source) {
      const receipt = await inner.accept(source);
      await promised;
      return receipt;
    },
  };
  let answered = false;
  const answer = createStowHandler(acceptor)(post([ct(1)])).then((response) => {
    answered = true;
    return response;
  });
  await vi.waitUntil(() => inner.receipts.length === 1);
  await new Promise((resolve) => setImmediate(resolve));
  expect(answered).toBe(false);
  promise(undefined);
  expect((await answer).status).toBe(200);
});

test('parts are accepted while they stream, one after another', async () => {
  const acceptor = new FakeAcceptor();
  const body = bodyOf([ct(1), ct(2)]);
  let acceptedBeforeEnd = 0;
  const chunks = (async function* () {
    for (let at = 0; at < body.length; at += 500) {
      acceptedBeforeEnd = acceptor.receipts.length;
      yield body.subarray(at, at + 500);
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  const request = new Request('http://spillway/studies', {
    method: 'POST',
    headers: { 'content-type': RELATED },
    body: Readable.toWeb(Readable.from(chunks)),
    duplex: 'half',
  });
  expect((await createStowHandler(acceptor)(request)).status).toBe(200);
  expect(acceptedBeforeEnd).toBe(1);
});

test.each<[string, number, Post]>([
  ['another path', 404, { path: '/series' }],
  ['no prefix', 404, { path: '/dicom-web/studies' }],
  ['a longer path', 404, { path: '/studies/1/series' }],
  ['another method', 405, { method: 'GET' }],
  ['another method', 405, { method: 'PUT' }],
  ['a bad escape', 400, { path: '/studies/%E0%A4%A' }],
  ['no media type', 415, { contentType: '' }],
  ['another media type', 415, { contentType: 'application/dicom' }],
  ['metadata and bulk data', 415, { contentType: 'multipart/related; type="application/dicom+json"; boundary=b' }],
  ['no boundary', 400, { contentType: 'multipart/related; type="application/dicom"' }],
  ['another boundary', 400, { contentType: RELATED.replace('=b', '=c') }],
])('%s is answered by %i with a reason in plain text', async (_, status, options) => {
  const acceptor = new FakeAcceptor();
  const response = await createStowHandler(acceptor)(post([ct(1)], options));
  expect(response.status).toBe(status);
  expect(response.headers.get('content-type')).toMatch(/^text\/plain/);
  expect(await response.text()).toMatch(/^Expected .+\n$/);
  expect(response.headers.get('allow')).toBe(status === 405 ? 'POST' : null);
  expect(acceptor.receipts).toEqual([]);
});

test('a body without parts, or none at all, is 400', async () => {
  const handle = createStowHandler(new FakeAcceptor());
  expect((await handle(post([]))).status).toBe(400);
  const request = new Request('http://spillway/studies', { method: 'POST', headers: { 'content-type': RELATED } });
  expect((await handle(request)).status).toBe(400);
});

test('a prefix, and a type that is not quoted', async () => {
  const acceptor = new FakeAcceptor();
  const handle = createStowHandler(acceptor, {
    pathPrefix: '/dicom-web',
    source: (request) => new URL(request.url).host,
  });
  const contentType = 'Multipart/Related; type=application/dicom; boundary="b"';
  expect((await handle(post([ct(1)], { path: '/dicom-web/studies', contentType }))).status).toBe(200);
  expect((await handle(post([ct(1)]))).status).toBe(404);
  expect(acceptor.sources).toEqual(['spillway']);
  for (const pathPrefix of ['dicom-web', '/dicom-web/', '/']) {
    expect(() => createStowHandler(acceptor, { pathPrefix })).toThrow(
      expect.objectContaining({ code: 'SPILLWAY_OPTION_INVALID' }),
    );
  }
});

test('authorize decides before anything is read; an error of its own lets nobody in', async () => {
  const acceptor = new FakeAcceptor();
  const handle = createStowHandler(acceptor, {
    authorize: async (request) => {
      const token = request.headers.get('authorization');
      if (token === 'broken') throw new Error('directory is down');
      return token === 'good' ? undefined : new Response('who are you?', { status: 401 });
    },
  });
  const request = (token: string) => {
    const posted = post([ct(1)]);
    posted.headers.set('authorization', token);
    return posted;
  };
  const refused = request('bad');
  expect((await handle(refused)).status).toBe(401);
  expect(refused.bodyUsed).toBe(false);
  await expect(handle(request('broken'))).rejects.toThrow('directory is down');
  expect(acceptor.receipts).toEqual([]);
  expect((await handle(request('good'))).status).toBe(200);
});

test('what the DICOMweb destination sends, the handler takes', async () => {
  const acceptor = new FakeAcceptor();
  acceptor.refuse = ({ sopInstanceUid }) => (sopInstanceUid === uid(7) ? refusal('SPILLWAY_STORE_FULL') : undefined);
  const handle = createStowHandler(acceptor, { pathPrefix: '/dicom-web' });
  const server = createServer(async (incoming, outgoing) => {
    const headers = Object.entries(incoming.headers).map(([name, value]): [string, string] => [name, String(value)]);
    const response = await handle(
      new Request(`http://spillway${incoming.url}`, {
        method: incoming.method ?? 'GET',
        headers,
        body: Readable.toWeb(incoming),
        duplex: 'half',
      }),
    );
    outgoing.writeHead(response.status, Object.fromEntries(response.headers)).end(await response.text());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const { transport } = dicomwebDestination({ id: 'next', url: `http://127.0.0.1:${port}/dicom-web` });
  try {
    const outgoing = [5, 6, 7].map((seed) => {
      const bytes = ct(seed, { pixelBytes: 300_000 });
      return { identity: identityOf(seed), bytes: bytes.length, open: () => Readable.from([bytes]) };
    });
    expect(await transport.send(outgoing, new AbortController().signal)).toEqual([
      { kind: 'stored' },
      { kind: 'stored' },
      { kind: 'push-back', reason: 'A700 out of resources', retryAfterMs: 60_000 },
    ]);
    const digests = await Promise.all(
      [5, 6].map(async (seed) => (await readAndDigest([ct(seed, { pixelBytes: 300_000 })])).digest),
    );
    expect(acceptor.receipts.map((receipt) => receipt.digest)).toEqual(digests);
  } finally {
    await transport.close();
    server.close();
  }
});
