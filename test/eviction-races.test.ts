import { expect, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import type { OpenStore, Store } from '../src/storage/store.ts';
import { type Intercept, interceptStore } from '../src/testing/intercept.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';
import { INSTANCE_BYTES, instance, studyUid } from './support/equal-instances.ts';
import { DAY_MS, openRig } from './support/retention-rig.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';
import { until } from './support/virtual-time.ts';

const turns = async (count: number) => {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

/** A store whose calls go through whatever stands in `hook`, and the opening that is under it. */
function hooked(store: Store) {
  const state: { hook: Intercept; opened: OpenStore | undefined } = {
    hook: (_, action) => action(),
    opened: undefined,
  };
  return {
    state,
    store: {
      async open() {
        state.opened = await store.open();
        return interceptStore(state.opened, (call, action) => state.hook(call, action));
      },
    } satisfies Store,
  };
}

const STORES = [
  ['memoryStore', async () => memoryStore({ maxBytes: 4 * INSTANCE_BYTES })],
  [
    'fileStore',
    async () => fileStore({ directory: await temporaryDirectory(), maxBytes: 4 * INSTANCE_BYTES, minFreeBytes: 0 }),
  ],
] as const;

/** What is acknowledged has its bytes, unless its study was evicted since. */
async function assertBytes(opened: OpenStore, study: number, bytes: Uint8Array): Promise<string> {
  const { header, digest } = await readAndDigest([bytes]);
  expect(header.identity.studyInstanceUid).toBe(studyUid(study));
  const standing = await opened.catalog.findVersion({ ...header.identity, digest });
  if (standing?.presence === 'kept') {
    expect((await readAndDigest(opened.blobs.read(standing.blobRef))).digest).toBe(digest);
  }
  return standing?.presence ?? 'unknown';
}

test.each(STORES)(
  '%s: an eviction that was broken off after the files had gone does not take what comes again',
  async (_, make) => {
    const { store, state } = hooked(await make());
    const first = await openRig({ store });
    await first.walked();
    await first.spillway.accept(instance(1));
    await first.drain();
    await first.close();
    // As a crash leaves it: the rows say so, the bytes are gone, and that they are was not recorded.
    const broken = await store.open();
    const eviction = await broken.catalog.beginEviction({
      studyInstanceUid: studyUid(1),
      evidence: 'answered',
      receivedBefore: Number.MAX_SAFE_INTEGER,
      at: 0,
    });
    for (const ref of eviction?.blobRefs ?? []) await broken.blobs.remove(ref);
    await broken.close();
    // The worst moment: what comes again is placed before the files are removed, and committed after that is recorded.
    let isPlaced = false;
    let isEnded = false;
    state.hook = async (call, action) => {
      for (let turn = 0; turn < 5_000; turn += 1) {
        if (
          call === 'catalog.evictions'
            ? turn > 20
            : call === 'blobs.remove'
              ? isPlaced
              : call !== 'catalog.accept' || isEnded
        )
          break;
        await turns(1);
      }
      const result = await action();
      isPlaced ||= call === 'writer.place';
      isEnded ||= call === 'catalog.endEviction';
      return result;
    };
    const { spillway, walked, drain } = await openRig({ store }, { peers: first.peers, clock: first.clock });
    const receipt = await spillway.accept(instance(1));
    expect(receipt.outcome).toBe('restored');
    await walked();
    expect(await assertBytes(state.opened as OpenStore, 1, instance(1))).toBe('kept');
    await drain();
    expect((await spillway.status()).storage).toMatchObject({ instances: 1, missing: 0 });
  },
);

test.each(STORES)(
  '%s: an instance that comes again while its study is evicted is never acknowledged with nothing',
  async (name, make) => {
    const outcomes = new Map<string, number>();
    const rounds = name === 'memoryStore' ? 100 : 6;
    for (let seed = 1; seed <= rounds; seed += 1) {
      const random = seededRandom(seed);
      const { store, state } = hooked(await make());
      const rig = await openRig({ store });
      await rig.walked();
      for (const number of [1, 2, 3]) await rig.spillway.accept(instance(1, number));
      await rig.spillway.accept(instance(2));
      await rig.drain();
      // From here on every call waits for as long as the seed says.
      state.hook = async (_call, action) => {
        await turns(Math.floor(random() * 4));
        const result = await action();
        await turns(Math.floor(random() * 4));
        return result;
      };
      const again = async () => {
        await turns(Math.floor(random() * 40));
        return rig.spillway.accept(instance(1, 1 + Math.floor(random() * 3))).then(
          ({ outcome }) => outcome,
          (error) => String(error.code),
        );
      };
      // It asks for room, so that study 1 goes, while its instances come again.
      const results = await Promise.all([
        rig.spillway.accept(instance(3)).then(() => 'created'),
        again(),
        again(),
        again(),
      ]);
      state.hook = (_call, action) => action();
      for (const result of results) outcomes.set(result, (outcomes.get(result) ?? 0) + 1);
      await rig.drain();
      expect(rig.faults).toEqual([]);
      await rig.close();
      // An eviction ends before a store is closed.
      const opened = await store.open();
      for (const number of [1, 2, 3]) {
        const presence = await assertBytes(opened, 1, instance(1, number));
        expect(['kept', 'evicted'], `seed ${seed}`).toContain(presence);
      }
      expect(['kept', 'evicted'], `seed ${seed}`).toContain(await assertBytes(opened, 3, instance(3)));
      await opened.close();
    }
    // The only refusal is that there is no room; nothing fails for having come at the wrong moment.
    expect(
      [...outcomes.keys()].filter((outcome) => !/^(created|identical|restored|SPILLWAY_STORE_FULL)$/.test(outcome)),
    ).toEqual([]);
    expect(outcomes.get('restored') ?? 0).toBeGreaterThan(0);
  },
  120_000,
);

test.each(STORES)(
  '%s: one that finds its file gone for being evicted waits for the end of that, and others are not refused for it',
  async (_, make) => {
    const { store, state } = hooked(await make());
    const rig = await openRig({ store, retention: { maxAgeMs: DAY_MS } });
    await rig.walked();
    await rig.spillway.accept(instance(1));
    await rig.drain();
    let hasLooked = false;
    let isRemoved = false;
    let isPlaced = false;
    state.hook = async (call, action) => {
      const isFirstLook = call === 'catalog.findVersion' && !hasLooked;
      if (call === 'blobs.remove') for (let turn = 0; !hasLooked && turn < 500_000; turn += 1) await turns(1);
      if (call === 'catalog.endEviction') for (let turn = 0; !isPlaced && turn < 20_000; turn += 1) await turns(1);
      const result = await action();
      if (isFirstLook) {
        hasLooked = true;
        for (let turn = 0; !isRemoved && turn < 500_000; turn += 1) await turns(1);
      }
      isRemoved ||= call === 'blobs.remove';
      isPlaced ||= call === 'writer.place';
      return result;
    };
    const again = rig.spillway.accept(instance(1));
    // Its row was kept when it was looked for.
    while (!hasLooked) await turns(1);
    rig.clock.advance(DAY_MS + 600_000);
    const [receipt, other] = await Promise.all([again, rig.spillway.accept(instance(2))]);
    expect([receipt.outcome, other.outcome]).toEqual(['restored', 'created']);
    state.hook = (_call, action) => action();
    // It came before the time jumped, and may go again.
    expect(['kept', 'evicted']).toContain(await assertBytes(state.opened as OpenStore, 1, instance(1)));
    await rig.drain();
    expect(rig.evicted[0]).toBe(`${studyUid(1)} age`);
    expect(rig.faults).toEqual([]);
  },
);

test('an eviction whose files could not be removed is gone on with, and stops neither intake nor others for ever', async () => {
  const { store, state } = hooked(memoryStore({ maxBytes: 3 * INSTANCE_BYTES }));
  const rig = await openRig({ store });
  await rig.walked();
  let isBroken = true;
  state.hook = async (call, action) => {
    if (call === 'blobs.remove' && isBroken) throw new Error('EIO');
    return action();
  };
  for (const study of [1, 2, 3]) {
    await rig.spillway.accept(instance(study));
    rig.clock.advance(1_000);
  }
  await rig.drain();
  await expect(rig.spillway.accept(instance(4))).rejects.toThrow('EIO');
  isBroken = false;
  await until(rig.clock, () =>
    rig.spillway.accept(instance(4)).then(
      () => true,
      () => false,
    ),
  );
  expect(await state.opened?.catalog.evictions({ limit: 10 })).toEqual([]);
  expect(await assertBytes(state.opened as OpenStore, 1, instance(1))).toBe('evicted');
  expect((await rig.spillway.accept(instance(1))).outcome).toBe('restored');
});
