/**
 * A gateway that is killed (test/gateway-kills.test.ts): `replay-child.js DIRECTORY URL STUDIES`. Takes in the studies that it is
 * given as JSON, then delivers everything there is to a DICOMweb peer. Says on standard output what it does, a line each:
 *
 * - `accepted ARRIVAL-ID SOP-INSTANCE-UID DIGEST TIER`
 * - `outage`, `sending N`, `answered`, `asking`, `sent ARRIVAL-ID`, `verified ARRIVAL-ID`
 * - `closed JSON` (a reconciliation), `fault TEXT`, and `drained JSON` (the status) when nothing is left.
 */
import { writeSync } from 'node:fs';
import { openSpillway } from '../../src/spillway.ts';
import { fileStore } from '../../src/storage/file-store.ts';
import { syntheticStudy } from '../../src/testing/synthetic.ts';
import { dicomwebDestination } from '../../src/transports/dicomweb/destination.ts';
import type { Transport } from '../../src/transports/transport.ts';
import { fastClock } from './fast-clock.ts';

/** A study to take in; the child makes it up. */
export interface ChildStudy {
  readonly seed: number;
  readonly instances: number;
  readonly ageMs: number;
}

const TIMES_FASTER = 20;
const PIXEL_BYTES = 512;

const [directory = '', url = '', given = '[]'] = process.argv.slice(2);
const studies: readonly ChildStudy[] = JSON.parse(given);
// Written at once: what was said before a kill has been said.
const say = (...words: readonly (string | number)[]) => writeSync(1, `${words.join(' ')}\n`);

const destination = dicomwebDestination({ id: 'pacs', url, maxConcurrency: 3, maxInstancesPerRequest: 4 });
const { transport } = destination;
const told: Transport = {
  ...transport,
  async send(instances, signal) {
    say('sending', instances.length);
    const outcomes = await transport.send(instances, signal);
    const outside = outcomes.filter(({ kind }) => kind === 'unreachable').length;
    say('answered', outcomes.length - outside);
    return outcomes;
  },
  lookUp(instances, signal) {
    say('asking', instances.length);
    return transport.lookUp(instances, signal);
  },
};
const clock = fastClock(TIMES_FASTER);
const spillway = await openSpillway({
  store: fileStore({ directory, minFreeBytes: 0 }),
  destinations: [{ ...destination, transport: told }],
  clock,
});
spillway.on('outage', () => say('outage'));
spillway.on('delivery', ({ state, arrivalId }) => say(state, arrivalId));
spillway.on('closed', (closed) => say('closed', JSON.stringify(closed)));
spillway.on('fault', ({ error }) => say('fault', String(error)));
for (const { ageMs, ...study } of studies) {
  const instances = [...syntheticStudy({ ...study, pixelBytes: PIXEL_BYTES, acquiredAt: clock.now() - ageMs })];
  const receipts = await Promise.all(instances.map(({ bytes }) => spillway.accept(bytes)));
  for (const { arrivalId, identity, digest, tier } of receipts)
    say('accepted', arrivalId, identity.sopInstanceUid, digest, tier);
}
await spillway.drained();
const isOpen = async () => (await spillway.status()).destinations[0]?.episode !== null;
while (await isOpen()) await new Promise((resolve) => setTimeout(resolve, 5));
say('drained', JSON.stringify((await spillway.status()).destinations[0]));
await spillway.close();
