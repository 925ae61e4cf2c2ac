import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import { boundaryOf, readMultipart } from '../src/dicom/multipart.ts';
import { dicomwebDestination } from '../src/transports/dicomweb/destination.ts';
import type { DicomwebDestinationOptions } from '../src/transports/dicomweb/options.ts';

import {
  allStored,
  answerJson,
  bodyOf,
  cleanUp,
  digestOf,
  instance,
  kinds,
  listen,
  never,
  pacs,
  serve,
  temporaryDirectory,
  transportTo,
  zeros,
} from './support/dicomweb-peer.ts';

afterEach(cleanUp);

describe('against a PACS', () => {
  test('instances arrive as they are, and are then found and read back', async () => {
    const peer = await pacs();
    const transport = transportTo(`${peer.url}/`);
    const sent = [
      instance(1),
      instance(2, { transferSyntax: 'rle', frames: 3, seriesInstanceUid: '2.25.201' }),
      instance(3, { transferSyntax: 'deflated' }),
      instance(4, { transferSyntax: 'implicit-little', chunkBytes: 7 }),
      instance(5, { transferSyntax: 'explicit-big' }),
    ];
    expect(await transport.probe(never)).toEqual({ alive: true });
    expect(await transport.send(sent, never)).toEqual(sent.map(() => ({ kind: 'stored' })));

    const journal = await peer.journal();
    const hashes = await Promise.all(
      sent.map(async (outgoing) => {
        const hash = createHash('sha256');
        for await (const chunk of outgoing.open()) hash.update(chunk);
        return hash.digest('hex');
      }),
    );
    expect(journal.map((entry) => entry.fileSha256)).toEqual(hashes);

    const missing = instance(9);
    const asked = [...sent, missing].map((outgoing) => outgoing.identity);
    expect(await transport.lookUp(asked, never)).toEqual(new Set(sent.map((each) => each.identity.sopInstanceUid)));
    for (const outgoing of sent) {
      const { transferSyntaxUid } = outgoing.identity;
      expect(await transport.readBack(outgoing.identity, never)).toEqual({
        digest: await digestOf(outgoing),
        transferSyntaxUid,
      });
    }
    expect(await transport.readBack(missing.identity, never)).toBe('absent');
  });

  test('each instance has its own outcome', async () => {
    const [good, bad, full] = [instance(1), instance(2), instance(3)];
    const reasons = new Map([
      [bad.identity.sopInstanceUid, 0xa900],
      [full.identity.sopInstanceUid, 0xa700],
    ]);
    const peer = await pacs({ faults: { refuse: ({ sopInstanceUid }) => reasons.get(sopInstanceUid) } });
    expect(await transportTo(peer.url).send([bad, good, full], never)).toEqual([
      { kind: 'refused', reason: 'A900 data set does not match SOP class', mayRetry: false },
      { kind: 'stored' },
      { kind: 'push-back', reason: 'A700 out of resources' },
    ]);
  });

  test('an overloaded one pushes back before the body has gone out', async () => {
    const peer = await pacs({ faults: { overload: { maxInFlight: 0, retryAfterSeconds: 9 } } });
    const outcomes = await transportTo(peer.url).send([zeros(1, 64 * 1024 * 1024), zeros(2, 1000)], never);
    expect(outcomes).toEqual(Array(2).fill({ kind: 'push-back', reason: 'HTTP 503', retryAfterMs: 9000 }));
  });

  test('connections are used again', async () => {
    const connections = new Set<Socket>();
    const url = await serve(async (request, response) => {
      connections.add(request.socket);
      await bodyOf(request);
      answerJson(response, 200, request.method === 'GET' ? [] : allStored(instance(1)));
    });
    const transport = transportTo(url);
    for (let round = 0; round < 3; round += 1) {
      expect(kinds(await transport.send([instance(1)], never))).toEqual(['stored']);
      expect(await transport.probe(never)).toEqual({ alive: true });
      expect(await transport.lookUp([instance(1).identity], never)).toEqual(new Set());
    }
    expect(connections.size).toBe(1);
  });
});

describe('what is sent', () => {
  test('a request is what PS3.18 10.5.1 asks for, with an exact length and the headers given', async () => {
    const seen: { request: IncomingMessage; body: Buffer }[] = [];
    const sent = [instance(1), instance(2)];
    const url = await serve(async (request, response) => {
      seen.push({ request, body: await bodyOf(request) });
      answerJson(response, 200, allStored(...sent));
    });
    let token = 0;
    const transport = transportTo(url.replace('//', '//user:pass%20word@'), {
      headers: async () => {
        token += 1;
        return { 'X-Token': `t${token}`, Accept: 'text/html', 'Content-Length': '3' };
      },
    });
    await transport.send(sent, never);
    await transport.send(sent, never);
    const [first, second] = seen;
    expect(first?.request).toMatchObject({ method: 'POST', url: '/dicom-web/studies' });
    expect(first?.request.headers).toMatchObject({
      accept: 'application/dicom+json',
      authorization: `Basic ${Buffer.from('user:pass word').toString('base64')}`,
      'content-length': String(first?.body.length),
      'content-type': expect.stringMatching(/^multipart\/related; type="application\/dicom"; boundary=/),
      'x-token': 't1',
    });
    expect(first?.request.headers).not.toHaveProperty('transfer-encoding');
    expect(second?.request.headers['x-token']).toBe('t2');

    async function* once(bytes: Uint8Array) {
      yield bytes;
    }
    const digests: string[] = [];
    const boundary = boundaryOf(first?.request.headers['content-type'] ?? '');
    for await (const part of readMultipart(once(first?.body ?? Buffer.alloc(0)), boundary)) {
      expect(part.headers.get('content-type')).toBe('application/dicom');
      digests.push((await readAndDigest(part.body)).digest);
    }
    expect(digests).toEqual(await Promise.all(sent.map(digestOf)));
  });

  test('a large instance is read no faster than the peer takes it', async () => {
    const total = 192 * 1024 * 1024;
    let read = 0;
    let furthestAhead = 0;
    const outgoing = zeros(1, total, (bytes) => {
      read = bytes;
    });
    const url = await serve((request, response) => {
      let received = 0;
      request.on('data', (chunk: Buffer) => {
        received += chunk.length;
        furthestAhead = Math.max(furthestAhead, read - received);
        request.pause();
        setImmediate(() => request.resume());
      });
      request.on('end', () => answerJson(response, 200, allStored(outgoing)));
    });
    expect(kinds(await transportTo(url).send([outgoing], never))).toEqual(['stored']);
    // What the kernel's socket buffers take, and a little.
    expect(furthestAhead).toBeLessThan(total / 4);
  });

  test('nothing to send asks nobody', async () => {
    expect(await transportTo('http://127.0.0.1:1').send([], never)).toEqual([]);
  });
});

describe('options', () => {
  const valid = { id: 'pacs', url: 'http://pacs/dicom-web' };

  test.each<[string, Record<string, unknown>, RegExp]>([
    ['id', { id: '' }, /`id`.*not empty, got ""/],
    ['url', { url: 'pacs:8042' }, /`url`.*DICOMweb root/],
    ['url', { url: 'ftp://pacs/' }, /`url`/],
    ['url', { url: 'http://pacs/?a=b' }, /`url`/],
    ['url', { url: 7 }, /`url`/],
    ['verify', { verify: 'hoped' }, /`verify`.*answered, found, compared, got "hoped"/],
    ['maxConcurrency', { maxConcurrency: 0 }, /`maxConcurrency`.*from 1 .*got 0/],
    ['maxInstancesPerRequest', { maxInstancesPerRequest: 1.5 }, /`maxInstancesPerRequest`.*got 1.5/],
    ['maxBytesPerRequest', { maxBytesPerRequest: '1' }, /`maxBytesPerRequest`.*got "1"/],
    ['connectTimeoutMs', { connectTimeoutMs: Number.POSITIVE_INFINITY }, /`connectTimeoutMs`/],
    ['idleTimeoutMs', { idleTimeoutMs: 2 ** 31 }, /`idleTimeoutMs`.*2147483647/],
    ['headers', { headers: { 'bad name': 'x' } }, /`headers`/],
    ['headers', { headers: { authorization: 'secret\n' } }, /`headers`/],
    ['tls', { tls: { ca: 'x' } }, /`tls`.*http url/],
  ])('%s: %j is refused', (_, wrong, message) => {
    const options = { ...valid, ...wrong } as DicomwebDestinationOptions;
    expect(() => dicomwebDestination(options)).toThrow(expect.objectContaining({ code: 'SPILLWAY_OPTION_INVALID' }));
    expect(() => dicomwebDestination(options)).toThrow(message);
  });

  test('a password or token is not repeated in an error', () => {
    for (const wrong of [{ url: 'http://user:secret@pacs/?x' }, { headers: { authorization: 'secret\n' } }]) {
      expect(() => dicomwebDestination({ ...valid, ...wrong })).toThrow(/^(?!.*secret)/s);
    }
  });

  test('defaults', () => {
    const destination = dicomwebDestination(valid);
    expect(destination).toEqual({ id: 'pacs', transport: expect.anything() });
    expect(destination.transport.batch).toEqual({ maxInstances: 20, maxBytes: 32 * 1024 * 1024 });
    expect(destination.transport.supports).toEqual({ lookUp: true, readBack: true });
    const given = dicomwebDestination({ ...valid, verify: 'compared', maxConcurrency: 3, maxInstancesPerRequest: 5 });
    expect(given).toMatchObject({ verify: 'compared', maxConcurrency: 3 });
    expect(given.transport.batch.maxInstances).toBe(5);
  });
});

test('https with an authority of one’s own', async (context) => {
  const directory = await temporaryDirectory();
  const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
  try {
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2'];
    const args = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', cert, ...subject];
    execFileSync('openssl', args, { stdio: 'ignore' });
  } catch {
    context.skip('there is no openssl to make a certificate with');
  }
  const [keyPem, certPem] = [await readFile(key), await readFile(cert)];
  const server = createHttpsServer({ key: keyPem, cert: certPem }, async (request, response) => {
    await bodyOf(request);
    answerJson(response, 200, allStored(instance(1)));
  });
  const url = `https://127.0.0.1:${await listen(server)}`;
  const trusting = transportTo(url, { tls: { ca: certPem } });
  expect(kinds(await trusting.send([instance(1)], never))).toEqual(['stored']);
  expect(kinds(await trusting.send([instance(1)], never))).toEqual(['stored']);
  expect(await transportTo(url).send([instance(1)], never)).toEqual([
    { kind: 'unreachable', reason: expect.stringMatching(/self.signed/) },
  ]);
});
