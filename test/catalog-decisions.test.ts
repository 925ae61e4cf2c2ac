import { appendFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Delivery, DeliveryState } from '../src/domain/delivery.ts';
import type { Acceptance } from '../src/storage/catalog.ts';
import { unmarkDamaged } from '../src/storage/sqlite/damaged-mark.ts';
import type { CatalogOperations } from '../src/storage/sqlite/operations.ts';
import { openSqliteDatabase, type SqliteDatabase } from '../src/storage/sqlite/sqlite-database.ts';
import { found, offer } from '../src/testing/catalog/fixtures.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const STATES = ['pending', 'sent', 'verified', 'quarantined', 'discarded'] as const;
const PACS = { destinationId: 'pacs' } as const;

/** A catalog that is lost now and then, and rebuilt from its last snapshot and the log of decisions. */
class LostCatalog {
  readonly directory: string;
  #database: SqliteDatabase | null = null;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async make(): Promise<LostCatalog> {
    const catalog = new LostCatalog(await temporaryDirectory());
    catalog.open();
    for (const destinationId of ['pacs', 'archive']) catalog.operations.registerDestination(destinationId);
    onTestFinished(() => catalog.#database?.close());
    return catalog;
  }

  get operations(): CatalogOperations {
    return this.#opened.operations;
  }

  get #opened(): SqliteDatabase {
    if (this.#database === null) throw new Error('it is closed');
    return this.#database;
  }

  get #file(): string {
    return join(this.directory, 'catalog.sqlite');
  }

  open(): void {
    this.#database = openSqliteDatabase({ file: this.#file, rebuild: { blobRoot: this.directory, expected: true } });
    unmarkDamaged(this.#file);
  }

  close(): void {
    this.#database?.close();
    this.#database = null;
  }

  async snapshot(): Promise<void> {
    this.operations.appendLog({ at: 1, kind: 'test', detail: {} });
    expect(await this.#opened.snapshot({ betweenSteps: () => {}, check: async () => true })).toBe(true);
  }

  /** Loses the catalog, and its snapshots where asked, and opens what is left. */
  async lose({ snapshots = false } = {}): Promise<void> {
    this.close();
    await rm(this.#file);
    if (snapshots) await rm(join(this.directory, 'snapshots'), { recursive: true, force: true });
    this.open();
    for (const destinationId of ['pacs', 'archive']) this.operations.registerDestination(destinationId);
  }

  deliveries(destinationId = 'pacs'): readonly Delivery[] {
    const page = { destinationId, afterId: 0, limit: 1_000 };
    return STATES.flatMap((state) => this.operations.deliveries({ ...page, state }).deliveries);
  }

  /** What the deliveries of a destination are, by arrival. */
  states(destinationId = 'pacs'): Readonly<Record<string, readonly DeliveryState[]>> {
    const states: Record<string, DeliveryState[]> = {};
    for (const { arrivalId, state } of [...this.deliveries(destinationId)].sort((a, b) => a.id - b.id)) {
      states[arrivalId] = [...(states[arrivalId] ?? []), state];
    }
    return states;
  }

  id({ version }: Acceptance, destinationId = 'pacs'): number {
    const ids = this.deliveries(destinationId).filter(({ arrivalId }) => arrivalId === version.arrivalId);
    return Math.max(...ids.map(({ id }) => id));
  }

  settle(state: DeliveryState, offers: readonly Acceptance[], destinationId = 'pacs'): void {
    const wanted = new Set(offers.map(({ version }) => version.arrivalId));
    const leased = this.operations.leaseStudies({ destinationId, now: 1e9, limit: 100 });
    for (const { studyInstanceUid, lease } of leased) {
      const page = { destinationId, studyInstanceUid, now: 1e9, afterId: 0, limit: 100 };
      const settlements = this.operations
        .dueDeliveries(page)
        .filter(({ arrivalId }) => wanted.has(arrivalId))
        .map(({ id }) => ({ ...SETTLED, deliveryId: id, lease, state }));
      this.operations.settle(settlements);
    }
    this.operations.releaseStudies({ destinationId, leases: leased.map(({ lease }) => lease) });
  }

  redrive(one: Acceptance): void {
    const { redriven } = this.operations.redrive({ ...PACS, deliveryIds: [this.id(one)], by: 'A', at: 2 });
    expect(redriven).toHaveLength(1);
  }

  discard(one: Acceptance): void {
    const request = { ...PACS, deliveryIds: [this.id(one)], reason: 'wrong patient', by: 'A', at: 2 };
    expect(this.operations.discard(request)).toHaveLength(1);
  }

  giveBack(one: Acceptance): void {
    const request = { ...PACS, deliveryIds: [this.id(one)], reason: 'lost', at: 2 };
    expect(this.operations.returnToBacklog(request)).toHaveLength(1);
  }

  logged(kind: string): number {
    return this.operations.log({ afterId: 0, limit: 10_000 }).filter((entry) => entry.kind === kind).length;
  }

  async lines(): Promise<readonly { readonly kind: string; readonly state?: string; readonly digest?: string }[]> {
    const folder = join(this.directory, 'decisions');
    const texts = await Promise.all((await readdir(folder)).sort().map((name) => readFile(join(folder, name), 'utf8')));
    return texts.flatMap((text) => text.split('\n').filter(Boolean)).map((line) => JSON.parse(line));
  }
}

const SETTLED = { evidence: 'found', attempts: 1, reason: 'R', notBefore: 0, at: 1 } as const;

const one = offer(1, { study: '1.1' });
const key = one.version.arrivalId;
/** The same data set, sent again after the loss: it has a new arrival id and file. */
const again: Acceptance = { ...one, version: { ...one.version, arrivalId: 'arrival-000009', blobRef: 'again' } };

/** What the snapshot knew of a delivery, and what happened after it. */
const BEFORE = {
  pending: () => {},
  sent: (catalog: LostCatalog) => catalog.settle('sent', [one]),
  verified: (catalog: LostCatalog) => catalog.settle('verified', [one]),
  quarantined: (catalog: LostCatalog) => catalog.settle('quarantined', [one]),
} as const;

describe('a rebuild from an older snapshot does not undo', () => {
  test.each(['pending', 'sent', 'quarantined'] as const)('a redrive of what was %s', async (before) => {
    const catalog = await LostCatalog.make();
    catalog.operations.accept([one]);
    BEFORE[before](catalog);
    await catalog.snapshot();
    if (before !== 'quarantined') catalog.settle('quarantined', [one]);
    catalog.redrive(one);
    await catalog.lose();
    expect(catalog.states()).toEqual({ [key]: ['pending'] });
    expect(catalog.deliveries()).toMatchObject([{ attempts: 0, evidence: 'accepted', reason: null, settledAt: null }]);
    expect(catalog.logged('redriven')).toBe(1);
    catalog.settle('quarantined', [one]);
    await catalog.lose();
    expect(catalog.states(), 'it was refused again').toEqual({ [key]: ['quarantined'] });
  });

  test.each(['pending', 'sent', 'verified'] as const)('a return of what was %s', async (before) => {
    const catalog = await LostCatalog.make();
    catalog.operations.accept([one]);
    BEFORE[before](catalog);
    await catalog.snapshot();
    if (before !== 'verified') catalog.settle('verified', [one]);
    catalog.giveBack(one);
    await catalog.lose();
    expect(catalog.states()).toEqual({ [key]: ['pending'] });
    expect(catalog.deliveries()).toMatchObject([{ evidence: 'accepted', settledAt: null, answeredAt: null }]);
    expect(catalog.operations.backlog('pacs')).toMatchObject([{ instances: 1 }]);
  });

  test.each(['pending', 'sent', 'quarantined'] as const)('a discard of what was %s', async (before) => {
    const catalog = await LostCatalog.make();
    catalog.operations.accept([one]);
    BEFORE[before](catalog);
    await catalog.snapshot();
    catalog.discard(one);
    await catalog.lose();
    expect(catalog.states()).toEqual({ [key]: ['discarded'] });
    expect(catalog.operations.backlog('pacs')).toEqual([]);
    expect(catalog.logged('discarded')).toBe(1);
    const [entry] = catalog.operations.log({ afterId: 0, limit: 100 }).filter(({ kind }) => kind === 'discarded');
    expect(entry?.detail).toEqual({ destinationId: 'pacs', arrivalId: key, reason: 'wrong patient', by: 'A' });
    expect(catalog.operations.accept([one]), 'nor does it come back with its bytes').toMatchObject([
      { outcome: 'identical', destinations: [] },
    ]);
  });

  test('a discard of what was delivered again only after it', async () => {
    const catalog = await LostCatalog.make();
    catalog.operations.accept([one]);
    catalog.settle('verified', [one]);
    catalog.operations.markMissing({ arrivalId: key, at: 1 });
    await catalog.snapshot();
    expect(catalog.operations.accept([one])).toMatchObject([{ outcome: 'restored', destinations: ['pacs'] }]);
    catalog.discard(one);
    await catalog.lose();
    expect(catalog.states()).toEqual({ [key]: ['verified', 'discarded'] });
    expect(catalog.operations.accept([one])).toMatchObject([{ outcome: 'restored', destinations: [] }]);
    expect(catalog.states()).toEqual({ [key]: ['verified', 'discarded'] });
  });

  test.each(['pending', 'quarantined'] as const)('late evidence for what was %s', async (before) => {
    const catalog = await LostCatalog.make();
    catalog.operations.accept([one]);
    BEFORE[before](catalog);
    await catalog.snapshot();
    if (before !== 'quarantined') catalog.settle('quarantined', [one]);
    const raised = { ...PACS, deliveryIds: [catalog.id(one)], evidence: 'committed', settles: true, at: 3 } as const;
    expect(catalog.operations.raiseEvidence(raised)).toHaveLength(1);
    await catalog.lose();
    expect(catalog.deliveries()).toMatchObject([{ state: 'verified', evidence: 'committed', settledAt: 3 }]);
  });

  test('the order of versions', async () => {
    const catalog = await LostCatalog.make();
    const versions = ['a', 'b'].map((digest, index) => offer(index, { study: '1.1', sop: '1.9', digest }));
    catalog.operations.accept(versions);
    await catalog.snapshot();
    const [first, second] = versions as [Acceptance, Acceptance];
    catalog.settle('quarantined', [first]);
    catalog.redrive(first);
    await catalog.lose();
    const due = () =>
      catalog.operations
        .dueDeliveries({ ...PACS, studyInstanceUid: '1.1', now: 1e9, afterId: 0, limit: 9 })
        .map(({ arrivalId }) => arrivalId);
    expect(due()).toEqual([first.version.arrivalId]);
    catalog.settle('verified', [first]);
    expect(due()).toEqual([second.version.arrivalId]);
  });
});

describe('what was discarded and is sent again after the catalog was lost', () => {
  test('is kept, and delivered only where it was not discarded, before and after the walk finds its old file', async () => {
    const catalog = await LostCatalog.make();
    const [both] = [offer(1, { study: '1.1', to: { pacs: {}, archive: {} } })];
    catalog.operations.accept([both]);
    catalog.discard(both);
    await catalog.lose();
    expect(catalog.operations.accept([{ ...again, deliveries: both.deliveries }])).toMatchObject([
      { outcome: 'created', version: { arrivalId: 'arrival-000009' }, destinations: ['archive'] },
    ]);
    expect(catalog.states()).toEqual({ 'arrival-000009': ['discarded'] });
    expect(catalog.operations.destinations()).toMatchObject([
      { destinationId: 'archive', pending: 1, discarded: 0 },
      { destinationId: 'pacs', pending: 0, discarded: 1 },
    ]);
    expect(catalog.operations.takeUp({ instances: [found(both)], at: 5 })).toEqual(['duplicate']);
    expect(catalog.states()).toEqual({ 'arrival-000009': ['discarded'] });
    // And once more: now the walk finds the file of the second arrival.
    await catalog.lose();
    expect(catalog.operations.takeUp({ instances: [found(again)], at: 5 })).toEqual(['taken']);
    expect(catalog.states()).toEqual({ 'arrival-000009': ['discarded'] });
    expect(catalog.operations.accept([again])).toMatchObject([{ outcome: 'restored', destinations: [] }]);
  });

  test('another data set under its SOP Instance UID is another version, and is delivered', async () => {
    const catalog = await LostCatalog.make();
    catalog.operations.accept([one]);
    catalog.discard(one);
    await catalog.lose();
    const other = { ...again, version: { ...again.version, digest: 'another' } };
    expect(catalog.operations.accept([other])).toMatchObject([{ outcome: 'created', destinations: ['pacs'] }]);
    expect(catalog.operations.accept([{ ...again, version: { ...again.version, arrivalId: 'x' } }])).toMatchObject([
      { outcome: 'version', destinations: [] },
    ]);
  });

  test('stays given up when its line is all that is left, however many snapshots came and went', async () => {
    const catalog = await LostCatalog.make();
    catalog.operations.accept([one, offer(2, { study: '1.2' })]);
    catalog.discard(one);
    catalog.settle('quarantined', [offer(2)]);
    catalog.redrive(offer(2));
    for (let taken = 0; taken < 4; taken += 1) await catalog.snapshot();
    const { digest } = one.version;
    expect(await catalog.lines(), 'a snapshot holds the rest').toMatchObject([{ state: 'discarded', digest }]);
    await catalog.lose({ snapshots: true });
    expect(catalog.operations.accept([again])).toMatchObject([{ outcome: 'created', destinations: [] }]);
  });

  test('lines of an older release, which know arrival ids alone, are read as before', async () => {
    const catalog = await LostCatalog.make();
    catalog.operations.accept([one]);
    catalog.close();
    const line = { number: 1, kind: 'settle', at: 1, arrivalId: key, ...PACS, state: 'discarded', reason: 'r' };
    await mkdir(join(catalog.directory, 'decisions'));
    await writeFile(join(catalog.directory, 'decisions', '00000001.log'), `${JSON.stringify(line)}\n`);
    catalog.open();
    expect(catalog.states()).toEqual({ [key]: ['discarded'] });
    await catalog.lose();
    expect(catalog.operations.takeUp({ instances: [found(one)], at: 5 })).toEqual(['taken']);
    expect(catalog.states()).toEqual({ [key]: ['discarded'] });
    await catalog.lose();
    expect(catalog.operations.accept([again]), 'that line cannot tell').toMatchObject([{ destinations: ['pacs'] }]);
  });
});

test('a decision on the disk whose rows did not change is carried out at the next opening, once', async () => {
  const catalog = await LostCatalog.make();
  const offers = [1, 2, 3].map((number) => offer(number, { study: '1.1' }));
  catalog.operations.accept(offers);
  const [first, second, third] = offers as [Acceptance, Acceptance, Acceptance];
  catalog.settle('quarantined', [first]);
  catalog.settle('verified', [second]);
  catalog.close();
  const about = ({ version }: Acceptance) => ({ at: 1, arrivalId: version.arrivalId, ...PACS });
  const lines = [
    { kind: 'redrive', by: 'A', ...about(first) },
    { kind: 'return', reason: 'lost', ...about(second) },
    { kind: 'settle', state: 'discarded', reason: 'r', by: 'A', ...about(third) },
    // What is damaged does nothing.
    { kind: 'redrive', ...about(third) },
    { kind: 'return', ...about(third) },
    { kind: 'settle', state: 'discarded', reason: 'r', digest: 7, ...about(first) },
    { kind: 'settle', state: 'verified', reason: 'r', evidence: 'seen', ...about(first) },
  ].map((line, index) => `${JSON.stringify({ number: 2 + index, ...line })}\n`);
  await appendFile(join(catalog.directory, 'decisions', '00000001.log'), lines.join(''));
  for (let opening = 0; opening < 2; opening += 1) {
    catalog.open();
    const states = Object.values(catalog.states()).flat();
    expect(states).toEqual(['pending', 'pending', 'discarded']);
    expect(['redriven', 'returned', 'discarded'].map((kind) => catalog.logged(kind))).toEqual([1, 1, 1]);
    catalog.close();
  }
});

test('whatever was decided before and after a snapshot: what is owed is never given up, nor the other way round', async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const random = seededRandom(seed);
    const below = (limit: number) => Math.floor(random() * limit);
    const catalog = await LostCatalog.make();
    const offers: Acceptance[] = [];
    const act = () => {
      const kind = below(7);
      if (offers.length < 3 || kind === 0) {
        const number = offers.length;
        const made = offer(number, { study: `1.${number % 3}`, sop: `1.9.${number % 7}`, digest: `${number}` });
        offers.push(made);
        catalog.operations.accept([made]);
        return;
      }
      const some = offers.filter(() => below(3) === 0);
      if (kind <= 2) catalog.settle((['sent', 'verified', 'quarantined'] as const)[below(3)] ?? 'sent', some);
      const request = { ...PACS, deliveryIds: some.map((each) => catalog.id(each)), at: 2 };
      if (kind === 3) catalog.operations.redrive({ ...request, by: 'A' });
      if (kind === 4) catalog.operations.returnToBacklog({ ...request, reason: 'lost' });
      if (kind === 5) {
        catalog.operations.raiseEvidence({ ...request, evidence: 'committed', settles: true });
      }
      if (kind === 6)
        catalog.operations.discard({ ...request, deliveryIds: request.deliveryIds.slice(0, 1), reason: 'r', by: 'A' });
    };
    for (let step = 0; step < 15; step += 1) act();
    await catalog.snapshot();
    const known = offers.length;
    for (let step = 0; step < 25; step += 1) act();
    const before = catalog.states();
    await catalog.lose();
    catalog.operations.takeUp({ instances: offers.slice(known).map(found), at: 3 });
    const after = catalog.states();
    for (const [index, { version }] of offers.entries()) {
      const [[was], [is]] = [before[version.arrivalId] ?? [], after[version.arrivalId] ?? []];
      const isKnown = index < known;
      const context = `seed ${seed}, ${version.arrivalId}, ${isKnown ? 'in the snapshot' : 'taken up'}: ${was}, ${is}`;
      if (was === 'discarded' || was === 'quarantined') expect(is, context).toBe(was);
      else if (isKnown)
        expect(was === 'verified' ? ['pending', 'sent', 'verified'] : ['pending', 'sent'], context).toContain(is);
      else expect(is, context).toBe(undefined);
    }
    const counts = catalog.operations.destinations().find(({ destinationId }) => destinationId === 'pacs');
    for (const state of STATES) {
      expect(counts?.[state]).toBe(Object.values(after).filter(([is]) => is === state).length);
    }
    catalog.close();
  }
}, 120_000);
