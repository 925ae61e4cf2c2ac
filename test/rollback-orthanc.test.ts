import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import type { Clock } from '../src/domain/clock.ts';
import type { RollbackSuspicion } from '../src/replay/events.ts';
import { openSpillway, type Spillway } from '../src/spillway.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { syntheticStudy } from '../src/testing/synthetic.ts';
import { dicomwebDestination } from '../src/transports/dicomweb/destination.ts';
import { missingOrthanc, type Orthanc, startOrthanc } from './support/orthanc.ts';
import { needPeer } from './support/skip.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const POLL_MS = 20;
const MAX_POLLS = 3_000;
const TEST_MS = 120_000;
/** The sample is taken twice, half a minute apart; time runs faster here. */
const TIMES_FASTER = 20;
const OPENED_AT = Date.now();
const fastClock: Clock = {
  now: () => OPENED_AT + (Date.now() - OPENED_AT) * TIMES_FASTER,
  schedule(delayMs, callback) {
    const timer = setTimeout(callback, delayMs / TIMES_FASTER);
    return () => clearTimeout(timer);
  },
};

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let poll = 0; poll < MAX_POLLS; poll += 1) {
    if (await condition()) return;
    await pause(POLL_MS);
  }
  throw new Error(`It never came about: ${what}`);
}

function study(seed: number, instances: number): readonly { readonly bytes: Uint8Array; readonly uid: string }[] {
  const made = [...syntheticStudy({ modality: 'CT', rows: 32, columns: 32, instances, seed, acquiredAt: OPENED_AT })];
  return made.map(({ bytes, identity }) => ({ bytes, uid: identity.sopInstanceUid }));
}

/** All SOP Instance UIDs that it holds, by its own interface. */
async function heldBy(orthanc: Orthanc): Promise<readonly string[]> {
  const instances = (await (await fetch(`${orthanc.url}/instances?expand`)).json()) as readonly {
    readonly MainDicomTags: { readonly SOPInstanceUID: string };
  }[];
  return instances.map(({ MainDicomTags }) => MainDicomTags.SOPInstanceUID).sort();
}

async function status(spillway: Spillway) {
  const [destination] = (await spillway.status()).destinations;
  if (destination === undefined) throw new Error('there is no destination');
  return destination;
}

/** Drained; a failure says how everything stands. */
async function drained(spillway: Spillway): Promise<void> {
  for (let poll = 0; poll < MAX_POLLS / 2; poll += 1) {
    const { backlog } = await status(spillway);
    if (backlog.instances === 0) return;
    await pause(POLL_MS);
  }
  throw new Error(`It was never drained: ${JSON.stringify(await status(spillway))}`);
}

test('an Orthanc that comes back from last night’s backup is found out, and has everything again', {
  timeout: TEST_MS,
}, async (context) => {
  needPeer(context, missingOrthanc());
  const root = await temporaryDirectory();
  const directory = join(root, 'orthanc');
  const backup = join(root, 'backup');
  const orthanc = await startOrthanc({ directory });
  const spillway = await openSpillway({
    store: fileStore({ directory: join(root, 'buffer') }),
    destinations: [dicomwebDestination({ id: 'pacs', url: orthanc.dicomWebUrl, maxConcurrency: 2 })],
    clock: fastClock,
    closeTimeoutMs: 10_000 * TIMES_FASTER,
  });
  onTestFinished(() => spillway.close());
  const suspected: RollbackSuspicion[] = [];
  const faults: unknown[] = [];
  spillway.on('rollback-suspected', (suspicion) => suspected.push(suspicion));
  spillway.on('fault', ({ error }) => faults.push(error));
  const accept = async (instances: ReturnType<typeof study>) => {
    for (const { bytes } of instances) await spillway.accept(bytes);
  };
  const begin = fastClock.now();

  const [yesterday, today, meanwhile] = [study(1, 12), study(2, 30), study(3, 6)];
  await accept(yesterday);
  await drained(spillway);
  // The nightly backup, of an Orthanc that is stopped for it.
  await orthanc.stop();
  await cp(directory, backup, { recursive: true });
  await orthanc.start();
  await until('up after the backup', async () => (await status(spillway)).health.phase === 'up');
  await accept(today);
  await drained(spillway);
  expect(await heldBy(orthanc)).toHaveLength(42);

  await orthanc.stop('SIGKILL');
  await accept(meanwhile);
  await until('down', async () => (await status(spillway)).health.phase === 'down');
  await rm(directory, { recursive: true });
  await cp(backup, directory, { recursive: true });
  await orthanc.start();

  await until('suspected', () => suspected.length > 0);
  const [suspicion] = suspected;
  const lost = new Set(today.map(({ uid }) => uid));
  expect(suspicion?.missing.length).toBeGreaterThan(0);
  expect(suspicion?.missing.every(({ sopInstanceUid }) => lost.has(sopInstanceUid))).toBe(true);
  await drained(spillway);
  const sampled = suspicion?.missing.length ?? 0;
  expect(await heldBy(orthanc)).toHaveLength(12 + 6 + sampled);

  const found = await spillway.reverify({ destination: 'pacs', since: begin });
  expect(found).toMatchObject({ checked: 48, missing: 30 - sampled, returned: 30 - sampled, isComplete: true });
  expect(found).toMatchObject({ different: 0, unknown: 0, evicted: 0 });
  await drained(spillway);
  expect(await heldBy(orthanc)).toEqual([...yesterday, ...today, ...meanwhile].map(({ uid }) => uid).sort());
  expect(await status(spillway)).toMatchObject({ verified: 48, quarantined: 0 });
  const again = await spillway.reverify({ destination: 'pacs', since: begin });
  expect(again).toMatchObject({ checked: 48, present: 48, missing: 0 });
  expect(suspected).toHaveLength(1);
  expect(faults).toEqual([]);
});
