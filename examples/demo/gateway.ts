/**
 * The gateway of the demo, a process of its own so that it can be killed: STOW-RS in, spillway, STOW-RS out to the PACS.
 * `node gateway.ts --store DIR --port N --pacs URL`; it tells its parent what happens by IPC.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseArgs } from 'node:util';
import { createStowHandler } from '../../src/handler/index.ts';
import { dicomwebDestination, fileStore, openSpillway } from '../../src/index.ts';
import { toNodeListener } from '../support/node-adapter.ts';
import { type GatewayMessage, MAX_CONCURRENCY, MAX_INSTANCES_PER_REQUEST } from './messages.ts';

const STATUS_INTERVAL_MS = 200;

const { values } = parseArgs({
  options: { store: { type: 'string' }, port: { type: 'string', default: '0' }, pacs: { type: 'string' } },
});
const { store: directory = '', pacs: url = '' } = values;

function tell(message: GatewayMessage): void {
  process.send?.(message);
}

const spillway = await openSpillway({
  store: fileStore({ directory }),
  destinations: [
    dicomwebDestination({
      id: 'pacs',
      url,
      maxConcurrency: MAX_CONCURRENCY,
      maxInstancesPerRequest: MAX_INSTANCES_PER_REQUEST,
    }),
  ],
});
spillway.on('outage', (episode) => tell({ type: 'outage', cause: episode.cause }));
spillway.on('recovery', () => tell({ type: 'recovery' }));
spillway.on('drained', () => tell({ type: 'drained' }));
spillway.on('closed', (reconciliation) => tell({ type: 'closed', reconciliation }));
spillway.on('delivery', ({ identity, state }) => {
  if (state === 'sent') tell({ type: 'answered', sopInstanceUid: identity.sopInstanceUid });
});
spillway.on('quarantine', ({ identity, reason }) => {
  tell({ type: 'quarantine', sopInstanceUid: identity.sopInstanceUid, reason: reason ?? '' });
});
spillway.on('fault', ({ error }) => tell({ type: 'fault', message: String(error) }));

const server = createServer(toNodeListener(createStowHandler(spillway, { source: () => 'modality' })));
server.listen(Number(values.port), '127.0.0.1', () => {
  tell({ type: 'listening', port: (server.address() as AddressInfo).port });
});

setInterval(() => {
  spillway.status().then(
    ({ destinations: [status] }) => status && tell({ type: 'status', status }),
    () => {},
  );
}, STATUS_INTERVAL_MS);

process.once('SIGTERM', async () => {
  server.close();
  server.closeAllConnections();
  await spillway.close();
  process.exit(0);
});
