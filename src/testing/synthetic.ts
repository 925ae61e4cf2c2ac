import { createHash } from 'node:crypto';
import type { InstanceIdentity } from '../domain/identity.ts';
import {
  TRANSFER_SYNTAXES,
  type TransferSyntaxName,
  type WritableElement,
  type WritablePixels,
  writePart10,
} from './part10-writer.ts';
import { seededRandom } from './seeded-random.ts';

/** Modalities that can be made up, each with its SOP class and usual size. */
export type SyntheticModality = keyof typeof MODALITIES;

/** What a synthetic instance is like. The same options give the same bytes. */
export interface SyntheticOptions {
  /** Decides UIDs that are not given, and the pixels. @default 1 */
  readonly seed?: number;
  /** Decides SOP class and size. @default 'CT' */
  readonly modality?: SyntheticModality;
  /** @default one under 2.25 made from `seed` */
  readonly studyInstanceUid?: string;
  /** @default one under 2.25 made from `seed` */
  readonly seriesInstanceUid?: string;
  /** @default one under 2.25 made from `seed` */
  readonly sopInstanceUid?: string;
  /** @default that of the modality */
  readonly sopClassUid?: string;
  /** `rle` is encapsulated: of undefined length, a fragment for each frame. @default 'explicit-little' */
  readonly transferSyntax?: TransferSyntaxName;
  /** @default what is usual for the modality */
  readonly rows?: number;
  /** @default what is usual for the modality */
  readonly columns?: number;
  /** Instead of rows and columns: bytes of one frame, rounded up to whole rows. */
  readonly pixelBytes?: number;
  /** @default 1 */
  readonly frames?: number;
  /** DA, such as `20240131`; may be empty. @default '20240131' */
  readonly studyDate?: string;
  /** TM. @default '120000' */
  readonly studyTime?: string;
  /** DA; left out by default. */
  readonly acquisitionDate?: string;
  /** TM; left out by default. */
  readonly acquisitionTime?: string;
  /** (0008,0201), such as `+0100`; left out by default. */
  readonly timezoneOffset?: string;
  /** @default 'SYNTHETIC' */
  readonly patientId?: string;
  /** @default '' */
  readonly accessionNumber?: string;
  /** @default 1 */
  readonly instanceNumber?: number;
  /** A sequence in a sequence, both of undefined length. @default false */
  readonly nestedSequence?: boolean;
  /** Further elements of the data set, or others in place of those that it has, pixel data excepted. */
  readonly elements?: readonly WritableElement[];
  /** Tags to leave out, as eight hexadecimal digits, file meta (`0002…`) and pixel data included: bad input. */
  readonly omit?: readonly string[];
}

/** A study to make up. */
export interface SyntheticStudyOptions
  extends Omit<SyntheticOptions, 'sopInstanceUid' | 'instanceNumber' | 'studyDate' | 'studyTime'> {
  readonly instances: number;
  /** Study and acquisition date and time, written in UTC with their offset; ms since the epoch. */
  readonly acquiredAt: number;
}

/** An instance that was made up. */
export interface SyntheticInstance {
  /** A whole Part 10 file. */
  readonly bytes: Uint8Array;
  readonly identity: InstanceIdentity;
}

interface ModalityProfile {
  readonly sopClassUid: string;
  readonly rows: number;
  readonly columns: number;
  readonly bitsAllocated: 8 | 16;
  readonly samplesPerPixel: 1 | 3;
  readonly hasPlane: boolean;
}

const NO_PIXELS = { rows: 0, columns: 0, bitsAllocated: 16, samplesPerPixel: 1, hasPlane: false } as const;

/** SOP classes (PS3.4 annex B.5) with the sizes that are usual: CT 526 KB, MR 132 KB, CR 7.5 MB, US 922 KB. */
const MODALITIES = {
  CT: profile('1.2.840.10008.5.1.4.1.1.2', 512, 512, 16, 1, true),
  MR: profile('1.2.840.10008.5.1.4.1.1.4', 256, 256, 16, 1, true),
  CR: profile('1.2.840.10008.5.1.4.1.1.1', 2140, 1760, 16, 1, false),
  US: profile('1.2.840.10008.5.1.4.1.1.6.1', 480, 640, 8, 3, false),
  KO: { ...NO_PIXELS, sopClassUid: '1.2.840.10008.5.1.4.1.1.88.59' },
} as const satisfies Record<string, ModalityProfile>;

const US_MULTIFRAME = '1.2.840.10008.5.1.4.1.1.3.1';
const IMPLEMENTATION_CLASS_UID = '2.25.189532144163017391524081466218837302915';
const PIXEL_DATA = '7FE00010';
const NOISE_BYTES = 1024 * 1024;
const KEY_OBJECT_REFERENCES = 8;

function profile(
  sopClassUid: string,
  rows: number,
  columns: number,
  bitsAllocated: 8 | 16,
  samplesPerPixel: 1 | 3,
  hasPlane: boolean,
): ModalityProfile {
  return { sopClassUid, rows, columns, bitsAllocated, samplesPerPixel, hasPlane };
}

/**
 * Makes up an instance as a whole Part 10 file: valid, of a usual size, with noise for pixels, nobody's data. Every
 * seed gives other bytes. Fast enough for gigabytes.
 */
export function syntheticInstance(options: SyntheticOptions = {}): Uint8Array {
  const identity = syntheticIdentity(options);
  const pixels = pixelsOf(options);
  const omitted = new Set(options.omit?.map((tag) => tag.toUpperCase()));
  const keep = (element: WritableElement) => !omitted.has(element.tag.toUpperCase());
  return writePart10(
    fileMeta(identity).filter(keep),
    dataSet(options, identity, pixels).filter(keep),
    omitted.has(PIXEL_DATA) ? undefined : pixels,
    options.transferSyntax ?? 'explicit-little',
  );
}

/** The identity that `syntheticInstance` gives an instance with these options. */
export function syntheticIdentity(options: SyntheticOptions = {}): InstanceIdentity {
  const { seed = 1, modality = 'CT', transferSyntax = 'explicit-little' } = options;
  const multiframe = modality === 'US' && (options.frames ?? 1) > 1;
  return {
    studyInstanceUid: options.studyInstanceUid ?? uidFrom(`study ${seed}`),
    seriesInstanceUid: options.seriesInstanceUid ?? uidFrom(`series ${seed} ${modality}`),
    sopInstanceUid: options.sopInstanceUid ?? uidFrom(`instance ${seed} ${modality}`),
    sopClassUid: options.sopClassUid ?? (multiframe ? US_MULTIFRAME : MODALITIES[modality].sopClassUid),
    transferSyntaxUid: TRANSFER_SYNTAXES[transferSyntax],
  };
}

/** Makes up the instances of one series of a study, each only when it is asked for. May be iterated again. */
export function syntheticStudy(options: SyntheticStudyOptions): Iterable<SyntheticInstance> {
  const { instances, acquiredAt, seed = 1, ...shared } = options;
  const iso = new Date(acquiredAt).toISOString();
  const date = iso.slice(0, 10).replaceAll('-', '');
  const time = iso.slice(11, 19).replaceAll(':', '');
  const { studyInstanceUid, seriesInstanceUid } = syntheticIdentity({ ...shared, seed });
  return {
    *[Symbol.iterator]() {
      for (let index = 0; index < instances; index += 1) {
        const instance: SyntheticOptions = {
          acquisitionDate: date,
          acquisitionTime: time,
          timezoneOffset: '+0000',
          ...shared,
          // Pixels only; UIDs are given, so that seeds that follow each other do not share instances.
          seed: seed * 65_537 + index,
          studyInstanceUid,
          seriesInstanceUid,
          sopInstanceUid: uidFrom(`instance ${seriesInstanceUid} ${index}`),
          instanceNumber: index + 1,
          studyDate: date,
          studyTime: time,
        };
        yield { bytes: syntheticInstance(instance), identity: syntheticIdentity(instance) };
      }
    },
  };
}

/** A UID under 2.25 (PS3.5 annex B.2) that a text decides. */
function uidFrom(text: string): string {
  const digest = createHash('sha256').update(text).digest('hex');
  return `2.25.${BigInt(`0x${digest.slice(0, 32)}`)}`;
}

function fileMeta(identity: InstanceIdentity): readonly WritableElement[] {
  return [
    { tag: '00020001', vr: 'OB', value: Uint8Array.of(0, 1) },
    { tag: '00020002', vr: 'UI', value: identity.sopClassUid },
    { tag: '00020003', vr: 'UI', value: identity.sopInstanceUid },
    { tag: '00020010', vr: 'UI', value: identity.transferSyntaxUid },
    { tag: '00020012', vr: 'UI', value: IMPLEMENTATION_CLASS_UID },
    { tag: '00020013', vr: 'SH', value: 'SPILLWAY_TEST' },
  ];
}

/** Later elements of the same tag win. */
function dataSet(
  options: SyntheticOptions,
  identity: InstanceIdentity,
  pixels: SyntheticPixels | undefined,
): readonly WritableElement[] {
  const { modality = 'CT' } = options;
  const byTag = new Map<string, WritableElement>();
  for (const element of [
    ...general(options, identity),
    ...dates(options),
    ...(pixels === undefined ? [] : imagePixel(pixels)),
    ...(MODALITIES[modality].hasPlane ? plane(options, identity) : []),
    ...(modality === 'KO' ? keyObject(identity) : []),
    ...(options.nestedSequence === true ? [nestedSequence()] : []),
    ...(options.elements ?? []),
  ]) {
    byTag.set(element.tag.toUpperCase(), element);
  }
  return [...byTag.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, element]) => element);
}

function general(options: SyntheticOptions, identity: InstanceIdentity): readonly WritableElement[] {
  const { modality = 'CT', patientId = 'SYNTHETIC', accessionNumber = '', instanceNumber = 1 } = options;
  return [
    { tag: '00080005', vr: 'CS', value: 'ISO_IR 192' },
    { tag: '00080016', vr: 'UI', value: identity.sopClassUid },
    { tag: '00080018', vr: 'UI', value: identity.sopInstanceUid },
    { tag: '00080050', vr: 'SH', value: accessionNumber },
    { tag: '00080060', vr: 'CS', value: modality },
    { tag: '00080070', vr: 'LO', value: 'spillway' },
    { tag: '00080090', vr: 'PN', value: '' },
    { tag: '00081030', vr: 'LO', value: 'Synthetic study' },
    { tag: '00100010', vr: 'PN', value: 'Synthetic^Patient' },
    { tag: '00100020', vr: 'LO', value: patientId },
    { tag: '00100030', vr: 'DA', value: '' },
    { tag: '00100040', vr: 'CS', value: 'O' },
    { tag: '0020000D', vr: 'UI', value: identity.studyInstanceUid },
    { tag: '0020000E', vr: 'UI', value: identity.seriesInstanceUid },
    { tag: '00200010', vr: 'SH', value: '1' },
    { tag: '00200011', vr: 'IS', value: '1' },
    { tag: '00200013', vr: 'IS', value: String(instanceNumber) },
  ];
}

function dates(options: SyntheticOptions): readonly WritableElement[] {
  const { studyDate = '20240131', studyTime = '120000' } = options;
  const elements: WritableElement[] = [
    { tag: '00080020', vr: 'DA', value: studyDate },
    { tag: '00080030', vr: 'TM', value: studyTime },
    { tag: '00080023', vr: 'DA', value: studyDate },
    { tag: '00080033', vr: 'TM', value: studyTime },
  ];
  const optional = [
    ['00080022', 'DA', options.acquisitionDate],
    ['00080032', 'TM', options.acquisitionTime],
    ['00080201', 'SH', options.timezoneOffset],
  ] as const;
  for (const [tag, vr, value] of optional) if (value !== undefined) elements.push({ tag, vr, value });
  return elements;
}

function imagePixel(pixels: SyntheticPixels): readonly WritableElement[] {
  const { bitsAllocated, samplesPerPixel, rows, columns, frames } = pixels;
  return [
    { tag: '00280002', vr: 'US', value: [samplesPerPixel] },
    { tag: '00280004', vr: 'CS', value: samplesPerPixel === 3 ? 'RGB' : 'MONOCHROME2' },
    ...(samplesPerPixel === 3 ? [{ tag: '00280006', vr: 'US', value: [0] }] : []),
    ...(frames > 1 ? [{ tag: '00280008', vr: 'IS', value: String(frames) }] : []),
    { tag: '00280010', vr: 'US', value: [rows] },
    { tag: '00280011', vr: 'US', value: [columns] },
    { tag: '00280100', vr: 'US', value: [bitsAllocated] },
    { tag: '00280101', vr: 'US', value: [bitsAllocated] },
    { tag: '00280102', vr: 'US', value: [bitsAllocated - 1] },
    { tag: '00280103', vr: 'US', value: [0] },
  ];
}

function plane(options: SyntheticOptions, identity: InstanceIdentity): readonly WritableElement[] {
  return [
    { tag: '00080008', vr: 'CS', value: 'ORIGINAL\\PRIMARY\\AXIAL' },
    { tag: '00180050', vr: 'DS', value: '1' },
    { tag: '00200032', vr: 'DS', value: `0\\0\\${options.instanceNumber ?? 1}` },
    { tag: '00200037', vr: 'DS', value: '1\\0\\0\\0\\1\\0' },
    { tag: '00200052', vr: 'UI', value: uidFrom(`frame of reference ${identity.seriesInstanceUid}`) },
    { tag: '00280030', vr: 'DS', value: '0.75\\0.75' },
    { tag: '00281052', vr: 'DS', value: '-1024' },
    { tag: '00281053', vr: 'DS', value: '1' },
  ];
}

/** A key object selection (PS3.3 annex A.35.4) that points at instances of the same study. */
function keyObject(identity: InstanceIdentity): readonly WritableElement[] {
  const references = Array.from({ length: KEY_OBJECT_REFERENCES }, (_, index) => [
    { tag: '00081150', vr: 'UI', value: MODALITIES.CT.sopClassUid },
    { tag: '00081155', vr: 'UI', value: uidFrom(`reference ${identity.sopInstanceUid} ${index}`) },
  ]);
  const title = [
    { tag: '00080100', vr: 'SH', value: '113000' },
    { tag: '00080102', vr: 'SH', value: 'DCM' },
    { tag: '00080104', vr: 'LO', value: 'Of Interest' },
  ];
  const evidence = [
    {
      tag: '00081115',
      vr: 'SQ',
      value: [
        [
          { tag: '00081199', vr: 'SQ', value: references },
          { tag: '0020000E', vr: 'UI', value: uidFrom(`referenced series ${identity.sopInstanceUid}`) },
        ],
      ],
    },
    { tag: '0020000D', vr: 'UI', value: identity.studyInstanceUid },
  ];
  const content = references.map((reference) => [
    { tag: '00081199', vr: 'SQ', value: [reference] },
    { tag: '0040A010', vr: 'CS', value: 'CONTAINS' },
    { tag: '0040A040', vr: 'CS', value: 'IMAGE' },
  ]);
  return [
    { tag: '0040A040', vr: 'CS', value: 'CONTAINER' },
    { tag: '0040A043', vr: 'SQ', value: [title] },
    { tag: '0040A050', vr: 'CS', value: 'SEPARATE' },
    { tag: '0040A375', vr: 'SQ', value: [evidence] },
    { tag: '0040A730', vr: 'SQ', value: content },
  ];
}

/** Procedure codes in request attributes, delimited at both levels. */
function nestedSequence(): WritableElement {
  const code = [
    { tag: '00080100', vr: 'SH', value: 'NEST' },
    { tag: '00080102', vr: 'SH', value: '99SPILLWAY' },
    { tag: '00080104', vr: 'LO', value: 'Nested' },
  ];
  const request = [{ tag: '00400008', vr: 'SQ', value: [code, code], undefinedLength: true }];
  return { tag: '00400275', vr: 'SQ', value: [request], undefinedLength: true };
}

interface SyntheticPixels extends WritablePixels {
  readonly rows: number;
  readonly columns: number;
}

function pixelsOf(options: SyntheticOptions): SyntheticPixels | undefined {
  const { bitsAllocated, samplesPerPixel, ...usual } = MODALITIES[options.modality ?? 'CT'];
  let { rows = usual.rows, columns = usual.columns } = options;
  const bytesPerPixel = (bitsAllocated / 8) * samplesPerPixel;
  if (options.pixelBytes !== undefined) {
    const pixelCount = Math.ceil(options.pixelBytes / bytesPerPixel);
    columns = Math.ceil(Math.sqrt(pixelCount));
    rows = columns === 0 ? 0 : Math.ceil(pixelCount / columns);
  }
  if (rows === 0 || columns === 0) return undefined;
  const random = seededRandom(options.seed ?? 1);
  return {
    rows,
    columns,
    frames: options.frames ?? 1,
    frameBytes: rows * columns * bytesPerPixel,
    bitsAllocated,
    samplesPerPixel,
    fill: (target) => fillWithNoise(target, random),
  };
}

let noise: Buffer | undefined;

/** Copies one shared block from random offsets, which is much faster than drawing each byte. */
function fillWithNoise(target: Uint8Array, random: () => number): void {
  noise ??= makeNoise();
  for (let at = 0; at < target.length; ) {
    const from = Math.floor(random() * (NOISE_BYTES / 2));
    at += noise.copy(target, at, from);
  }
  // Two draws may agree in their offset; the numbers that follow them do not.
  for (let at = 0; at < Math.min(target.length, 8); at += 1) target[at] = Math.floor(random() * 256);
}

function makeNoise(): Buffer {
  const random = seededRandom(0x5eed);
  const block = Buffer.allocUnsafe(NOISE_BYTES);
  for (let at = 0; at < NOISE_BYTES; at += 4) block.writeUInt32LE(Math.floor(random() * 0x1_0000_0000), at);
  return block;
}
