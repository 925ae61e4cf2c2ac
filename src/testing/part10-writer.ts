import { deflateRawSync } from 'node:zlib';

/** The encodings that the writer knows, with their transfer syntax UIDs (PS3.5 annex A). */
export const TRANSFER_SYNTAXES = {
  'explicit-little': '1.2.840.10008.1.2.1',
  'implicit-little': '1.2.840.10008.1.2',
  deflated: '1.2.840.10008.1.2.1.99',
  'explicit-big': '1.2.840.10008.1.2.2',
  rle: '1.2.840.10008.1.2.5',
} as const;

export type TransferSyntaxName = keyof typeof TRANSFER_SYNTAXES;

/** One element of a data set to write. */
export interface WritableElement {
  /** Group and element as eight hexadecimal digits, such as `00080018`. */
  readonly tag: string;
  readonly vr: string;
  /** Text (padded as its VR asks), numbers (US, UL), bytes as they are, or a sequence's items. */
  readonly value: string | readonly number[] | Uint8Array | readonly (readonly WritableElement[])[];
  /** Sequences only: the sequence and its items are delimited rather than of known length. */
  readonly undefinedLength?: boolean;
}

/** Pixel data, written straight into the file's buffer: `fill` gives the bytes of one frame. */
export interface WritablePixels {
  readonly frames: number;
  readonly frameBytes: number;
  /** Writes the frame's bytes over all of `target`. */
  fill(target: Uint8Array, frame: number): void;
  readonly bitsAllocated: 8 | 16;
  readonly samplesPerPixel: number;
}

const LONG_VRS = new Set(['OB', 'OD', 'OF', 'OL', 'OV', 'OW', 'SQ', 'SV', 'UC', 'UN', 'UR', 'UT', 'UV']);
const NUL_PADDED_VRS = new Set(['OB', 'UI', 'UN']);
const UNDEFINED_LENGTH = 0xffffffff;
const ITEM = 'fffee000';
const ITEM_END = 'fffee00d';
const SEQUENCE_END = 'fffee0dd';
const PIXEL_DATA = '7fe00010';
const MAX_LITERAL_RUN = 128;

interface Encoding {
  readonly explicitVr: boolean;
  readonly bigEndian: boolean;
}

/**
 * Writes a Part 10 file (PS3.10 section 7): preamble, prefix, file meta with a correct (0002,0000), data set.
 *
 * @param meta - Elements of group 0002 without the group length, in ascending order.
 * @param elements - The data set without pixel data, in ascending order.
 */
export function writePart10(
  meta: readonly WritableElement[],
  elements: readonly WritableElement[],
  pixels: WritablePixels | undefined,
  syntax: TransferSyntaxName,
): Uint8Array {
  const metaBytes = encode(meta, { explicitVr: true, bigEndian: false });
  const groupLength = encode([{ tag: '00020000', vr: 'UL', value: [metaBytes.length] }], {
    explicitVr: true,
    bigEndian: false,
  });
  const head = Buffer.concat([Buffer.alloc(128), Buffer.from('DICM'), groupLength, metaBytes]);
  const encoding = { explicitVr: syntax !== 'implicit-little', bigEndian: syntax === 'explicit-big' };
  const dataSet = encode(elements, encoding);
  if (syntax === 'deflated') {
    const plain = Buffer.concat([dataSet, ...(pixels === undefined ? [] : [nativePixels(pixels, encoding)])]);
    const deflated = deflateRawSync(plain, { level: 1 });
    // An odd length is padded with one NUL (PS3.5 annex A.5).
    return Buffer.concat([head, deflated, Buffer.alloc(deflated.length % 2)]);
  }
  if (pixels === undefined) return Buffer.concat([head, dataSet]);
  const pixelElement = syntax === 'rle' ? rlePixels(pixels) : nativePixels(pixels, encoding, [head, dataSet]);
  return syntax === 'rle' ? Buffer.concat([head, dataSet, pixelElement]) : pixelElement;
}

function encode(elements: readonly WritableElement[], encoding: Encoding): Buffer {
  return Buffer.concat(elements.flatMap((element) => encodeElement(element, encoding)));
}

function encodeElement(element: WritableElement, encoding: Encoding): readonly Buffer[] {
  const { tag, vr, value } = element;
  if (vr === 'SQ') return encodeSequence(element, encoding);
  let bytes: Buffer;
  if (typeof value === 'string') bytes = Buffer.from(value, 'utf8');
  else if (value instanceof Uint8Array) bytes = Buffer.from(value);
  else bytes = encodeNumbers(vr, value, encoding);
  const padding = Buffer.alloc(bytes.length % 2, NUL_PADDED_VRS.has(vr) ? 0 : 0x20);
  return [elementHeader(tag, vr, bytes.length + padding.length, encoding), bytes, padding];
}

function encodeNumbers(vr: string, values: readonly unknown[], { bigEndian }: Encoding): Buffer {
  const size = vr === 'US' ? 2 : 4;
  const bytes = Buffer.alloc(values.length * size);
  for (const [index, value] of values.entries()) {
    if (bigEndian) bytes.writeUIntBE(Number(value), index * size, size);
    else bytes.writeUIntLE(Number(value), index * size, size);
  }
  return bytes;
}

function encodeSequence(element: WritableElement, encoding: Encoding): readonly Buffer[] {
  const items = (Array.isArray(element.value) ? element.value : []) as readonly (readonly WritableElement[])[];
  const isDelimited = element.undefinedLength === true;
  const body = items.flatMap((item) => {
    const content = encode(item, encoding);
    return isDelimited
      ? [delimiter(ITEM, UNDEFINED_LENGTH, encoding), content, delimiter(ITEM_END, 0, encoding)]
      : [delimiter(ITEM, content.length, encoding), content];
  });
  const length = isDelimited ? UNDEFINED_LENGTH : body.reduce((sum, bytes) => sum + bytes.length, 0);
  const header = elementHeader(element.tag, 'SQ', length, encoding);
  return isDelimited ? [header, ...body, delimiter(SEQUENCE_END, 0, encoding)] : [header, ...body];
}

function elementHeader(tag: string, vr: string, length: number, encoding: Encoding): Buffer {
  if (!encoding.explicitVr) return delimiter(tag, length, encoding);
  const isLong = LONG_VRS.has(vr);
  const header = Buffer.alloc(isLong ? 12 : 8);
  writeTag(header, tag, encoding);
  header.write(vr, 4, 'latin1');
  if (isLong) writeLength(header, length, 8, encoding);
  else if (encoding.bigEndian) header.writeUInt16BE(length, 6);
  else header.writeUInt16LE(length, 6);
  return header;
}

/** A tag and a 32-bit length without a VR: what items have in every encoding. */
function delimiter(tag: string, length: number, encoding: Encoding): Buffer {
  const header = Buffer.alloc(8);
  writeTag(header, tag, encoding);
  writeLength(header, length, 4, encoding);
  return header;
}

function writeTag(target: Buffer, tag: string, { bigEndian }: Encoding): void {
  const group = Number.parseInt(tag.slice(0, 4), 16);
  const element = Number.parseInt(tag.slice(4), 16);
  if (bigEndian) {
    target.writeUInt16BE(group, 0);
    target.writeUInt16BE(element, 2);
  } else {
    target.writeUInt16LE(group, 0);
    target.writeUInt16LE(element, 2);
  }
}

function writeLength(target: Buffer, length: number, at: number, { bigEndian }: Encoding): void {
  if (bigEndian) target.writeUInt32BE(length, at);
  else target.writeUInt32LE(length, at);
}

/** The pixel data element after `before`, in one allocation, since images are what takes the time. */
function nativePixels(pixels: WritablePixels, encoding: Encoding, before: readonly Buffer[] = []): Buffer {
  const size = pixels.frames * pixels.frameBytes;
  const padded = size + (size % 2);
  const vr = pixels.bitsAllocated === 8 && encoding.explicitVr ? 'OB' : 'OW';
  const lead = Buffer.concat([...before, elementHeader(PIXEL_DATA, vr, padded, encoding)]);
  const whole = Buffer.allocUnsafe(lead.length + padded);
  lead.copy(whole);
  for (let frame = 0; frame < pixels.frames; frame += 1) {
    const start = lead.length + frame * pixels.frameBytes;
    pixels.fill(whole.subarray(start, start + pixels.frameBytes), frame);
  }
  if (padded > size) whole[whole.length - 1] = 0;
  return whole;
}

/** Encapsulated pixel data of undefined length: offset table, then a fragment for each frame (PS3.5 annexes A.4, G). */
function rlePixels(pixels: WritablePixels): Buffer {
  const little = { explicitVr: true, bigEndian: false };
  const fragments: Buffer[] = [];
  const offsets: number[] = [];
  let offset = 0;
  const plane = Buffer.alloc(pixels.frameBytes);
  for (let frame = 0; frame < pixels.frames; frame += 1) {
    pixels.fill(plane, frame);
    const fragment = rleFrame(plane, (pixels.bitsAllocated / 8) * pixels.samplesPerPixel);
    offsets.push(offset);
    fragments.push(delimiter(ITEM, fragment.length, little), fragment);
    offset += 8 + fragment.length;
  }
  const table = encodeNumbers('UL', offsets, little);
  return Buffer.concat([
    elementHeader(PIXEL_DATA, 'OB', UNDEFINED_LENGTH, little),
    delimiter(ITEM, table.length, little),
    table,
    ...fragments,
    delimiter(SEQUENCE_END, 0, little),
  ]);
}

/** One frame as RLE in literal runs only, since noise has no others; `planes` are taken as its byte planes in order. */
function rleFrame(planes: Buffer, segments: number): Buffer {
  const segmentBytes = planes.length / segments;
  const header = Buffer.alloc(64);
  header.writeUInt32LE(segments, 0);
  const encoded: Buffer[] = [header];
  let offset = header.length;
  for (let segment = 0; segment < segments; segment += 1) {
    header.writeUInt32LE(offset, 4 + segment * 4);
    const runs: Buffer[] = [];
    for (let at = 0; at < segmentBytes; at += MAX_LITERAL_RUN) {
      const start = segment * segmentBytes + at;
      const run = planes.subarray(start, start + Math.min(MAX_LITERAL_RUN, segmentBytes - at));
      runs.push(Buffer.of(run.length - 1), Buffer.from(run));
    }
    const bytes = Buffer.concat(runs);
    encoded.push(bytes, Buffer.alloc(bytes.length % 2));
    offset += bytes.length + (bytes.length % 2);
  }
  return Buffer.concat(encoded);
}
