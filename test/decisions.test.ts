import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { DiscardOptions, RedriveOptions } from '../src/replay/decisions.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import type { Store } from '../src/storage/store.ts';
import { interceptStore } from '../src/testing/intercept.ts';
import { syntheticInstance } from '../src/testing/synthetic.ts';
import { DAY, HOUR, NOON, type ReplayRig, replayRig, smallStudy } from './support/replay-rig.ts';
import { ScriptedTransport } from './support/scripted-transport.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const STORES = [
  ['in memory', async () => memoryStore()],
  ['in files', async () => fileStore({ directory: join(await temporaryDirectory(), 'store') })],
] as const;

const BY = 'A. Person';

/** A peer that refuses everything for good, until it is told otherwise. */
function refusing(reason = 'A900 data set'): ScriptedTransport {
  const peer = new ScriptedTransport();
  peer.respond = () => ({ kind: 'refused', reason, mayRetry: false });
  return peer;
}

const storing = () => ({ kind: 'stored' }) as const;

/** A rig whose peer has refused studies of so many instances. */
async function refused(sizes: readonly number[], store: Store = memoryStore()): Promise<ReplayRig> {
  const rig = await replayRig([{ id: 'pacs', transport: refusing(), maxConcurrency: 4 }], { store });
  for (const [index, size] of sizes.entries()) {
    await rig.accept(smallStudy(index + 1, size));
    await rig.drained();
    rig.clock.advance(HOUR);
  }
  return rig;
}

const listed = (rig: ReplayRig, filter = {}) => Array.fromAsync(rig.spillway.quarantined(filter));
const studyOf = async (rig: ReplayRig, index: number) => (await listed(rig)).at(index)?.identity.studyInstanceUid ?? '';

async function logged(rig: ReplayRig): Promise<string> {
  return JSON.stringify(await Array.fromAsync(rig.spillway.log()));
}

describe('quarantine', () => {
  test('is listed by what is asked for', async () => {
    const rig = await refused([2, 3]);
    const all = await listed(rig);
    const [first] = all;
    expect(all).toHaveLength(5);
    expect(await listed(rig, { destinationId: 'pacs' })).toHaveLength(5);
    expect(await listed(rig, { studyInstanceUid: first?.identity.studyInstanceUid })).toHaveLength(2);
    expect(await listed(rig, { sopInstanceUid: first?.identity.sopInstanceUid })).toEqual([first]);
    expect(await listed(rig, { sopClassUid: first?.identity.sopClassUid })).toHaveLength(5);
    expect(await listed(rig, { reason: 'a900 DATA' })).toHaveLength(5);
    expect(await listed(rig, { reason: 'C000' })).toEqual([]);
    expect(await listed(rig, { receivedFrom: NOON + HOUR })).toHaveLength(3);
    expect(await listed(rig, { receivedBefore: NOON + HOUR })).toHaveLength(2);
    expect(await listed(rig, { receivedFrom: NOON, receivedBefore: NOON })).toEqual([]);
  });

  test('a filter that is misspelt is refused', async () => {
    const rig = await refused([1]);
    const refuses = (filter: object, code = 'SPILLWAY_OPTION_INVALID') =>
      expect(listed(rig, filter)).rejects.toMatchObject({ code });
    await refuses({ destination: 'pacs' });
    await refuses({ reason: '' });
    await refuses({ receivedFrom: '2026-03-02' });
    await refuses({ destinationId: 'pasc' }, 'SPILLWAY_NOT_FOUND');
  });
});

describe('redrive', () => {
  test.each(STORES)('what is redriven is sent again and verified, also by a later process (%s)', async (_, store) => {
    const rig = await refused([2, 3], await store());
    await rig.spillway.pause();
    const studyInstanceUid = await studyOf(rig, 0);
    expect(await rig.spillway.redrive({ studyInstanceUid, by: BY })).toEqual({
      ...{ redriven: 2, superseded: 0, unavailable: 0 },
    });
    expect(await rig.status()).toMatchObject({ quarantined: 3, backlog: { instances: 2 } });
    rig.peer().respond = storing;
    const later = await rig.reopen();
    await later.drained();
    expect(await later.status()).toMatchObject({ verified: 2, quarantined: 3 });
    expect(await logged(later)).toContain(BY);
  });

  test('by arrival ids, or all of it; those that are refused again come back', async () => {
    const rig = await refused([5]);
    const arrivalIds = (await listed(rig)).slice(0, 2).map(({ arrivalId }) => arrivalId);
    expect(await rig.spillway.redrive({ arrivalIds: [...arrivalIds, 'none'], by: BY })).toMatchObject({ redriven: 2 });
    await rig.until(() => rig.named('quarantine').length === 7, 'refused again');
    expect(await listed(rig)).toHaveLength(5);
    rig.peer().respond = storing;
    expect(await rig.spillway.redrive({ all: true, by: BY })).toMatchObject({ redriven: 5 });
    await rig.drained();
    expect(await rig.status()).toMatchObject({ verified: 5, quarantined: 0 });
  });

  test('goes in the order of its rank', async () => {
    const rig = await replayRig([{ id: 'pacs', transport: refusing(), maxConcurrency: 1 }]);
    await rig.accept(smallStudy(1, 3, NOON - 30 * DAY));
    await rig.accept(smallStudy(2, 3, NOON - HOUR));
    await rig.drained();
    await rig.spillway.pause();
    await rig.spillway.redrive({ all: true, by: BY });
    rig.peer().respond = storing;
    const fresh = (await refusedFirst(rig)) ?? [];
    const before = rig.peer().requests.length;
    rig.spillway.resume();
    await rig.drained();
    expect(rig.peer().requests.slice(before).flat().slice(0, 3).sort()).toEqual(fresh);
  });

  test('an earlier version is left where a later one was sent', async () => {
    const rig = await replayRig([{ id: 'pacs', transport: refusing(), verify: 'compared' }]);
    const version = (seed: number) => ({
      bytes: syntheticInstance({ sopInstanceUid: '1.2.3.4', rows: 8, columns: 8, seed }),
    });
    await rig.accept([version(1)]);
    await rig.drained();
    rig.peer().respond = storing;
    await rig.accept([version(2)]);
    await rig.drained();
    expect(await rig.spillway.redrive({ all: true, by: BY })).toEqual({ redriven: 0, superseded: 1, unavailable: 0 });
    expect(await rig.status()).toMatchObject({ verified: 1, quarantined: 1 });
  });

  test('aborted in the middle, what was done stands', async () => {
    const abort = new AbortController();
    const inner = memoryStore();
    const store = {
      open: async () =>
        interceptStore(await inner.open(), async (call, action) => {
          const result = await action();
          if (call === 'catalog.redrive') abort.abort();
          return result;
        }),
    };
    const rig = await refused([300, 300], store);
    await rig.spillway.pause();
    await expect(rig.spillway.redrive({ all: true, by: BY, signal: abort.signal })).rejects.toMatchObject({
      code: 'SPILLWAY_ABORTED',
    });
    const { quarantined, backlog } = await rig.status();
    expect(quarantined + backlog.instances).toBe(600);
    expect(quarantined).toBeGreaterThan(0);
    expect(backlog.instances).toBeGreaterThan(0);
  });

  test('refuses to guess', async () => {
    const rig = await refused([1]);
    const refuses = (options: object, code = 'SPILLWAY_OPTION_INVALID') =>
      expect(rig.spillway.redrive(options as RedriveOptions)).rejects.toMatchObject({ code });
    await refuses({});
    await refuses({ by: BY });
    await refuses({ by: BY, studyInstanceUid: undefined });
    await refuses({ by: BY, arrivalIds: [] });
    await refuses({ by: BY, all: false });
    await refuses({ by: BY, all: true, reason: 'A900' });
    await refuses({ by: BY, destinationId: 'pacs', study: '1.2.3' });
    await refuses({ all: true });
    await refuses({ all: true, by: ' ' });
    await refuses({ destinationId: 'pasc', by: BY }, 'SPILLWAY_NOT_FOUND');
    expect(await rig.status()).toMatchObject({ quarantined: 1 });
  });

  test('never to a destination that was retired', async () => {
    const rig = await refused([1]);
    await rig.spillway.retireDestination({ id: 'pacs', reason: 'replaced', by: BY });
    expect(await rig.spillway.redrive({ all: true, by: BY })).toMatchObject({ redriven: 0 });
    await expect(rig.spillway.redrive({ destinationId: 'pacs', by: BY })).rejects.toMatchObject({
      code: 'SPILLWAY_NOT_FOUND',
    });
  });
});

/** The study that was refused last. */
async function refusedFirst(rig: ReplayRig): Promise<readonly string[]> {
  const uids = rig.peer().requests.flat();
  return [...new Set(uids)].slice(-3).sort();
}

describe('discard', () => {
  test.each(STORES)('what is given up is sent no more, and stays on record (%s)', async (_, store) => {
    const rig = await refused([2, 3], await store());
    const studyInstanceUid = await studyOf(rig, 0);
    const which = { studyInstanceUid, reason: 'wrong patient', by: BY };
    expect(await rig.spillway.discard(which)).toBe(2);
    expect(await rig.spillway.discard(which)).toBe(0);
    expect(await rig.status()).toMatchObject({ quarantined: 3, discarded: 2 });
    rig.peer().respond = storing;
    const later = await rig.reopen();
    expect(await later.spillway.redrive({ all: true, by: BY })).toMatchObject({ redriven: 3 });
    await later.drained();
    expect(await later.status()).toMatchObject({ verified: 3, discarded: 2 });
    expect(await logged(later)).toContain('wrong patient');
  });

  test('open deliveries too, also those that wait in memory; then nothing is owed, and who waits for that is told', async () => {
    const rig = await replayRig([{ id: 'pacs', maxConcurrency: 1 }]);
    await rig.accept(smallStudy(1, 2));
    await rig.drained();
    const gate = Promise.withResolvers<void>();
    rig.peer().gate = () => gate.promise;
    await rig.accept(smallStudy(2, 12));
    await rig.until(() => rig.peer().inFlight === 1, 'one in flight');
    const inFlight = rig.peer().requests.at(-1)?.length ?? 0;
    let isTold = false;
    const drained = rig.spillway.drained().then(() => {
      isTold = true;
    });
    const discarding = rig.spillway.discard({ state: 'open', destinationId: 'pacs', reason: 'test study', by: BY });
    await rig.pass(1_000);
    gate.resolve();
    await rig.until(() => isTold, 'told');
    const kept = (await rig.status()).verified - 2;
    expect(kept).toBeLessThanOrEqual(inFlight);
    expect(await discarding).toBe(12 - kept);
    await drained;
    await rig.pass(HOUR);
    expect(rig.peer().requests.flat()).toHaveLength(2 + inFlight);
    expect(await rig.status()).toMatchObject({ discarded: 12 - kept, backlog: { instances: 0 } });
    expect(rig.named('fault')).toEqual([]);
  });

  test('what was in flight and lost its answer is not sent again, and nothing of its study is in doubt', async () => {
    const rig = await replayRig([{ id: 'pacs', maxConcurrency: 1 }]);
    const gate = Promise.withResolvers<void>();
    rig.peer().gate = () => gate.promise;
    rig.peer().respond = () => ({ kind: 'ambiguous', reason: 'the connection was lost' });
    const [first, second] = smallStudy(1, 2);
    await rig.accept(first === undefined ? [] : [first]);
    await rig.until(() => rig.peer().inFlight === 1, 'in flight');
    const discarding = rig.spillway.discard({ state: 'open', all: true, reason: 'test', by: BY });
    await rig.pass(1_000);
    gate.resolve();
    await rig.pass(HOUR);
    expect(await discarding).toBe(1);
    expect(rig.peer().requests).toHaveLength(1);
    expect(await rig.status()).toMatchObject({ discarded: 1, backlog: { instances: 0 } });
    rig.peer().respond = storing;
    const lookUps = rig.peer().lookUps;
    let lookUpsAtSend = -1;
    rig.peer().gate = async () => {
      lookUpsAtSend = rig.peer().lookUps;
    };
    await rig.accept(second === undefined ? [] : [second]);
    await rig.drained();
    expect(lookUpsAtSend).toBe(lookUps);
  });

  test('what is looked up before it is sent is not sent any more', async () => {
    const rig = await replayRig([{ id: 'pacs', maxConcurrency: 2 }]);
    await rig.accept(smallStudy(9, 1));
    await rig.drained();
    rig.peer().respond = () => ({ kind: 'refused', reason: 'C000', mayRetry: true });
    await rig.accept(smallStudy(1, 1));
    await rig.until(() => rig.peer().requests.length === 2, 'refused once');
    rig.peer().respond = storing;
    const gate = Promise.withResolvers<void>();
    const lookUp = rig.peer().lookUp.bind(rig.peer());
    let isAsking = false;
    rig.peer().lookUp = async (instances) => {
      isAsking = true;
      await gate.promise;
      return lookUp(instances);
    };
    await rig.until(() => isAsking, 'asked before the second send');
    const before = rig.peer().requests.length;
    expect(await rig.spillway.discard({ state: 'open', all: true, reason: 'wrong patient', by: BY })).toBe(1);
    gate.resolve();
    await rig.pass(HOUR);
    expect(await rig.status()).toMatchObject({ discarded: 1, backlog: { instances: 0 } });
    expect(rig.peer().requests.slice(before)).toEqual([]);
  });

  test.each(['1.2.3', '1.2.9'])(
    'what is in flight is waited for, so that its correction (in study %s) does not overtake it',
    async (studyInstanceUid) => {
      const rig = await replayRig([{ id: 'pacs', maxConcurrency: 4, verify: 'compared' }]);
      await rig.accept(smallStudy(9, 4));
      await rig.drained();
      const small = { sopInstanceUid: '1.2.3.4', rows: 8, columns: 8 };
      const gate = Promise.withResolvers<void>();
      rig.peer().gate = () => gate.promise;
      const wrong = await rig.spillway.accept(syntheticInstance({ ...small, studyInstanceUid: '1.2.3', seed: 1 }));
      await rig.until(() => rig.peer().inFlight === 1, 'the wrong one is in flight');
      rig.peer().gate = async () => {};
      const right = await rig.spillway.accept(syntheticInstance({ ...small, studyInstanceUid, seed: 2 }));
      const which = { state: 'open', arrivalIds: [wrong.arrivalId], reason: 'wrong patient', by: BY } as const;
      const discarding = rig.spillway.discard(which);
      await rig.pass(60_000);
      expect(rig.peer().held.has('1.2.3.4')).toBe(false);
      gate.resolve();
      await rig.drained();
      expect(await discarding).toBeLessThanOrEqual(1);
      expect(rig.peer().held.get('1.2.3.4')?.digest).toBe(right.digest);
    },
  );

  test('who waits for what is in flight may stop waiting: then it is sent as ever', async () => {
    const rig = await replayRig([{ id: 'pacs', maxConcurrency: 1 }]);
    const gate = Promise.withResolvers<void>();
    rig.peer().gate = () => gate.promise;
    await rig.accept(smallStudy(1, 6));
    await rig.until(() => rig.peer().inFlight === 1, 'in flight');
    const abort = new AbortController();
    const discarding = rig.spillway.discard({ state: 'open', all: true, reason: 'x', by: BY, signal: abort.signal });
    const refused = expect(discarding).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' });
    await rig.pass(1_000);
    abort.abort();
    await refused;
    gate.resolve();
    await rig.drained();
    expect(await rig.status()).toMatchObject({ verified: 6, discarded: 0 });
  });

  test('the episode that held them up is closed by it, and balances', async () => {
    const rig = await replayRig();
    rig.peer().reachable = false;
    await rig.accept(smallStudy(1, 3));
    await rig.until(() => rig.named('outage').length === 1, 'down');
    await rig.accept(smallStudy(2, 2));
    rig.peer().showsHeld = false;
    rig.peer().reachable = true;
    await rig.until(() => rig.named('drained').length === 1, 'drained');
    expect(await rig.spillway.discard({ state: 'open', all: true, reason: 'sent by hand', by: BY })).toBe(5);
    await rig.until(() => rig.named('closed').length === 1, 'closed');
    expect(rig.named('closed')).toMatchObject([{ received: 5, discarded: 5, outstanding: 0, unaccounted: 0 }]);
  });

  test('refuses to guess, and wants a reason', async () => {
    const rig = await refused([1]);
    const refuses = (options: object, code = 'SPILLWAY_OPTION_INVALID') =>
      expect(rig.spillway.discard(options as DiscardOptions)).rejects.toMatchObject({ code });
    await refuses({ by: BY, reason: 'wrong patient' });
    await refuses({ by: BY, all: true });
    await refuses({ all: true, reason: 'wrong patient' });
    await refuses({ by: BY, reason: 'wrong patient', state: 'pending', all: true });
    await refuses({ by: BY, reason: 'wrong patient', destinationId: 'pacs', studyUid: '1.2' });
    await refuses({ by: BY, reason: 'wrong patient', destinationId: 'pasc' }, 'SPILLWAY_NOT_FOUND');
    expect(await rig.status()).toMatchObject({ quarantined: 1, discarded: 0 });
  });
});
