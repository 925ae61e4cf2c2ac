import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import { openSpillway } from '../src/spillway.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { syntheticInstance } from '../src/testing/synthetic.ts';
import { ScriptedTransport } from './support/scripted-transport.ts';
import { smallDisk } from './support/small-disk.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const MIB = 1024 * 1024;

test('a disk that runs full: new instances are refused, what was accepted is kept, delivered, and recorded', async (context) => {
  const disk = await smallDisk(context);
  const peer = new ScriptedTransport();
  peer.reachable = false;
  await using spillway = await openSpillway({
    store: fileStore({ directory: join(disk, 'store'), minFreeBytes: 4 * MIB }),
    destinations: [{ id: 'pacs', transport: peer }],
  });
  const faults: unknown[] = [];
  spillway.on('fault', ({ error }) => faults.push(error));
  const accepted = new Map<string, string>();
  const refusals: unknown[] = [];
  for (let seed = 1; refusals.length < 5; seed += 1) {
    const bytes = syntheticInstance({ rows: 256, columns: 512, seed, studyInstanceUid: `1.2.${seed % 5}` });
    await spillway.accept(bytes).then(
      ({ digest, identity }) => accepted.set(identity.sopInstanceUid, digest),
      (error) => refusals.push(error),
    );
    expect(seed).toBeLessThan(500);
  }
  for (const refusal of refusals) {
    expect(refusal).toMatchObject({ code: 'SPILLWAY_STORE_FULL', isRetryable: true });
    expect(refusal).toMatchObject({ message: expect.stringContaining('minFreeBytes') });
  }
  expect(accepted.size).toBeGreaterThan(40);
  expect(await readdir(join(disk, 'store/incoming'))).toEqual([]);

  peer.reachable = true;
  await spillway.drained();
  expect(new Map([...peer.held].map(([uid, { digest }]) => [uid, digest]))).toEqual(accepted);
  expect((await spillway.status()).destinations[0]).toMatchObject({ verified: accepted.size, quarantined: 0 });
  expect(faults).toEqual([]);
}, 60_000);

test('without a reserve the disk fills to the last byte: refusals are coded, nothing that was accepted is lost', async (context) => {
  const disk = await smallDisk(context);
  const directory = join(disk, 'store');
  const open = () => openSpillway({ store: fileStore({ directory, minFreeBytes: 0 }), destinations: [] });
  const spillway = await open();
  const accepted = new Map<string, string>();
  let refused = 0;
  for (let seed = 1; refused < 5; seed += 1) {
    const bytes = syntheticInstance({ rows: 256, columns: 512, seed, studyInstanceUid: `1.2.${seed % 5}` });
    try {
      const { arrivalId, digest } = await spillway.accept(bytes);
      accepted.set(arrivalId, digest);
    } catch (error) {
      expect(error).toMatchObject({ code: 'SPILLWAY_STORE_FULL' });
      refused += 1;
    }
  }
  await spillway.close();
  const store = await fileStore({ directory, minFreeBytes: 0 }).open();
  const versions = await store.catalog.versions({ limit: 1_000 });
  expect(versions.map(({ arrivalId }) => arrivalId)).toEqual([...accepted.keys()].sort());
  for (const { blobRef, digest } of versions) {
    expect((await readAndDigest(store.blobs.read(blobRef))).digest).toBe(digest);
  }
  await store.close();
}, 60_000);

test.each([-1, 1.5, Number.NaN, '1 GiB'])('minFreeBytes of %s is refused', async (minFreeBytes) => {
  const directory = await temporaryDirectory();
  expect(() => fileStore({ directory, minFreeBytes: minFreeBytes as number })).toThrow(
    expect.objectContaining({ code: 'SPILLWAY_OPTION_INVALID', message: expect.stringContaining('minFreeBytes') }),
  );
});
