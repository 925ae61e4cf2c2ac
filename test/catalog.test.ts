import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import type { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DATE_BASES, type Rank } from '../src/domain/rank.ts';
import { SpillwayError } from '../src/errors.ts';
import type { Acceptance, AcceptanceResult, Catalog } from '../src/storage/catalog.ts';
import { MemoryBlobStore } from '../src/storage/memory/memory-blob-store.ts';
import { MemoryCatalog } from '../src/storage/memory/memory-catalog.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import { MemoryTables } from '../src/storage/memory/memory-tables.ts';
import { FIND_VERSION, IS_HELD, listVersions } from '../src/storage/sqlite/acceptance-operations.ts';
import { Connection } from '../src/storage/sqlite/connection.ts';
import {
  DUE_DELIVERIES,
  FIRST_OPEN_OF_INSTANCE,
  LEASABLE_STUDIES,
  LEASED_DELIVERY,
  NEXT_DUE,
  voidLeases,
} from '../src/storage/sqlite/delivery-operations.ts';
import { EVICTABLE, MAY_EVICT } from '../src/storage/sqlite/eviction-operations.ts';
import { HOURS, studyQuery } from '../src/storage/sqlite/holding-operations.ts';
import type { CatalogOperations } from '../src/storage/sqlite/operations.ts';
import { LAST_ARRIVAL, RANKED_STUDIES, RANKING_FACTS } from '../src/storage/sqlite/ranking-operations.ts';
import { APPLICATION_ID, SCHEMA, SCHEMA_VERSION } from '../src/storage/sqlite/schema.ts';
import { openSqliteCatalog } from '../src/storage/sqlite/sqlite-catalog.ts';
import { catalogOperations, toStoreError } from '../src/storage/sqlite/sqlite-database.ts';
import type { Store } from '../src/storage/store.ts';
import { catalogContract } from '../src/testing/catalog-contract.ts';
import { SCHEMA_1 } from './support/catalog-schema-1.ts';

function sqliteStore(directory: string): Store {
  const blobs = new MemoryBlobStore();
  return {
    async open() {
      const catalog = await openSqliteCatalog({ file: join(directory, 'catalog.db') });
      return { catalog, blobs, close: () => catalog.close() };
    },
  };
}

async function temporaryDirectory(): Promise<{ directory: string; dispose(): Promise<void> }> {
  const directory = await mkdtemp(join(tmpdir(), 'spillway-catalog-'));
  return { directory, dispose: () => rm(directory, { recursive: true, force: true }) };
}

describe('in memory', () => {
  catalogContract({ test, makeStore: async () => ({ store: memoryStore(), dispose: async () => {} }) });

  test('a second opening at a time is refused', async () => {
    const store = memoryStore();
    const opened = await store.open();
    await expect(store.open()).rejects.toMatchObject({ code: 'SPILLWAY_STORE_LOCKED' });
    await opened.close();
    const again = await store.open();
    await opened.close();
    await expect(store.open()).rejects.toMatchObject({ code: 'SPILLWAY_STORE_LOCKED' });
    await again.close();
  });
});

describe('SQLite', () => {
  catalogContract({
    test,
    makeStore: async () => {
      const { directory, dispose } = await temporaryDirectory();
      return { store: sqliteStore(directory), dispose };
    },
  });

  let directory: string;
  let file: string;
  let dispose: () => Promise<void>;
  beforeEach(async () => {
    ({ directory, dispose } = await temporaryDirectory());
    file = join(directory, 'catalog.db');
  });
  afterEach(() => dispose());

  test('its files can be read by their owner alone', async () => {
    const catalog = await openSqliteCatalog({ file });
    await catalog.registerDestination('pacs');
    for (const path of [file, `${file}-wal`]) expect((await stat(path)).mode & 0o777).toBe(0o600);
    await catalog.close();
    expect(await readdir(directory), 'a closed catalog is one file').toEqual(['catalog.db']);
  });

  test('a second opening at a time is refused, and the first goes on', async () => {
    const catalog = await openSqliteCatalog({ file });
    await expect(openSqliteCatalog({ file })).rejects.toMatchObject({ code: 'SPILLWAY_STORE_LOCKED' });
    await catalog.registerDestination('pacs');
    await catalog.close();
    await (await openSqliteCatalog({ file })).close();
  });

  test('a database of an unknown version is refused and left as it is', async () => {
    await (await openSqliteCatalog({ file })).close();
    pragma(file, `PRAGMA user_version = ${SCHEMA_VERSION + 1}`);
    await expect(openSqliteCatalog({ file })).rejects.toMatchObject({ code: 'SPILLWAY_STORE_FORMAT' });
    expect(pragma(file, 'PRAGMA user_version')).toEqual({ user_version: SCHEMA_VERSION + 1 });
    pragma(file, `PRAGMA user_version = ${SCHEMA_VERSION}`);
    await (await openSqliteCatalog({ file })).close();
  });

  test('a catalog of version 1 opens with everything that it held', async () => {
    writeVersion1(file);
    await (await openSqliteCatalog({ file })).close();
    expect(pragma(file, 'PRAGMA user_version')).toEqual({ user_version: SCHEMA_VERSION });
    expect(pragma(file, 'SELECT version, applied_at > 0 AS dated FROM migrations')).toEqual({
      version: SCHEMA_VERSION,
      dated: 1,
    });
    const catalog = await openSqliteCatalog({ file });
    expect(await catalog.held()).toMatchObject({ instances: 3, bytes: 300 });
    expect(await catalog.studies({ limit: 9 })).toMatchObject([
      { studyInstanceUid: '1.1', instances: 2, bytes: 200, openDeliveries: 2, modalities: ['CT'] },
      { studyInstanceUid: '1.2', instances: 1, bytes: 100, openDeliveries: 1, modalities: ['CT'] },
    ]);
    expect(await catalog.hourlyTotals({ from: 0, to: 3_600_000, limit: 9 })).toEqual([
      { hour: 0, modality: 'CT', studies: 2, instances: 3, bytes: 300 },
    ]);
    const rank = { urgency: 'unknown', basis: 'dated', ruledTier: null } as const;
    expect(await catalog.rankedStudies({ destinationId: 'pacs', limit: 9 })).toEqual([
      { studyInstanceUid: '1.1', lastArrivalId: 'b', rank: { ...rank, tier: 2, ageTier: 2, acquiredAt: 10 } },
      {
        studyInstanceUid: '1.2',
        lastArrivalId: 'c',
        rank: { ...rank, urgency: 'stat', tier: 0, ageTier: 0, acquiredAt: 20, basis: 'estimated' },
      },
    ]);
    expect(await catalog.destinations()).toMatchObject([{ destinationId: 'pacs', pending: 3, rankedBy: null }]);
    expect((await catalog.versions({ limit: 9 })).map(({ arrivalId }) => arrivalId)).toEqual(['a', 'b', 'c']);
    expect(await catalog.rankingFacts({ destinationId: 'pacs', studyInstanceUid: '1.1', limit: 9 })).toEqual([
      { arrivalId: 'a', attributes: { Modality: 'CT' }, receivedAt: 5, urgency: null },
      { arrivalId: 'b', attributes: { Modality: 'CT' }, receivedAt: 5, urgency: null },
    ]);
    // Version 1 kept what the caller had said in the rank alone.
    expect(await catalog.rankingFacts({ destinationId: 'pacs', studyInstanceUid: '1.2', limit: 9 })).toMatchObject([
      { arrivalId: 'c', urgency: 'stat' },
    ]);
    const leased = await catalog.leaseStudies({ destinationId: 'pacs', now: 1, limit: 9 });
    expect(leased.map(({ studyInstanceUid }) => studyInstanceUid)).toEqual(['1.2', '1.1']);
    // And it takes new ones.
    expect((await catalog.accept([offer(1)]))[0]?.outcome).toBe('created');
    await catalog.close();
  });

  test('a migration that fails half way leaves version 1', async () => {
    writeVersion1(file);
    // The second statement of the migration meets a column that is there already.
    pragma(file, 'ALTER TABLE work ADD COLUMN age_tier INTEGER');
    await expect(openSqliteCatalog({ file })).rejects.toMatchObject({ code: 'SPILLWAY_STORE_FAILED' });
    expect(pragma(file, 'PRAGMA user_version')).toEqual({ user_version: 1 });
    expect(pragma(file, "SELECT count(*) AS found FROM pragma_table_info('versions') WHERE name = 'urgency'")).toEqual({
      found: 0,
    });
  });

  test('killed in the middle of a migration, it is of version 1 or of version 2, whole', async () => {
    const studies = 30_000;
    const old = join(directory, 'old.db');
    writeVersion1(old);
    const database = new DatabaseSync(old);
    database.exec(`WITH RECURSIVE n (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < ${studies + 9})
      INSERT INTO work SELECT i, 1, 'study ' || i, 1, 2, i, i % 2, 0, 0, NULL, NULL, 0 FROM n`);
    database.close();
    const found = new Set<unknown>();
    for (let delayMs = 0; delayMs < 60 || (found.size < 2 && delayMs < 2_000); delayMs += 12) {
      for (const path of [file, `${file}-wal`, `${file}-shm`]) await rm(path, { force: true });
      await copyFile(old, file);
      const orders = ['--input-type=module', '-e', OPEN_AND_SAY, file];
      const child = spawn(process.execPath, orders, { stdio: ['ignore', 'pipe', 'inherit'] });
      const exited = once(child, 'exit');
      await once(child.stdout, 'data');
      setTimeout(() => child.kill('SIGKILL'), delayMs);
      await exited;
      const version = pragma(file, 'PRAGMA user_version')?.user_version;
      expect([1, SCHEMA_VERSION]).toContain(version);
      found.add(version);
      expect(pragma(file, 'PRAGMA integrity_check')).toEqual({ integrity_check: 'ok' });
      const catalog = await openSqliteCatalog({ file });
      expect(await catalog.rankedStudies({ destinationId: 'pacs', limit: 9 })).toHaveLength(2);
      await catalog.close();
      const columns =
        'SELECT count(*) AS rows, sum(basis = 2) AS estimated, sum(age_tier IS NULL) AS without FROM work';
      expect(pragma(file, columns)).toEqual({ rows: studies + 2, estimated: studies / 2 + 1, without: 0 });
    }
    console.log(`catalog: killed while it was migrated, it was found in version ${[...found].sort().join(' or ')}`);
  }, 60_000);

  test('a new catalog and one that was brought here have the same columns and indexes', async () => {
    const columns = (path: string) =>
      ['versions', 'destinations', 'work', 'deliveries', 'episodes'].map((table) =>
        String(
          pragma(
            path,
            `SELECT group_concat(name, ' ') AS c FROM (SELECT name FROM pragma_table_info('${table}') ORDER BY name)`,
          )?.c,
        ),
      );
    writeVersion1(file);
    await (await openSqliteCatalog({ file })).close();
    const fresh = join(directory, 'fresh.db');
    await (await openSqliteCatalog({ file: fresh })).close();
    expect(columns(file)).toEqual(columns(fresh));
    const indexes = (path: string) =>
      pragma(
        path,
        "SELECT group_concat(sql, ';') AS c FROM (SELECT sql FROM sqlite_schema WHERE type = 'index' ORDER BY name)",
      );
    expect(indexes(file)).toEqual(indexes(fresh));
  });

  test("another program's database and a file that is none are refused", async () => {
    pragma(file, 'CREATE TABLE theirs (a)');
    pragma(file, 'PRAGMA user_version = 1');
    await expect(openSqliteCatalog({ file })).rejects.toMatchObject({ code: 'SPILLWAY_STORE_FORMAT' });
    const text = join(directory, 'text');
    await writeFile(text, 'This is a letter, not a database. '.repeat(100));
    await expect(openSqliteCatalog({ file: text })).rejects.toMatchObject({ code: 'SPILLWAY_STORE_FORMAT' });
  });

  test('a file that cannot be made is a coded error with its cause', async () => {
    const opening = openSqliteCatalog({ file: join(directory, 'missing', 'catalog.db') });
    await expect(opening).rejects.toMatchObject({ code: 'SPILLWAY_STORE_FAILED', cause: expect.any(Error) });
    await expect(opening).rejects.toThrow(/ENOENT/);
  });

  test('a database without room is full, and what was accepted before stays', () => {
    const database = tables();
    const operations = catalogOperations(new Connection(database));
    operations.registerDestination('pacs');
    database.exec('PRAGMA max_page_count = 60');
    let accepted = 0;
    const acceptAll = () => {
      for (; accepted < 10_000; accepted += 1) operations.accept([offer(accepted)]);
    };
    expect(acceptAll).toThrow();
    try {
      acceptAll();
    } catch (error) {
      expect(toStoreError(error, file)).toMatchObject({ code: 'SPILLWAY_STORE_FULL', isRetryable: true });
    }
    expect(accepted).toBeGreaterThan(0);
    expect(operations.versions({ limit: 10_000 })).toHaveLength(accepted);
    expect(operations.destinations()[0]?.pending).toBe(accepted);
    database.exec('PRAGMA max_page_count = 1000');
    expect(operations.accept([offer(accepted)])[0]?.outcome).toBe('created');
    database.close();
  });

  test('when its thread dies, calls in flight and later ones fail, and the store can be opened again', async () => {
    const started = new Promise<Worker>((resolve) => process.once('worker', resolve));
    const catalog = await openSqliteCatalog({ file });
    const worker = await started;
    await catalog.registerDestination('pacs');
    const inFlight = Promise.allSettled(Array.from({ length: 50 }, (_, index) => catalog.accept([offer(index)])));
    await worker.terminate();
    const outcomes = await inFlight;
    expect(outcomes).toContainEqual(
      expect.objectContaining({ reason: expect.objectContaining({ code: 'SPILLWAY_STORE_FAILED' }) }),
    );
    await expect(catalog.lastArrivalId()).rejects.toMatchObject({ code: 'SPILLWAY_STORE_FAILED' });
    await catalog.close();
    const again = await openSqliteCatalog({ file });
    const found = await again.versions({ limit: 100 });
    expect(found.length).toBeGreaterThanOrEqual(outcomes.filter(({ status }) => status === 'fulfilled').length);
    await again.close();
  });

  test.each([
    ['leaseStudies', LEASABLE_STUDIES, ['work_by_rank']],
    ['dueDeliveries', DUE_DELIVERIES, ['deliveries_open', 'sqlite_autoindex_work', 'sqlite_autoindex_versions']],
    ['nextDueAt', NEXT_DUE, ['deliveries_deferred (destination_key=? AND not_before>?)']],
    ['findVersion', FIND_VERSION, ['versions_by_instance']],
    ['rankedStudies', RANKED_STUDIES, ['work_open', 'sqlite_autoindex_studies']],
    ['setRanks', LAST_ARRIVAL, ['sqlite_autoindex_work', 'sqlite_autoindex_studies']],
    ['versions of a study', listVersions(undefined, true), ['versions_by_acceptance']],
    ['versions', listVersions(undefined, false), ['sqlite_autoindex_versions']],
    ['versions', listVersions('unconfirmed', false), ['versions_by_presence']],
    ['studies', studyQuery({ patientId: 'x', limit: 9 }).sql, ['studies_by_patient (patient_id=?']],
    ['studies', studyQuery({ accessionNumber: 'x', limit: 9 }).sql, ['studies_by_accession (accession_number=?']],
    ['studies by name', studyQuery({ patientName: 'Doe*', limit: 9 }).sql, ['studies_by_name (name_key>']],
    ['studies', studyQuery({ limit: 9 }).sql, ['sqlite_autoindex_studies']],
    ['evictable', EVICTABLE, ['studies_settled', 'versions_by_acceptance', 'deliveries_by_arrival']],
    ['beginEviction', MAY_EVICT, ['sqlite_autoindex_studies']],
    ['hourlyTotals', HOURS, ['PRIMARY KEY']],
    [
      'rankingFacts',
      RANKING_FACTS,
      ['versions_by_acceptance', 'deliveries_by_arrival (arrival_id=? AND destination_key=?)'],
    ],
    ['accept', IS_HELD, ['versions_by_instance', 'deliveries_by_arrival (arrival_id=? AND destination_key=?)']],
    ['settle', LEASED_DELIVERY, ['d USING INTEGER PRIMARY KEY', 'w USING INTEGER PRIMARY KEY']],
    ['settle', FIRST_OPEN_OF_INSTANCE, ['deliveries_by_arrival (arrival_id=? AND destination_key=?)']],
  ])('%s works by index', (method, sql, indexes) => {
    const database = tables();
    const steps = database.prepare(`EXPLAIN QUERY PLAN ${sql}`).all();
    database.close();
    const plan = steps.map(({ detail }) => String(detail)).join('\n');
    expect(plan).not.toMatch(/SCAN/);
    // The open deliveries of one SOP Instance UID are few, as are the patients of a name and the versions of a study; nothing else may be sorted.
    if (!['settle', 'studies by name', 'versions of a study'].includes(method)) expect(plan).not.toMatch(/TEMP B-TREE/);
    for (const index of indexes) expect(plan).toContain(index);
  });

  test('nothing acknowledged is lost when the process is killed', async () => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', ACCEPT_FOR_EVER, file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const printed: string[] = [];
    for await (const line of createInterface({ input: child.stdout })) {
      printed.push(line);
      if (printed.length === 60) child.kill('SIGKILL');
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    expect(child.signalCode).toBe('SIGKILL');
    expect(printed.length).toBeGreaterThanOrEqual(60);
    const catalog = await openSqliteCatalog({ file });
    const found = new Set((await catalog.versions({ limit: 100_000 })).map(({ arrivalId }) => arrivalId));
    expect(printed.filter((arrivalId) => !found.has(arrivalId))).toEqual([]);
    const [destination] = await catalog.destinations();
    expect(destination?.pending).toBe(found.size);
    await catalog.close();
  }, 30_000);

  test('an idle catalog lets the process end, a call in flight does not', async () => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', ACCEPT_AND_FORGET, file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const lines: string[] = [];
    for await (const line of createInterface({ input: child.stdout })) lines.push(line);
    if (child.exitCode === null) await once(child, 'exit');
    expect(lines).toEqual(['created']);
    expect(child.exitCode).toBe(0);
  }, 30_000);
});

test('memory and SQLite answer alike, whatever is done to them', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), async (steps) => {
      const connection = new Connection(tables());
      const memory = new MemoryTables();
      const sqlite = new Pair(catalogOperations(connection), () => voidLeases(connection));
      const plain = new Pair(new MemoryCatalog(memory), () => memory.voidLeases());
      for (const each of [sqlite, plain]) {
        for (const destinationId of DESTINATIONS) await each.catalog.registerDestination(destinationId);
      }
      for (const each of steps) expect(await plain.run(each)).toEqual(await sqlite.run(each));
      connection.close();
    }),
    { numRuns: 200 },
  );
}, 60_000);

const DESTINATIONS = ['a', 'b'] as const;
const STATES = ['pending', 'sent', 'verified', 'quarantined', 'discarded'] as const;
const small = fc.nat({ max: 5 });
const step = fc.record({
  kind: fc.constantFrom(
    'accept',
    'accept',
    'lease',
    'settle',
    'settle',
    'release',
    'ranks',
    'episode',
    'end',
    'retire',
    'evict',
    'evict',
    'missing',
    'found',
    'commitment',
    'restart',
  ),
  destinationId: fc.constantFrom(...DESTINATIONS),
  state: fc.constantFrom(...STATES),
  numbers: fc.tuple(small, small, small, small),
});
type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

/** One catalog with the leases taken from it. Ids and leases differ between catalogs, so they stay inside. */
class Pair {
  readonly catalog: Catalog | CatalogOperations;
  readonly #restart: () => void;
  #arrivals = 0;
  readonly #leases: { destinationId: string; studyInstanceUid: string; lease: number }[] = [];

  constructor(catalog: Catalog | CatalogOperations, restart: () => void) {
    this.catalog = catalog;
    this.#restart = restart;
  }

  /** Carries one step out and shows what the catalog says afterwards. */
  async run(step: Step): Promise<unknown> {
    return [await this.#act(step), await this.#show(step)];
  }

  async #act({ kind, destinationId, state, numbers: [first, second, third, fourth] }: Step): Promise<unknown> {
    const { catalog } = this;
    if (kind === 'accept') {
      this.#arrivals += 1;
      const tier = third % 3;
      const basis = DATE_BASES[second % 3] ?? 'dated';
      const isRuled = first % 4 === 0;
      const rank: Rank = {
        tier,
        urgency: 'unknown',
        acquiredAt: fourth,
        basis,
        ageTier: isRuled ? null : tier,
        ruledTier: isRuled ? tier : null,
      };
      const study = `1.${first % 3}`;
      // Some instances occur in more than one study.
      // Nor are they accepted in the order of their arrival; 101 is prime and more than there are steps.
      const number = (this.#arrivals * 37) % 101;
      const offered = offer(number, study, `1.9.${second}`, `${third % 3}`);
      const attributes = attributesOf(first, second);
      const to = fourth % 2 === 0 ? DESTINATIONS : [destinationId];
      const deliveries = to.map((each) => ({ destinationId: each, rank }));
      return outcomeOf(async () =>
        (await catalog.accept([{ ...offered, attributes, deliveries }])).map(shownAcceptance),
      );
    }
    if (kind === 'lease') {
      const leased = await catalog.leaseStudies({ destinationId, now: first * 10, limit: 1 + (second % 3) });
      this.#leases.push(...leased.map(({ studyInstanceUid, lease }) => ({ destinationId, studyInstanceUid, lease })));
      return leased.map(({ lease, ...shown }) => shown);
    }
    if (kind === 'settle') {
      const leased = this.#leases[first % Math.max(1, this.#leases.length)];
      if (leased === undefined) return null;
      const due = await catalog.dueDeliveries({ ...leased, now: second * 10, afterId: 0, limit: 1 + third });
      const settlements = due.map(({ id }) => ({
        deliveryId: id,
        lease: leased.lease,
        state,
        evidence: 'answered' as const,
        attempts: fourth,
        reason: null,
        notBefore: fourth * 10,
        at: third,
      }));
      return (await catalog.settle(settlements)).length;
    }
    if (kind === 'release') {
      const [leased] = this.#leases.splice(first % Math.max(1, this.#leases.length), 1);
      if (leased === undefined) return null;
      const release = { destinationId: leased.destinationId, leases: [leased.lease] };
      return catalog.releaseStudies(second % 2 === 0 ? release : { ...release, deferUntil: third * 10 });
    }
    if (kind === 'ranks') {
      const [study] = await catalog.rankedStudies({ destinationId, afterStudy: `1.${first % 3}`, limit: 1 });
      if (study === undefined) return null;
      const rank: Rank = { ...study.rank, tier: second, ageTier: third };
      const lastArrivalId = fourth > 3 ? 'another' : study.lastArrivalId;
      return catalog.setRanks({ destinationId, ranks: [{ ...study, rank, lastArrivalId }] });
    }
    if (kind === 'episode')
      return catalog.openEpisode({ destinationId, cause: 'c', startedAt: first, detectedAt: second });
    if (kind === 'end') {
      const as = (['ended', 'drained', 'closed'] as const)[second % 3] ?? 'ended';
      return outcomeOf(async () => catalog.markEpisode({ episodeId: 1 + first, as, at: third }));
    }
    if (kind === 'retire') {
      await catalog.retireDestination({ destinationId, reason: 'r', by: 'b', at: first });
      return second > 0 ? catalog.registerDestination(destinationId) : null;
    }
    if (kind === 'evict') {
      // Some are left in the middle, as a crash leaves them.
      const terms = { evidence: 'answered', receivedBefore: third > 0 ? 1e9 : fourth * 1_000_000 } as const;
      const studyInstanceUid = `1.${first % 3}`;
      const eviction = await catalog.beginEviction({ studyInstanceUid, ...terms, at: second });
      if (second > 0) await catalog.endEviction({ studyInstanceUid, at: third });
      return eviction;
    }
    if (kind === 'missing' || kind === 'found') {
      const here = await catalog.versions({ limit: 100 });
      const one = here[(first * 6 + second) % Math.max(1, here.length)];
      if (kind === 'missing') return one && catalog.markMissing({ arrivalId: one.arrivalId, at: third });
      const { version } = offer(101 + (first % 4), `1.${second % 3}`, `1.9.${second}`, `${third % 3}`);
      const instances = [{ version: { ...version, blobRef: 'found' }, attributes: attributesOf(first, second) }];
      return [
        await catalog.takeUp({ instances, at: fourth }),
        await catalog.unknownArrivals([version.arrivalId, 'none']),
      ];
    }
    if (kind === 'commitment') {
      const transactionUid = `2.25.${first}`;
      if (second === 0) return catalog.closeCommitment(transactionUid);
      const transaction = { transactionUid, destinationId, requestedAt: third, deliveryIds: [fourth] };
      return outcomeOf(async () => catalog.openCommitment(transaction));
    }
    return this.#restart();
  }

  async #show({ destinationId, numbers: [first] }: Step): Promise<unknown> {
    const { catalog } = this;
    const deliveries = await Promise.all(
      STATES.map((state) => catalog.deliveries({ destinationId, state, afterId: 0, limit: 1000 })),
    );
    const due = await Promise.all(
      ['1.0', '1.1', '1.2'].map((studyInstanceUid) =>
        catalog.dueDeliveries({ destinationId, studyInstanceUid, now: first * 10, afterId: 0, limit: 1000 }),
      ),
    );
    const episodes = await catalog.episodes({ limit: 100 });
    return {
      destinations: await catalog.destinations(),
      deliveries: [...deliveries, ...due].map((list) => list.map(({ id, ...shown }) => shown)),
      next: await catalog.nextDueAt({ destinationId, now: first * 10 }),
      backlog: await catalog.backlog(destinationId),
      ranked: await catalog.rankedStudies({ destinationId, limit: 1000 }),
      facts: await Promise.all(
        ['1.0', '1.1', '1.2'].map((studyInstanceUid) =>
          catalog.rankingFacts({ destinationId, studyInstanceUid, limit: 1000 }),
        ),
      ),
      episodes,
      counts: await Promise.all(episodes.map(({ id }) => catalog.countEpisode(id))),
      remains: await Promise.all(episodes.map(({ id }) => catalog.episodeRemains(id))),
      versions: await Promise.all(PRESENCES.map((presence) => catalog.versions({ ...presence, limit: 1000 }))),
      ofStudy: await catalog.versions({ studyInstanceUid: '1.1', afterArrivalId: '000000030', limit: 3 }),
      studies: await Promise.all(FILTERS.map((filter) => catalog.studies({ ...filter, limit: 1 + first }))),
      held: await catalog.held(),
      hours: [
        await catalog.hourlyTotals({ from: 0, to: 7_200_000, limit: 1 + first }),
        await catalog.hourlyTotals({ from: 0, to: 1e9, after: { hour: 0, modality: 'CT' }, limit: 100 }),
      ],
      evictable: await catalog.evictable({ evidence: 'answered', receivedBefore: 1e9, limit: 2 }),
      blocks: [
        await catalog.evictionBlocks({ evidence: 'answered', receivedBefore: first * 1_000_000 }),
        await catalog.evictionBlocks({ evidence: 'found', receivedBefore: 1e9 }),
      ],
      evictions: await catalog.evictions({ limit: 100 }),
      acceptances: await Promise.all(['000000037', '000000074'].map((id) => catalog.acceptanceOf(id))),
      commitments: [await catalog.commitments({ limit: 3 }), await catalog.commitments({ destinationId, limit: 3 })],
      log: await catalog.log({ afterId: first, limit: 1000 }),
    };
  }
}

const PRESENCES = [
  {},
  ...(['kept', 'unconfirmed', 'evicting', 'evicted', 'missing'] as const).map((presence) => ({ presence })),
];
const FILTERS = [
  {},
  { after: '1.0' },
  { patientId: 'P1' },
  { patientName: 'DOE^1' },
  { patientName: '*e^?' },
  { patientName: 'd%^1' },
  { accessionNumber: 'A2', modality: 'CT' },
  { modality: 'C' },
  { studyDate: { from: '20260102' } },
  { studyDate: { from: '20260101', to: '20260102' }, studyInstanceUid: '1.1' },
];

function attributesOf(patient: number, modality: number): Readonly<Record<string, string>> {
  return {
    ...(modality % 3 === 0 ? {} : { Modality: modality % 3 === 1 ? 'CT' : 'MR' }),
    ...(patient === 0 ? {} : { PatientID: `P${patient % 3}`, PatientName: `Doe^${patient % 3}` }),
    AccessionNumber: `A${patient % 3}`,
    StudyDate: `2026010${1 + (patient % 3)}`,
  };
}

function shownAcceptance({ outcome, version, destinations }: AcceptanceResult): unknown {
  return { outcome, version, destinations };
}

async function outcomeOf(call: () => Promise<unknown>): Promise<unknown> {
  try {
    return await call();
  } catch (error) {
    return error instanceof SpillwayError ? error.code : error;
  }
}

function tables(): DatabaseSync {
  const database = new DatabaseSync(':memory:');
  database.exec(SCHEMA);
  return database;
}

/** Two studies, the first of two instances, the second of one whose date was not known. */
function writeVersion1(path: string): void {
  const database = new DatabaseSync(path);
  database.exec(`${SCHEMA_1} PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = 1;
    INSERT INTO destinations (destination_id, pending) VALUES ('pacs', 3);
    INSERT INTO work VALUES (1, 1, '1.1', 2, 2, 10, 0, 2, 200, 0, NULL, 0), (2, 1, '1.2', 0, 0, 20, 1, 1, 100, 0, 7, 0);`);
  const version = database.prepare(
    `INSERT INTO versions VALUES (?, ?, '1.3', ?, '1.2', '1.2.840.10008.1.2', 'd', 100, ?, 5, '[]', '{"Modality":"CT"}', NULL)`,
  );
  const delivery = database.prepare(
    `INSERT INTO deliveries VALUES (?, 1, ?, ?, 100, 'pending', 'accepted', 0, 0, 0, 0, NULL, NULL)`,
  );
  for (const [index, [arrivalId, study]] of (
    [
      ['a', 1],
      ['b', 1],
      ['c', 2],
    ] as const
  ).entries()) {
    version.run(arrivalId, `1.${study}`, `1.9.${index}`, `blob ${index}`);
    delivery.run(index + 1, study, arrivalId);
  }
  database.exec('UPDATE sequence SET value = 100');
  database.close();
}

function pragma(path: string, sql: string): Readonly<Record<string, unknown>> | undefined {
  const database = new DatabaseSync(path);
  try {
    return database.prepare(sql).get();
  } finally {
    database.close();
  }
}

function offer(number: number, study = '1.1', sop = `1.2.${number}`, digest = 'a'): Acceptance {
  const identity = {
    studyInstanceUid: study,
    seriesInstanceUid: '1.1.1',
    sopInstanceUid: sop,
    sopClassUid: '1.2.840.10008.5.1.4.1.1.2',
    transferSyntaxUid: '1.2.840.10008.1.2.1',
  };
  const arrivalId = String(number).padStart(9, '0');
  const rank = { tier: 0, urgency: 'unknown', acquiredAt: 0, basis: 'dated', ageTier: 0, ruledTier: null } as const;
  return {
    version: {
      arrivalId,
      identity,
      digest,
      bytes: 100 + number,
      blobRef: arrivalId,
      receivedAt: number * 100_000,
      oddities: [],
      presence: 'kept',
    },
    attributes: {},
    source: null,
    urgency: null,
    deliveries: [{ destinationId: 'pacs', rank }],
  };
}

// Scripts for another process; they find the sources by their place, and the catalog's file in the first argument.
const OPEN_CATALOG = `
const { openSqliteCatalog } = await import(${JSON.stringify(new URL('../src/storage/sqlite/sqlite-catalog.ts', import.meta.url).href)});
const catalog = await openSqliteCatalog({ file: process.argv[1] });
await catalog.registerDestination('pacs');
const offer = ${offer.toString()};
`;
const ACCEPT_FOR_EVER = `${OPEN_CATALOG}
for (let number = 0; ; number += 4) {
  const batch = [0, 1, 2, 3].map((index) => offer(number + index));
  await Promise.all(batch.map(async (each) => {
    const [{ version }] = await catalog.accept([each]);
    console.log(version.arrivalId);
  }));
}`;
const ACCEPT_AND_FORGET = `${OPEN_CATALOG}
catalog.accept([offer(1)]).then(([{ outcome }]) => console.log(outcome));`;
const OPEN_AND_SAY = `
const { openSqliteDatabase } = await import(${JSON.stringify(new URL('../src/storage/sqlite/sqlite-database.ts', import.meta.url).href)});
const { writeSync } = await import('node:fs');
writeSync(1, 'opening');
openSqliteDatabase({ file: process.argv[1] });
setInterval(() => {}, 1000);`;
