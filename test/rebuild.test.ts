import { link, mkdir, open, readdir, readFile, rm, truncate, unlink, writeFile } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, test } from 'vitest';
import type { Receipt } from '../src/domain/receipt.ts';
import { syntheticStudy } from '../src/testing/synthetic.ts';
import { ScriptedTransport } from './support/scripted-transport.ts';
import { inState, logOf, type Opening, StoreRig } from './support/store-rig.ts';

const NOON = Date.parse('2026-03-02T12:00:00Z');
const CATALOG = 'catalog.sqlite';

const made = (seed: number, instances: number, patientId = 'SYNTHETIC') => [
  ...syntheticStudy({ rows: 8, columns: 8, instances, acquiredAt: NOON, seed, patientId }),
];

/** Small instances of one study. */
const study = (...of: Parameters<typeof made>) => made(...of).map(({ bytes }) => bytes);

async function overwrite(path: string, at: number, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.write(bytes, 0, bytes.length, at);
  } finally {
    await file.close();
  }
}

/** Ways in which the file of a catalog or of a snapshot is lost. */
const LOSSES: Readonly<Record<string, (path: string) => Promise<void>>> = {
  deleted: (path) => unlink(path),
  emptied: (path) => truncate(path, 0),
  'cut within its header': (path) => truncate(path, 60),
  'cut in the middle': async (path) => truncate(path, Math.floor((await readFile(path)).length / 2) + 77),
  'overwritten at its header': (path) => overwrite(path, 0, new Uint8Array(100).fill(0xa5)),
  'zeroed at its first page': (path) => overwrite(path, 0, new Uint8Array(4096)),
  'replaced by a text file': (path) => writeFile(path, 'Buy milk.\n'),
};

interface History {
  readonly rig: StoreRig;
  /** Verified before the snapshot. */
  readonly verified: readonly Receipt[];
  /** In quarantine before the snapshot, and after it. */
  readonly refusedBefore: Receipt;
  readonly refusedAfter: Receipt;
  /** Accepted before the snapshot, verified after it. */
  readonly verifiedAfter: readonly Receipt[];
  /** The same, and evicted. */
  readonly evicted: readonly Receipt[];
  /** Accepted and verified after the snapshot, and one that was refused. */
  readonly late: readonly Receipt[];
  readonly lateRefused: Receipt;
  /** Accepted before the snapshot, and pending to the end. */
  readonly pending: readonly Receipt[];
}

const OLD = 'old-pacs';
const ROUTES: Readonly<Record<string, string>> = { ARCHIVE: 'archive', OLD };

/** A store with something of every kind, closed. Its other destination never answered, and is retired at the end. */
async function history(snapshots: number): Promise<History> {
  const rig = await StoreRig.make();
  const { peer, archive } = rig;
  const old = new ScriptedTransport();
  old.reachable = false;
  const first = await rig.openAndWalk({
    destinations: [
      { id: 'pacs', transport: peer },
      { id: 'archive', transport: archive },
      { id: OLD, transport: old },
    ],
    route: ({ attributes }) => [ROUTES[attributes.PatientID ?? ''] ?? 'pacs'],
  });
  const refused = new Set([1, 2, 6].map((seed) => made(seed, 1)[0]?.identity.sopInstanceUid));
  peer.respond = ({ sopInstanceUid }) =>
    refused.has(sopInstanceUid) ? { kind: 'refused', reason: 'A900', mayRetry: false } : { kind: 'stored' };
  const [refusedBefore, ...verified] = await rig.accept(first, study(1, 4));
  await rig.drained(first);
  peer.reachable = false;
  const [refusedAfter, ...verifiedAfter] = await rig.accept(first, study(2, 4));
  const evicted = await rig.accept(first, study(3, 3));
  const pending = await rig.accept(first, study(4, 3, 'ARCHIVE'));
  await rig.accept(first, study(5, 2, 'OLD'));
  for (let taken = 0; taken < snapshots; taken += 1) {
    await first.store.catalog.appendLog({ at: NOON, kind: 'test', detail: {} });
    expect(await first.store.snapshot?.()).toBe(true);
  }
  peer.reachable = true;
  const isDrained = async () => (await first.spillway.status()).destinations[0]?.backlog.instances === 0;
  await rig.until(isDrained, 'the peer has all');
  await evict(first, evicted[0]?.identity.studyInstanceUid ?? '');
  const [lateRefused, ...late] = await rig.accept(first, study(6, 3));
  await rig.until(isDrained, 'the peer has what came late');
  await first.spillway.retireDestination({ id: OLD, reason: 'replaced', by: 'A. Person' });
  await first.close();
  if (refusedBefore === undefined || refusedAfter === undefined || lateRefused === undefined) throw new Error('none');
  return { rig, verified, refusedBefore, refusedAfter, verifiedAfter, evicted, late, lateRefused, pending };
}

/** As the evictor does. */
async function evict({ store }: Opening, studyInstanceUid: string): Promise<void> {
  const terms = { evidence: 'answered', receivedBefore: Number.MAX_SAFE_INTEGER, at: NOON } as const;
  const eviction = await store.catalog.beginEviction({ studyInstanceUid, ...terms });
  expect(eviction).not.toBeNull();
  for (const ref of eviction?.blobRefs ?? []) await store.blobs.remove(ref);
  await store.catalog.endEviction({ studyInstanceUid, at: NOON });
}

const ids = (receipts: readonly Receipt[]) => receipts.map(({ arrivalId }) => arrivalId);

describe('a catalog that is lost is rebuilt', () => {
  test.each(Object.keys(LOSSES).flatMap((loss) => [0, 1, 2].map((snapshots) => [loss, snapshots] as const)))(
    '%s, with %i snapshots: what was acknowledged is here and equal, and what was decided stands',
    async (loss, snapshots) => {
      const { rig, evicted, pending, late, lateRefused, refusedAfter, refusedBefore } = await history(snapshots);
      await LOSSES[loss]?.(rig.path(CATALOG));
      const sentBefore = rig.peer.requests.length;
      rig.peer.respond = () => ({ kind: 'stored' });
      rig.archive.reachable = true;

      const opening = await rig.openAndWalk();

      const rebuild = {
        snapshot: snapshots === 0 ? null : `snapshots/0000000${snapshots + 1}.sqlite`,
        damaged: loss === 'deleted' ? null : expect.stringMatching(/^damaged\/.*catalog\.sqlite$/),
      };
      expect(opening.rebuilt).toEqual([rebuild]);
      const { storage } = await opening.spillway.status();
      expect(storage).toMatchObject({ rebuilt: rebuild, missing: 0, walk: { phase: 'done', missing: 0, damaged: 0 } });
      expect(await logOf(opening)).toContainEqual(
        expect.objectContaining({ kind: 'rebuilt', detail: { snapshot: rebuild.snapshot, damaged: rebuild.damaged } }),
      );
      expect(opening.faults).toEqual([]);

      await rig.drained(opening);
      const fromFiles = snapshots === 0 ? [...rig.receipts.keys()] : ids([...late, lateRefused]);
      const gone = ids(evicted);
      const isHere = (arrivalId: string) => !gone.includes(arrivalId);
      const presences = await rig.presences(opening);
      for (const [arrivalId, presence] of presences) {
        const asEvicted = snapshots === 0 ? 'unknown' : 'evicted';
        const expected = fromFiles.includes(arrivalId) ? 'unconfirmed' : 'kept';
        expect([arrivalId, presence]).toEqual([arrivalId, isHere(arrivalId) ? expected : asEvicted]);
      }
      expect(storage.unconfirmed).toBe(fromFiles.filter(isHere).length);

      // Only what was pending is sent: the rest is known, is at the peer, or only its file tells of it.
      expect(rig.peer.requests.slice(sentBefore)).toEqual([]);
      const sent = rig.archive.requests.flat();
      const uids = pending.map(({ identity }) => identity.sopInstanceUid);
      expect(sent.sort()).toEqual(snapshots === 0 ? [] : uids.sort());
      const refused = ids([refusedAfter, refusedBefore, lateRefused]);
      expect(new Set(await inState(opening, 'quarantined'))).toEqual(new Set(refused));

      // The same instances again are taken for what they are, and nothing is lost of what was decided.
      for (const { arrivalId, digest, identity } of rig.receipts.values()) {
        const version = await opening.store.catalog.findVersion({ ...identity, digest });
        expect(version === null || version.arrivalId === arrivalId).toBe(true);
      }
      expect(await opening.spillway.verify()).toMatchObject({ damaged: 0, missing: 0, logBrokenAt: null });

      await opening.close();
      const again = await rig.openAndWalk();
      expect(again.rebuilt).toEqual([]);
      expect([...(await rig.presences(again))]).toEqual([...presences]);
    },
  );
});

test.each(Object.entries(LOSSES).filter(([loss]) => loss !== 'deleted'))(
  'the last snapshot is %s too: the one before it is taken',
  async (_, lose) => {
    const { rig, pending } = await history(2);
    await unlink(rig.path(CATALOG));
    await lose(rig.path('snapshots', '00000003.sqlite'));
    const opening = await rig.openAndWalk();
    expect(opening.rebuilt).toEqual([{ snapshot: 'snapshots/00000002.sqlite', damaged: null }]);
    const presences = await rig.presences(opening);
    expect(ids(pending).map((id) => presences.get(id))).toEqual(pending.map(() => 'kept'));
  },
);

test('spillway.json and nothing else: a new store, and no rebuild', async () => {
  const rig = await StoreRig.make();
  await (await rig.open()).close();
  for (const name of await readdir(rig.directory))
    if (name !== 'spillway.json') await rm(rig.path(name), { recursive: true });
  const opening = await rig.openAndWalk();
  expect(opening.rebuilt).toEqual([]);
  expect((await opening.spillway.status()).storage).toMatchObject({ rebuilt: null, instances: 0 });
});

test.each([
  ["another program's database", 'PRAGMA application_id = 7; CREATE TABLE notes (text TEXT)', /another program's/],
  ['a newer version', 'PRAGMA user_version = 99', /version 99/],
])('%s is refused as before, and left as it is', async (_, sql, message) => {
  const { rig } = await history(1);
  const file = rig.path(CATALOG);
  if (sql.includes('notes')) await unlink(file);
  const database = new DatabaseSync(file);
  database.exec(sql);
  database.close();
  const before = await readFile(file);
  await expect(rig.open()).rejects.toMatchObject({
    code: 'SPILLWAY_STORE_FORMAT',
    message: expect.stringMatching(message),
  });
  expect((await readFile(file)).equals(before)).toBe(true);
  expect(await readdir(rig.directory)).not.toContain('damaged');
});

test('what only files tell of is delivered once it is confirmed, or comes again; what was decided of it stays', async () => {
  const rig = await StoreRig.make();
  rig.peer.reachable = false;
  const first = await rig.open();
  const instances = study(1, 4);
  const receipts = await rig.accept(first, instances);
  await first.close();
  await unlink(rig.path(CATALOG));
  rig.peer.reachable = true;
  const opening = await rig.openAndWalk();
  await rig.drained(opening);
  expect(rig.peer.requests).toEqual([]);
  const again = await opening.spillway.accept(instances[0] ?? new Uint8Array());
  expect(again).toMatchObject({ outcome: 'restored', arrivalId: receipts[0]?.arrivalId, destinations: ['pacs'] });
  const [, second] = receipts;
  expect(await opening.spillway.confirm({ arrivalIds: ids(receipts.slice(1, 2)), by: 'A. Person' })).toBe(1);
  await rig.drained(opening);
  const uids = receipts.slice(0, 2).map(({ identity }) => identity.sopInstanceUid);
  expect(rig.peer.requests.flat().sort()).toEqual(uids.sort());
  expect(second && (await rig.presences(opening)).get(second.arrivalId)).toBe('kept');
  expect(await opening.spillway.confirm({ by: 'A. Person' })).toBe(2);
  await rig.drained(opening);
  expect(rig.peer.held.size).toBe(4);
});

test('what was placed and acknowledged stays, though its trace in incoming/ was not removed for good', async () => {
  const rig = await StoreRig.make();
  rig.peer.reachable = false;
  const first = await rig.open();
  await first.store.snapshot?.();
  const [receipt] = await rig.accept(first, study(1, 1));
  if (receipt === undefined) throw new Error('none');
  const version = await first.store.catalog.findVersion({ ...receipt.identity, digest: receipt.digest });
  await first.close();
  // As a loss of power leaves it: the removal of that name is never synced.
  await link(rig.path(version?.blobRef ?? ''), rig.path('incoming', '1-a-1.part'));
  await unlink(rig.path(CATALOG));
  const opening = await rig.openAndWalk();
  expect((await rig.presences(opening)).get(receipt.arrivalId)).toBe('unconfirmed');
  expect(await readdir(rig.path('incoming'))).toEqual([]);
});

test('what was evicted while a snapshot was taken, and came again, is kept', async () => {
  const rig = await StoreRig.make();
  const first = await rig.openAndWalk();
  const instances = study(1, 2);
  const [receipt] = await rig.accept(first, instances);
  await rig.drained(first);
  const studyInstanceUid = receipt?.identity.studyInstanceUid ?? '';
  const terms = { evidence: 'answered', receivedBefore: Number.MAX_SAFE_INTEGER, at: NOON } as const;
  const eviction = await first.store.catalog.beginEviction({ studyInstanceUid, ...terms });
  await first.store.snapshot?.();
  for (const ref of eviction?.blobRefs ?? []) await first.store.blobs.remove(ref);
  await first.store.catalog.endEviction({ studyInstanceUid, at: NOON });
  // One of the two comes again.
  const [restored] = await rig.accept(first, instances.slice(0, 1));
  expect(restored?.outcome).toBe('restored');
  await rig.drained(first);
  await first.close();
  await unlink(rig.path(CATALOG));
  const opening = await rig.openAndWalk();
  expect([...(await rig.presences(opening)).values()]).toEqual(['kept', 'evicted']);
  expect((await opening.spillway.status()).storage).toMatchObject({ instances: 1, missing: 0 });
});

describe('snapshots', () => {
  test('they are taken anew at each opening, never under a lower number, and decisions are kept as long as one needs them', async () => {
    const rig = await StoreRig.make();
    rig.peer.reachable = false;
    const first = await rig.open();
    const receipts = await rig.accept(first, study(1, 3));
    for (let taken = 0; taken < 5; taken += 1) {
      await first.store.catalog.appendLog({ at: NOON, kind: 'test', detail: {} });
      await first.store.snapshot?.();
    }
    expect(await readdir(rig.path('snapshots'))).toEqual(['00000005.sqlite', '00000006.sqlite']);
    await first.close();

    const second = await rig.open();
    expect(await second.store.snapshot?.()).toBe(true);
    expect(await second.store.snapshot?.()).toBe(false);
    expect(await readdir(rig.path('snapshots'))).toEqual(['00000006.sqlite', '00000007.sqlite']);
    await second.close();

    // No snapshot holds what is decided now.
    const third = await rig.open();
    rig.peer.reachable = true;
    rig.peer.respond = () => ({ kind: 'refused', reason: 'A900', mayRetry: false });
    await rig.until(async () => (await inState(third, 'quarantined')).length === 3, 'all are refused');
    await third.close();
    expect(await readdir(rig.path('decisions'))).toEqual(['00000007.log']);
    const fourth = await rig.open();
    await fourth.store.snapshot?.();
    expect(await readdir(rig.path('snapshots'))).toEqual(['00000007.sqlite', '00000008.sqlite']);
    expect(await readdir(rig.path('decisions'))).toEqual(['00000007.log']);
    await fourth.close();
    await unlink(rig.path(CATALOG));
    await unlink(rig.path('snapshots', '00000008.sqlite'));
    rig.peer.respond = () => ({ kind: 'stored' });
    const sentBefore = rig.peer.requests.length;
    const fifth = await rig.openAndWalk();
    await rig.drained(fifth);
    expect(new Set(await inState(fifth, 'quarantined'))).toEqual(new Set(ids(receipts)));
    expect(rig.peer.requests.slice(sentBefore)).toEqual([]);
  });

  test('intake goes on meanwhile, and asked for at once they are taken one after another', async () => {
    const rig = await StoreRig.make();
    rig.peer.reachable = false;
    const opening = await rig.open();
    await rig.accept(opening, study(1, 40));
    let accepted = 0;
    for (let round = 0; round < 40; round += 1) {
      let isTaken = false;
      const taking = Promise.all([opening.store.snapshot?.(), opening.store.snapshot?.()]).finally(() => {
        isTaken = true;
      });
      for (; !isTaken; accepted += 1) {
        await opening.store.catalog.appendLog({ at: NOON, kind: 'test', detail: {} });
        if (accepted % 20 === 0) await rig.accept(opening, study(2 + accepted, 2));
      }
      expect(await taking).toContain(true);
    }
    expect(accepted).toBeGreaterThan(40);
    expect((await readdir(rig.path('snapshots'))).filter((name) => !name.endsWith('.sqlite'))).toEqual([]);
    await opening.close();
    await unlink(rig.path(CATALOG));
    const rebuilt = await rig.openAndWalk();
    expect(rebuilt.rebuilt).toHaveLength(1);
    expect([...(await rig.presences(rebuilt)).values()].every((p) => p === 'kept' || p === 'unconfirmed')).toBe(true);
  });
});

describe('the log of decisions', () => {
  const LINES: Readonly<Record<string, string>> = {
    'a torn last line': '{"number":900,"kind":"settle","at":1,"arrivalId":"00',
    garbage: '\u0000\u0001garbage\nnot JSON either\n{}\n[]\nnull\n7\n',
    'lines of no known kind': '{"number":900,"at":1}\n{"number":901,"at":1,"kind":"settlf","arrivalId":"x"}\n',
    'lines that lack what they need':
      '{"number":900,"at":1,"kind":"evict","studyInstanceUid":"1.2"}\n{"number":901,"at":1,"kind":"retire"}\n' +
      '{"number":902,"at":1,"kind":"settle","arrivalId":"x","destinationId":"pacs","state":"quarantinee","reason":null}\n',
  };

  test.each(Object.keys(LINES))('%s in it keeps nothing from opening, and the rest is carried out', async (name) => {
    const left = await history(1);
    const { rig } = left;
    const files = await readdir(rig.path('decisions'));
    const last = rig.path('decisions', files.at(-1) ?? '');
    const lines = (await readFile(last, 'utf8')).split('\n');
    const line = LINES[name] ?? '';
    // In the middle, and what is torn at the end.
    const text = name === 'a torn last line' ? [...lines.slice(0, -1), line] : [lines[0], line, ...lines.slice(1)];
    await writeFile(last, text.join('\n'));
    await unlink(rig.path(CATALOG));
    const opening = await rig.openAndWalk();
    expect(await inState(opening, 'quarantined')).toEqual(
      expect.arrayContaining(ids([left.refusedAfter, left.refusedBefore, left.lateRefused])),
    );
    const old = (await opening.store.catalog.destinations()).find(({ destinationId }) => destinationId === OLD);
    expect(old).toMatchObject({ retiredReason: 'replaced', pending: 0, discarded: 2 });
    // What is decided next is on a line of its own.
    rig.archive.respond = () => ({ kind: 'refused', reason: 'A900', mayRetry: false });
    rig.archive.reachable = true;
    await rig.drained(opening);
    await opening.close();
    await unlink(rig.path(CATALOG));
    const again = await rig.openAndWalk();
    expect(await inState(again, 'quarantined', 'archive')).toEqual(expect.arrayContaining(ids(left.pending)));
  });

  test('a decision that is on the disk and not in the catalog is carried out at opening, once, and logged', async () => {
    const rig = await StoreRig.make();
    rig.peer.reachable = false;
    const first = await rig.open();
    const [receipt] = await rig.accept(first, study(1, 2));
    await first.close();
    await mkdir(rig.path('decisions'), { recursive: true });
    const decision = { number: 1, kind: 'settle', at: NOON, arrivalId: receipt?.arrivalId, destinationId: 'pacs' };
    const line = `${JSON.stringify({ ...decision, state: 'quarantined', reason: 'A900' })}\n`;
    // Twice under one number, as after a commit that failed.
    await writeFile(rig.path('decisions', '00000001.log'), line + line);
    for (let opening = 0; opening < 2; opening += 1) {
      const opened = await rig.open();
      expect(opened.rebuilt).toEqual([]);
      expect(await inState(opened, 'quarantined')).toEqual([receipt?.arrivalId]);
      const logged = (await logOf(opened)).filter(({ kind }) => kind === 'quarantined');
      expect(logged.map(({ detail }) => detail.arrivalId)).toEqual([receipt?.arrivalId]);
      await opened.close();
    }
  });
});
