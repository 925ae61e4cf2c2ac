import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import { openSpillway } from '../src/spillway.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const CHILD = fileURLToPath(new URL('./support/intake-child.ts', import.meta.url));
const ROUNDS = 6;

test('kill -9 in mid-intake, again and again: every acknowledged instance is there and equal, none is invented', async () => {
  const directory = await temporaryDirectory();
  const acknowledged = new Map<string, string>();
  for (let round = 0; round < ROUNDS; round += 1) {
    const child = spawn(process.execPath, [CHILD, directory, String(round * 10_000)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const killAfter = 5 + ((round * 37) % 60);
    let heard = 0;
    for await (const line of createInterface({ input: child.stdout })) {
      const { arrivalId, digest } = JSON.parse(line) as { arrivalId: string; digest: string };
      acknowledged.set(arrivalId, digest);
      heard += 1;
      if (heard === killAfter) child.kill('SIGKILL');
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');

    await (await openSpillway({ store: fileStore({ directory }), destinations: [] })).close();
    const store = await fileStore({ directory }).open();
    const versions = await store.catalog.versions({ limit: 100_000 });
    const known = new Set(versions.map(({ arrivalId }) => arrivalId));
    expect([...acknowledged.keys()].filter((arrivalId) => !known.has(arrivalId))).toEqual([]);
    for (const { arrivalId, digest, blobRef } of versions) {
      expect((await readAndDigest(store.blobs.read(blobRef))).digest).toBe(digest);
      expect(acknowledged.get(arrivalId) ?? digest).toBe(digest);
    }
    await store.close();
    // Nothing half-done stays: no file without a row, nothing in flight.
    expect(await readdir(join(directory, 'incoming'))).toEqual([]);
    const files = await readdir(join(directory, 'studies'), { recursive: true, withFileTypes: true });
    expect(files.filter((entry) => entry.isFile())).toHaveLength(versions.length);
  }
  expect(acknowledged.size).toBeGreaterThan(ROUNDS * 5 - 1);
});
