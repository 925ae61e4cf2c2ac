import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createStowHandler } from '../src/handler/index.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import type { Store } from '../src/storage/store.ts';
import { interceptStore } from '../src/testing/intercept.ts';
import { syntheticInstance } from '../src/testing/synthetic.ts';
import { INSTANCE_BYTES, instance, studyUid } from './support/equal-instances.ts';
import { DAY_MS, heldOf, openRig, type RetentionRig } from './support/retention-rig.ts';
import type { ScriptedTransport } from './support/scripted-transport.ts';
import { answerOf, post } from './support/stow-request.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';
import { until } from './support/virtual-time.ts';

const MIB = 1024 * 1024;

/** Room for so many instances. */
const roomFor = (instances: number) => memoryStore({ maxBytes: instances * INSTANCE_BYTES });

/** Counts the calls that go to a store. */
function counted(store: Store) {
  const calls = new Map<string, number>();
  return {
    calls,
    store: {
      open: async () =>
        interceptStore(await store.open(), (call, action) => {
          calls.set(call, (calls.get(call) ?? 0) + 1);
          return action();
        }),
    } satisfies Store,
  };
}

/** An instance that is refused for want of room; the refusal's message. */
async function refusalOf(rig: RetentionRig, bytes = instance(90)): Promise<string> {
  const refusal: unknown = await rig.spillway.accept(bytes).catch((error) => error);
  expect(refusal).toMatchObject({ code: 'SPILLWAY_STORE_FULL', isRetryable: true });
  return (refusal as Error).message;
}

const STORES = [
  ['memoryStore', async (instances: number) => roomFor(instances)],
  [
    'fileStore',
    async (instances: number) =>
      fileStore({ directory: await temporaryDirectory(), maxBytes: instances * INSTANCE_BYTES, minFreeBytes: 0 }),
  ],
] as const;

test.each(STORES)('%s: whole studies go, least recently received first, no more than it takes', async (_, make) => {
  const rig = await openRig({ store: await make(6), retention: { keepMs: 3 * DAY_MS } });
  await rig.walked();
  for (const study of [1, 2, 3]) {
    for (const number of [1, 2]) await rig.spillway.accept(instance(study, number));
    await rig.drain();
    rig.clock.advance(2 * DAY_MS);
  }
  await rig.spillway.accept(instance(4));
  await until(rig.clock, async () => (await heldOf(rig.spillway, 1)) === 0);
  expect(rig.evicted).toEqual([`${studyUid(1)} past-window`]);
  expect(await Promise.all([2, 3, 4].map((study) => heldOf(rig.spillway, study)))).toEqual([2, 2, 1]);
  const { storage } = await rig.spillway.status();
  expect(storage).toMatchObject({ instances: 5, bytes: 5 * INSTANCE_BYTES, fullBecause: null });
  expect(storage.room).toEqual({ bytes: INSTANCE_BYTES, ofBytes: 6 * INSTANCE_BYTES, limitedBy: 'maxBytes' });
  const log = [];
  for await (const { kind, detail } of rig.spillway.log()) if (kind === 'evicted') log.push(detail);
  expect(log).toEqual([{ studyInstanceUid: studyUid(1), instances: 2, bytes: 2 * INSTANCE_BYTES }]);
  expect(rig.full).toEqual([]);
  expect(rig.faults).toEqual([]);
});

test.each(STORES)('%s: what was evicted comes again as restored, and is delivered again', async (_, make) => {
  const rig = await openRig({ store: await make(2) });
  await rig.walked();
  const first = await rig.spillway.accept(instance(1));
  await rig.drain();
  rig.clock.advance(1_000);
  await rig.spillway.accept(instance(2));
  await rig.drain();
  await rig.spillway.accept(instance(3));
  expect(rig.evicted[0]).toBe(`${studyUid(1)} inside-window`);
  await rig.drain();
  rig.peers.a?.held.clear();
  const again = await rig.spillway.accept(instance(1));
  expect(again).toMatchObject({ outcome: 'restored', arrivalId: first.arrivalId, destinations: ['a'] });
  await rig.drain();
  expect([...(rig.peers.a?.held.values() ?? [])].map(({ digest }) => digest)).toEqual([first.digest]);
  expect(await heldOf(rig.spillway, 1)).toBe(1);
});

/** A store that holds one study which may not go, and what is said of it. */
const BLOCKED: readonly {
  readonly name: string;
  readonly says: RegExp;
  readonly rig: () => Promise<RetentionRig>;
}[] = [
  {
    name: 'pending at a destination that is down',
    says: /1 study \(.*\) wait for a destination/,
    rig: async () => {
      const rig = await openRig({ store: roomFor(2) }, { names: ['a', 'b'] });
      (rig.peers.b as ScriptedTransport).reachable = false;
      await rig.walked();
      for (const number of [1, 2]) await rig.spillway.accept(instance(1, number));
      await until(rig.clock, async () => (await rig.spillway.status()).destinations[0]?.verified === 2);
      return rig;
    },
  },
  {
    name: 'sent, and not yet found',
    says: /1 study \(.*\) wait for a destination/,
    rig: async () => {
      const rig = await openRig({ store: roomFor(2) }, { verify: 'found' });
      (rig.peers.a as ScriptedTransport).showsHeld = false;
      await rig.walked();
      for (const number of [1, 2]) await rig.spillway.accept(instance(1, number));
      await until(rig.clock, () => rig.peers.a?.held.size === 2);
      return rig;
    },
  },
  {
    name: 'one instance of two in quarantine',
    says: /1 study \(.*\) stand in quarantine/,
    rig: async () => {
      const rig = await openRig({ store: roomFor(2) });
      (rig.peers.a as ScriptedTransport).respond = ({ sopInstanceUid }) =>
        sopInstanceUid.endsWith('2') ? { kind: 'refused', reason: '0122', mayRetry: false } : { kind: 'stored' };
      await rig.walked();
      for (const number of [1, 2]) await rig.spillway.accept(instance(1, number));
      await rig.drain();
      expect((await rig.spillway.status()).destinations[0]).toMatchObject({ verified: 1, quarantined: 1 });
      return rig;
    },
  },
  {
    name: 'discarded at a destination that is in use again',
    says: /1 study \(.*\) stand in quarantine or were discarded/,
    rig: async () => {
      const store = roomFor(2);
      const first = await openRig({ store }, { names: ['a', 'b'] });
      (first.peers.b as ScriptedTransport).reachable = false;
      for (const number of [1, 2]) await first.spillway.accept(instance(1, number));
      await until(first.clock, async () => (await first.spillway.status()).destinations[0]?.verified === 2);
      await first.spillway.retireDestination({ id: 'b', reason: 'replaced', by: 'test' });
      await first.close();
      const rig = await openRig({ store }, { names: ['a', 'b'], clock: first.clock });
      await rig.walked();
      return rig;
    },
  },
  {
    name: 'delivered nowhere',
    says: /1 study \(.*\) are verified at no destination/,
    rig: async () => {
      const rig = await openRig({ store: roomFor(2), route: () => [] });
      await rig.walked();
      for (const number of [1, 2]) await rig.spillway.accept(instance(1, number));
      return rig;
    },
  },
  {
    name: 'verified at none but a retired destination',
    says: /1 study \(.*\) are verified at no destination/,
    rig: async () => {
      const rig = await openRig({ store: roomFor(2) });
      await rig.walked();
      for (const number of [1, 2]) await rig.spillway.accept(instance(1, number));
      await rig.drain();
      await rig.spillway.retireDestination({ id: 'a', reason: 'replaced', by: 'test' });
      return rig;
    },
  },
  {
    name: 'one instance of two known from its file alone',
    says: /1 study \(.*\) are verified at no destination/,
    rig: async () => {
      const store = roomFor(2);
      const first = await openRig({ store });
      await first.spillway.accept(instance(1, 1));
      const { identity, digest, arrivalId } = await first.spillway.accept(instance(1, 2));
      await first.drain();
      await first.close();
      // Its row is lost: it is put under another arrival id into a store that never knew it.
      const lost = roomFor(2);
      const opened = await lost.open();
      const writer = await opened.blobs.create();
      await writer.write(instance(1, 2));
      await writer.place({ identity, digest, arrivalId });
      await writer.release();
      await opened.close();
      const rig = await openRig({ store: lost }, { clock: first.clock });
      await rig.walked();
      await rig.spillway.accept(instance(1, 1));
      await rig.drain();
      expect((await rig.spillway.status()).storage).toMatchObject({ instances: 2, unconfirmed: 1 });
      return rig;
    },
  },
  {
    name: 'verified by less than is asked for',
    says: /1 study \(.*\) are verified by less than retention.evidence asks for/,
    rig: async () => {
      const rig = await openRig({ store: roomFor(2), retention: { evidence: 'found' } });
      await rig.walked();
      for (const number of [1, 2]) await rig.spillway.accept(instance(1, number));
      await rig.drain();
      return rig;
    },
  },
  {
    name: 'with a further version that is not proven',
    says: /1 study \(.*\) (wait for a destination|stand in quarantine)/,
    rig: async () => {
      const rig = await openRig({ store: roomFor(2) }, { verify: 'found' });
      (rig.peers.a as ScriptedTransport).replaces = false;
      await rig.walked();
      await rig.spillway.accept(instance(1, 1));
      await rig.drain();
      expect((await rig.spillway.accept(instance(1, 1, 7))).outcome).toBe('version');
      await until(rig.clock, () => (rig.peers.a?.requests.length ?? 0) > 1);
      return rig;
    },
  },
];

test.each(BLOCKED)('what may not go stays, however full it is: $name', async ({ says, rig: make }) => {
  const rig = await make();
  const message = await refusalOf(rig);
  expect(message).toMatch(/maxBytes/);
  expect(message).toMatch(says);
  // Time and every occasion change nothing.
  for (let day = 0; day < 40; day += 1) {
    rig.clock.advance(DAY_MS);
    await refusalOf(rig);
  }
  const { storage } = await rig.spillway.status();
  expect(storage).toMatchObject({ instances: 2, bytes: 2 * INSTANCE_BYTES, fullBecause: expect.stringMatching(says) });
  expect(rig.full).toEqual([expect.stringMatching(says)]);
  expect(rig.evicted).toEqual([]);
  expect(rig.faults).toEqual([]);
});

test('once its destination is back, a full store makes room by itself, and says both once', async () => {
  const rig = await openRig({ store: roomFor(4) });
  const peer = rig.peers.a as ScriptedTransport;
  peer.reachable = false;
  await rig.walked();
  for (const study of [1, 2, 3, 4]) await rig.spillway.accept(instance(study));
  for (let attempt = 0; attempt < 5; attempt += 1) await refusalOf(rig);
  expect(rig.full).toHaveLength(1);
  peer.reachable = true;
  await rig.drain();
  expect(peer.held.size).toBe(4);
  rig.clock.advance(1_000);
  await rig.spillway.accept(instance(5));
  expect(rig.full).toEqual([expect.stringMatching(/4 studies .* wait for a destination/), null]);
  expect((await rig.spillway.status()).storage.fullBecause).toBe(null);
  expect(rig.evicted[0]).toBe(`${studyUid(1)} inside-window`);
  const kinds = [];
  for await (const { kind } of rig.spillway.log()) if (kind === 'full') kinds.push(kind);
  expect(kinds).toEqual(['full']);
});

test('a destination that is retired while it is down is not one that is down', async () => {
  const rig = await openRig({ store: roomFor(200) }, { names: ['a', 'b'] });
  (rig.peers.b as ScriptedTransport).reachable = false;
  await rig.walked();
  await rig.spillway.accept(instance(1));
  await until(rig.clock, async () => (await rig.spillway.status()).destinations[1]?.health.phase === 'down');
  await rig.spillway.retireDestination({ id: 'b', reason: 'replaced', by: 'test' });
  for (let study = 2; study <= 200; study += 1) await rig.spillway.accept(instance(study));
  await rig.drain();
  // Less than a hundredth is left, and room is made although nobody is refused.
  rig.clock.advance(1_000);
  await rig.spillway.accept(instance(1));
  await rig.spillway.accept(instance(1, 2));
  await until(rig.clock, () => rig.evicted.length > 0);
});

test('inside the window nothing goes ahead of need while a destination is down, and before a refusal the oldest does', async () => {
  const store = memoryStore({ maxBytes: 3 * INSTANCE_BYTES + 10 });
  const rig = await openRig({ store, route: (_, source) => [source ?? 'a'] }, { names: ['a', 'b'] });
  (rig.peers.b as ScriptedTransport).reachable = false;
  await rig.walked();
  await rig.spillway.accept(instance(3), { source: 'b' });
  await until(rig.clock, async () => (await rig.spillway.status()).destinations[1]?.health.phase === 'down');
  for (const study of [1, 2]) {
    await rig.spillway.accept(instance(study), { source: 'a' });
    rig.clock.advance(1_000);
  }
  await until(rig.clock, async () => (await rig.spillway.status()).destinations[0]?.verified === 2);
  rig.clock.advance(DAY_MS);
  // Too little is left, and it is time to look.
  expect((await rig.spillway.accept(instance(3), { source: 'b' })).outcome).toBe('identical');
  await rig.spillway.status();
  expect(rig.evicted).toEqual([]);
  await rig.spillway.accept(instance(4), { source: 'b' });
  await rig.spillway.accept(instance(5), { source: 'b' });
  expect(rig.evicted).toEqual([`${studyUid(1)} inside-window`]);
});

test('past maxAgeMs verified studies go, though there is room; others never', async () => {
  const rig = await openRig({
    store: memoryStore(),
    retention: { maxAgeMs: 10 * DAY_MS },
    route: (_, source) => (source === null ? ['a'] : []),
  });
  await rig.walked();
  await rig.spillway.accept(instance(1));
  await rig.spillway.accept(instance(2), { source: 'kept only' });
  await rig.drain();
  rig.clock.advance(5 * DAY_MS);
  await rig.spillway.accept(instance(3));
  await rig.drain();
  rig.clock.advance(4 * DAY_MS);
  expect(await heldOf(rig.spillway, 1)).toBe(1);
  rig.clock.advance(DAY_MS + 600_000);
  await until(rig.clock, async () => (await heldOf(rig.spillway, 1)) === 0);
  expect(rig.evicted).toEqual([`${studyUid(1)} age`]);
  rig.clock.advance(30 * DAY_MS);
  await until(rig.clock, async () => (await heldOf(rig.spillway, 3)) === 0);
  expect(await heldOf(rig.spillway, 2)).toBe(1);
});

test('nothing goes before the store was walked through, and a refusal says so', async () => {
  const store = roomFor(2);
  const first = await openRig({ store });
  for (const study of [1, 2]) await first.spillway.accept(instance(study));
  await first.drain();
  await first.close();
  let goOn = () => {};
  const gate = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  const slow: Store = {
    open: async () =>
      interceptStore(await store.open(), async (call, action) => {
        if (call === 'catalog.unknownArrivals') await gate;
        return action();
      }),
  };
  const rig = await openRig({ store: slow }, { clock: first.clock });
  expect(await refusalOf(rig)).toMatch(/still being walked through/);
  rig.clock.advance(60 * DAY_MS);
  expect(await refusalOf(rig)).toMatch(/still being walked through/);
  goOn();
  await rig.walked();
  rig.clock.advance(1_000);
  await rig.spillway.accept(instance(3));
  expect(rig.evicted.length).toBeGreaterThan(0);
});

test.each([
  ['the largest first', (a: { bytes: number }, b: { bytes: number }) => b.bytes - a.bytes, 2],
  [
    'one that throws, which is a fault and leaves the oldest first',
    () => {
      throw new Error('no order');
    },
    1,
  ],
])('retention.order: %s', async (_, order, goes) => {
  const rig = await openRig({ store: roomFor(4), retention: { order } });
  await rig.walked();
  await rig.spillway.accept(instance(1));
  rig.clock.advance(1_000);
  for (const number of [1, 2]) await rig.spillway.accept(instance(2, number));
  // Both may go before anything has to.
  await rig.drain();
  rig.clock.advance(1_000);
  await rig.spillway.accept(instance(3));
  await rig.drain();
  await rig.spillway.accept(instance(4));
  await rig.spillway.accept(instance(5));
  expect(rig.evicted[0]).toBe(`${studyUid(goes)} inside-window`);
  expect(rig.faults.map(String)).toEqual(goes === 1 ? expect.arrayContaining(['Error: no order']) : []);
});

test('64 senders at a full store do not hammer the catalog', async () => {
  const { store, calls } = counted(roomFor(2));
  const rig = await openRig({ store });
  (rig.peers.a as ScriptedTransport).reachable = false;
  await rig.walked();
  for (const study of [1, 2]) await rig.spillway.accept(instance(study));
  await until(rig.clock, async () => (await rig.spillway.status()).destinations[0]?.health.phase === 'down');
  calls.clear();
  for (let second = 0; second < 3; second += 1) {
    for (let round = 0; round < 5; round += 1) {
      await Promise.all(Array.from({ length: 64 }, (_, sender) => refusalOf(rig, instance(10 + sender))));
    }
    rig.clock.advance(1_000);
  }
  // 960 refusals, in three seconds: each second looks once.
  for (const call of ['evictable', 'evictionBlocks', 'evictions', 'beginEviction']) {
    expect(calls.get(`catalog.${call}`) ?? 0, call).toBeLessThanOrEqual(6);
  }
  expect(calls.get('catalog.accept')).toBe(undefined);
  expect(calls.get('catalog.appendLog')).toBe(1);
});

test.each([true, false])(
  'a large instance has room made for it, whether its length is told (%s) or not',
  async (isTold) => {
    const large = syntheticInstance({ frames: 24, rows: 1024, columns: 1024, seed: 5, studyInstanceUid: '1.2.5' });
    expect(large.byteLength).toBeGreaterThan(48 * MIB);
    const directory = await temporaryDirectory();
    const rig = await openRig({ store: fileStore({ directory, maxBytes: 56 * MIB, minFreeBytes: 0 }) });
    await rig.walked();
    const small = (seed: number) =>
      syntheticInstance({ rows: 2048, columns: 2048, seed, studyInstanceUid: `1.3.${seed}` });
    for (let seed = 1; seed <= 6; seed += 1) {
      await rig.spillway.accept(small(seed));
      rig.clock.advance(1_000);
    }
    await rig.drain();
    await rig.spillway.accept(
      (async function* () {
        for (let at = 0; at < large.byteLength; at += MIB) yield large.subarray(at, at + MIB);
      })(),
      isTold ? { expectedBytes: large.byteLength } : {},
    );
    expect(rig.evicted.length).toBeGreaterThan(2);
    const { storage } = await rig.spillway.status();
    expect(storage.bytes).toBeLessThanOrEqual(56 * MIB);
    expect(await readdir(join(directory, 'incoming'))).toEqual([]);
    expect(rig.faults).toEqual([]);
  },
  60_000,
);

test('for one that would not fit even so, nothing goes', async () => {
  const rig = await openRig({ store: roomFor(4) });
  await rig.walked();
  for (const study of [1, 2]) await rig.spillway.accept(instance(study));
  await rig.drain();
  const refusal: unknown = await rig.spillway.accept(instance(3), { expectedBytes: 1024 ** 3 }).catch((error) => error);
  expect(refusal).toMatchObject({
    code: 'SPILLWAY_STORE_FULL',
    message: expect.stringMatching(/got one of 1.0 GiB, with room for .* that may be evicted/),
  });
  expect(rig.evicted).toEqual([]);
  expect((await rig.spillway.status()).storage).toMatchObject({ instances: 2, fullBecause: null });
});

test('STOW at a full store: 507 and A700 from end to end, nothing is left, and the same request succeeds once there is room', async () => {
  const directory = await temporaryDirectory();
  const rig = await openRig({ store: fileStore({ directory, maxBytes: 2 * INSTANCE_BYTES, minFreeBytes: 0 }) });
  const peer = rig.peers.a as ScriptedTransport;
  peer.reachable = false;
  await rig.walked();
  for (const study of [1, 2]) await rig.spillway.accept(instance(study));
  const handle = createStowHandler(rig.spillway);
  const request = () => post([instance(3, 1), instance(3, 2)]);
  const refused = await answerOf(await handle(request()));
  expect(refused).toMatchObject({ status: 507, stored: [] });
  expect(refused.retryAfter).not.toBe(null);
  expect(JSON.stringify(refused.failed)).toContain(String(0xa700));
  expect(await readdir(join(directory, 'incoming'))).toEqual([]);
  expect((await rig.spillway.status()).storage).toMatchObject({ instances: 2 });
  peer.reachable = true;
  await rig.drain();
  rig.clock.advance(1_000);
  const stored = await answerOf(await handle(request()));
  expect(stored).toMatchObject({ status: 200, failed: [] });
  expect(stored.stored).toHaveLength(2);
});
