import { appendFile, readFile, truncate, unlink, writeFile } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, test } from 'vitest';
import type { Receipt } from '../src/domain/receipt.ts';
import type { VerifyReport } from '../src/retention/verify.ts';
import { nodeFileSystem } from '../src/storage/directory/file-system.ts';
import { syntheticStudy } from '../src/testing/synthetic.ts';
import { inState, logOf, type Opening, StoreRig } from './support/store-rig.ts';

const NOON = Date.parse('2026-03-02T12:00:00Z');

const study = (seed: number, instances: number) =>
  [...syntheticStudy({ rows: 8, columns: 8, instances, acquiredAt: NOON, seed })].map(({ bytes }) => bytes);

async function pathOf(rig: StoreRig, { store }: Opening, { identity, digest }: Receipt): Promise<string> {
  return rig.path((await store.catalog.findVersion({ ...identity, digest }))?.blobRef ?? '');
}

async function flip(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  const offset = at < 0 ? bytes.length + at : at;
  bytes[offset] = (bytes[offset] ?? 0) ^ 1;
  await writeFile(path, bytes);
}

const DAMAGES: readonly (readonly [string, 'damaged' | 'missing', (path: string) => Promise<void>])[] = [
  ['a flipped bit among its pixels', 'damaged', (path) => flip(path, -3)],
  ['a flipped bit in its header', 'damaged', (path) => flip(path, 400)],
  ['a cut', 'damaged', (path) => truncate(path, 500)],
  ['a tail', 'damaged', (path) => appendFile(path, Uint8Array.of(1, 2, 3))],
  ['no bytes', 'damaged', (path) => truncate(path, 0)],
  ['no file', 'missing', (path) => unlink(path)],
];

describe('what is not what it was', () => {
  test.each(DAMAGES)('%s: found, named, and missing from then on; it is taken again', async (_, what, damage) => {
    const rig = await StoreRig.make();
    const opening = await rig.openAndWalk();
    const instances = study(1, 3);
    const receipts = await rig.accept(opening, instances);
    await rig.drained(opening);
    expect(await opening.spillway.verify()).toMatchObject({ instances: 3, damaged: 0, missing: 0, named: [] });
    const [, second] = receipts;
    if (second === undefined) throw new Error('none');
    await damage(await pathOf(rig, opening, second));

    const report = await opening.spillway.verify();
    expect(report).toMatchObject({
      instances: 3,
      damaged: Number(what === 'damaged'),
      missing: Number(what === 'missing'),
      named: [{ arrivalId: second.arrivalId, what }],
      logBrokenAt: null,
    });
    expect((await rig.presences(opening)).get(second.arrivalId)).toBe('missing');
    expect(opening.damaged).toEqual(what === 'damaged' ? [second.arrivalId] : []);
    expect((await logOf(opening)).map(({ kind }) => kind)).toContain(what);
    // Found once.
    expect(await opening.spillway.verify()).toMatchObject({ instances: 2, damaged: 0, missing: 0, unreadable: 0 });
    const again = await opening.spillway.accept(instances[1] ?? new Uint8Array());
    expect(again).toMatchObject({ outcome: 'restored', arrivalId: second.arrivalId });
    await rig.drained(opening);
    expect(await opening.spillway.verify()).toMatchObject({ instances: 3, damaged: 0, missing: 0 });
    expect(await inState(opening, 'quarantined')).toEqual([]);
  });

  test('an instance that comes again while its damaged file is being read stays', async () => {
    const rig = await StoreRig.make();
    let onRead = async () => {};
    rig.fileSystem = {
      ...nodeFileSystem,
      async *read(path, chunkBytes) {
        const chunks: Uint8Array[] = [];
        for await (const chunk of nodeFileSystem.read(path, chunkBytes)) chunks.push(chunk);
        // What was read is what was there, however long the reading takes.
        const meanwhile = onRead;
        onRead = async () => {};
        await meanwhile();
        yield* chunks;
      },
    };
    const opening = await rig.openAndWalk();
    const instances = study(1, 1);
    const [receipt] = await rig.accept(opening, instances);
    await rig.drained(opening);
    if (receipt === undefined) throw new Error('none');
    await flip(await pathOf(rig, opening, receipt), -3);
    onRead = async () => {
      expect(await opening.spillway.accept(instances[0] ?? new Uint8Array())).toMatchObject({ outcome: 'restored' });
    };
    expect(await opening.spillway.verify()).toMatchObject({ damaged: 0, missing: 0 });
    expect((await rig.presences(opening)).get(receipt.arrivalId)).toBe('kept');
    await rig.drained(opening);
    expect(opening.damaged).toEqual([receipt.arrivalId]);
  });
});

describe('how it reads', () => {
  test('at no more than the rate given', async () => {
    const rig = await StoreRig.make();
    let read = 0;
    rig.fileSystem = {
      ...nodeFileSystem,
      async *read(path, chunkBytes) {
        for await (const chunk of nodeFileSystem.read(path, chunkBytes)) {
          read += chunk.byteLength;
          yield chunk;
        }
      },
    };
    rig.peer.reachable = false;
    const opening = await rig.openAndWalk();
    const receipts = await rig.accept(opening, study(1, 20));
    const { bytes } = (await opening.spillway.status()).storage;
    read = 0;
    const largest = Math.max(...receipts.map((receipt) => receipt.bytes));
    const [before, maxBytesPerSecond] = [rig.clock.now(), Math.floor(bytes / 10)];
    let report: VerifyReport | undefined;
    const verifying = opening.spillway.verify({ maxBytesPerSecond }).then((done) => {
      report = done;
    });
    while (report === undefined) {
      await rig.second((now) =>
        expect(read).toBeLessThanOrEqual(largest + ((now - before) / 1_000) * maxBytesPerSecond),
      );
    }
    await verifying;
    expect(report).toMatchObject({ instances: 20, bytes });
  });

  test('telling how far it is', async () => {
    const rig = await StoreRig.make();
    rig.peer.reachable = false;
    const opening = await rig.openAndWalk();
    await rig.accept(opening, study(1, 450));
    const told: number[] = [];
    await opening.spillway.verify({
      maxBytesPerSecond: Number.MAX_SAFE_INTEGER,
      onProgress: ({ instances }) => told.push(instances),
    });
    expect(told).toEqual([200, 400, 450]);
  });

  test('only one study, where asked', async () => {
    const rig = await StoreRig.make();
    const opening = await rig.openAndWalk();
    const [receipt] = await rig.accept(opening, study(1, 2));
    await rig.accept(opening, study(2, 3));
    const { studyInstanceUid } = receipt?.identity ?? {};
    expect(await opening.spillway.verify({ studyInstanceUid })).toMatchObject({ instances: 2 });
  });

  test.each(['its signal', 'closing'])('%s ends it at once', async (what) => {
    const rig = await StoreRig.make();
    const opening = await rig.openAndWalk();
    await rig.accept(opening, study(1, 3));
    const abort = new AbortController();
    const verifying = opening.spillway.verify({ maxBytesPerSecond: 1, signal: abort.signal });
    const failed = expect(verifying).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' });
    if (what === 'closing') await opening.close();
    else abort.abort();
    await failed;
  });

  test('what a disk cannot read is counted, and nothing is taken for damaged', async () => {
    const rig = await StoreRig.make();
    let isBroken = false;
    rig.fileSystem = {
      ...nodeFileSystem,
      async *read(path, chunkBytes) {
        if (isBroken) throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });
        yield* nodeFileSystem.read(path, chunkBytes);
      },
    };
    const opening = await rig.openAndWalk();
    await rig.accept(opening, study(1, 2));
    await rig.drained(opening);
    isBroken = true;
    const told = await opening.spillway.verify();
    expect(told).toMatchObject({ instances: 2, damaged: 0, missing: 0, unreadable: 2 });
    expect(told.named.map(({ what }) => what)).toEqual(['unreadable', 'unreadable']);
    isBroken = false;
    expect(await opening.spillway.verify()).toMatchObject({ instances: 2, damaged: 0, missing: 0, unreadable: 0 });
  });
});

describe('the event log', () => {
  /** As an attacker would, who has the file. */
  const TAMPERINGS: readonly (readonly [string, string, number | null])[] = [
    ['an entry is changed', `UPDATE event_log SET detail = '{"by":"Somebody Else"}' WHERE id = 3`, 3],
    ['an instant is changed', 'UPDATE event_log SET at = at + 1 WHERE id = 2', 2],
    ['an entry is taken out', 'DELETE FROM event_log WHERE id = 3', 4],
    ['the first is taken out', 'DELETE FROM event_log WHERE id = 1', 2],
    [
      'two change places',
      'UPDATE event_log SET id = -id WHERE id IN (2, 3); UPDATE event_log SET id = 5 + id WHERE id < 0',
      2,
    ],
    ['a hash is changed', `UPDATE event_log SET hash = '${'0'.repeat(64)}' WHERE id = 4`, 4],
  ];

  test.each(TAMPERINGS)('%s: found', async (_, sql, brokenAt) => {
    const rig = await StoreRig.make();
    const first = await rig.openAndWalk();
    for (let entry = 0; entry < 5; entry += 1) {
      await first.store.catalog.appendLog({ at: NOON + entry, kind: 'test', detail: { by: `Person ${entry}` } });
    }
    expect(await first.spillway.verify()).toMatchObject({ logEntries: 5, logBrokenAt: null });
    await first.close();
    const database = new DatabaseSync(rig.path('catalog.sqlite'));
    expect(() => database.exec(sql)).toThrow(/append|never|change/i);
    const triggers = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'").all();
    for (const { name } of triggers) database.exec(`DROP TRIGGER ${String(name)}`);
    database.exec(sql);
    database.close();
    const second = await rig.openAndWalk();
    expect(await second.spillway.verify()).toMatchObject({ logBrokenAt: brokenAt });
  });
});
