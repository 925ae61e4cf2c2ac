import type { IncomingMessage } from 'node:http';
import { afterEach, describe, expect, test } from 'vitest';
import { closing, partHeader } from '../src/dicom/multipart.ts';
import { syntheticInstance } from '../src/testing/synthetic.ts';

import {
  answerJson,
  cleanUp,
  digestOf,
  instance,
  never,
  SERIES,
  STUDY,
  serve,
  transportTo,
} from './support/dicomweb-peer.ts';

afterEach(cleanUp);

describe('looking up', () => {
  const item = (uid: string) => ({ '00080018': { vr: 'UI', Value: [uid] } });
  const uids = Array.from({ length: 1203 }, (_, index) => `1.2.${index}`);
  const identities = (wanted: readonly string[]) =>
    wanted.map((sopInstanceUid) => ({ ...instance(1).identity, sopInstanceUid }));

  /** A series of `uids`; how a page of it is cut is up to `pageOf`. */
  async function series(pageOf: (limit: number, offset: number) => readonly string[]) {
    const asked: string[] = [];
    const url = await serve((request, response) => {
      asked.push(request.url ?? '');
      const { searchParams } = new URL(request.url ?? '', 'http://peer');
      const page = pageOf(Number(searchParams.get('limit')), Number(searchParams.get('offset')));
      answerJson(response, 200, page.map(item));
    });
    return { transport: transportTo(url), asked };
  }

  test('pages to the end, also where the peer gives less than it was asked for', async () => {
    const wanted = ['1.2.1', '1.2.600', '1.2.1202', '1.2.9999'];
    for (const own of [10_000, 100]) {
      const peer = await series((limit, offset) => uids.slice(offset, offset + Math.min(limit, own)));
      expect(await peer.transport.lookUp(identities(wanted), never)).toEqual(new Set(wanted.slice(0, 3)));
    }
  });

  test('asks for a single instance by its UID, and stops once everything is found', async () => {
    const peer = await series(() => ['1.2.7']);
    expect(await peer.transport.lookUp(identities(['1.2.7']), never)).toEqual(new Set(['1.2.7']));
    expect(peer.asked).toEqual([
      `/dicom-web/studies/${STUDY}/series/${SERIES}/instances?SOPInstanceUID=1.2.7&limit=500&offset=0`,
    ]);
  });

  test('a peer that ignores paging altogether is taken at its word', async () => {
    const peer = await series(() => uids);
    expect(await peer.transport.lookUp(identities(['1.2.1', '9.9']), never)).toEqual(new Set(['1.2.1']));
    expect(peer.asked.length).toBeLessThanOrEqual(2);
  });

  test('a peer that keeps the limit, but ignores the offset, cannot tell that an instance is missing', async () => {
    const peer = await series((limit) => uids.slice(0, limit));
    expect(await peer.transport.lookUp(identities(['1.2.1', '1.2.2']), never)).toEqual(new Set(['1.2.1', '1.2.2']));
    expect(await peer.transport.lookUp(identities(['1.2.1', '1.2.1200']), never)).toBeNull();
  });

  test('a peer that makes up instances without end is given up', async () => {
    let made = 0;
    const peer = await series(() => [`2.${++made}`]);
    expect(await peer.transport.lookUp(identities(['1.2.1', '1.2.2']), never)).toBeNull();
  });

  test.each([
    [204, '', true],
    [404, 'no such study', true],
    [200, '', true],
    [200, '[]', true],
    [200, '{}', false],
    [200, 'oops', false],
    [206, '[]', false],
    [302, '', false],
    [400, '', false],
    [401, '', false],
    [500, '[]', false],
    [503, '', false],
  ])('HTTP %i with %j: nothing is there: %s', async (status, body, isEmpty) => {
    const url = await serve((_, response) => response.writeHead(status).end(body));
    const found = await transportTo(url).lookUp(identities(['1.2.1']), never);
    expect(found).toEqual(isEmpty ? new Set() : null);
  });
});

describe('reading back', () => {
  const outgoing = instance(1);
  const file = syntheticInstance({ seed: 1, pixelBytes: 20_000, studyInstanceUid: STUDY, seriesInstanceUid: SERIES });
  const multipart = Buffer.concat([partHeader('b', 'application/dicom'), file, closing('b')]);
  const related = 'multipart/related; type="application/dicom"; boundary=b';

  test.each([
    ['multipart', 200, related, multipart, 'held'],
    ['a plain file', 200, 'application/dicom', file, 'held'],
    ['404', 404, 'text/plain', 'no', 'absent'],
    ['410', 410, 'text/plain', 'no', 'absent'],
    ['another instance', 200, 'application/dicom', syntheticInstance({ seed: 2, pixelBytes: 10 }), null],
    ['a multipart body without end', 200, related, multipart.subarray(0, -20), null],
    ['a multipart body without parts', 200, related, closing('b'), null],
    ['no boundary', 200, 'multipart/related', multipart, null],
    ['something else', 200, 'text/html', '<html>', null],
    ['no DICOM', 200, 'application/dicom', 'x'.repeat(500), null],
    ['406', 406, 'text/plain', '', null],
    ['500', 500, 'text/plain', '', null],
  ])('%s', async (_, status, type, body, expected) => {
    const requests: IncomingMessage[] = [];
    const url = await serve((request, response) => {
      requests.push(request);
      response.writeHead(status, { 'content-type': type, 'content-length': body.length }).end(body);
    });
    const result = await transportTo(url).readBack(outgoing.identity, never);
    const { transferSyntaxUid } = outgoing.identity;
    expect(result).toEqual(expected === 'held' ? { digest: await digestOf(outgoing), transferSyntaxUid } : expected);
    expect(requests[0]?.url).toBe(
      `/dicom-web/studies/${STUDY}/series/${SERIES}/instances/${outgoing.identity.sopInstanceUid}`,
    );
    expect(requests[0]?.headers.accept).toBe('multipart/related; type="application/dicom"; transfer-syntax=*');
  });

  test('a file that may have been cut off proves nothing', async () => {
    const url = await serve((request, response) => {
      const isDelimited = request.url?.includes('9.9') === true;
      if (isDelimited) response.writeHead(200, { 'content-type': 'application/dicom', 'content-length': file.length });
      else response.socket?.write('HTTP/1.1 200 OK\r\nContent-Type: application/dicom\r\n\r\n');
      if (isDelimited) response.write(file.subarray(0, -500), () => response.socket?.destroy());
      else response.socket?.end(file.subarray(0, -500));
    });
    const transport = transportTo(url);
    expect(await transport.readBack(outgoing.identity, never)).toBeNull();
    expect(await transport.readBack({ ...outgoing.identity, studyInstanceUid: '9.9' }, never)).toBeNull();
  });
});
