import { execFile } from 'node:child_process';
import { readdir, truncate, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import type { Receipt } from '../src/domain/receipt.ts';
import { syntheticStudy } from '../src/testing/synthetic.ts';
import { bundledChild } from './support/bundled-child.ts';
import { inState, logOf, StoreRig } from './support/store-rig.ts';

const NOON = Date.parse('2026-03-02T12:00:00Z');
const CATALOG = 'catalog.sqlite';
/** More than any of the tasks has. */
const MAX_STEPS = 200;

const child = bundledChild('rebuild-child');

const study = (seed: number, instances: number, patientId = 'SYNTHETIC') =>
  [...syntheticStudy({ rows: 8, columns: 8, instances, acquiredAt: NOON, seed, patientId })].map(({ bytes }) => bytes);

/** How many steps there were, or null where it was killed. */
function runChild(task: string, directory: string, killAt: number): Promise<number | null> {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [child(), task, directory, String(killAt)], (error, stdout, stderr) => {
      if (error === null) resolve(Number(stdout));
      else if (error.signal === 'SIGKILL') resolve(null);
      else reject(new Error(`${task}, step ${killAt}: ${stderr}`));
    });
  });
}

interface Left {
  readonly rig: StoreRig;
  readonly refused: Receipt;
  readonly verified: readonly Receipt[];
  readonly pending: readonly Receipt[];
  readonly late: Receipt;
}

/** Closed: three verified, one in quarantine since the snapshot, two pending for the archive, one that came after it. */
async function left(): Promise<Left> {
  const rig = await StoreRig.make();
  const first = await rig.openAndWalk();
  const verified = await rig.accept(first, study(1, 3));
  const pending = await rig.accept(first, study(2, 2, 'ARCHIVE'));
  await rig.until(async () => (await inState(first, 'verified')).length === 3, 'verified');
  rig.peer.reachable = false;
  const [refused] = await rig.accept(first, study(3, 1));
  expect(await first.store.snapshot?.()).toBe(true);
  rig.peer.respond = () => ({ kind: 'refused', reason: 'A900', mayRetry: false });
  rig.peer.reachable = true;
  await rig.until(async () => (await inState(first, 'quarantined')).length === 1, 'refused');
  const [late] = await rig.accept(first, study(4, 1));
  await rig.until(async () => (await inState(first, 'quarantined')).length === 2, 'refused as well');
  rig.peer.respond = () => ({ kind: 'stored' });
  await first.close();
  if (refused === undefined || late === undefined) throw new Error('none');
  return { rig, refused, verified, pending, late };
}

/** Kills a copy of the store before each step in turn, and looks at what is left. Returns how many kills there were. */
async function killAtEach(
  task: string,
  rig: StoreRig,
  examine: (copy: StoreRig, killAt: number) => Promise<void>,
): Promise<number> {
  for (let killAt = 1; killAt <= MAX_STEPS; killAt += 1) {
    const copy = await rig.copy();
    const steps = await runChild(task, copy.directory, killAt);
    await examine(copy, killAt).catch((error) => {
      throw new Error(
        `${task}, killed before step ${killAt}: ${error instanceof Error ? error.message : String(error)}`,
        {
          cause: error,
        },
      );
    });
    if (steps === null) continue;
    expect(steps).toBe(killAt - 1);
    return steps;
  }
  throw new Error(`${task} has more than ${MAX_STEPS} steps`);
}

/** What every kill leaves: all is here, and nothing that was decided comes back. */
async function holds({ refused, verified, pending, late }: Left, copy: StoreRig, isRebuilt: boolean): Promise<void> {
  const sentBefore = copy.peer.requests.length;
  const opening = await copy.openAndWalk();
  expect(opening.faults).toEqual([]);
  expect(opening.walked).toMatchObject([{ missing: 0, damaged: 0 }]);
  const presences = await copy.presences(opening);
  for (const { arrivalId } of [refused, ...verified, ...pending]) expect(presences.get(arrivalId)).toBe('kept');
  expect(presences.get(late.arrivalId)).toBe(isRebuilt ? 'unconfirmed' : 'kept');
  expect(new Set(await inState(opening, 'quarantined'))).toEqual(new Set([refused.arrivalId, late.arrivalId]));
  expect(copy.peer.requests.slice(sentBefore)).toEqual([]);
  const rebuilds = (await logOf(opening)).filter(({ kind }) => kind === 'rebuilt');
  expect(rebuilds).toHaveLength(Number(isRebuilt));
  expect((await readdir(copy.directory)).filter((name) => /damaged$|\.new$/.test(name))).toEqual(
    isRebuilt ? ['damaged'] : [],
  );
  await opening.close();
}

test('kill -9 before each step of a rebuild: the next opening makes the catalog whole, without help', async () => {
  const before = await left();
  await truncate(before.rig.path(CATALOG), 9_000);
  const kills = await killAtEach('rebuild', before.rig, (copy) => holds(before, copy, true));
  console.log(`kill -9 in the middle of a rebuild: ${kills} kills`);
  expect(kills).toBeGreaterThan(20);
}, 300_000);

test('kill -9 before each step of a snapshot: the catalog is whole, and so is what it can be rebuilt from', async () => {
  const before = await left();
  const kills = await killAtEach('snapshot', before.rig, async (copy) => {
    const lost = await copy.copy();
    await holds(before, copy, false);
    await writeFile(lost.path(CATALOG), 'lost');
    const opening = await lost.openAndWalk();
    expect(opening.rebuilt).toHaveLength(1);
    expect(opening.rebuilt[0]?.snapshot).not.toBeNull();
    expect(new Set(await inState(opening, 'quarantined'))).toEqual(
      new Set([before.refused.arrivalId, before.late.arrivalId]),
    );
    await opening.close();
  });
  console.log(`kill -9 in the middle of a snapshot: ${kills} kills`);
  expect(kills).toBeGreaterThan(10);
}, 300_000);

test('kill -9 between a decision and its commit: it is carried out whole or not at all, with or without the catalog', async () => {
  const before = await left();
  const outcomes = new Set<string>();
  const kills = await killAtEach('retire', before.rig, async (copy) => {
    const lost = await copy.copy();
    await writeFile(lost.path(CATALOG), 'lost');
    const seen: string[] = [];
    for (const rig of [copy, lost]) {
      const opening = await rig.open();
      const discarded = (await inState(opening, 'discarded', 'archive')).length;
      const open = (await inState(opening, 'pending', 'archive')).length;
      seen.push(`${discarded} discarded, ${open} open`);
      await opening.close();
    }
    expect(seen[1]).toBe(seen[0]);
    outcomes.add(seen[0] ?? '');
  });
  console.log(`kill -9 between a decision and its commit: ${kills} kills`);
  expect([...outcomes].sort()).toEqual(['0 discarded, 2 open', '2 discarded, 0 open']);
}, 300_000);

test('kill -9 in the middle of an eviction: it is ended at the next opening; and nothing is missing without the catalog', async () => {
  const before = await left();
  const kills = await killAtEach('evict', before.rig, async (copy, killAt) => {
    const lost = await copy.copy();
    await writeFile(lost.path(CATALOG), 'lost');
    const evictedAt = (presence: string) => presence === 'evicted';
    const whole = await copy.openAndWalk();
    const presences = await copy.presences(whole);
    const gone = before.verified.map(({ arrivalId }) => evictedAt(presences.get(arrivalId) ?? ''));
    expect(gone).toEqual(before.verified.map(() => killAt > 1));
    expect(whole.walked).toMatchObject([{ missing: 0, takenUp: 0 }]);
    await whole.close();
    const rebuilt = await lost.openAndWalk();
    expect(rebuilt.walked).toMatchObject([{ missing: 0 }]);
    const left = [...(await lost.presences(rebuilt)).values()];
    const files = Math.min(Math.max(killAt - 2, 0), before.verified.length);
    expect(left.filter(evictedAt)).toHaveLength(files);
    expect(await inState(rebuilt, 'verified')).toHaveLength(before.verified.length);
    await rebuilt.close();
  });
  console.log(`kill -9 in the middle of an eviction: ${kills} kills`);
  expect(kills).toBe(before.verified.length + 3);
}, 300_000);
