/** Elements byte by byte, little endian: for data sets that no writer would write. */

export const ITEM = 0xfffee000;
export const ITEM_END = 0xfffee00d;
export const SEQUENCE_END = 0xfffee0dd;
export const UNDEFINED_LENGTH = 0xffffffff;

const LONG_VRS = new Set(['OB', 'OW', 'SQ', 'UN', 'UT']);

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function tag(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(value >>> 16, 0);
  bytes.writeUInt16LE(value & 0xffff, 2);
  return bytes;
}

/** An element in explicit VR; text is padded with NUL. */
export function element(elementTag: number, vr: string, value: string | Buffer): Buffer {
  const bytes = padded(value);
  const length = Buffer.alloc(2);
  if (!LONG_VRS.has(vr)) length.writeUInt16LE(bytes.length);
  return Buffer.concat([
    tag(elementTag),
    Buffer.from(vr),
    ...(LONG_VRS.has(vr) ? [Buffer.alloc(2), u32(bytes.length)] : [length]),
    bytes,
  ]);
}

/** An element in implicit VR. */
export function implicitElement(elementTag: number, value: string | Buffer): Buffer {
  const bytes = padded(value);
  return Buffer.concat([delimiter(elementTag, bytes.length), bytes]);
}

/** A tag and a length: an item, a delimiter, or the head of an element in implicit VR. */
export function delimiter(elementTag: number, length = UNDEFINED_LENGTH): Buffer {
  return Buffer.concat([tag(elementTag), u32(length)]);
}

/** The head of an element of undefined length in explicit VR. */
export function open(elementTag: number, vr = 'SQ'): Buffer {
  return Buffer.concat([tag(elementTag), Buffer.from(`${vr}\0\0`), u32(UNDEFINED_LENGTH)]);
}

/** A delimited sequence with one delimited item: its head, the item's content. */
export function sequence(head: Buffer, ...content: readonly Buffer[]): Buffer {
  return Buffer.concat([head, delimiter(ITEM), ...content, delimiter(ITEM_END, 0), delimiter(SEQUENCE_END, 0)]);
}

/** SOP class 1.2.16, instance 1.2.18, study 1.2.13, series 1.2.14. */
export function identityElements(write: (elementTag: number, value: string) => Buffer = explicitUid): Buffer[] {
  return [
    write(0x00080016, '1.2.16'),
    write(0x00080018, '1.2.18'),
    write(0x0020000d, '1.2.13'),
    write(0x0020000e, '1.2.14'),
  ];
}

/** A Part 10 file with a transfer syntax for its only file meta. */
export function part10(transferSyntaxUid: string, ...dataSet: readonly Buffer[]): Buffer {
  return Buffer.concat([prefix(), element(0x00020010, 'UI', transferSyntaxUid), ...dataSet]);
}

/** The preamble and what follows it. */
export function prefix(): Buffer {
  return Buffer.concat([Buffer.alloc(128), Buffer.from('DICM')]);
}

function explicitUid(elementTag: number, value: string): Buffer {
  return element(elementTag, 'UI', value);
}

function padded(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  return bytes.length % 2 === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(1)]);
}
