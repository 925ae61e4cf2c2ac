import { syntheticInstance } from '../../src/testing/synthetic.ts';

/** Instances of `instance` are of this length. */
export const INSTANCE_BYTES = instance(1).byteLength;

/** Instance `number` of study `study`; all are of one length. */
export function instance(study: number, number = 1, seed = study * 100 + number): Uint8Array {
  const pad = (value: number) => String(1000 + value);
  const studyInstanceUid = studyUid(study);
  return syntheticInstance({
    pixelBytes: 8 * 1024,
    rows: 64,
    columns: 64,
    seed,
    studyInstanceUid,
    seriesInstanceUid: `${studyInstanceUid}.1`,
    sopInstanceUid: `${studyInstanceUid}.1.${pad(number)}`,
  });
}

export function studyUid(study: number): string {
  return `1.2.${1000 + study}`;
}
