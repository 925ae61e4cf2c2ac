// A gateway as a site would write it: STOW-RS in, one PACS out. `node gateway.ts DIRECTORY PORT DICOMWEB_ROOT`. It tells what
// happens on its standard output, a line of JSON each, so that what it said is known although it is killed.

import { once } from 'node:events';
import { writeSync } from 'node:fs';
import { createServer } from 'node:http';
import { toNodeListener } from '../../examples/support/node-adapter.ts';
import { createStowHandler } from '../../src/handler/index.ts';
import { dicomwebDestination, fileStore, openSpillway } from '../../src/index.ts';

/** What a gateway tells. */
export type GatewayMessage =
  /** So many instances are handed to the transport: each is an attempt, whatever becomes of it. */
  | { readonly type: 'attempts'; readonly instances: number }
  /** It stores again; `at` is ms since the epoch. */
  | { readonly type: 'recovery'; readonly at: number }
  | {
      readonly type: 'closed';
      readonly received: number;
      readonly verified: number;
      readonly unaccounted: number;
    }
  | { readonly type: 'idle'; readonly verified: number; readonly quarantined: number }
  | { readonly type: 'fault'; readonly message: string };

function tell(message: GatewayMessage): void {
  writeSync(1, `${JSON.stringify(message)}\n`);
}

const [directory = '', port = '', url = ''] = process.argv.slice(2);
const destination = dicomwebDestination({ id: 'pacs', url });
const { transport } = destination;
const spillway = await openSpillway({
  store: fileStore({ directory }),
  destinations: [
    {
      ...destination,
      transport: {
        ...transport,
        send: (instances, signal) => {
          tell({ type: 'attempts', instances: instances.length });
          return transport.send(instances, signal);
        },
      },
    },
  ],
});
spillway.on('recovery', () => tell({ type: 'recovery', at: Date.now() }));
spillway.on('closed', ({ received, verified, unaccounted }) =>
  tell({ type: 'closed', received, verified, unaccounted }),
);
spillway.on('fault', ({ error }) => tell({ type: 'fault', message: String(error) }));
spillway.on('progress', ({ backlog, verified, quarantined, episode }) => {
  if (backlog.instances === 0 && episode === null) tell({ type: 'idle', verified, quarantined });
});
const server = createServer(toNodeListener(createStowHandler(spillway, { pathPrefix: '/dicom-web' })));
await once(server.listen(Number(port), '127.0.0.1'), 'listening');
