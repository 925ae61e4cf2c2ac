import { syntheticInstance } from '../../src/testing/synthetic.ts';

const PREFIX = '1.2.9';

/** A small instance that its number makes, in one of five studies. */
export function numberedInstance(number: number): Uint8Array {
  const studyInstanceUid = `1.2.${number % 5}`;
  const size = 16 + (number % 7) * 16;
  return syntheticInstance({
    rows: size,
    columns: size,
    seed: number,
    studyInstanceUid,
    seriesInstanceUid: `${studyInstanceUid}.${number % 3}`,
    sopInstanceUid: `${PREFIX}.${number}`,
  });
}

/** The number of one that `numberedInstance` has made. */
export function numberOf(sopInstanceUid: string): number {
  return Number(sopInstanceUid.slice(PREFIX.length + 1));
}
