import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { toNodeListener } from '../examples/support/node-adapter.ts';
import { createStowHandler } from '../src/handler/index.ts';
import { missingOrthanc, startOrthanc } from './support/orthanc.ts';
import { needPeer } from './support/skip.ts';
import { ct, FakeAcceptor, refusal, uid } from './support/stow-request.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const START_BOUND_MS = 60_000;

test(
  'Orthanc takes none of our refusals for success: not a full store, not a part of a request, not what is beyond the limit',
  async (context) => {
    needPeer(context, missingOrthanc());
    const orthanc = await startOrthanc({ directory: join(await temporaryDirectory(), 'orthanc') });
    const acceptor = new FakeAcceptor();
    const server = createServer(toNodeListener(createStowHandler(acceptor, { maxParts: 2 })));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    const { port } = server.address() as AddressInfo;
    const ask = (method: string, path: string, body: unknown) =>
      fetch(`${orthanc.url}${path}`, {
        method,
        body: body instanceof Uint8Array ? Buffer.from(body) : JSON.stringify(body),
      });
    await ask('PUT', '/dicom-web/servers/next', { Url: `http://127.0.0.1:${port}/` });
    const ids: string[] = [];
    for (const seed of [1, 2, 3]) {
      const { ID } = (await (await ask('POST', '/instances', ct(seed))).json()) as { readonly ID: string };
      ids.push(ID);
    }
    const send = async (count: number) => {
      const body = { Resources: ids.slice(0, count), Synchronous: true };
      return (await ask('POST', '/dicom-web/servers/next/stow', body)).status;
    };

    acceptor.refuse = () => refusal('SPILLWAY_STORE_FULL');
    expect(await send(2)).not.toBe(200);
    acceptor.refuse = ({ sopInstanceUid }) => (sopInstanceUid === uid(2) ? refusal('SPILLWAY_STORE_FULL') : undefined);
    expect(await send(2)).not.toBe(200);
    acceptor.refuse = undefined;
    expect(await send(3)).not.toBe(200);
    expect(acceptor.receipts).toHaveLength(3);
    expect(await send(2)).toBe(200);
  },
  START_BOUND_MS,
);
