import { copyFile, mkdir, readdir, readFile, rename, symlink, truncate, unlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SpillwayError } from '../src/errors.ts';
import { nodeFileSystem } from '../src/storage/directory/file-system.ts';
import { syntheticStudy } from '../src/testing/synthetic.ts';
import { inState, type Opening, StoreRig } from './support/store-rig.ts';

const NOON = Date.parse('2026-03-02T12:00:00Z');
const CATALOG = 'catalog.sqlite';

const study = (seed: number, instances: number) =>
  [...syntheticStudy({ rows: 8, columns: 8, instances, acquiredAt: NOON, seed })].map(({ bytes }) => bytes);

/** The files of the store that hold instances, as references. */
async function filesOf(rig: StoreRig): Promise<readonly string[]> {
  const entries = await readdir(rig.path('studies'), { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** A file under the name that it would have with another arrival id. */
const arrivedAs = (path: string, arrivalId: string) =>
  join(dirname(path), basename(path).replace(/[0-9a-f]{16}-/, `${arrivalId}-`));

/** A closed store that holds some instances, delivered. */
async function stored(instances: number): Promise<StoreRig> {
  const rig = await StoreRig.make();
  const opening = await rig.openAndWalk();
  await rig.accept(opening, study(1, instances));
  await rig.drained(opening);
  await opening.close();
  return rig;
}

async function flip(path: string): Promise<void> {
  const bytes = await readFile(path);
  const at = bytes.length - 3;
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  await writeFile(path, bytes);
}

describe('files that no row knows', () => {
  test('an instance, as a loss of power leaves it between link and commit, is taken up and delivered nowhere', async () => {
    const rig = await stored(3);
    const other = await StoreRig.make();
    const elsewhere = await other.open();
    other.peer.reachable = false;
    const [receipt] = await other.accept(elsewhere, study(2, 1));
    await elsewhere.close();
    const [orphan = ''] = await filesOf(other);
    const target = rig.path(orphan.slice(other.directory.length + 1));
    await mkdir(dirname(target), { recursive: true });
    await copyFile(orphan, target);
    const sentBefore = rig.peer.requests.length;
    const opening = await rig.openAndWalk();
    expect(opening.walked).toEqual([
      {
        phase: 'done',
        rows: 3,
        files: 4,
        takenUp: 1,
        duplicates: 0,
        missing: 0,
        damaged: 0,
        unreadable: 0,
        foreign: 0,
      },
    ]);
    expect((await opening.spillway.status()).storage).toMatchObject({ instances: 4, unconfirmed: 1 });
    await rig.drained(opening);
    expect(rig.peer.requests).toHaveLength(sentBefore);
    const found = [];
    for await (const version of opening.spillway.unconfirmed()) found.push(version);
    expect(found).toMatchObject([
      { arrivalId: receipt?.arrivalId, identity: receipt?.identity, digest: receipt?.digest, receivedAt: NOON },
    ]);
  });

  test('one of a version that is here and sound is removed, and the other is not', async () => {
    const rig = await stored(2);
    const [file = ''] = await filesOf(rig);
    const twin = arrivedAs(file, '0000000000000001');
    await copyFile(file, twin);
    const opening = await rig.openAndWalk();
    expect(opening.walked).toMatchObject([{ duplicates: 1, takenUp: 0, missing: 0, damaged: 0 }]);
    expect(await filesOf(rig)).not.toContain(twin);
    expect([...(await rig.presences(opening)).values()]).toEqual(['kept', 'kept']);
  });

  test.each(['gone', 'damaged'])('one of a version whose own bytes are %s is not removed', async (how) => {
    const rig = await stored(2);
    const [file = ''] = await filesOf(rig);
    const twin = arrivedAs(file, '0000000000000001');
    await copyFile(file, twin);
    if (how === 'gone') await unlink(file);
    else await flip(file);
    const first = await rig.openAndWalk();
    expect(first.walked).toMatchObject([{ duplicates: 0 }]);
    expect(await filesOf(rig)).toContain(twin);
    // Once the damage is known, it takes the place of what was damaged.
    await first.spillway.verify();
    await first.close();
    const second = await rig.openAndWalk();
    expect([...(await rig.presences(second)).values()]).toEqual(['kept', 'kept']);
  });

  test.each([
    ['a flipped bit', flip],
    ['less than it had', (path: string) => truncate(path, 700)],
    ['nothing', (path: string) => truncate(path, 0)],
  ])('one with %s is set aside and reported, not taken for an instance', async (_, damage) => {
    const rig = await stored(3);
    const [file = '', ...others] = await filesOf(rig);
    await damage(file);
    await unlink(rig.path(CATALOG));
    const opening = await rig.openAndWalk();
    expect(opening.walked).toMatchObject([{ takenUp: 2, damaged: 1, unreadable: 0, foreign: 0 }]);
    expect(opening.damaged).toHaveLength(1);
    expect((await opening.spillway.status()).storage).toMatchObject({ instances: 2, unconfirmed: 2 });
    expect(await filesOf(rig)).toEqual(others);
    expect((await readdir(rig.path('damaged'))).some((name) => name.endsWith(basename(file)))).toBe(true);
  });

  test('what is not of the store is left alone', async () => {
    const rig = await stored(1);
    const [file = ''] = await filesOf(rig);
    const series = dirname(file);
    const foreign = [join(series, 'notes.txt'), join(series, 'image.dcm'), rig.path('studies', 'README')];
    await writeFile(foreign[0] ?? '', 'notes');
    await copyFile(file, foreign[1] ?? '');
    await writeFile(foreign[2] ?? '', 'notes');
    await mkdir(join(series, 'folder.dcm'));
    await symlink('nowhere', join(series, 'dangling'));
    await symlink('loop', join(series, 'loop'));
    const opening = await rig.openAndWalk();
    expect(opening.faults).toEqual([]);
    expect(opening.walked).toMatchObject([
      { files: 3, takenUp: 0, duplicates: 0, damaged: 0, unreadable: 0, foreign: 2 },
    ]);
    expect(await filesOf(rig)).toEqual(expect.arrayContaining([file, ...foreign]));
  });

  test('one that is being placed is not touched, however long it takes', async () => {
    const rig = await stored(1);
    const [gate, placed] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let isArmed = false;
    rig.fileSystem = {
      ...nodeFileSystem,
      async link(path, name) {
        await nodeFileSystem.link(path, name);
        if (!isArmed) return;
        placed.resolve();
        await gate.promise;
      },
      async list(path) {
        if (isArmed && path.endsWith('studies')) await placed.promise;
        return nodeFileSystem.list(path);
      },
    };
    isArmed = true;
    const opening = await rig.open();
    const accepting = rig.accept(opening, study(2, 1));
    await rig.until(() => opening.walked.length > 0, 'walked');
    expect(opening.walked).toMatchObject([{ files: 2, takenUp: 0, duplicates: 0, damaged: 0 }]);
    gate.resolve();
    expect(await accepting).toMatchObject([{ outcome: 'created' }]);
    expect([...(await rig.presences(opening)).values()]).toEqual(['kept', 'kept']);
  });

  test('what is being placed is not touched', async () => {
    const rig = await stored(1);
    let accepted = 1;
    for (let round = 0; round < 8; round += 1) {
      const opening = await rig.open();
      for (let seed = 0; opening.walked.length === 0; seed += 1) {
        const instances = study(100 + round * 1_000 + seed, 4);
        await rig.accept(opening, [...instances, ...instances.slice(0, 2)]);
        accepted += instances.length;
        rig.clock.advance(1);
      }
      expect(opening.faults).toEqual([]);
      expect(opening.walked).toMatchObject([
        { takenUp: 0, duplicates: 0, missing: 0, damaged: 0, unreadable: 0, foreign: 0 },
      ]);
      await opening.close();
    }
    const opening = await rig.openAndWalk();
    expect(await filesOf(rig)).toHaveLength(accepted);
    expect((await opening.spillway.status()).storage).toMatchObject({
      instances: accepted,
      unconfirmed: 0,
      missing: 0,
    });
    expect([...(await rig.presences(opening)).values()].every((presence) => presence === 'kept')).toBe(true);
  });
});

describe('rows without a file', () => {
  test('they are missing, and reported; they are kept once their file is back, or the instance comes again', async () => {
    const rig = await stored(3);
    const instances = study(1, 3);
    const [away = '', lost = ''] = await filesOf(rig);
    await rename(away, rig.path('..', 'away'));
    await unlink(lost);
    const first = await rig.openAndWalk();
    expect(first.walked).toMatchObject([{ rows: 3, missing: 2, takenUp: 0 }]);
    expect((await first.spillway.status()).storage).toMatchObject({ instances: 1, missing: 2 });
    await first.close();
    await rename(rig.path('..', 'away'), away);
    const second = await rig.openAndWalk();
    expect((await second.spillway.status()).storage).toMatchObject({ instances: 2, missing: 1 });
    const outcomes = await Promise.all(instances.map(async (bytes) => (await second.spillway.accept(bytes)).outcome));
    expect(outcomes.sort()).toEqual(['identical', 'identical', 'restored']);
    expect([...(await rig.presences(second)).values()]).toEqual(['kept', 'kept', 'kept']);
  });
});

describe('how it walks', () => {
  test('at no more than the rate given', async () => {
    const rig = await stored(500);
    let looks = 0;
    rig.fileSystem = {
      ...nodeFileSystem,
      status(path) {
        looks += 1;
        return nodeFileSystem.status(path);
      },
    };
    const before = rig.clock.now();
    const opening = await rig.open({ checksPerSecond: 100 });
    // A page of rows and one of files may go ahead of their time.
    while (opening.walked.length === 0) {
      await rig.second((now) => expect(looks).toBeLessThanOrEqual(400 + ((now - before) / 1_000) * 100));
    }
    expect(looks).toBe(1_000);
  });

  test('it ends at once when the store is closed, and begins anew at the next opening', async () => {
    const rig = await stored(500);
    const opening = await rig.open({ checksPerSecond: 1 });
    await rig.until(async () => (await opening.spillway.status()).storage.walk !== null, 'it walks');
    const before = rig.clock.now();
    await opening.close();
    expect(rig.clock.now() - before).toBeLessThan(200_000);
    expect(opening.walked).toEqual([]);
    expect(opening.faults).toEqual([]);
    expect((await rig.openAndWalk()).walked).toMatchObject([{ phase: 'done', rows: 500, files: 500 }]);
  });

  test('where the disk cannot be read it is begun again, and nothing is evicted meanwhile', async () => {
    const rig = await stored(3);
    let isBroken = true;
    rig.fileSystem = {
      ...nodeFileSystem,
      async list(path) {
        if (isBroken && path.includes('studies')) throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });
        return nodeFileSystem.list(path);
      },
    };
    rig.limits = { maxBytes: 1 };
    const evicted: string[] = [];
    // Everything is past its greatest age: it goes as soon as it may.
    const opening: Opening = await rig.open({ retention: { maxAgeMs: 0 } });
    opening.spillway.on('evicted', ({ studyInstanceUid }) => evicted.push(studyInstanceUid));
    const [extra = new Uint8Array()] = study(2, 1);
    await expect(opening.spillway.accept(extra)).rejects.toMatchObject({
      code: 'SPILLWAY_STORE_FULL',
      message: expect.stringContaining('still being walked through'),
    });
    await rig.until(() => opening.faults.length >= 3, 'it has failed three times');
    expect(evicted).toEqual([]);
    expect(
      opening.faults.every((fault) => fault instanceof SpillwayError && fault.code === 'SPILLWAY_STORE_FAILED'),
    ).toBe(true);
    expect((await opening.spillway.status()).storage.walk).toMatchObject({ phase: 'failed' });
    expect(await inState(opening, 'verified')).toHaveLength(3);
    isBroken = false;
    await rig.until(() => evicted.length === 1, 'it is walked through, and evicts');
    expect(opening.walked).toMatchObject([{ phase: 'done' }]);
  });
});
