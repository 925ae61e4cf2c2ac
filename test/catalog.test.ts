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
import { EVIDENCE } from '../src/domain/delivery.ts';
import { DATE_BASES, type Rank } from '../src/domain/rank.ts';
import { SpillwayError } from '../src/errors.ts';
import type { Acceptance, AcceptanceResult, Catalog } from '../src/storage/catalog.ts';
import { MemoryBlobStore } from '../src/storage/memory/memory-blob-store.ts';
import { MemoryCatalog } from '../src/storage/memory/memory-catalog.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import { MemoryTables } from '../src/storage/memory/memory-tables.ts';
import { FIND_VERSION, listVersions } from '../src/storage/sqlite/acceptance-operations.ts';
import { Connection } from '../src/storage/sqlite/connection.ts';
import { IS_SUPERSEDED } from '../src/storage/sqlite/decision-operations.ts';
import { FIRST_OPEN_OF_INSTANCE, HAS_OTHER_VERSION } from '../src/storage/sqlite/delivery-changes.ts';
import { BACKLOG, LEASED_DELIVERY } from '../src/storage/sqlite/delivery-operations.ts';
import { DELIVERIES_IN_STATE } from '../src/storage/sqlite/delivery-pages.ts';
import { COUNT_PART, countEpisode } from '../src/storage/sqlite/episode-count.ts';
import { HOLD_UP } from '../src/storage/sqlite/episode-operations.ts';
import { UNCLOSED, WAS_FINAL } from '../src/storage/sqlite/episode-sets.ts';
import { EVICTABLE, MAY_EVICT } from '../src/storage/sqlite/eviction-operations.ts';
import { LAST_SETTLED, SETTLED_TOGETHER } from '../src/storage/sqlite/evidence-operations.ts';
import { HOURS, studyQuery } from '../src/storage/sqlite/holding-operations.ts';
import {
  BOUND_DELIVERIES,
  BOUND_WORK,
  DUE_DELIVERIES,
  LEASABLE,
  NEXT_DUE,
  voidLeases,
} from '../src/storage/sqlite/lease-operations.ts';
import { IS_HELD } from '../src/storage/sqlite/new-deliveries.ts';
import type { CatalogOperations } from '../src/storage/sqlite/operations.ts';
import { LAST_ARRIVAL, RANKED_STUDIES, RANKING_FACTS } from '../src/storage/sqlite/ranking-operations.ts';
import { APPLICATION_ID, SCHEMA, SCHEMA_VERSION } from '../src/storage/sqlite/schema.ts';
import { openSqliteCatalog } from '../src/storage/sqlite/sqlite-catalog.ts';
import { catalogOperations, toStoreError } from '../src/storage/sqlite/sqlite-database.ts';
import { IS_OVERTAKEN, OWED } from '../src/storage/sqlite/standby-operations.ts';
import { TAKE_BY_IDENTITY } from '../src/storage/sqlite/waiting-decisions.ts';
import type { Store } from '../src/storage/store.ts';
import { catalogContract } from '../src/testing/catalog-contract.ts';
import { SCHEMA_1 } from './support/catalog-schema-1.ts';
import { SCHEMA_3 } from './support/catalog-schema-3.ts';

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

  test('a catalog of version 3 opens with its lanes, episodes and decisions', async () => {
    writeVersion3(file);
    const catalog = await openSqliteCatalog({ file });
    const studiesOf = async (lane: 'live' | 'backlog') => {
      const leased = await catalog.leaseStudies({ destinationId: 'pacs', now: 1e9, limit: 9, lane });
      return leased.map(({ studyInstanceUid }) => studyInstanceUid);
    };
    expect(await studiesOf('backlog'), 'what the outage that is not closed held up').toEqual(['1.1', '1.2']);
    expect(await studiesOf('live')).toEqual(['1.3']);
    expect(await catalog.episodes({ limit: 9 })).toMatchObject([{ planned: false, expectedEndAt: null, cause: 'c' }]);
    expect(await catalog.episodeRemains(1)).toEqual({ pending: true, open: true });
    const none = { discarded: 0, outstanding: 0, pending: 0 };
    const { total, tiers } = await catalog.countEpisode(1);
    expect(total).toEqual({ ...none, received: 4, verified: 1, quarantined: 1, outstanding: 2, pending: 1 });
    expect(tiers).toMatchObject([{ tier: 0, studies: 2, firstStudyAt: null, lastStudyAt: null }]);
    const inState = async (state: (typeof STATES)[number]) =>
      (await catalog.deliveries({ destinationId: 'pacs', state, afterId: 0, limit: 9 })).deliveries;
    expect(await inState('sent')).toMatchObject([{ arrivalId: 'b', answeredAt: null }]);
    expect(await catalog.oldestAnswerAt('pacs'), 'nobody wrote it down').toBe(null);
    const recent = async (before?: number | null) => {
      const page = { destinationId: 'pacs', limit: 1, since: 1e12, ...(before != null && { before }) };
      const { deliveries, next } = await catalog.recentlyVerified(page);
      return { arrivals: deliveries.map(({ arrivalId }) => arrivalId).sort(), next };
    };
    expect(await recent(), 'when, nobody wrote down').toEqual({ arrivals: ['c'], next: expect.any(Number) });
    expect(await recent((await recent()).next), 'what was settled at once stays together').toEqual({
      arrivals: ['d', 'g'],
      next: null,
    });
    const [quarantined] = await inState('quarantined');
    const deliveryIds = [quarantined?.id ?? 0];
    const redriven = await catalog.redrive({ destinationId: 'pacs', deliveryIds, by: 'A', at: 50 });
    expect(redriven).toEqual({ redriven: deliveryIds, superseded: [] });
    expect((await catalog.countEpisode(1)).total).toMatchObject({ received: 4, outstanding: 3, quarantined: 0 });
    const { version } = offer(7, '1.7');
    const file7 = { version: { ...version, arrivalId: 'unknown' }, attributes: {} };
    expect(await catalog.takeUp({ instances: [file7], at: 60 })).toEqual(['taken']);
    expect(await inState('discarded'), 'its decision waited').toMatchObject([{ arrivalId: 'unknown', reason: 'r' }]);
    await catalog.close();
    expect(pragma(file, 'SELECT pending, sent FROM episodes')).toEqual({ pending: 2, sent: 1 });
    expect(pragma(file, 'PRAGMA user_version')).toEqual({ user_version: SCHEMA_VERSION });
  });

  test.each([
    [1, writeVersion1],
    [3, writeVersion3],
  ])('a catalog of version %i has the same columns and indexes as a new one', async (_, write) => {
    const columns = (path: string) =>
      ['versions', 'destinations', 'work', 'deliveries', 'episodes', 'decisions', 'former_settlements'].map((table) =>
        String(
          pragma(
            path,
            `SELECT group_concat(name, ' ') AS c FROM (SELECT name FROM pragma_table_info('${table}') ORDER BY name)`,
          )?.c,
        ),
      );
    write(file);
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

  test('killed in the middle of a migration, it is of the old version or of the new one, whole', async () => {
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

  test('a long count lets other calls through, and what changes meanwhile is counted once', async () => {
    const catalog = await openSqliteCatalog({ file });
    await catalog.registerDestination('pacs');
    const instances = 9_000;
    for (let first = 0; first < instances; first += 1_000) {
      const numbers = Array.from({ length: 1_000 }, (_, index) => first + index);
      await catalog.accept(numbers.map((number) => offer(number, `1.${number % 100}`)));
      if (first === 0) await catalog.openEpisode({ destinationId: 'pacs', cause: 'c', startedAt: 1, detectedAt: 2 });
    }
    const raise = (deliveryIds: readonly number[]) =>
      catalog.raiseEvidence({ destinationId: 'pacs', deliveryIds, evidence: 'found', settles: true, at: 3 });
    const ended: string[] = [];
    const counting = catalog.countEpisode(1).finally(() => ended.push('count'));
    let ids: readonly number[] = [];
    for (let page = 0; page < 3; page += 1) {
      const request = { destinationId: 'pacs', state: 'pending', afterId: page * 3_000, limit: 500 } as const;
      ids = (await catalog.deliveries(request)).deliveries.map(({ id }) => id);
      expect(await raise(ids)).toHaveLength(500);
      if (page === 0) ended.push('other');
    }
    const { total, tiers } = await counting;
    expect(ended).toEqual(['other', 'count']);
    expect(total.received).toBe(instances);
    expect(total.verified + total.outstanding).toBe(instances);
    expect(total.outstanding).toBe(total.pending);
    expect(tiers).toMatchObject([{ received: instances, studies: 100 }]);
    await catalog.close();
  });

  test.each([
    ['leaseStudies, live', LEASABLE.live, ['work_by_rank (destination_key=? AND backlog=?)']],
    ['leaseStudies, backlog', LEASABLE.backlog, ['work_by_rank (destination_key=? AND backlog=? AND tier<?)']],
    ['leaseStudies, history', LEASABLE.history, ['work_by_rank (destination_key=? AND backlog=? AND tier>?)']],
    ['leaseStudies, both', LEASABLE['held up'], ['work_by_rank (destination_key=? AND backlog=?)']],
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
    ['settle, episodes', UNCLOSED, ['episodes_unclosed (destination_key=?)']],
    ['settle, episodes', WAS_FINAL, ['PRIMARY KEY (delivery_id=? AND settled_seq<?)']],
    ['backlog', BACKLOG, ['work_by_rank (destination_key=? AND backlog=?)']],
    ['deliveries', DELIVERIES_IN_STATE, ['deliveries_by_state (destination_key=? AND state=? AND id>? AND id<?)']],
    ['redrive', IS_SUPERSEDED, ['versions_by_instance', 'deliveries_by_arrival (arrival_id=? AND destination_key=?']],
    ['recentlyVerified', LAST_SETTLED, ['deliveries_settled (destination_key=? AND settled_seq>? AND settled_seq<?)']],
    ['recentlyVerified', SETTLED_TOGETHER, ['deliveries_settled (destination_key=? AND settled_seq=?)']],
    [
      'redrive',
      HAS_OTHER_VERSION,
      ['versions_by_instance', 'deliveries_by_arrival (arrival_id=? AND destination_key=?'],
    ],
    ['copyOpenDeliveries', OWED, ['deliveries_by_state (destination_key=? AND state=? AND id>?)']],
    [
      'copyOpenDeliveries',
      IS_OVERTAKEN,
      ['versions_by_instance', 'l USING COVERING INDEX deliveries_by_arrival', 'f USING COVERING INDEX deliveries_by'],
    ],
    ['openEpisode', HOLD_UP, ['work_by_rank (destination_key=? AND backlog=?)']],
    ['boundDelays', BOUND_WORK, ['deliveries_deferred (destination_key=? AND not_before>?)', 'work USING INTEGER']],
    ['boundDelays', BOUND_DELIVERIES, ['deliveries_deferred (destination_key=? AND not_before>?)']],
    ['countEpisode', COUNT_PART, ['d USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)', 'w USING INTEGER PRIMARY KEY']],
    ['accept, decisions', TAKE_BY_IDENTITY, ['decisions_by_instance (sop_instance_uid=?)']],
  ])('%s works by index', (method, sql, indexes) => {
    const database = tables();
    const steps = database.prepare(`EXPLAIN QUERY PLAN ${sql}`).all();
    database.close();
    const plan = steps.map(({ detail }) => String(detail)).join('\n');
    expect(plan).not.toMatch(/SCAN/);
    // The open deliveries of one SOP Instance UID are few, as are the patients of a name, the versions of a study, and a part of an episode; nothing else may be sorted.
    if (!['settle', 'studies by name', 'versions of a study', 'countEpisode'].includes(method))
      expect(plan).not.toMatch(/TEMP B-TREE/);
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
      const sqlite = new Pair(inTurn(catalogOperations(connection)), () => voidLeases(connection));
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
    'redrive',
    'redrive',
    'discard',
    'return',
    'raise',
    'copy',
    'bound',
    'plan',
  ),
  destinationId: fc.constantFrom(...DESTINATIONS),
  state: fc.constantFrom(...STATES),
  numbers: fc.tuple(small, small, small, small),
});
type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

/** A catalog, or its operations without the thread. */
type Calls = (Catalog | CatalogOperations) & Pick<Catalog, 'countEpisode'>;

function inTurn(operations: CatalogOperations): Calls {
  return { ...operations, countEpisode: (episodeId) => countEpisode(operations.countEpisodePart, episodeId) };
}

/** One catalog with the leases taken from it. Ids and leases differ between catalogs, so they stay inside. */
class Pair {
  readonly catalog: Calls;
  readonly #restart: () => void;
  #arrivals = 0;
  readonly #leases: { destinationId: string; studyInstanceUid: string; lease: number }[] = [];

  constructor(catalog: Calls, restart: () => void) {
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
      const lane = ([undefined, 'live', 'backlog', 'history'] as const)[third % 4];
      const history = fourth % 2 === 0 ? {} : { historyTier: fourth % 3 };
      const request = { destinationId, now: first * 10, limit: 1 + (second % 3), ...history };
      const leased = await catalog.leaseStudies({ ...request, ...(lane !== undefined && { lane }) });
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
        reason: third === 0 ? null : `R${third}`,
        notBefore: fourth * 10,
        at: third,
      }));
      return (await catalog.settle(settlements)).length;
    }
    if (kind === 'release') {
      const [leased] = this.#leases.splice(first % Math.max(1, this.#leases.length), 1);
      if (leased === undefined) return null;
      const release = { destinationId: leased.destinationId, leases: [leased.lease], clarified: fourth % 2 === 0 };
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
    if (kind === 'copy') {
      const [from, to] = first % 2 === 0 ? DESTINATIONS : ([...DESTINATIONS].reverse() as [string, string]);
      return outcomeOf(async () => {
        const { copied, next } = await catalog.copyOpenDeliveries({ from, to, afterId: 0, limit: 1 + second });
        return [copied, next === null];
      });
    }
    if (kind === 'bound') return catalog.boundDelays({ destinationId, latest: first * 10 });
    if (kind === 'plan') {
      const plan = { episodeId: 1 + first, cause: 'p', expectedEndAt: second, by: 'b', at: third };
      return outcomeOf(async () => catalog.planEpisode(plan));
    }
    if (kind === 'restart') return this.#restart();
    return this.#decide({ kind, destinationId, state, numbers: [first, second, third, fourth] });
  }

  /** About some deliveries in a state, and what they are called here; their ids are not the same everywhere. */
  async #decide({ kind, destinationId, state, numbers: [first, second, third, fourth] }: Step): Promise<unknown> {
    const { catalog } = this;
    // Mostly in a state that it is for.
    const states = { redrive: 'quarantined', return: 'verified', discard: 'quarantined' } as const;
    const of = kind in states && fourth > 0 ? states[kind as keyof typeof states] : state;
    const page = await catalog.deliveries({ destinationId, state: of, afterId: 0, limit: 100 });
    const chosen = page.deliveries.filter((_, index) => first === 0 || index % (1 + (first % 3)) === second % 3);
    const request = { destinationId, deliveryIds: chosen.map(({ id }) => id), at: third };
    const shown = (ids: readonly number[]) => ids.map((id) => chosen.find((each) => each.id === id)?.arrivalId);
    if (kind === 'redrive') {
      return outcomeOf(async () => {
        const { redriven, superseded } = await catalog.redrive({ ...request, by: 'b' });
        return [shown(redriven), shown(superseded)];
      });
    }
    if (kind === 'discard') return shown(await catalog.discard({ ...request, reason: 'd', by: 'b' }));
    if (kind === 'return') {
      return outcomeOf(async () => shown(await catalog.returnToBacklog({ ...request, reason: 'l' })));
    }
    const evidence = EVIDENCE[second % EVIDENCE.length] ?? 'found';
    return shown(await catalog.raiseEvidence({ ...request, evidence, settles: third > 1 }));
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
      deliveries: [...deliveries.map((page) => page.deliveries), ...due].map((list) =>
        list.map(({ id, ...shown }) => shown),
      ),
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
      ofEpisodes: await Promise.all(
        episodes.flatMap(({ id: episodeId }) =>
          (['pending', 'sent', 'quarantined', 'discarded'] as const).map(async (state) => {
            const page = await catalog.episodeDeliveries({ episodeId, state, afterId: 0, limit: 1 + first * 3 });
            return [page.deliveries.map(({ arrivalId }) => arrivalId), page.next === null];
          }),
        ),
      ),
      filtered: await Promise.all(
        DELIVERY_FILTERS.map(async (filter) => {
          const page = { destinationId, state: 'quarantined', afterId: 0, limit: 1 + first } as const;
          const { deliveries: found, next } = await catalog.deliveries({ ...page, ...filter });
          return [found.map(({ arrivalId }) => arrivalId), next === null];
        }),
      ),
      recent: await Promise.all(
        [{}, { since: first }].map(async (since) => {
          const page = await catalog.recentlyVerified({ destinationId, limit: 1 + first, ...since });
          return [page.deliveries.map(({ arrivalId }) => arrivalId), page.evicted, page.next === null];
        }),
      ),
      oldest: await catalog.oldestAnswerAt(destinationId),
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
const DELIVERY_FILTERS = [
  { studyInstanceUid: '1.1' },
  { reason: 'r2' },
  { receivedFrom: 2_000_000 },
  { receivedBefore: 5e6 },
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

/**
 * An outage that ended and is not closed: it began with a, b and c open (numbers up to 10), e came in it, f after it; d and
 * g had been verified before, in one call. c is verified, e in quarantine, b answered.
 */
function writeVersion3(path: string): void {
  const database = new DatabaseSync(path);
  database.exec(`${SCHEMA_3} PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = 3;
    INSERT INTO destinations (destination_id, pending, sent, verified, quarantined) VALUES ('pacs', 2, 1, 3, 1);
    INSERT INTO episodes (destination_key, cause, started_at, detected_at, ended_at, pending_at_start, start_seq, end_seq)
      VALUES (1, 'c', 1, 2, 3, 3, 10, 20);
    INSERT INTO decisions VALUES ('unknown', 'pacs', 'discarded', 'r');
    UPDATE counters SET sequence = 100, instances = 7, bytes = 700;`);
  const study = database.prepare(
    `INSERT INTO studies (study_instance_uid, last_arrival_id, modalities, instances, bytes, open_deliveries,
      first_received_at, last_received_at) VALUES (?, 'a', 'CT', 1, 100, ?, 5, 5)`,
  );
  const work = database.prepare(
    `INSERT INTO work (destination_key, study_instance_uid, tier, urgency, acquired_at, basis, age_tier, open_instances,
      open_bytes, due_at) VALUES (1, ?, 0, 2, ?, 0, 0, ?, ?, ?)`,
  );
  for (const [number, open] of [1, 1, 1].entries()) {
    study.run(`1.${number + 1}`, open);
    work.run(`1.${number + 1}`, number, open, open * 100, open > 0 ? 0 : null);
  }
  const version = database.prepare(
    `INSERT INTO versions (arrival_id, study_instance_uid, series_instance_uid, sop_instance_uid, sop_class_uid,
      transfer_syntax_uid, digest, bytes, blob_ref, received_at, oddities, attributes)
      VALUES (?, ?, '1.3', ?, '1.2', '1.2.840.10008.1.2', 'd', 100, ?, 5, '[]', '{}')`,
  );
  const delivery = database.prepare(
    `INSERT INTO deliveries (id, destination_key, work_id, arrival_id, bytes, state, evidence, further, held, reason, settled_seq)
      VALUES (?, 1, ?, ?, 100, ?, 'accepted', 0, 0, NULL, ?)`,
  );
  const rows = [
    [1, 1, 'a', 'pending', null],
    [2, 2, 'b', 'sent', null],
    [3, 2, 'c', 'verified', 15],
    [4, 1, 'd', 'verified', 9],
    [5, 1, 'g', 'verified', 9],
    [14, 1, 'e', 'quarantined', 16],
    [30, 3, 'f', 'pending', null],
  ] as const;
  for (const [id, of, arrivalId, state, settled] of rows) {
    version.run(arrivalId, `1.${of}`, `1.9.${id}`, `blob ${id}`);
    delivery.run(id, of, arrivalId, state, settled);
  }
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
