import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { fileStore } from '../src/storage/file-store.ts';
import { type KillableStore, Victim } from '../src/testing/kill/victim.ts';
import { killContract } from '../src/testing/kill-contract.ts';
import { bundledChild } from './support/bundled-child.ts';

const child = bundledChild('kill-child');

async function makeStore(lie = 'none'): Promise<KillableStore> {
  const directory = await mkdtemp(join(tmpdir(), 'spillway-kill-store-'));
  return {
    store: fileStore({ directory }),
    args: [directory, lie],
    /** The files are those of the catalog, and nothing is in flight. */
    async examine(versions) {
      expect(await readdir(join(directory, 'incoming'))).toEqual([]);
      const entries = await readdir(join(directory, 'studies'), { recursive: true, withFileTypes: true });
      expect(entries.filter((entry) => entry.isFile())).toHaveLength(versions.length);
    },
    dispose: () => rm(directory, { recursive: true, force: true }),
  };
}

killContract({
  test: (name, run) => test(name, run, 400_000),
  child,
  makeStore,
  // The order of writing (docs/storage-format.md).
  steps: ['create', 'write', 'sync-file', 'close', 'make-directory', 'sync-directory', 'link', 'unlink'],
  rounds: 13,
  report: console.log,
});

test.each([
  ['early-commit', 'acknowledge', /was acknowledged, and is not in the catalog/],
  ['early-verification', 'acknowledge', /is verified, never received/],
])('a store with %s is found', async (lie, step, finding) => {
  // By what its contracts show alone.
  const { store, args, dispose } = await makeStore(lie);
  const victim = new Victim({ store, args, dispose }, child());
  onTestFinished(() => victim.dispose());
  await expect(victim.killAt(step, 8, 'after')).rejects.toThrow(finding);
});

test('a child that ends by itself is found', async () => {
  const script = join(dirname(child()), 'ends.js');
  await writeFile(script, '');
  const victim = new Victim(await makeStore(), script);
  onTestFinished(() => victim.dispose());
  await expect(victim.killAt('acknowledge', 1, 'after')).rejects.toThrow(/ended with code 0/);
});
