import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { TRANSFER_SYNTAXES, type TransferSyntaxName } from '../src/testing/part10-writer.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';
import { type SyntheticOptions, syntheticInstance } from '../src/testing/synthetic.ts';
import { chunksOf, outcomeOf, read, splitAt } from './support/dicom-reading.ts';
import { delimiter, ITEM, identityElements, open, part10, sequence } from './support/element-bytes.ts';

const SYNTAXES = Object.keys(TRANSFER_SYNTAXES) as TransferSyntaxName[];
const SMALL: SyntheticOptions = { rows: 9, columns: 7, nestedSequence: true };
const META_START = 132;
const REAL_FILES = fileURLToPath(new URL('../../shared/dicom/', import.meta.url));

describe('mutations', () => {
  test('give an instance or a coded error, the same in every chunking', async () => {
    const seeds = [
      ...SYNTAXES.map((transferSyntax) => syntheticInstance({ ...SMALL, transferSyntax })),
      syntheticInstance({ modality: 'KO' }),
      part10(TRANSFER_SYNTAXES['explicit-little'], sequence(open(0x00080006)), ...identityElements()),
      ...['pydicom/image_dfl.dcm', 'pydicom/JPEG2000.dcm', 'pydicom/2062'].filter(hasReal).map(readReal),
    ];
    const random = seededRandom(20_240_131);
    const outcomes = { read: 0, refused: 0 };
    for (let run = 0; run < 4_000; run += 1) {
      const bytes = mutated(seeds[run % seeds.length] ?? Buffer.alloc(0), random);
      const whole = await outcomeOf([bytes]);
      const points = Array.from({ length: 6 }, () => Math.floor(random() * (bytes.length + 1)));
      expect(await outcomeOf(splitAt(bytes, points)), `run ${run}`).toEqual(whole);
      outcomes[typeof whole === 'string' ? 'refused' : 'read'] += 1;
    }
    // Both ways are taken often, or the mutations would be no test.
    expect(Math.min(outcomes.read, outcomes.refused)).toBeGreaterThan(400);
  });
});

// Skipped where the folder of real files is not there: they are not the project's to ship.
describe.skipIf(!existsSync(REAL_FILES))('real files (skipped where ../shared/dicom is not there)', () => {
  interface Dcmjs {
    readonly data: {
      readonly DicomMessage: {
        readFile(bytes: ArrayBuffer): { readonly dict: Dict; readonly meta: Dict };
      };
    };
  }
  type Dict = Record<string, { readonly Value?: readonly unknown[] }>;
  // It comes without types.
  const dcmjs: Dcmjs = createRequire(import.meta.url)('dcmjs');

  test.each(manifest())('$file', async ({ file, oddity }) => {
    const bytes = readReal(file);
    const outcome = await outcomeOf([bytes]);
    expect(await outcomeOf(chunksOf(bytes, 7))).toEqual(outcome);

    const isDcmjsAble = !/FAILS:[^;]*dcmjs/.test(oddity);
    if (oddity.includes('no-preamble/DICM') || oddity.includes('undecodable element')) {
      expect(outcome).toMatch(/^SPILLWAY_(NOT_DICOM|IDENTITY_MISSING)$/);
    } else if (/no (StudyUID|SeriesUID|SOPInstanceUID)/.test(oddity)) {
      expect(outcome).toBe('SPILLWAY_IDENTITY_MISSING');
    } else if (typeof outcome === 'string') {
      expect.fail(`refused with ${outcome}`);
    } else if (isDcmjsAble) {
      const { dict, meta } = dcmjs.data.DicomMessage.readFile(Uint8Array.from(bytes).buffer);
      const uid = (from: Dict, place: string) => String(from[place]?.Value?.[0] ?? '');
      // dcmjs takes what is neither digit nor dot out of a UID; here it is kept as it came.
      const { identity } = outcome.header;
      const asDcmjs = Object.entries(identity).map(([name, value]) => [name, value.replace(/[^0-9.]/g, '')]);
      expect(Object.fromEntries(asDcmjs)).toEqual({
        studyInstanceUid: uid(dict, '0020000D'),
        seriesInstanceUid: uid(dict, '0020000E'),
        sopInstanceUid: uid(dict, '00080018'),
        sopClassUid: uid(dict, '00080016'),
        transferSyntaxUid: uid(meta, '00020010'),
      });
      for (const [place, keyword] of [
        ['00080020', 'StudyDate'],
        ['00080060', 'Modality'],
      ] as const) {
        expect(outcome.header.attributes[keyword] ?? '').toBe(uid(dict, place));
      }
    }
  });

  test('the truncated one says so', async () => {
    expect((await read([readReal('pydicom/MR_truncated.dcm')])).header.oddities).toEqual(['truncated']);
  });
});

function mutated(seed: Uint8Array, random: () => number): Uint8Array {
  let bytes = Buffer.from(seed);
  const somewhere = (limit: number) => Math.floor(random() * limit);
  for (let count = 1 + somewhere(3); count > 0; count -= 1) {
    const at = random() < 0.2 ? somewhere(META_START + 200) : META_START + somewhere(bytes.length);
    const length = somewhere(random() < 0.5 ? 4 : 64);
    const kind = somewhere(6);
    if (kind === 0) bytes = bytes.subarray(0, at);
    else if (kind === 1) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    else if (kind === 2)
      bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at)]);
    else if (kind === 3) bytes.subarray(at, at + 4).fill(random() < 0.5 ? 0xff : 0);
    else if (kind === 4) bytes = Buffer.concat([bytes.subarray(0, at), delimiter(ITEM), bytes.subarray(at)]);
    else if (at < bytes.length) bytes[at] = somewhere(256);
  }
  return bytes;
}

function hasReal(file: string): boolean {
  return existsSync(REAL_FILES + file);
}
function readReal(file: string): Buffer {
  return readFileSync(REAL_FILES + file);
}
function manifest(): readonly { readonly file: string; readonly oddity: string }[] {
  if (!hasReal('MANIFEST.tsv')) return [];
  const [, ...rows] = readReal('MANIFEST.tsv').toString('utf8').trim().split('\n');
  return rows.map((row) => row.split('\t')).map(([file = '', , , , , oddity = '']) => ({ file, oddity }));
}
