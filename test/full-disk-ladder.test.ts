import { readdir, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { syntheticInstance } from '../src/testing/synthetic.ts';
import { VirtualClock } from '../src/testing/virtual-clock.ts';
import { INSTANCE_BYTES, instance } from './support/equal-instances.ts';
import { openRig, START } from './support/retention-rig.ts';
import type { ScriptedTransport } from './support/scripted-transport.ts';
import { SMALL_DISK_BYTES, smallDisk } from './support/small-disk.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const MIB = 1024 * 1024;
const SENDERS = 4;
const slice = (seed: number) =>
  syntheticInstance({ rows: 256, columns: 512, seed, studyInstanceUid: `1.2.${Math.floor(seed / 5)}` });
const SLICE_BYTES = slice(1).byteLength;
/** With the file system's own blocks. */
const IN_FLIGHT_BYTES = SENDERS * (SLICE_BYTES + 64 * 1024);

/** What the catalog grows by while instances are in flight: the reserve is for it. */
const CATALOG_BYTES = MIB;

/** Bytes of the files below a directory. What goes while it is looked at is not there. */
async function bytesBelow(directory: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(directory, { withFileTypes: true }).catch(() => [])) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) bytes += await bytesBelow(path);
    else bytes += (await stat(path).catch(() => null))?.size ?? 0;
  }
  return bytes;
}

/** Bytes of the images, and what is free on their file system. */
async function measured(directory: string): Promise<{ images: number; free: number }> {
  const images = await bytesBelow(join(directory, 'studies'));
  const { bavail, bsize } = await statfs(directory);
  return { images, free: bavail * bsize };
}

const LIMITS = [
  { minFreeBytes: 6 * MIB },
  { maxBytes: 8 * MIB, minFreeBytes: 0 },
  { maxBytes: 8 * MIB, minFreeBytes: 6 * MIB },
  { maxBytes: 14 * MIB, minFreeBytes: 8 * MIB },
] as const;
const CASES = (['tmpfs', 'ext4'] as const).flatMap((kind) => LIMITS.map((limits) => ({ kind, limits, ...limits })));

test.each(CASES)(
  '$kind, maxBytes $maxBytes, minFreeBytes $minFreeBytes: limits hold on the real disk, its backlog drains, and it makes room by itself',
  async ({ kind, limits }, ...rest) => {
    // The context comes last.
    const context = rest.at(-1) as never;
    const directory = join(await smallDisk(context, kind), 'store');
    const { maxBytes = Number.POSITIVE_INFINITY, minFreeBytes }: { maxBytes?: number; minFreeBytes: number } = limits;
    const rig = await openRig({ store: fileStore({ directory, ...limits }) });
    const peer = rig.peers.a as ScriptedTransport;
    await rig.walked();
    const assertLimits = async () => {
      const { images, free } = await measured(directory);
      expect(images).toBeLessThanOrEqual(maxBytes + IN_FLIGHT_BYTES);
      expect(free).toBeGreaterThanOrEqual(minFreeBytes - IN_FLIGHT_BYTES - CATALOG_BYTES);
    };
    peer.reachable = false;
    const accepted = new Map<string, string>();
    let seed = 0;
    let refusals = 0;
    const send = async () => {
      seed += 1;
      try {
        const { digest, identity } = await rig.spillway.accept(slice(seed));
        accepted.set(identity.sopInstanceUid, digest);
      } catch (error) {
        refusals += 1;
        expect(error).toMatchObject({
          code: 'SPILLWAY_STORE_FULL',
          message: expect.stringMatching(/wait for a destination/),
        });
      }
    };
    while (refusals < 3 * SENDERS) {
      await Promise.all(Array.from({ length: SENDERS }, send));
      await assertLimits();
      expect(seed).toBeLessThan(500);
    }
    expect(accepted.size).toBeGreaterThan(20);
    expect(rig.full).toHaveLength(1);
    expect(await readdir(join(directory, 'incoming'))).toEqual([]);
    expect((await rig.spillway.status()).storage).toMatchObject({
      instances: accepted.size,
      bytes: (await measured(directory)).images,
    });

    peer.reachable = true;
    await rig.drain();
    expect(new Map([...peer.held].map(([uid, { digest }]) => [uid, digest]))).toEqual(accepted);
    expect((await rig.spillway.status()).destinations[0]).toMatchObject({ verified: accepted.size, quarantined: 0 });
    rig.clock.advance(1_000);
    refusals = 0;
    for (let round = 0; round < 15; round += 1) {
      await Promise.all(Array.from({ length: SENDERS }, send));
      await assertLimits();
      await rig.drain();
      rig.clock.advance(1_000);
    }
    expect(refusals).toBe(0);
    expect(rig.full.at(-1)).toBe(null);
    expect(rig.full).toHaveLength(2);
    expect(rig.evicted.length).toBeGreaterThan(5);
    expect(rig.faults).toEqual([]);
    await rig.close();
    const store = await fileStore({ directory, ...limits }).open();
    const versions = await store.catalog.versions({ limit: 1_000 });
    for (const { blobRef, digest } of versions) {
      expect((await readAndDigest(store.blobs.read(blobRef))).digest).toBe(digest);
    }
    const { images } = await measured(directory);
    expect(images).toBe(versions.reduce((total, { bytes }) => total + bytes, 0));
    await store.close();
  },
  60_000,
);

test('an instance larger than the reserve, for which the disk itself is too full, is taken when it comes again', async (context) => {
  const directory = join(await smallDisk(context, 'tmpfs'), 'store');
  const rig = await openRig({ store: fileStore({ directory, minFreeBytes: 2 * MIB }) });
  await rig.walked();
  for (let seed = 1; rig.evicted.length === 0; seed += 1) {
    await rig.spillway.accept(slice(seed));
    await rig.drain();
    rig.clock.advance(1_000);
    expect(seed).toBeLessThan(500);
  }
  const large = syntheticInstance({ rows: 2048, columns: 1792, seed: 9_999, studyInstanceUid: '1.3' });
  let refusals = 0;
  for (;;) {
    const receipt = await rig.spillway.accept(large).catch((error) => error);
    if (receipt.outcome === 'created') break;
    expect(receipt).toMatchObject({ code: 'SPILLWAY_STORE_FULL' });
    expect(await readdir(join(directory, 'incoming'))).toEqual([]);
    refusals += 1;
    expect(refusals).toBeLessThan(5);
    rig.clock.advance(1_000);
  }
  expect(refusals).toBeGreaterThan(0);
  await rig.drain();
  expect(rig.faults).toEqual([]);
}, 60_000);

test('limits that do not fit the disk are refused at opening, and nothing is made', async (context) => {
  const disk = await smallDisk(context, 'ext4');
  const before = await readdir(disk);
  const open = (limits: { maxBytes?: number; minFreeBytes: number }) =>
    fileStore({ directory: disk, ...limits }).open();
  for (const limits of [
    { minFreeBytes: 2 * SMALL_DISK_BYTES },
    { maxBytes: 2 * SMALL_DISK_BYTES, minFreeBytes: 0 },
    { maxBytes: 0.6 * SMALL_DISK_BYTES, minFreeBytes: 0.6 * SMALL_DISK_BYTES },
  ]) {
    const rounded = Object.fromEntries(Object.entries(limits).map(([name, bytes]) => [name, Math.floor(bytes)]));
    await expect(open(rounded as typeof limits)).rejects.toMatchObject({
      code: 'SPILLWAY_OPTION_INVALID',
      message: expect.stringMatching(/fit together on the file system/),
    });
  }
  expect((await readdir(disk)).filter((name) => !/^(lock|spillway\.json)$/.test(name))).toEqual(before);
  await (await open({ maxBytes: 8 * MIB, minFreeBytes: 4 * MIB })).close();
});

test('a store whose catalog was lost counts what is on the disk once it was walked through: maxBytes holds', async () => {
  const directory = await temporaryDirectory();
  const store = fileStore({ directory, maxBytes: 4 * INSTANCE_BYTES, minFreeBytes: 0 });
  const clock = new VirtualClock(START);
  const first = await openRig({ store }, { clock });
  for (const study of [1, 2, 3]) await first.spillway.accept(instance(study));
  await first.close();
  for (const name of ['catalog.sqlite', 'catalog.sqlite-wal', 'catalog.sqlite-shm', 'snapshots']) {
    await rm(join(directory, name), { recursive: true, force: true });
  }
  const rig = await openRig({ store }, { clock });
  (rig.peers.a as ScriptedTransport).reachable = false;
  await rig.walked();
  const room = async () => (await rig.spillway.status()).storage.room.bytes;
  expect(await room()).toBe(INSTANCE_BYTES);
  await rig.spillway.accept(instance(4));
  expect(await room()).toBe(0);
  await expect(rig.spillway.accept(instance(5))).rejects.toMatchObject({ code: 'SPILLWAY_STORE_FULL' });
  // And what somebody has deleted takes no room any more.
  const [blob] = await readdir(join(directory, 'studies'));
  await rm(join(directory, 'studies', blob as string), { recursive: true });
  expect(await rig.spillway.verify()).toMatchObject({ missing: 1 });
  expect(await room()).toBe(INSTANCE_BYTES);
});
