import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { setImmediate as turnOfTheLoop } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { giveBack, handOver } from '../src/domain/owned-bytes.ts';
import { syntheticIdentity } from '../src/testing/synthetic.ts';
import { dicomwebDestination } from '../src/transports/dicomweb/destination.ts';

describe('bytes that were handed over', () => {
  test('are empty once they are given back, also through another view of them', () => {
    const bytes = handOver(new Uint8Array(8).fill(7));
    giveBack(bytes.subarray(2, 4));
    expect(bytes.byteLength).toBe(0);
  });

  test('are the only ones that can be given back', () => {
    const bytes = new Uint8Array(8).fill(7);
    giveBack(bytes);
    expect([...bytes]).toEqual([7, 7, 7, 7, 7, 7, 7, 7]);
  });
});

describe('chunks that are sent by STOW-RS', () => {
  const CHUNKS = 24;
  const CHUNK_BYTES = 512 * 1024;
  /** More than sockets hold, and told apart by its position. */
  const chunk = (index: number) => new Uint8Array(CHUNK_BYTES).fill(index + 1);

  async function sent(own: boolean): Promise<{ readonly body: Buffer; readonly chunks: readonly Uint8Array[] }> {
    let body = Buffer.alloc(0);
    const server = createServer(async (request, response) => {
      // It begins to read only when no more can be written.
      for (let turn = 0; turn < 50; turn += 1) await turnOfTheLoop();
      body = await buffer(request);
      response.setHeader('content-type', 'application/dicom+json').end('{}');
    }).listen(0, '127.0.0.1');
    onTestFinished(() => void server.close());
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const { transport } = dicomwebDestination({ id: 'pacs', url: `http://127.0.0.1:${port}` });
    onTestFinished(() => transport.close());
    const chunks: Uint8Array[] = [];
    async function* open() {
      for (let index = 0; index < CHUNKS; index += 1) {
        const made = chunk(index);
        chunks.push(made);
        yield own ? handOver(made) : made;
      }
    }
    const instance = { identity: syntheticIdentity(), bytes: CHUNKS * CHUNK_BYTES, open };
    await transport.send([instance], new AbortController().signal);
    return { body, chunks };
  }

  test('arrive whole, and their memory is given back', async () => {
    const { body, chunks } = await sent(true);
    const from = body.indexOf('\r\n\r\n') + 4;
    for (let index = 0; index < CHUNKS; index += 1) {
      const at = from + index * CHUNK_BYTES;
      expect(body.subarray(at, at + CHUNK_BYTES).equals(chunk(index))).toBe(true);
    }
    expect(chunks.map(({ byteLength }) => byteLength)).toEqual(Array.from({ length: CHUNKS }, () => 0));
  });

  test('stay as they are where somebody else has them', async () => {
    const { chunks } = await sent(false);
    chunks.forEach((kept, index) => {
      expect(kept.byteLength).toBe(CHUNK_BYTES);
      expect(kept[0]).toBe(index + 1);
    });
  });
});
