import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { VersionRecord } from '../../src/domain/delivery.ts';
import { openSpillway, type Spillway } from '../../src/spillway.ts';
import { memoryStore } from '../../src/storage/memory/memory-store.ts';
import type { OpenStore, Store } from '../../src/storage/store.ts';
import { type SyntheticOptions, syntheticInstance } from '../../src/testing/synthetic.ts';

/** Instance `n` of a study and series; another `seed` is another version of it. */
export const instance = (study: string, series: string, n: number, seed = 1, more: SyntheticOptions = {}) =>
  syntheticInstance({
    rows: 8,
    columns: 8,
    studyInstanceUid: study,
    seriesInstanceUid: series,
    sopInstanceUid: `${series}.${n}`,
    seed,
    ...more,
  });

export async function open(store: Store): Promise<Spillway> {
  const spillway = await openSpillway({ store, destinations: [] });
  onTestFinished(() => spillway.close());
  return spillway;
}

/** A spillway, and the store that it is on. */
export async function opened(
  store: Store = memoryStore(),
): Promise<{ readonly spillway: Spillway; readonly store: OpenStore }> {
  let within: OpenStore | undefined;
  const spillway = await open({
    open: async () => {
      within = await store.open();
      return within;
    },
  });
  if (within === undefined) throw new Error('not opened');
  return { spillway, store: within };
}

export async function filesUnder(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
    .sort();
}

export const digestsOf = (versions: readonly VersionRecord[]) =>
  versions.map(({ digest, identity }) => [identity, digest]);
export const all = (store: OpenStore) => store.catalog.versions({ limit: 10_000 });

/** Two studies: one of two series, with three versions of one instance and an odd UID; one of one instance. */
export async function filled(store?: Store) {
  const { spillway, store: within } = await opened(store);
  const sources = [
    instance('1.2.1', '1.2.1.1', 1, 1),
    instance('1.2.1', '1.2.1.1', 2),
    instance('1.2.2', '1.2.2.1', 1),
    instance('1.2.1', '1.2.1.1', 1, 2),
    instance('1.2.1', 'odd series (ä)', 1),
    instance('1.2.1', '1.2.1.1', 1, 3),
  ];
  const receipts = [];
  for (const source of sources) receipts.push(await spillway.accept(source));
  return { spillway, store: within, sources, receipts };
}
