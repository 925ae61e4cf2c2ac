// One pass of spillway's intake in an outage: `node spillway-pass.ts DIRECTORY SET IN_FLIGHT`.

import { monitorEventLoopDelay } from 'node:perf_hooks';
import { openSpillway } from '../../src/spillway.ts';
import { fileStore } from '../../src/storage/file-store.ts';
import type { Transport } from '../../src/transports/transport.ts';
import { type BenchObject, eachInFlight, objectsOf, SETS } from './objects.ts';

const [directory = '', name = '', inFlight = ''] = process.argv.slice(2);
const set = SETS[name];
if (set === undefined) throw new Error(`no set "${name}"`);

const WARM_UP = 500;
const RESOLUTION_MS = 1;
const warmUp = objectsOf(set, WARM_UP, 1);
const objects = objectsOf(set, set.instances, 2);

const down: Transport = {
  supports: { lookUp: true, readBack: true },
  batch: { maxInstances: 10, maxBytes: 16 * 1024 * 1024 },
  send: async (instances) => instances.map(() => ({ kind: 'unreachable', reason: 'connection refused' })),
  probe: async () => ({ alive: false, reason: 'connection refused' }),
  lookUp: async () => null,
  readBack: async () => null,
  close: async () => {},
};

await using spillway = await openSpillway({
  store: fileStore({ directory }),
  destinations: [{ id: 'pacs', transport: down }],
});
const outage = new Promise((resolve) => spillway.on('outage', resolve));
spillway.on('fault', ({ error }) => {
  throw error;
});
const accept = async ({ bytes }: BenchObject): Promise<void> => {
  const { outcome } = await spillway.accept(bytes);
  if (outcome !== 'created') throw new Error(`the instance is ${outcome}`);
};

await eachInFlight(warmUp, Number(inFlight), accept);
await outage;
const stalls = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
stalls.enable();
const cpu = process.cpuUsage();
const began = performance.now();
await eachInFlight(objects, Number(inFlight), accept);
const seconds = (performance.now() - began) / 1_000;
const { user, system } = process.cpuUsage(cpu);
stalls.disable();
const { destinations } = await spillway.status();
if (destinations[0]?.backlog.instances !== objects.length + warmUp.length) throw new Error('not all are pending');
console.log(
  JSON.stringify({
    perSecond: objects.length / seconds,
    stallMs: stalls.percentile(99.9) / 1e6,
    longestStallMs: stalls.max / 1e6,
    cpuMs: (user + system) / 1_000 / objects.length,
  }),
);
