import { spawnSync } from 'node:child_process';
import { readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import type { Clock } from '../src/domain/clock.ts';
import type { Receipt } from '../src/domain/receipt.ts';
import { openSpillway, type Spillway } from '../src/spillway.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { startPacs } from '../src/testing/pacs.ts';
import { dicomwebDestination } from '../src/transports/dicomweb/destination.ts';
import { bundledChild } from './support/bundled-child.ts';
import { LoopDisk } from './support/loop-disk.ts';
import { numberedInstance } from './support/numbered-instance.ts';
import { ScriptedTransport } from './support/scripted-transport.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const crowdedChild = bundledChild('crowded-child');

/** Pauses of half a minute before a refusal is tried again are for hospitals; time runs faster here. */
const TIMES_FASTER = 100;
const fastClock: Clock = {
  now: () => OPENED_AT + (Date.now() - OPENED_AT) * TIMES_FASTER,
  schedule(delayMs, callback) {
    const timer = setTimeout(callback, delayMs / TIMES_FASTER);
    return () => clearTimeout(timer);
  },
};
const OPENED_AT = Date.now();

const storeIn = (directory: string) => fileStore({ directory, minFreeBytes: 0 });
const range = (first: number, count: number) => Array.from({ length: count }, (_, index) => first + index);

async function filesIn(directory: string): Promise<readonly string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map(({ name, parentPath }) => join(parentPath, name));
}

/** Opens the store as ever: it holds these, each equal, and nothing else. */
async function expectHolds(directory: string, receipts: readonly Receipt[]): Promise<void> {
  await (await openSpillway({ store: storeIn(directory), destinations: [] })).close();
  const { catalog, blobs, close } = await storeIn(directory).open();
  const versions = await catalog.versions({ limit: 1_000 });
  expect(versions.map(({ arrivalId }) => arrivalId)).toEqual(receipts.map(({ arrivalId }) => arrivalId).sort());
  for (const { blobRef, digest } of versions) {
    expect((await readAndDigest(blobs.read(blobRef))).digest).toBe(digest);
  }
  await close();
  expect(await filesIn(join(directory, 'studies'))).toHaveLength(versions.length);
  expect(await filesIn(join(directory, 'incoming'))).toEqual([]);
}

/** Accepts all at once; every refusal has a code. */
async function acceptAll(spillway: Spillway, numbers: readonly number[]) {
  const receipts: Receipt[] = [];
  const refusals: unknown[] = [];
  await Promise.all(
    numbers.map((number) =>
      spillway.accept(numberedInstance(number)).then(
        (receipt) => receipts.push(receipt),
        (error) => refusals.push(error),
      ),
    ),
  );
  for (const refusal of refusals) expect(refusal).toMatchObject({ code: expect.stringMatching(/^SPILLWAY_STORE_/) });
  return { receipts, refusals };
}

describe('intake', () => {
  test('the kernel finds an error and makes the file system read-only: refusals, then it goes on where it is mounted anew', async (context) => {
    const disk = await LoopDisk.make(context, 'ext4');
    disk.unmount();
    disk.mount('errors=remount-ro');
    const directory = join(disk.path, 'store');
    const spillway = await openSpillway({ store: storeIn(directory), destinations: [] });
    const before = await acceptAll(spillway, range(0, 20));
    expect(before.refusals).toEqual([]);
    // While a file of it is open for writing, nobody can make it read-only by a command.
    expect(() => disk.remount('ro')).toThrow(/busy/);

    // Each goes on until it is refused, so that the fault meets them at every step.
    const taken = [...before.receipts];
    let next = 100;
    // A sync that meets the fault may be told success in vain, as when a file system is shut down.
    let isSure = true;
    const lane = async () => {
      for (;;) {
        next += 1;
        const { receipts, refusals } = await acceptAll(spillway, [next]);
        if (isSure) taken.push(...receipts);
        if (refusals.length > 0) return;
        expect(next).toBeLessThan(10_000);
        if (isSure && taken.length >= 50) {
          isSure = false;
          await writeFile(`/sys/fs/ext4/${disk.deviceName}/trigger_fs_error`, 'a fault of the test');
        }
      }
    };
    await Promise.all(Array.from({ length: 8 }, lane));
    const last = next;
    await spillway.close();
    disk.unmount();
    disk.mount();

    // What was refused in its commit may have been kept all the same: then it is there already.
    const again = await openSpillway({ store: storeIn(directory), destinations: [] });
    const later = await acceptAll(again, range(101, last - 100));
    await again.close();
    expect(later.refusals).toEqual([]);
    const known = new Map([...taken, ...later.receipts].map((receipt) => [receipt.arrivalId, receipt]));
    expect(known.size).toBe(20 + last - 100);
    await expectHolds(directory, [...known.values()]);
  });

  test.each(['incoming', 'studies', 'studies/1.2.1', 'studies/1.2.1/1.2.1.1'])(
    '%s is deleted beneath it: it goes on, and what comes again takes its place',
    async (folder) => {
      const directory = join(await temporaryDirectory(), 'store');
      const spillway = await openSpillway({ store: storeIn(directory), destinations: [] });
      const { receipts } = await acceptAll(spillway, range(0, 15));
      await rm(join(directory, folder), { recursive: true });
      const next = await acceptAll(spillway, range(15, 15));
      expect(next.refusals).toEqual([]);
      const again = await acceptAll(spillway, range(0, 15));
      expect(again.refusals).toEqual([]);
      await spillway.close();
      await expectHolds(directory, [...receipts, ...next.receipts]);
    },
  );

  test('what comes again takes the place of a file that was cut short', async () => {
    const directory = join(await temporaryDirectory(), 'store');
    const spillway = await openSpillway({ store: storeIn(directory), destinations: [] });
    const receipt = await spillway.accept(numberedInstance(1));
    const [file = ''] = await filesIn(join(directory, 'studies'));
    await truncate(file, receipt.bytes - 1);
    expect(await spillway.accept(numberedInstance(1))).toMatchObject({
      outcome: 'restored',
      arrivalId: receipt.arrivalId,
    });
    await spillway.close();
    await expectHolds(directory, [receipt]);
    expect(await filesIn(join(directory, 'damaged'))).toHaveLength(1);
  });

  test('few files may be open: what finds none is refused, the rest is kept, and later all is taken', async () => {
    const directory = join(await temporaryDirectory(), 'store');
    const orders = ['-c', 'ulimit -n 40; exec "$0" "$@"', process.execPath, crowdedChild(), directory];
    const { status, stdout, stderr } = spawnSync('sh', orders, { encoding: 'utf8' });
    expect(status, stderr).toBe(0);
    const lines = stdout.trim().split('\n');
    const refused = lines.filter((line) => line.startsWith('refused'));
    for (const line of refused) expect(line).toMatch(/^refused SPILLWAY_STORE_FAILED .*EMFILE/);
    expect(refused.length).toBeGreaterThan(10);
    expect(lines.filter((line) => line.startsWith('later accepted'))).toHaveLength(5);
    // The walk that follows the opening meets it too, and is begun again later.
    expect(lines.filter((line) => !/^(later )?accepted|^refused|^fault SpillwayError: .*EMFILE/.test(line))).toEqual(
      [],
    );
    const { catalog, close } = await storeIn(directory).open();
    const known = (await catalog.versions({ limit: 1_000 })).map(({ arrivalId, digest }) => `${arrivalId} ${digest}`);
    await close();
    const accepted = lines.flatMap((line) => /accepted (.*)/.exec(line)?.[1] ?? []);
    expect(known).toEqual(accepted.sort());
    expect(await filesIn(join(directory, 'studies'))).toHaveLength(accepted.length);
    expect(await filesIn(join(directory, 'incoming'))).toEqual([]);
  });
});

/** A store with a backlog that no PACS has been reached for, and what it took in. */
async function backlog() {
  const directory = join(await temporaryDirectory(), 'store');
  const transport = new ScriptedTransport();
  transport.reachable = false;
  const spillway = await openSpillway({ store: storeIn(directory), destinations: [{ id: 'pacs', transport }] });
  const { receipts } = await acceptAll(spillway, range(0, 30));
  await spillway.close();
  const files = await filesIn(join(directory, 'studies'));
  const fileOf = ({ arrivalId }: Receipt) => files.find((file) => file.includes(arrivalId)) as string;
  return { directory, receipts, fileOf };
}

/** Delivers a backlog to a PACS, and says what came of it. */
async function deliver(directory: string) {
  const pacs = await startPacs({ directory: join(await temporaryDirectory(), 'pacs') });
  onTestFinished(() => pacs.close());
  const destination = dicomwebDestination({ id: 'pacs', url: pacs.url, maxInstancesPerRequest: 4 });
  const spillway = await openSpillway({ store: storeIn(directory), destinations: [destination], clock: fastClock });
  await spillway.drained();
  const quarantined = (await Array.fromAsync(spillway.quarantined())).sort((a, b) => a.id - b.id);
  const [status] = (await spillway.status()).destinations;
  await spillway.close();
  const held = (await pacs.journal()).map(({ dataSetSha256 }) => dataSetSha256);
  return { quarantined, verified: status?.verified, held: [...new Set(held)].sort() };
}

describe('delivery', () => {
  const digests = (receipts: readonly Receipt[]) => receipts.map(({ digest }) => digest).sort();

  test.each(['studies/1.2.0', 'studies/1.2.1/1.2.1.0'])(
    '%s is deleted: what was in it is put aside by name, the rest is delivered',
    async (folder) => {
      const { directory, receipts, fileOf } = await backlog();
      const isGone = (receipt: Receipt) => fileOf(receipt).startsWith(`${join(directory, folder)}/`);
      await rm(join(directory, folder), { recursive: true });
      const { quarantined, verified, held } = await deliver(directory);
      expect(held).toEqual(digests(receipts.filter((receipt) => !isGone(receipt))));
      expect(verified).toBe(held.length);
      expect(quarantined.map(({ digest }) => digest).sort()).toEqual(digests(receipts.filter(isGone)));
      for (const { reason } of quarantined) expect(reason).toMatch(/cannot be read here.*got none/);
    },
  );

  test('files that were cut short, emptied or lengthened are put aside, the rest is delivered', async () => {
    const { directory, receipts, fileOf } = await backlog();
    const [cut, emptied, lengthened, ...whole] = receipts as [Receipt, Receipt, Receipt, ...Receipt[]];
    await truncate(fileOf(cut), cut.bytes - 1);
    await truncate(fileOf(emptied), 0);
    await writeFile(fileOf(lengthened), new Uint8Array(2), { flag: 'a' });
    const { quarantined, verified, held } = await deliver(directory);
    expect(held).toEqual(digests(whole));
    expect(verified).toBe(held.length);
    expect(quarantined.map(({ digest }) => digest).sort()).toEqual(digests([cut, emptied, lengthened]));
    for (const { reason } of quarantined)
      expect(reason).toMatch(/could not be read here: expected \d+ bytes, got|cannot be read here/);
  });

  test('a file in which a bit was flipped never leaves', async () => {
    const { directory, receipts, fileOf } = await backlog();
    const [flipped, ...whole] = receipts as [Receipt, ...Receipt[]];
    const bytes = await readFile(fileOf(flipped));
    bytes[bytes.length - 20] = (bytes[bytes.length - 20] as number) ^ 1;
    await writeFile(fileOf(flipped), bytes);
    const { quarantined, held } = await deliver(directory);
    expect(held).toEqual(digests(whole));
    expect(quarantined.map(({ digest }) => digest)).toEqual([flipped.digest]);
  });
});
