import { syntheticStudy } from '../../src/testing/synthetic.ts';

/** What is taken in: so many instances of one size, spread over studies of one series each. */
export interface ObjectSet {
  readonly name: string;
  readonly instances: number;
  readonly studies: number;
  /** Rows and columns, 16 bits a pixel. */
  readonly side: number;
}

export const SETS: Readonly<Record<string, ObjectSet>> = {
  // A CT slice: 526 KB.
  ct: { name: 'ct', instances: 2_000, studies: 10, side: 512 },
  // 2 KB: header mostly, like key objects, presentation states and short reports.
  small: { name: 'small', instances: 5_000, studies: 10, side: 24 },
};

export interface BenchObject {
  readonly bytes: Uint8Array;
  /** Directory and name that the bare loop gives it: the fan-out of `fileStore`. */
  readonly directory: string;
  readonly name: string;
}

/** `count` instances of a set, their studies in turn, as when several scanners send at once. Other seeds, other instances. */
export function objectsOf(set: ObjectSet, count: number, seed: number): BenchObject[] {
  const studies = Array.from({ length: set.studies }, (_, study) =>
    syntheticStudy({
      seed: seed * 1_000 + study,
      modality: 'CT',
      rows: set.side,
      columns: set.side,
      instances: Math.ceil(count / set.studies),
      acquiredAt: Date.now(),
    })[Symbol.iterator](),
  );
  return Array.from({ length: count }, (_, index) => {
    const { value, done } = studies[index % set.studies]?.next() ?? {};
    if (done !== false || value === undefined) throw new Error('a study has too few instances');
    const { bytes, identity } = value;
    return {
      bytes,
      directory: `studies/${identity.studyInstanceUid}/${identity.seriesInstanceUid}`,
      // As long as the names of the store.
      name: `${identity.sopInstanceUid}.${'0'.repeat(16)}-${'0'.repeat(64)}.dcm`,
    };
  });
}

/** Carries out `run` for every item, `inFlight` at a time: the next begins when one has ended. */
export async function eachInFlight<T>(
  items: readonly T[],
  inFlight: number,
  run: (item: T) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  const lane = async () => {
    for (let item = items[next]; item !== undefined; item = items[next]) {
      next += 1;
      await run(item);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
}
