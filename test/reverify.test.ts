import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { ReverifyOptions, ReverifyReport } from '../src/replay/reverify.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import { DAY, HOUR, NOON, type ReplayRig, replayRig, smallStudy } from './support/replay-rig.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const SINCE = NOON - DAY;

/** Verifies again while virtual time goes by. */
async function reverify(rig: ReplayRig, options: Partial<ReverifyOptions> = {}): Promise<ReverifyReport> {
  const asking = rig.spillway.reverify({ destination: 'pacs', since: SINCE, ...options });
  let ended = false;
  const mark = () => {
    ended = true;
  };
  asking.then(mark, mark);
  await rig.until(() => ended, 'verified again');
  return asking;
}

/** A rig that has delivered studies of so many instances, an hour apart. */
async function delivered(sizes: readonly number[], ...given: Parameters<typeof replayRig>): Promise<ReplayRig> {
  const rig = await replayRig(...given);
  for (const [index, size] of sizes.entries()) {
    await rig.accept(smallStudy(index + 1, size));
    await rig.drained();
    rig.clock.advance(HOUR);
  }
  return rig;
}

/** The SOP Instance UIDs that the peer holds, in the order in which they came. */
const held = (rig: ReplayRig) => [...rig.peer().held.keys()];

function forget(rig: ReplayRig, sopInstanceUids: readonly string[]): void {
  for (const uid of sopInstanceUids) rig.peer().held.delete(uid);
}

async function logged(rig: ReplayRig, kind: string) {
  const entries = await Array.fromAsync(rig.spillway.log());
  return entries.filter((entry) => entry.kind === kind);
}

describe('what a destination was verified to hold, asked again', () => {
  test('is counted where it is there, and nothing is sent', async () => {
    const rig = await delivered([3, 2]);
    const requests = rig.peer().requests.length;
    expect(await reverify(rig)).toEqual({
      destinationId: 'pacs',
      ...{ checked: 5, present: 5, missing: 0, different: 0, unknown: 0, returned: 0, evicted: 0, unavailable: 0 },
      ...{ isComplete: true, reachedBackTo: SINCE },
    });
    expect(rig.peer().requests).toHaveLength(requests);
    expect(await logged(rig, 'reverified')).toMatchObject([
      { detail: { destinationId: 'pacs', since: SINCE, checked: 5 } },
    ]);
  });

  test.each([
    ['in memory', async () => memoryStore()],
    ['in files', async () => fileStore({ directory: join(await temporaryDirectory(), 'store') })],
  ])('is owed again where it is missing, is sent again and verified, also after a restart (%s)', async (_, store) => {
    const rig = await delivered([4, 6], undefined, { store: await store() });
    const all = held(rig);
    const lost = all.slice(3, 8);
    forget(rig, lost);
    await rig.spillway.pause();
    expect(await reverify(rig)).toMatchObject({ checked: 10, present: 5, missing: 5, returned: 5 });
    expect((await rig.status()).backlog.instances).toBe(5);
    const before = rig.peer().requests.length;
    const later = await rig.reopen();
    await later.drained();
    const sent = later.peer().requests.slice(before).flat();
    expect([...new Set(sent)].sort()).toEqual([...lost].sort());
    expect(held(later).sort()).toEqual([...all].sort());
    expect(await later.status()).toMatchObject({ verified: 10, quarantined: 0 });
    expect(await reverify(later)).toMatchObject({ checked: 10, present: 10 });
    expect(later.named('fault')).toEqual([]);
  });

  test('what it had reached stays in the event log', async () => {
    const rig = await delivered([1]);
    const before = (await Array.fromAsync(rig.spillway.log())).length;
    forget(rig, held(rig));
    await reverify(rig);
    const entries = (await Array.fromAsync(rig.spillway.log())).slice(before);
    expect(JSON.stringify(entries)).toContain('no longer there');
  });

  test('goes in the order of its rank: the older study after the fresh one', async () => {
    const rig = await replayRig([{ id: 'pacs', maxConcurrency: 1 }]);
    await rig.accept([...smallStudy(1, 3, NOON - 30 * DAY), ...smallStudy(2, 3, NOON - HOUR)]);
    await rig.drained();
    const all = held(rig);
    const fresh = smallStudy(2, 3).map((instance) => (instance as { identity?: { sopInstanceUid: string } }).identity);
    forget(rig, all);
    await rig.spillway.pause();
    await reverify(rig);
    const before = rig.peer().requests.length;
    rig.spillway.resume();
    await rig.drained();
    const order = rig.peer().requests.slice(before).flat();
    expect(order).toHaveLength(6);
    expect(order.slice(0, 3).sort()).toEqual(fresh.map((identity) => identity?.sopInstanceUid).sort());
  });

  test('its age counts from now, not from when it was sent first', async () => {
    const rig = await replayRig([{ id: 'pacs', maxConcurrency: 1 }]);
    await rig.accept(smallStudy(1, 3, NOON - HOUR));
    await rig.drained();
    const old = held(rig);
    rig.clock.advance(3 * DAY);
    await rig.accept(smallStudy(2, 3, NOON + 3 * DAY - HOUR));
    await rig.drained();
    forget(rig, held(rig));
    await rig.spillway.pause();
    await reverify(rig);
    await rig.pass(5_000);
    const before = rig.peer().requests.length;
    rig.spillway.resume();
    await rig.drained();
    expect(rig.peer().requests.slice(before).flat().slice(3).sort()).toEqual([...old].sort());
  });

  test('an older version that was put back is noticed where it was compared, and replaced', async () => {
    const rig = await delivered([2], [{ id: 'pacs', verify: 'compared' }]);
    const [uid] = held(rig);
    const now = rig.peer().held.get(uid ?? '');
    rig.peer().held.set(uid ?? '', { digest: '0'.repeat(64), transferSyntaxUid: now?.transferSyntaxUid ?? '' });
    expect(await reverify(rig)).toMatchObject({ checked: 2, present: 1, different: 1, missing: 0, returned: 1 });
    await rig.drained();
    expect(rig.peer().held.get(uid ?? '')).toEqual(now);
  });

  test('goes back to `since`, and from `until`', async () => {
    const rig = await delivered([1]);
    const second = rig.clock.now();
    await rig.accept(smallStudy(2, 2));
    await rig.drained();
    rig.clock.advance(HOUR);
    const third = rig.clock.now();
    await rig.accept(smallStudy(3, 3));
    await rig.drained();
    rig.clock.advance(HOUR);
    expect(await reverify(rig, { since: second })).toMatchObject({ checked: 5, reachedBackTo: second });
    expect(await reverify(rig, { since: second, until: third })).toMatchObject({ checked: 2 });
    expect(await reverify(rig, { since: 0, until: second })).toMatchObject({ checked: 1 });
    expect(await reverify(rig, { since: rig.clock.now() })).toMatchObject({ checked: 0, isComplete: true });
  });

  test('by retrieving it, where nothing can be looked up', async () => {
    const rig = await replayRig([{ id: 'pacs', verify: 'answered' }]);
    rig.peer().supports = { lookUp: false, readBack: true };
    await rig.accept(smallStudy(1, 2));
    await rig.drained();
    forget(rig, held(rig).slice(0, 1));
    expect(await reverify(rig)).toMatchObject({ present: 1, missing: 1, returned: 1 });
    expect(rig.peer().lookUps).toBe(0);
  });
});

describe('a destination that does not answer', () => {
  test('what cannot be asked about is `unknown`, and nothing follows from it', async () => {
    const rig = await delivered([2, 2]);
    const lookUp = rig.peer().lookUp.bind(rig.peer());
    let calls = 0;
    rig.peer().lookUp = async (instances) => {
      calls += 1;
      return calls === 1 ? null : lookUp(instances);
    };
    expect(await reverify(rig)).toMatchObject({ checked: 4, present: 2, unknown: 2, returned: 0, isComplete: true });
    expect(await rig.status()).toMatchObject({ verified: 4, backlog: { instances: 0 } });
  });

  test('ends it early, and says from where to go on', async () => {
    const rig = await delivered([2, 2]);
    rig.peer().reachable = false;
    const report = await reverify(rig);
    expect(report).toMatchObject({ present: 0, unknown: 2, returned: 0, isComplete: false });
    expect(report.reachedBackTo).toBeGreaterThan(SINCE);
    rig.peer().reachable = true;
    await rig.until(async () => (await rig.status()).health.phase === 'up', 'up');
    expect(await reverify(rig, { until: report.reachedBackTo })).toMatchObject({ checked: 4, isComplete: true });
  });

  test('one that has nothing, but is not well, is not believed', async () => {
    const rig = await delivered([2]);
    rig.peer().lookUp = async () => new Set();
    rig.peer().reachable = false;
    expect(await reverify(rig)).toMatchObject({ missing: 0, unknown: 2, returned: 0, isComplete: false });
    expect(await rig.status()).toMatchObject({ verified: 2, backlog: { instances: 0 } });
  });

  test('is not asked at all while it is down, or in a planned outage: what is being restored may show anything', async () => {
    const rig = await delivered([2]);
    forget(rig, held(rig));
    await rig.spillway.declareOutage({ destinationId: 'pacs', reason: 'restore', by: 'A. Person' });
    const { lookUps } = rig.peer();
    expect(await reverify(rig)).toMatchObject({ checked: 0, returned: 0, isComplete: false });
    await rig.spillway.endOutage({ destinationId: 'pacs', by: 'A. Person' });
    expect(rig.peer().lookUps).toBe(lookUps);
    await rig.until(() => rig.named('recovery').length === 1, 'recovered');
    expect(await reverify(rig)).toMatchObject({ checked: 2, isComplete: true });
  });

  test('goes down in the middle: it ends there', async () => {
    const rig = await delivered([30, 30]);
    const asking = reverify(rig, { maxPerSecond: 1 });
    rig.clock.schedule(10_000, () => {
      rig.spillway.declareOutage({ destinationId: 'pacs', reason: 'restore', by: 'A. Person' }).catch(() => {});
    });
    const report = await asking;
    expect(report.isComplete).toBe(false);
    expect(report.checked).toBeLessThan(20);
  });

  test('one that is silent for some seconds costs nothing', async () => {
    const rig = await delivered([2]);
    rig.peer().reachable = false;
    rig.clock.schedule(5_000, () => {
      rig.peer().reachable = true;
    });
    expect(await reverify(rig)).toMatchObject({ present: 2, unknown: 0, isComplete: true });
  });

  test('one that answers and shows nothing for ever is let be, in the end', async () => {
    const rig = await delivered(Array.from({ length: 60 }, () => 1));
    rig.peer().lookUp = async () => null;
    expect(await reverify(rig, { since: 0 })).toMatchObject({ unknown: 50, isComplete: false });
  });
});

describe('how it is asked', () => {
  test('no faster than it is told', async () => {
    const rig = await delivered([20, 20]);
    const begin = rig.clock.now();
    await reverify(rig, { maxPerSecond: 4 });
    expect(rig.clock.now() - begin).toBeGreaterThanOrEqual(9_000);
  });

  test('progress is told, and a listener that throws breaks nothing', async () => {
    const rig = await delivered([3]);
    const told: ReverifyReport[] = [];
    const onProgress = (report: ReverifyReport) => {
      told.push(report);
      throw new Error('of the listener');
    };
    expect(await reverify(rig, { onProgress })).toMatchObject({ checked: 3 });
    expect(told).toMatchObject([{ checked: 3 }]);
    expect(rig.named('fault')).toHaveLength(1);
  });

  test('aborting ends it, and what it found stands', async () => {
    const rig = await delivered([2, 40]);
    forget(rig, held(rig));
    await rig.spillway.pause();
    const abort = new AbortController();
    const asking = reverify(rig, { maxPerSecond: 1, signal: abort.signal });
    rig.clock.schedule(10_000, () => abort.abort());
    await expect(asking).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' });
    const { instances } = (await rig.status()).backlog;
    expect(instances).toBeGreaterThan(0);
    expect(instances).toBeLessThan(42);
    rig.spillway.resume();
    await rig.drained();
    expect(await reverify(rig)).toMatchObject({ checked: 42, missing: 42 - instances });
  });

  test('one at a time for a destination; closing ends it', async () => {
    const rig = await delivered([10]);
    const first = rig.spillway.reverify({ destination: 'pacs', since: SINCE, maxPerSecond: 1 });
    const outcome = first.catch((error) => error);
    await expect(rig.spillway.reverify({ destination: 'pacs', since: SINCE })).rejects.toMatchObject({
      code: 'SPILLWAY_BUSY',
    });
    await rig.reopen();
    expect(await outcome).toMatchObject({ code: 'SPILLWAY_CLOSED' });
  });

  test('what is wrong is refused before anything is asked', async () => {
    const rig = await replayRig();
    const refused = (options: object, code = 'SPILLWAY_OPTION_INVALID') =>
      expect(rig.spillway.reverify(options as ReverifyOptions)).rejects.toMatchObject({ code });
    await refused({ destination: 'pacs' });
    await refused({ destination: 'pacs', since: '2026-03-01' });
    await refused({ destination: 'pacs', since: SINCE, maxPerSecond: 0 });
    await refused({ destination: 'pacs', since: SINCE, unti: 5 });
    await refused({ destination: 'pasc', since: SINCE }, 'SPILLWAY_NOT_FOUND');
    rig.peer().supports = { lookUp: false, readBack: false };
    await refused({ destination: 'pacs', since: SINCE });
  });

  test('what has made room is counted, not asked about', async () => {
    const rig = await delivered([2, 2], undefined, { retention: { keepMs: 0, maxAgeMs: 90 * 60_000 } });
    await rig.until(async () => (await logged(rig, 'evicted')).length > 0, 'evicted');
    expect(await reverify(rig)).toMatchObject({ checked: 2, present: 2, evicted: 2 });
  });
});
