import { createRequire } from 'node:module';
import { describe, expect, test } from 'vitest';
import { TRANSFER_SYNTAXES, type TransferSyntaxName } from '../src/testing/part10-writer.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';
import { type SyntheticOptions, syntheticInstance } from '../src/testing/synthetic.ts';
import { chunksOf, outcomeOf, splitAt } from './support/dicom-reading.ts';
import { identityElements, open, part10, sequence } from './support/element-bytes.ts';
import { mutated } from './support/mutations.ts';
import { hasRealFiles, manifest, readReal, SURVIVAL } from './support/real-files.ts';

const SYNTAXES = Object.keys(TRANSFER_SYNTAXES) as TransferSyntaxName[];
const SMALL: SyntheticOptions = { rows: 9, columns: 7, nestedSequence: true };
const RUNS = 6_000;
/** A copy of one of them is held; what a run may leave behind is far less. */
const MAX_GROWTH_BYTES = 64 * 1024 * 1024;

describe('mutations', () => {
  test('give an instance or a coded error, the same in every chunking, and leave nothing behind', async () => {
    const seeds = [
      ...SYNTAXES.map((transferSyntax) => syntheticInstance({ ...SMALL, transferSyntax })),
      syntheticInstance({ modality: 'KO' }),
      part10(TRANSFER_SYNTAXES['explicit-little'], sequence(open(0x00080006)), ...identityElements()),
      ...(hasRealFiles ? SURVIVAL.map(([file]) => readReal(file)) : []),
    ];
    const random = seededRandom(20_240_131);
    const outcomes = { read: 0, refused: 0 };
    let heap = 0;
    for (let run = 0; run < RUNS; run += 1) {
      if (run === RUNS / 2) heap = process.memoryUsage().arrayBuffers + process.memoryUsage().heapUsed;
      const bytes = mutated(seeds[run % seeds.length] ?? Buffer.alloc(0), random);
      const whole = await outcomeOf([bytes]);
      const points = Array.from({ length: 6 }, () => Math.floor(random() * (bytes.length + 1)));
      expect(await outcomeOf(splitAt(bytes, points)), `run ${run}`).toEqual(whole);
      outcomes[typeof whole === 'string' ? 'refused' : 'read'] += 1;
    }
    // Both ways are taken often, or the mutations would be no test.
    expect(Math.min(outcomes.read, outcomes.refused)).toBeGreaterThan(RUNS / 10);
    const after = process.memoryUsage().arrayBuffers + process.memoryUsage().heapUsed;
    expect(after - heap).toBeLessThan(MAX_GROWTH_BYTES);
  });
});

// Skipped where the folder of real files is not there: they are not the project's to ship.
describe.skipIf(!hasRealFiles)('real files (skipped where ../shared/dicom is not there)', () => {
  interface Dcmjs {
    readonly data: {
      readonly DicomMessage: {
        readFile(bytes: ArrayBuffer): { readonly dict: Dict; readonly meta: Dict };
      };
    };
    readonly log: Logger & { getLogger(name: string): Logger };
  }
  interface Logger {
    setLevel(level: string): void;
  }
  type Dict = Record<string, { readonly Value?: readonly unknown[] }>;
  // It comes without types.
  const dcmjs: Dcmjs = createRequire(import.meta.url)('dcmjs');
  // It tells of every oddity on the console.
  for (const log of [dcmjs.log, dcmjs.log.getLogger('validation.dcmjs')]) log.setLevel('silent');

  test('the table has every one of them', () => {
    expect(SURVIVAL.map(([file]) => file)).toEqual(manifest().map(({ file }) => file));
  });

  test.each(SURVIVAL)('%s', async (file, expected, ...oddities) => {
    const bytes = readReal(file);
    const outcome = await outcomeOf([bytes]);
    expect(await outcomeOf(chunksOf(bytes, 7))).toEqual(outcome);
    if (typeof outcome === 'string') {
      expect(outcome).toBe(expected);
    } else {
      expect(outcome.header.identity.sopInstanceUid).toBe(expected);
      expect(outcome.header.oddities).toEqual(oddities);
    }
  });

  test('only what nobody can name is refused', () => {
    const refused = SURVIVAL.filter(([, outcome]) => outcome.startsWith('SPILLWAY_')).map(([file]) => file);
    const nameless = manifest().filter(({ oddity }) => /no (StudyUID|SeriesUID|SOPInstanceUID)/.test(oddity));
    expect(refused).toEqual(nameless.map(({ file }) => file));
  });

  const readable = manifest().filter(({ file, oddity }) => !/FAILS:[^;]*dcmjs/.test(oddity) && survives(file));
  test.each(readable)('$file: as dcmjs reads it', async ({ file }) => {
    const bytes = readReal(file);
    const outcome = await outcomeOf([bytes]);
    if (typeof outcome === 'string') expect.fail(`refused with ${outcome}`);
    const { dict, meta } = dcmjs.data.DicomMessage.readFile(Uint8Array.from(bytes).buffer);
    const text = (from: Dict, place: string) => String(from[place]?.Value?.[0] ?? '');
    // dcmjs takes what is neither digit nor dot out of a UID; here it is kept as it came.
    const { identity, attributes } = outcome.header;
    const asDcmjs = Object.entries(identity).map(([name, value]) => [name, value.replace(/[^0-9.]/g, '')]);
    expect(Object.fromEntries(asDcmjs)).toEqual({
      studyInstanceUid: text(dict, '0020000D'),
      seriesInstanceUid: text(dict, '0020000E'),
      sopInstanceUid: text(dict, '00080018'),
      sopClassUid: text(dict, '00080016'),
      transferSyntaxUid: text(meta, '00020010'),
    });
    for (const [place, keyword] of [
      ['00080020', 'StudyDate'],
      ['00080060', 'Modality'],
      ['00100020', 'PatientID'],
      ['00080050', 'AccessionNumber'],
      ['00280010', 'Rows'],
      ['00081030', 'StudyDescription'],
    ] as const) {
      expect(attributes[keyword]?.split('\\')[0] ?? '', keyword).toBe(text(dict, place));
    }
  });
});

function survives(file: string): boolean {
  return SURVIVAL.some(([name, outcome]) => name === file && !outcome.startsWith('SPILLWAY_'));
}
