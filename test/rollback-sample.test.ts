import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { spread } from '../src/replay/rollback-sample.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import { HOUR, NOON, type ReplayRig, replayRig, smallStudy } from './support/replay-rig.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

/** Studies one after another, an hour apart; returns what the peer holds after each. */
async function days(rig: ReplayRig, studies: number, size = 2): Promise<readonly (readonly string[])[]> {
  const after: string[][] = [];
  for (let index = 0; index < studies; index += 1) {
    await rig.accept(smallStudy(index + 1, size));
    await rig.drained();
    rig.clock.advance(HOUR);
    after.push([...rig.peer().held.keys()]);
  }
  return after;
}

/** The peer is away for a while; meanwhile it may be changed. */
async function outage(rig: ReplayRig, meanwhile: () => void = () => {}): Promise<void> {
  const before = rig.named('recovery').length;
  rig.peer().reachable = false;
  await rig.accept(smallStudy(900 + before, 1));
  await rig.until(async () => (await rig.status()).health.phase === 'down', 'down');
  meanwhile();
  rig.peer().reachable = true;
  await rig.until(() => rig.named('recovery').length > before, 'recovered');
}

/** As a restored backup leaves it: it holds no more than it did then. */
function setBack(rig: ReplayRig, held: readonly string[]): void {
  for (const uid of [...rig.peer().held.keys()]) if (!held.includes(uid)) rig.peer().held.delete(uid);
}

async function logged(rig: ReplayRig, kind: string) {
  const entries = await Array.fromAsync(rig.spillway.log());
  return entries.filter((entry) => entry.kind === kind);
}

describe('after an outage', () => {
  test('a destination that was set back is told of, once; what the sample missed is owed again', async () => {
    const rig = await replayRig();
    const [, backup, last] = await days(rig, 3);
    await outage(rig, () => setBack(rig, backup ?? []));
    await rig.until(() => rig.named('rollback-suspected').length > 0, 'suspected');
    const lost = (last ?? []).slice(4);
    const [suspicion] = rig.named('rollback-suspected');
    expect(suspicion).toMatchObject({ destinationId: 'pacs', episodeId: 1, sampled: 6 });
    expect(suspicion?.missing.map(({ sopInstanceUid }) => sopInstanceUid).sort()).toEqual([...lost].sort());
    await rig.drained();
    await rig.pass(HOUR);
    expect([...rig.peer().held.keys()]).toEqual(expect.arrayContaining(lost));
    expect(rig.named('rollback-suspected')).toHaveLength(1);
    expect(await logged(rig, 'rollback-suspected')).toMatchObject([
      { detail: { destinationId: 'pacs', episodeId: 1, sampled: 6, missing: 2 } },
    ]);
    // What it suggests reaches back to all that is lost, and to what is there.
    const asking = rig.spillway.reverify({ destination: 'pacs', since: suspicion?.since ?? 0 });
    await rig.until(async () => (await Promise.race([asking, null])) !== null, 'verified again');
    expect(await asking).toMatchObject({ missing: 0, present: 4 + 1 });
  });

  test('only what the sample missed is sent again, until a person says so', async () => {
    const rig = await replayRig();
    await days(rig, 20, 10);
    await outage(rig, () => setBack(rig, []));
    await rig.until(() => rig.named('rollback-suspected').length > 0, 'suspected');
    await rig.drained();
    expect(rig.named('rollback-suspected')[0]?.missing).toHaveLength(20);
    expect(rig.peer().held.size).toBe(20 + 1);
    const asking = rig.spillway.reverify({ destination: 'pacs', since: NOON - HOUR });
    await rig.until(async () => (await Promise.race([asking, null])) !== null, 'verified again');
    expect(await asking).toMatchObject({ missing: 180, returned: 180 });
    await rig.drained();
    expect(rig.peer().held.size).toBe(200 + 1);
  });

  test('a destination that holds all of it is not suspected', async () => {
    const rig = await replayRig();
    await days(rig, 2);
    await outage(rig);
    await rig.pass(2 * HOUR);
    expect(rig.named('rollback-suspected')).toEqual([]);
    expect(await logged(rig, 'rollback-sample-unanswered')).toEqual([]);
  });

  test('an index that lags behind its start is not taken for a loss', async () => {
    const rig = await replayRig();
    await days(rig, 2);
    const lookUp = rig.peer().lookUp.bind(rig.peer());
    await outage(rig, () => {
      rig.peer().lookUp = async () => new Set();
      rig.clock.schedule(30_000, () => {
        rig.peer().lookUp = lookUp;
      });
    });
    await rig.pass(HOUR);
    expect(rig.named('rollback-suspected')).toEqual([]);
  });

  test('one that cannot be asked at first is asked again, a bounded number of times', async () => {
    const rig = await replayRig([{ id: 'pacs', verify: 'answered' }]);
    const [, , last] = await days(rig, 3);
    const lookUp = rig.peer().lookUp.bind(rig.peer());
    let asked = 0;
    const silent = async () => {
      asked += 1;
      return null;
    };
    await outage(rig, () => {
      setBack(rig, (last ?? []).slice(0, 4));
      rig.peer().lookUp = silent;
    });
    await rig.until(() => asked >= 3, 'asked');
    rig.peer().lookUp = lookUp;
    await rig.until(() => rig.named('rollback-suspected').length > 0, 'suspected');
    expect(rig.named('rollback-suspected')[0]?.missing).toHaveLength(2);
    // What was verified since the outage began is not asked about.
    expect(rig.named('rollback-suspected')[0]?.sampled).toBe(6);
    await outage(rig, () => {
      rig.peer().lookUp = silent;
    });
    await rig.until(async () => (await logged(rig, 'rollback-sample-unanswered')).length > 0, 'given up', 10_000);
    const rounds = asked;
    await rig.pass(6 * HOUR);
    expect(asked).toBe(rounds);
  });

  test('one that goes down again is not asked meanwhile', async () => {
    const rig = await replayRig();
    const [backup] = await days(rig, 3);
    await outage(rig, () => setBack(rig, backup ?? []));
    await rig.spillway.declareOutage({ destinationId: 'pacs', reason: 'restore', by: 'A. Person' });
    await rig.pass(2 * HOUR);
    expect(rig.named('rollback-suspected')).toEqual([]);
    await rig.spillway.endOutage({ destinationId: 'pacs', by: 'A. Person' });
    await rig.until(() => rig.named('rollback-suspected').length > 0, 'suspected');
    expect(rig.named('rollback-suspected')).toMatchObject([{ episodeId: 2 }]);
  });

  test('one that can be asked nothing is left alone', async () => {
    const rig = await replayRig([{ id: 'pacs', verify: 'answered' }]);
    rig.peer().supports = { lookUp: false, readBack: false };
    await days(rig, 2);
    await outage(rig, () => setBack(rig, []));
    await rig.pass(2 * HOUR);
    expect(rig.named('rollback-suspected')).toEqual([]);
    expect(await logged(rig, 'rollback-sample-unanswered')).toEqual([]);
    expect(rig.named('fault')).toEqual([]);
  });

  test.each([
    ['in memory', async () => memoryStore()],
    ['in files', async () => fileStore({ directory: join(await temporaryDirectory(), 'store') })],
  ])('what the end of the process broke off, the next one takes up (%s)', async (_, store) => {
    const rig = await replayRig(undefined, { store: await store() });
    const [backup] = await days(rig, 2);
    // What was sent in the outage is not shown yet, so that its episode stays open.
    const showing = rig.peer().lookUp.bind(rig.peer());
    await outage(rig, () => {
      setBack(rig, backup ?? []);
      rig.peer().lookUp = async () => null;
    });
    const later = await rig.reopen();
    later.peer().lookUp = showing;
    await later.until(() => later.named('rollback-suspected').length > 0, 'suspected');
    expect(later.named('rollback-suspected')).toMatchObject([{ episodeId: 1, sampled: 4 }]);
    await later.drained();
  });
});

test('a sample is what came last, and equal steps through the rest', () => {
  const items = Array.from({ length: 1000 }, (_, index) => index);
  const sample = spread(items, 20);
  expect(sample).toHaveLength(20);
  expect(sample.slice(0, 10)).toEqual(items.slice(0, 10));
  expect(sample.at(-1)).toBe(999);
  expect(new Set(sample).size).toBe(20);
  expect(spread(items.slice(0, 20), 20)).toEqual(items.slice(0, 20));
  expect(new Set(spread(items.slice(0, 21), 20)).size).toBe(20);
  expect(spread([], 20)).toEqual([]);
});
