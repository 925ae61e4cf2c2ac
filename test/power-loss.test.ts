import { describe, expect, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import type { Receipt } from '../src/domain/receipt.ts';
import { SpillwayError } from '../src/errors.ts';
import { Intake } from '../src/intake.ts';
import type { Catalog } from '../src/storage/catalog.ts';
import { DirectoryBlobStore } from '../src/storage/directory/directory-blob-store.ts';
import { MemoryCatalog } from '../src/storage/memory/memory-catalog.ts';
import { MemoryTables } from '../src/storage/memory/memory-tables.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';
import { syntheticInstance } from '../src/testing/synthetic.ts';
import { VirtualClock } from '../src/testing/virtual-clock.ts';
import { defaultTierPolicy } from '../src/tiers/policy.ts';
import { ModelFileSystem, type ModelOptions, Scheduler } from './support/model-file-system.ts';

const ROOT = '/store';
const HISTORIES = 10_000;
const NOON = Date.parse('2026-03-02T12:00:00Z');

/** Small instances: three studies, of each some series, one instance in two versions. */
const OFFERED = await Promise.all(
  Array.from({ length: 9 }, async (_, index) => {
    const study = index % 3;
    const bytes = syntheticInstance({
      rows: 4,
      columns: 4,
      seed: index,
      studyInstanceUid: `1.2.${study}`,
      seriesInstanceUid: `1.2.${study}.${index % 2}`,
      ...(index > 6 ? { sopInstanceUid: '1.2.9' } : {}),
    });
    return { bytes, digest: (await readAndDigest([bytes])).digest };
  }),
);

interface HistoryOptions {
  readonly faults?: number;
  readonly isLeftOut?: ModelOptions['isLeftOut'];
}

/** What a history came to; `harm` says what was lost or invented, null when nothing was. */
interface Outcome {
  readonly harm: string | null;
  readonly crashed: boolean;
  readonly acknowledged: number;
}

/**
 * Takes instances in, all at once, over a model file system, its steps in an order drawn by `seed`; loses the power
 * somewhere, opens again, and says what became of what was acknowledged. Then everything is offered again.
 */
async function history(seed: number, options: HistoryOptions = {}): Promise<Outcome> {
  const random = seededRandom(seed);
  const { faults = 0, isLeftOut } = options;
  const tables = new MemoryTables();
  const scheduler = new Scheduler(random);
  const fileSystem = new ModelFileSystem({ scheduler, random, ...(isLeftOut && { isLeftOut }) });
  await settled(scheduler, fileSystem.makeDirectory(ROOT));
  await settled(scheduler, fileSystem.syncDirectory('/'));
  const first = await openLife(fileSystem, scheduler, random, tables, faults);
  const acknowledged = new Set<string>();
  let ended = 0;
  for (const { bytes } of OFFERED) {
    const accepted = first.intake.accept(bytes, {}).then(
      ({ digest }) => acknowledged.add(digest),
      (error) => assertCoded(error),
    );
    void accepted.finally(() => {
      ended += 1;
    });
  }
  const crashAt = Math.floor(random() * 160);
  const crashed = await drive(scheduler, () => ended === OFFERED.length, crashAt);

  // Power is lost; what nobody waits for any more goes on nowhere.
  const calm = new Scheduler(random);
  const survived = fileSystem.crash({ scheduler: calm, random });
  const second = await openLife(survived, calm, random, tables, 0);
  const catalog = new MemoryCatalog(tables);
  await settled(
    calm,
    second.blobs.recover((arrivalId) => catalog.hasArrival(arrivalId)),
  );
  const harm = await harmDone(calm, survived, second.blobs, catalog, acknowledged);
  if (harm !== null) return { harm, crashed, acknowledged: acknowledged.size };

  const orphans = survived.files().length - tables.versions.length;
  const again = await settled(calm, Promise.all(OFFERED.map(({ bytes }) => acceptAgain(second.intake, bytes))));
  const all = new Set(again.map(({ digest }) => digest));
  const later = await harmDone(calm, survived, second.blobs, catalog, all);
  const left = survived.files().length - tables.versions.length - orphans;
  return {
    harm: later ?? (left <= 0 ? null : `${left} files more without a row`),
    crashed,
    acknowledged: acknowledged.size,
  };
}

/**
 * As a sender does that is refused for the time being: where the clock stands still an arrival id may come again, and its
 * name may be taken by what the loss of power left of an arrival that was never committed.
 */
async function acceptAgain(intake: Intake, bytes: Uint8Array): Promise<Receipt> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await intake.accept(bytes, {});
    } catch (error) {
      if (!(error instanceof SpillwayError && error.isRetryable) || attempt === OFFERED.length + 1) throw error;
    }
  }
}

async function openLife(
  fileSystem: ModelFileSystem,
  scheduler: Scheduler,
  random: () => number,
  tables: MemoryTables,
  faults: number,
) {
  const blobs = await settled(scheduler, DirectoryBlobStore.open(ROOT, fileSystem));
  const catalog = scheduledCatalog(new MemoryCatalog(tables), scheduler, random, faults);
  const clock = new VirtualClock(NOON);
  const intake = new Intake(
    {
      store: { catalog, blobs, close: async () => {} },
      route: () => [],
      destinationIds: [],
      isRetired: () => false,
      ranking: () => ({ policy: defaultTierPolicy, timeZone: 'UTC', reference: 'outage-end' }),
      maxInstanceBytes: 1_000_000,
      maxConcurrentAccepts: 6,
      sourceIdleTimeoutMs: 1_000,
      clock,
      referenceAt: (_, now) => now,
      onAccepted: () => {},
      onRestated: () => {},
      onFault: assertCoded,
    },
    await catalog.lastArrivalId(),
  );
  return { blobs, intake };
}

/** A catalog whose commits are steps, and may fail before or, though nobody can know, after they are durable. */
function scheduledCatalog(catalog: Catalog, scheduler: Scheduler, random: () => number, faults: number): Catalog {
  const commit: Catalog['accept'] = (batch) =>
    scheduler.run('commit', async () => {
      if (random() < faults)
        throw new SpillwayError(random() < 0.5 ? 'SPILLWAY_STORE_FULL' : 'SPILLWAY_STORE_FAILED', 'before');
      const results = await catalog.accept(batch);
      if (random() < faults) throw new SpillwayError('SPILLWAY_STORE_FAILED', 'after');
      return results;
    });
  return new Proxy(catalog, {
    get: (target, name) => {
      if (name === 'accept') return commit;
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** What was acknowledged and is not there, what the catalog knows and no file holds, what nobody offered. */
async function harmDone(
  scheduler: Scheduler,
  fileSystem: ModelFileSystem,
  blobs: DirectoryBlobStore,
  catalog: Catalog,
  acknowledged: ReadonlySet<string>,
): Promise<string | null> {
  const versions = await catalog.versions({ limit: 1_000 });
  const known = new Set(versions.map(({ digest }) => digest));
  for (const digest of acknowledged) if (!known.has(digest)) return `${digest} was acknowledged, and has no row`;
  for (const { digest, blobRef } of versions) {
    if (!OFFERED.some((offered) => offered.digest === digest)) return `${digest} was never offered`;
    const found = await settled(
      scheduler,
      readAndDigest(blobs.read(blobRef)).catch((error) => String(error)),
    );
    if (typeof found === 'string') return `${digest} has a row and cannot be read: ${found}`;
    if (found.digest !== digest) return `${digest} has other bytes`;
  }
  const inFlight = fileSystem.files().filter((path) => path.startsWith(`${ROOT}/incoming/`));
  return inFlight.length === 0 ? null : `${inFlight.length} files are left in flight`;
}

/** Carries steps out until it is done, or so many were; returns whether it was not done by then. */
async function drive(scheduler: Scheduler, isDone: () => boolean, maxSteps: number): Promise<boolean> {
  for (let steps = 0; ; steps += 1) {
    // Everything that can go on without a step does.
    await new Promise((resolve) => setImmediate(resolve));
    if (isDone()) return false;
    if (steps === maxSteps) return true;
    if (!scheduler.step()) throw new Error(`nothing is under way, and it is not done: ${scheduler.done.slice(-5)}`);
  }
}

async function settled<T>(scheduler: Scheduler, promise: Promise<T>): Promise<T> {
  let isSettled = false;
  const settle = () => {
    isSettled = true;
  };
  promise.then(settle, settle);
  await drive(scheduler, () => isSettled, 100_000);
  return promise;
}

function assertCoded(error: unknown): void {
  if (!(error instanceof SpillwayError)) throw error;
}

describe('loss of power', () => {
  test(`${HISTORIES} histories: nothing that was acknowledged is lost, nothing is invented`, async () => {
    let crashes = 0;
    let acknowledged = 0;
    for (let seed = 1; seed <= HISTORIES; seed += 1) {
      const outcome = await history(seed, { faults: seed % 2 === 0 ? 0.02 : 0 });
      expect(outcome.harm, `seed ${seed}`).toBeNull();
      crashes += Number(outcome.crashed);
      acknowledged += outcome.acknowledged;
    }
    console.log(
      `power loss: ${HISTORIES} histories, ${crashes} cut short, ${acknowledged} instances acknowledged before`,
    );
    expect(crashes).toBeGreaterThan(HISTORIES / 2);
    expect(acknowledged).toBeGreaterThan(HISTORIES);
  }, 300_000);

  test.each<readonly [string, NonNullable<HistoryOptions['isLeftOut']>]>([
    ['the file', (kind) => kind === 'file'],
    [
      'the directory of the series',
      (kind, path) => kind === 'directory' && /^\/store\/studies\/[^/]+\/[^/]+$/.test(path),
    ],
    ['the directory of the study', (kind, path) => kind === 'directory' && /^\/store\/studies\/[^/]+$/.test(path)],
    ['studies/', (kind, path) => kind === 'directory' && path === '/store/studies'],
    ['the root', (kind, path) => kind === 'directory' && path === '/store'],
  ])(
    'the sync of %s left out is found',
    async (_, isLeftOut) => {
      let found = 0;
      for (let seed = 1; seed <= 300; seed += 1) if ((await history(seed, { isLeftOut })).harm !== null) found += 1;
      expect(found).toBeGreaterThan(0);
    },
    60_000,
  );
});
