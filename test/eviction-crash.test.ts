import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { bundledChild } from './support/bundled-child.ts';
import { INSTANCE_BYTES, instance } from './support/equal-instances.ts';
import { openRig } from './support/retention-rig.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const child = bundledChild('evict-child');

test.each([
  ['catalog.beginEviction', 1, 'before'],
  ['catalog.beginEviction', 1, 'after'],
  ['blobs.remove', 1, 'after'],
  ['blobs.remove', 2, 'after'],
  ['blobs.remove', 3, 'after'],
  ['catalog.endEviction', 1, 'after'],
])(
  'killed at %s, number %i, %s it: the next opening goes on, and the study is whole or gone',
  async (step, nth, when) => {
    const directory = await temporaryDirectory();
    const maxBytes = 4 * INSTANCE_BYTES;
    const killed = spawn(process.execPath, [child(), directory, step, String(nth), when, String(maxBytes)], {
      stdio: 'inherit',
    });
    expect(await once(killed, 'exit')).toEqual([null, 'SIGKILL']);
    const store = fileStore({ directory, maxBytes, minFreeBytes: 0 });
    const rig = await openRig({ store });
    // Sent again while the opening goes on with it: acknowledged with its bytes, whatever comes first.
    const again = await rig.spillway.accept(instance(1, 2)).catch((error) => error.code);
    await rig.walked();
    await rig.drain();
    expect(rig.faults).toEqual([]);
    if (typeof again === 'string') expect(again).toBe('SPILLWAY_STORE_FULL');
    else expect(again.outcome).toBe(when === 'before' ? 'identical' : 'restored');
    await rig.close();
    const opened = await store.open();
    expect(await opened.catalog.evictions({ limit: 10 })).toEqual([]);
    const versions = await opened.catalog.versions({ limit: 100 });
    for (const { blobRef, digest } of versions) {
      expect((await readAndDigest(opened.blobs.read(blobRef))).digest).toBe(digest);
    }
    const files = await readdir(join(directory, 'studies'), { recursive: true, withFileTypes: true });
    expect(files.filter((file) => file.isFile())).toHaveLength(versions.length);
    expect(await opened.catalog.versions({ presence: 'missing', limit: 10 })).toEqual([]);
    expect(await readdir(join(directory, 'incoming'))).toEqual([]);
    await opened.close();
  },
  60_000,
);
