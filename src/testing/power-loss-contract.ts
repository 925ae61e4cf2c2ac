import assert from 'node:assert/strict';
import type { BlobStore } from '../storage/blob-store.ts';
import type { FileSystem } from '../storage/directory/file-system.ts';
import type { ContractOptions } from './contract.ts';
import { type HistoryOptions, type HistoryOutcome, history, offeredInstances } from './power-loss/history.ts';
import type { LeftOutSync } from './power-loss/model-file-system.ts';

/** What `powerLossContract` is given. */
export interface PowerLossOptions {
  /** Registers one test with the caller's runner; 1,000 histories take some seconds. */
  readonly test: ContractOptions['test'];
  /**
   * Opens the blob store in a directory that exists durably. Everything that it does to files goes through `fileSystem`,
   * in a process's life at a time: a store that was opened earlier is not used any more.
   */
  readonly openBlobs: (directory: string, fileSystem: FileSystem) => Promise<BlobStore>;
  /** How many histories, each with a seed of its own. @default 1,000 */
  readonly histories?: number;
  /** The first seed; where one has failed, that one with `histories: 1` is the same history again. @default 1 */
  readonly firstSeed?: number;
  /** Files that a blob is kept in; `Infinity` where that differs, and files without a row are not looked for. @default 1 */
  readonly filesPerBlob?: number;
  /** The syncs that the order of writing rests on, by name: each is left out in turn, and that must be found. @default none */
  readonly syncs?: Readonly<Record<string, LeftOutSync>>;
  /** Told in a line how many histories there were and how many the loss of power cut short. @default nobody */
  readonly report?: (line: string) => void;
}

const FAULTS = 0.02;
/** Among so many histories a sync that was left out is found. */
const MAX_HISTORIES_TO_FIND = 300;

/**
 * Loss of power, for a `BlobStore` that writes through a `FileSystem`. In each history instances are taken in at once over
 * a model that keeps only what was synced, steps in an order drawn by a seed, every second time with calls that fail. The
 * power is lost somewhere: what was acknowledged must be there and equal, what the catalog knows readable, nothing in
 * flight after `recover`. Then everything is sent again and accepted. The catalog is a model whose commits are durable.
 *
 * A failure names the seed of its history.
 *
 * @example
 * ```ts
 * import { test } from 'node:test';
 * import { powerLossContract } from 'spillway/testing';
 * import { openMyBlobs } from './my-blobs.ts';
 *
 * powerLossContract({
 *   test,
 *   openBlobs: (directory, fileSystem) => openMyBlobs(directory, fileSystem),
 *   syncs: { 'the file': (kind) => kind === 'file' },
 * });
 * ```
 */
export function powerLossContract(options: PowerLossOptions): void {
  const { test, openBlobs, histories = 1_000, firstSeed = 1, filesPerBlob = 1, syncs = {}, report } = options;
  const offered = once(offeredInstances);
  const run = async (seed: number, change: Partial<HistoryOptions>): Promise<HistoryOutcome> => {
    try {
      return await history(seed, { openBlobs, offered: await offered(), filesPerBlob, faults: 0, ...change });
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  };

  test(`power loss: what was acknowledged is kept, in ${histories} histories`, async () => {
    let [cutShort, acknowledged] = [0, 0];
    for (let seed = firstSeed; seed < firstSeed + histories; seed += 1) {
      const outcome = await run(seed, { faults: seed % 2 === 0 ? FAULTS : 0 });
      assert.equal(outcome.harm, null, `seed ${seed}: ${outcome.harm}`);
      cutShort += Number(outcome.wasCutShort);
      acknowledged += outcome.acknowledged;
    }
    report?.(
      `power loss: ${histories} histories, ${cutShort} cut short, ${acknowledged} instances acknowledged before`,
    );
    // Otherwise it has shown nothing.
    if (histories >= 100) assert.ok(cutShort >= histories / 5, `only ${cutShort} of ${histories} were cut short`);
    if (histories >= 100) assert.ok(acknowledged >= histories, `only ${acknowledged} instances were acknowledged`);
  });

  for (const [name, isLeftOut] of Object.entries(syncs)) {
    test(`power loss: the sync of ${name} left out is found`, async () => {
      for (let seed = firstSeed; seed < firstSeed + MAX_HISTORIES_TO_FIND; seed += 1) {
        // A store may also find that something is gone that it needs.
        const { harm } = await run(seed, { isLeftOut }).catch((error) => ({ harm: String(error) }));
        if (harm !== null) return;
      }
      assert.fail(`nothing was lost in ${MAX_HISTORIES_TO_FIND} histories without it`);
    });
  }
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
