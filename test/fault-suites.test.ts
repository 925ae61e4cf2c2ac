// The suites for faults find stores that do not keep their promises.

import { expect, test } from 'vitest';
import { DirectoryBlobStore } from '../src/storage/directory/directory-blob-store.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import type { OpenStore, Store } from '../src/storage/store.ts';
import { intakeFaultContract } from '../src/testing/intake-fault-contract.ts';
import { type Intercept, interceptStore } from '../src/testing/intercept.ts';
import { powerLossContract } from '../src/testing/power-loss-contract.ts';

type Run = () => Promise<void>;

/** The names of the tests that fail. */
async function failing(register: (test: (name: string, run: Run) => void) => void): Promise<string[]> {
  const tests: [string, Run][] = [];
  register((name, run) => tests.push([name, run]));
  const failed: string[] = [];
  for (const [name, run] of tests) await run().catch(() => failed.push(name));
  return failed;
}

const faulty = (change: (opened: OpenStore) => OpenStore) => {
  const makeStore = async () => {
    const store = memoryStore();
    const lying: Store = { open: async () => change(await store.open()) };
    return { store: lying, dispose: async () => {} };
  };
  return failing((register) => intakeFaultContract({ test: register, makeStore }));
};

/** A store in which a call does nothing, and says that it has. */
const without = (call: string) => (opened: OpenStore) => {
  const nothing: Intercept = async (name, action) => (name === call ? (undefined as never) : action());
  return interceptStore(opened, nothing);
};

test('a store that keeps its promises fails none', async () => {
  expect(await faulty((opened) => opened)).toEqual([]);
});

test('blobs that an abort leaves are found', async () => {
  const failed = await faulty(without('writer.abort'));
  expect(failed).toContain('intake: writer.place fails after it is done (SPILLWAY_STORE_FULL): refused, nothing stays');
  expect(failed).toContain(
    'intake: writer.write fails before it is done (SPILLWAY_STORE_FAILED): refused, nothing stays',
  );
});

test('blobs in flight that a recovery leaves are found', async () => {
  const failed = await faulty(without('blobs.recover'));
  expect(failed).toContain(
    'intake: catalog.accept fails before it is done: refused, and the blob is left to the next opening',
  );
});

test('an abort that takes what was acknowledged is found', async () => {
  const failed = await faulty((opened) => ({
    ...opened,
    blobs: {
      create: async () => {
        const writer = await opened.blobs.create();
        const abort = async () => {
          for (const { blobRef } of await opened.catalog.versions({ limit: 10 })) await opened.blobs.remove(blobRef);
          await writer.abort();
        };
        return {
          write: (chunk) => writer.write(chunk),
          beginSync: () => writer.beginSync(),
          place: (at) => writer.place(at),
          release: () => writer.release(),
          abort,
        };
      },
      read: (ref) => opened.blobs.read(ref),
      has: (ref) => opened.blobs.has(ref),
      setAside: (ref) => opened.blobs.setAside(ref),
      room: () => opened.blobs.room(),
      list: () => opened.blobs.list(),
      remove: (ref) => opened.blobs.remove(ref),
      recover: (isKnown) => opened.blobs.recover(isKnown),
    },
  }));
  expect(failed.length).toBeGreaterThan(5);
});

test('a recovery that leaves what was in flight is found by the loss of power, and the seed is named', async () => {
  const messages: string[] = [];
  await failing((register) =>
    powerLossContract({
      test: (name, run) => register(name, () => run().catch((error) => void messages.push(String(error)))),
      openBlobs: async (directory, fileSystem) => {
        const blobs = await DirectoryBlobStore.open(directory, fileSystem);
        blobs.recover = async () => (await fileSystem.list(`${directory}/incoming`)).length;
        return blobs;
      },
      histories: 100,
    }),
  );
  expect(messages).toEqual([expect.stringMatching(/seed \d+: \d+ blobs are left in flight/)]);
});

test('an order of writing that leaves nothing out fails where a left-out sync is to be found', async () => {
  const failed = await failing((register) =>
    powerLossContract({
      test: register,
      openBlobs: (directory, fileSystem) => DirectoryBlobStore.open(directory, fileSystem),
      histories: 1,
      syncs: { nothing: () => false },
    }),
  );
  expect(failed).toEqual(['power loss: the sync of nothing left out is found']);
});
