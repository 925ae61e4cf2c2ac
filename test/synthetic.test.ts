import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';
import {
  type SyntheticModality,
  type SyntheticOptions,
  syntheticIdentity,
  syntheticInstance,
  syntheticStudy,
} from '../src/testing/synthetic.ts';

interface Dcmjs {
  readonly data: {
    readonly DicomMessage: {
      readFile(bytes: ArrayBuffer): { readonly dict: Record<string, { readonly Value?: readonly unknown[] }> };
    };
  };
}
// It comes without types.
const dcmjs: Dcmjs = createRequire(import.meta.url)('dcmjs');

const MODALITIES = ['CT', 'MR', 'CR', 'US', 'KO'] as const satisfies readonly SyntheticModality[];
const SYNTAXES = ['explicit-little', 'implicit-little', 'deflated', 'explicit-big', 'rle'] as const;
const VARIANTS: readonly SyntheticOptions[] = [
  ...MODALITIES.map((modality): SyntheticOptions => ({ modality })),
  ...SYNTAXES.map(
    (transferSyntax): SyntheticOptions => ({ transferSyntax, rows: 33, columns: 31, nestedSequence: true }),
  ),
  { modality: 'US', frames: 3, rows: 20, columns: 30, transferSyntax: 'rle' },
  { modality: 'KO', transferSyntax: 'deflated' },
  {
    studyDate: '',
    pixelBytes: 10_000,
    nestedSequence: true,
    elements: [
      { tag: '00090010', vr: 'LO', value: 'SPILLWAY' },
      { tag: '00091001', vr: 'UN', value: Uint8Array.of(1, 2, 3) },
    ],
  },
];
const hasDcmtk = existsSync('/usr/bin/dcmdump') && existsSync('/usr/bin/dcmftest') && existsSync('/usr/bin/dcmdrle');

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'spillway-synthetic-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

function nameOf(options: SyntheticOptions): string {
  return JSON.stringify(options);
}

function readByDcmjs(bytes: Uint8Array) {
  return dcmjs.data.DicomMessage.readFile(Uint8Array.from(bytes).buffer).dict;
}

describe('syntheticInstance', () => {
  test.each(VARIANTS.map((options) => [nameOf(options), options] as const))(
    'is read by this library and by dcmjs: %s',
    async (_, options) => {
      const bytes = syntheticInstance(options);
      const { header } = await readAndDigest([bytes]);
      expect(header.identity).toEqual(syntheticIdentity(options));
      expect(header.oddities).toEqual([]);

      const dict = readByDcmjs(bytes);
      expect(dict['00080018']?.Value).toEqual([header.identity.sopInstanceUid]);
      expect(dict['0020000D']?.Value).toEqual([header.identity.studyInstanceUid]);
      expect(dict['00080060']?.Value).toEqual([options.modality ?? 'CT']);
      expect('7FE00010' in dict).toBe(options.modality !== 'KO');
      if (options.nestedSequence === true) {
        expect(JSON.stringify(dict['00400275']).match(/"Value":\["99SPILLWAY"\]/g)).toHaveLength(2);
      }
    },
  );

  // Skipped where DCMTK is not installed; CI installs it and allows no skip.
  test.skipIf(!hasDcmtk && process.env.SPILLWAY_REQUIRE_PEERS !== '1')(
    'DCMTK finds nothing to say about any of them (skipped where DCMTK is not installed)',
    async () => {
      for (const options of VARIANTS) {
        const path = join(directory, 'instance.dcm');
        await writeFile(path, syntheticInstance(options));
        const dump = execFileSync('dcmdump', ['--log-level', 'warn', path], { encoding: 'utf8', stdio: 'pipe' });
        expect(dump, nameOf(options)).toContain(syntheticIdentity(options).seriesInstanceUid);
        expect(dump, nameOf(options)).not.toMatch(/^[WE]:/m);
        expect(execFileSync('dcmftest', [path], { encoding: 'utf8' })).toMatch(/^yes:/);
      }
    },
  );

  // Skipped where DCMTK is not installed; CI installs it and allows no skip.
  test.skipIf(!hasDcmtk && process.env.SPILLWAY_REQUIRE_PEERS !== '1')(
    'encapsulated pixels can be decoded (skipped where DCMTK is not installed)',
    async () => {
      const [frames, pixelCount] = [3, 20 * 30];
      const shape = { modality: 'US', frames, rows: 20, columns: 30 } as const;
      const [from, to] = [join(directory, 'rle.dcm'), join(directory, 'decoded.dcm')];
      await writeFile(from, syntheticInstance({ ...shape, transferSyntax: 'rle' }));
      execFileSync('dcmdrle', [from, to], { stdio: 'pipe' });
      // RLE takes a frame's bytes as planes of one component each, which decoding interleaves.
      const pixelBytes = frames * pixelCount * 3;
      const planes = syntheticInstance(shape).subarray(-pixelBytes);
      const interleaved = Buffer.alloc(pixelBytes);
      for (let at = 0; at < pixelBytes; at += 1) {
        const [frame, inFrame] = [Math.floor(at / (pixelCount * 3)), at % (pixelCount * 3)];
        const inPlanes = (inFrame % 3) * pixelCount + Math.floor(inFrame / 3);
        interleaved[at] = planes[frame * pixelCount * 3 + inPlanes] ?? 0;
      }
      expect(Buffer.compare((await readFile(to)).subarray(-pixelBytes), interleaved)).toBe(0);
    },
  );

  test('a file is what its options say, and every seed gives other bytes', () => {
    const bytes = syntheticInstance({ seed: 7 });
    expect(syntheticInstance({ seed: 7 })).toEqual(bytes);
    const other = syntheticInstance({ seed: 8, ...syntheticIdentityWithoutSyntax(7) });
    expect(other.length).toBe(bytes.length);
    expect(Buffer.compare(other, bytes)).not.toBe(0);
    expect(syntheticIdentity({ seed: 8 }).sopInstanceUid).not.toBe(syntheticIdentity({ seed: 7 }).sopInstanceUid);
  });

  test.each([
    ['CT', 526_000],
    ['MR', 132_000],
    ['CR', 7_500_000],
    ['US', 922_000],
    ['KO', 3_000],
  ] as const)('%s is of a usual size', (modality, bytes) => {
    const { length } = syntheticInstance({ modality });
    expect(length).toBeGreaterThan(bytes * 0.9);
    expect(length).toBeLessThan(bytes * 1.1);
  });

  test('options reach the data set', async () => {
    const { header } = await readAndDigest([
      syntheticInstance({
        acquisitionDate: '20240229',
        acquisitionTime: '235959.5',
        timezoneOffset: '-0330',
        pixelBytes: 100_000,
        elements: [{ tag: '00401003', vr: 'SH', value: 'STAT' }],
      }),
    ]);
    expect(header.attributes).toMatchObject({
      AcquisitionDate: '20240229',
      AcquisitionTime: '235959.5',
      TimezoneOffsetFromUTC: '-0330',
      RequestedProcedurePriority: 'STAT',
    });
  });

  test('leaves out what is asked to be left out', async () => {
    const noUid = syntheticInstance({ omit: ['00080018', '00020003'] });
    await expect(readAndDigest([noUid])).rejects.toMatchObject({ code: 'SPILLWAY_IDENTITY_MISSING' });
    expect('7FE00010' in readByDcmjs(syntheticInstance({ omit: ['7fe00010'] }))).toBe(false);
  });
});

describe('syntheticStudy', () => {
  test('gives instances of one series, each of its own, the same each time', async () => {
    const acquiredAt = Date.UTC(2024, 1, 29, 23, 59, 58);
    const study = syntheticStudy({ modality: 'MR', instances: 3, acquiredAt, seed: 5 });
    const first = [...study];
    const second = [...study];
    expect(second).toEqual(first);
    const digests = new Set<string>();
    for (const { bytes, identity } of first) {
      const { header, digest } = await readAndDigest([bytes]);
      digests.add(digest);
      expect(header.identity).toEqual(identity);
      expect(header.attributes).toMatchObject({
        StudyDate: '20240229',
        StudyTime: '235958',
        AcquisitionDate: '20240229',
        AcquisitionTime: '235958',
        TimezoneOffsetFromUTC: '+0000',
      });
    }
    expect(digests.size).toBe(3);
    expect(new Set(first.map(({ identity }) => identity.sopInstanceUid)).size).toBe(3);
    expect(new Set(first.map(({ identity }) => identity.seriesInstanceUid)).size).toBe(1);
    const [other] = syntheticStudy({ modality: 'MR', instances: 1, acquiredAt, seed: 6 });
    expect(other?.identity.studyInstanceUid).not.toBe(first[0]?.identity.studyInstanceUid);
  });
});

describe('seededRandom', () => {
  test('repeats itself for a seed, and fills [0, 1) evenly', () => {
    const [one, again, other] = [seededRandom(1), seededRandom(1), seededRandom(2)];
    const buckets = new Array<number>(10).fill(0);
    let agreed = 0;
    for (let draw = 0; draw < 10_000; draw += 1) {
      const value = one();
      expect(again()).toBe(value);
      if (other() === value) agreed += 1;
      const bucket = Math.floor(value * 10);
      buckets[bucket] = (buckets[bucket] ?? 0) + 1;
    }
    expect(agreed).toBe(0);
    expect(buckets).toHaveLength(10);
    expect(Math.min(...buckets)).toBeGreaterThan(850);
  });
});

function syntheticIdentityWithoutSyntax(seed: number) {
  const { transferSyntaxUid: _, ...uids } = syntheticIdentity({ seed });
  return uids;
}
