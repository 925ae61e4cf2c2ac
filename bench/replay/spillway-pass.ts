// Drains a store whose deliveries are all pending: by the default policy, or with a number of requests in flight that stays.

import { readFileSync } from 'node:fs';
import { defaultFlowPolicy, type FlowPolicy } from '../../src/routing/flow.ts';
import { openSpillway } from '../../src/spillway.ts';
import { fileStore } from '../../src/storage/file-store.ts';
import { dicomwebDestination } from '../../src/transports/dicomweb/destination.ts';
import { DESTINATION, type PendingFile } from '../support/pending-store.ts';
import { passJob, stopwatch } from './pass.ts';

const LONG_MS = 300_000;
const { directory, files, url, inFlight, instancesPerRequest } = passJob();
const count = (JSON.parse(readFileSync(files, 'utf8')) as readonly PendingFile[]).length;
const report = stopwatch();
const spillway = await openSpillway({
  store: fileStore({ directory }),
  destinations: [
    {
      ...dicomwebDestination({ id: DESTINATION, url, verify: 'answered', maxInstancesPerRequest: instancesPerRequest }),
      ...(inFlight === undefined ? {} : { policy: { flow: fixedAt(inFlight) } }),
    },
  ],
  // The walk after an opening has a rate of its own, and is over long before most of a backlog is.
  checksPerSecond: 1,
});
spillway.on('fault', ({ error }) => {
  throw error;
});
// `drained` looks about once a second; the last settlement is told at once.
await new Promise<void>((resolve) => {
  let settled = 0;
  spillway.on('delivery', ({ state }) => {
    if (state !== 'verified') throw new Error(`a delivery is ${state}`);
    settled += 1;
    if (settled === count) resolve();
  });
});
report();
await spillway.close();

/** Up to so many by slow start, and then neither more nor fewer are tried out. */
function fixedAt(maxConcurrency: number): FlowPolicy {
  return {
    ...defaultFlowPolicy,
    maxConcurrency,
    minGain: 1e-6,
    congestedAt: 100,
    tryOutMs: LONG_MS,
    maxTryOutMs: LONG_MS,
  };
}
