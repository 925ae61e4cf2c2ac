import { readAndDigest } from '../../dicom/data-set-digest.ts';
import type { Receipt } from '../../domain/receipt.ts';
import { SpillwayError } from '../../errors.ts';
import { Intake } from '../../intake.ts';
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Catalog } from '../../storage/catalog.ts';
import type { FileSystem } from '../../storage/directory/file-system.ts';
import { MemoryCatalog } from '../../storage/memory/memory-catalog.ts';
import { MemoryTables } from '../../storage/memory/memory-tables.ts';
import { defaultTierPolicy } from '../../tiers/policy.ts';
import { interceptCatalog } from '../intercept.ts';
import { seededRandom } from '../seeded-random.ts';
import { syntheticInstance } from '../synthetic.ts';
import { VirtualClock } from '../virtual-clock.ts';
import { type LeftOutSync, ModelFileSystem } from './model-file-system.ts';
import { Scheduler } from './scheduler.ts';

const ROOT = '/store';
const NOON = Date.parse('2026-03-02T12:00:00Z');
/** The power fails after as many steps at the most; that is about as many as nine instances take. */
const MAX_STEPS_BEFORE = 160;

/** An instance that is offered in every history. */
export interface OfferedInstance {
  readonly bytes: Uint8Array;
  readonly digest: string;
}

export interface HistoryOptions {
  readonly openBlobs: (directory: string, fileSystem: FileSystem) => Promise<BlobStore>;
  readonly offered: readonly OfferedInstance[];
  readonly filesPerBlob: number;
  /** Chance that a step fails before the power does. */
  readonly faults: number;
  readonly isLeftOut?: LeftOutSync;
}

/** What a history came to; `harm` says what was lost or invented, null when nothing was. */
export interface HistoryOutcome {
  readonly harm: string | null;
  /** The power failed before everything that was offered had been answered. */
  readonly wasCutShort: boolean;
  readonly acknowledged: number;
}

/** Small instances: three studies, of each some series, one instance in two versions. */
export function offeredInstances(): Promise<readonly OfferedInstance[]> {
  return Promise.all(
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
}

/**
 * Takes instances in, all at once, over a model file system, its steps in an order drawn by `seed`; loses the power
 * somewhere, opens again, and says what became of what was acknowledged. Then everything is offered again.
 */
export async function history(seed: number, options: HistoryOptions): Promise<HistoryOutcome> {
  const { offered, isLeftOut } = options;
  const random = seededRandom(seed);
  const scheduler = new Scheduler(random);
  const fileSystem = new ModelFileSystem({ scheduler, random, ...(isLeftOut && { isLeftOut }) });
  await scheduler.settle(fileSystem.makeDirectory(ROOT));
  await scheduler.settle(fileSystem.syncDirectory('/'));
  const tables = new MemoryTables();
  const uncoded: unknown[] = [];
  const before = new Life({ options, fileSystem, scheduler, random, tables, uncoded });
  const intake = before.intake(await before.openBlobs(), options.faults);
  const acknowledged = new Set<string>();
  let ended = 0;
  for (const { bytes } of offered) {
    void intake
      .accept(bytes, {})
      .then(
        ({ digest }) => acknowledged.add(digest),
        (error) => before.noteUncoded(error),
      )
      .finally(() => {
        ended += 1;
      });
  }
  const steps = Math.floor(random() * MAX_STEPS_BEFORE);
  const wasCutShort = !(await scheduler.drive(() => ended === offered.length, steps));

  // Power is lost; what nobody waits for any more goes on nowhere.
  const calm = new Scheduler(random);
  const survived = fileSystem.crash({ scheduler: calm, random });
  const after = new Life({ options, fileSystem: survived, scheduler: calm, random, tables, uncoded });
  const harm = (await harmAfter(after, acknowledged)) ?? (uncoded.length > 0 ? `uncoded: ${String(uncoded[0])}` : null);
  return { harm, wasCutShort, acknowledged: acknowledged.size };
}

/** What is wrong after the loss of power, and after everything has been offered again. */
async function harmAfter(life: Life, acknowledged: ReadonlySet<string>): Promise<string | null> {
  const { offered, filesPerBlob } = life.parts.options;
  const recovered = await life.openBlobs();
  await life.recover(recovered);
  const harm = (await life.harm(recovered, acknowledged)) ?? (await life.leftInFlight());
  if (harm !== null) return harm;

  const before = life.count();
  const blobs = await life.openBlobs();
  const intake = life.intake(blobs, 0);
  const again = Promise.all(offered.map(({ bytes }) => acceptAgain(intake, bytes, offered.length)));
  const all = new Set((await life.settle(again)).map(({ digest }) => digest));
  // The traces of what is acknowledged go a little later.
  await life.settle(intake.close(0));
  const later = (await life.harm(blobs, all)) ?? (await life.leftInFlight());
  if (later !== null) return `when all was sent again: ${later}`;
  const after = life.count();
  const more = after.files - before.files - filesPerBlob * (after.rows - before.rows);
  return more > 0 ? `${more} files more than rows ask for, when all was sent again` : null;
}

/**
 * As a sender does that is refused for the time being: where the clock stands still an arrival id may come again, and its
 * name may be taken by what the loss of power left of an arrival that was never committed.
 */
async function acceptAgain(intake: Intake, bytes: Uint8Array, maxRefusals: number): Promise<Receipt> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await intake.accept(bytes, {});
    } catch (error) {
      if (!(error instanceof SpillwayError && error.isRetryable) || attempt === maxRefusals) throw error;
    }
  }
}

interface LifeParts {
  readonly options: HistoryOptions;
  readonly fileSystem: ModelFileSystem;
  readonly scheduler: Scheduler;
  readonly random: () => number;
  /** What was committed outlives the power. */
  readonly tables: MemoryTables;
  /** Errors of calls that are no `SpillwayError`. */
  readonly uncoded: unknown[];
}

/** A store between the coming of the power and its loss. */
class Life {
  readonly parts: LifeParts;
  constructor(parts: LifeParts) {
    this.parts = parts;
  }

  openBlobs(): Promise<BlobStore> {
    const { options, fileSystem } = this.parts;
    fileSystem.faults = 0;
    return this.settle(options.openBlobs(ROOT, fileSystem));
  }

  intake(blobs: BlobStore, faults: number): Intake {
    const { fileSystem, scheduler, random, tables } = this.parts;
    fileSystem.faults = faults;
    const catalog = scheduledCatalog(new MemoryCatalog(tables), scheduler, random, faults);
    return new Intake(
      {
        store: { catalog, blobs, close: async () => {} },
        room: { create: () => blobs.create(), taken: () => {}, evicted: async () => {} },
        onDamaged: async () => {},
        route: () => [],
        destinationIds: [],
        receives: () => true,
        ranking: () => ({ policy: defaultTierPolicy, timeZone: 'UTC', reference: 'outage-end' }),
        maxInstanceBytes: 1_000_000,
        maxConcurrentAccepts: 6,
        sourceIdleTimeoutMs: 1_000,
        clock: new VirtualClock(NOON),
        referenceAt: (_, now) => now,
        onAccepted: () => {},
        onRestated: () => {},
        onFault: (error) => this.noteUncoded(error),
      },
      tables.versions.at(-1)?.arrivalId ?? null,
    );
  }

  noteUncoded(error: unknown): void {
    if (!(error instanceof SpillwayError)) this.parts.uncoded.push(error);
  }

  settle<T>(promise: Promise<T>): Promise<T> {
    return this.parts.scheduler.settle(promise);
  }

  recover(blobs: BlobStore): Promise<number> {
    const { arrivals } = this.parts.tables;
    return this.settle(blobs.recover(async (arrivalId) => arrivals.has(arrivalId)));
  }

  count(): { readonly files: number; readonly rows: number } {
    return { files: this.parts.fileSystem.files().length, rows: this.parts.tables.versions.length };
  }

  /** What was acknowledged and is not there, what the catalog knows and no file holds, what nobody offered. */
  async harm(blobs: BlobStore, acknowledged: ReadonlySet<string>): Promise<string | null> {
    const { options, tables } = this.parts;
    const known = new Set(tables.versions.map(({ digest }) => digest));
    for (const digest of acknowledged) if (!known.has(digest)) return `${digest} was acknowledged, and has no row`;
    for (const { digest, blobRef } of tables.versions) {
      if (!options.offered.some((each) => each.digest === digest)) return `${digest} was never offered`;
      const found = await this.settle(readAndDigest(blobs.read(blobRef)).catch(String));
      if (typeof found === 'string') return `${digest} has a row and cannot be read: ${found}`;
      if (found.digest !== digest) return `${digest} has other bytes`;
    }
    return null;
  }

  async leftInFlight(): Promise<string | null> {
    const left = await this.settle((await this.openBlobs()).recover(async () => false));
    return left === 0 ? null : `${left} blobs are left in flight`;
  }
}

/** A catalog whose commits are steps, and may fail before or, though nobody can know, after they are durable. */
function scheduledCatalog(catalog: Catalog, scheduler: Scheduler, random: () => number, faults: number): Catalog {
  return interceptCatalog(catalog, (call, action) => {
    if (call !== 'catalog.accept') return action();
    return scheduler.run('commit', async () => {
      if (random() < faults) {
        throw new SpillwayError(random() < 0.5 ? 'SPILLWAY_STORE_FULL' : 'SPILLWAY_STORE_FAILED', 'before');
      }
      const result = await action();
      if (random() < faults) throw new SpillwayError('SPILLWAY_STORE_FAILED', 'after');
      return result;
    });
  });
}
