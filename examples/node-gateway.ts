// STOW-RS in, PACS out: `node examples/node-gateway.ts`. A test PACS and one synthetic instance stand in for yours.
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createStowHandler } from '../src/handler/index.ts';
import { dicomwebDestination, fileStore, openSpillway } from '../src/index.ts';
import { startPacs, syntheticInstance } from '../src/testing/index.ts';
import { toNodeListener } from './support/node-adapter.ts';

const directory = await mkdtemp(join(tmpdir(), 'spillway-gateway-'));
const pacs = await startPacs({ directory: join(directory, 'pacs') });

const spillway = await openSpillway({
  store: fileStore({ directory: join(directory, 'spill') }),
  destinations: [dicomwebDestination({ id: 'pacs', url: pacs.url })],
});
const server = createServer(toNodeListener(createStowHandler(spillway, { pathPrefix: '/dicom-web' })));
await once(server.listen(0, '127.0.0.1'), 'listening');

const { port } = server.address() as AddressInfo;
const answer = await fetch(`http://127.0.0.1:${port}/dicom-web/studies`, {
  method: 'POST',
  headers: { 'content-type': 'multipart/related; type="application/dicom"; boundary=part' },
  body: new Blob(['--part\r\nContent-Type: application/dicom\r\n\r\n', syntheticInstance(), '\r\n--part--\r\n']),
});
console.log('STOW-RS answers', answer.status, await answer.text());
await spillway.drained();
console.log('status', JSON.stringify(await spillway.status(), null, 2));

server.close();
server.closeAllConnections();
await spillway.close();
await pacs.close();
await rm(directory, { recursive: true });
