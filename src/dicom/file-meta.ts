import type { InstanceIdentity } from '../domain/identity.ts';
import { SpillwayError } from '../errors.ts';
import { SNIFFED_BYTES, sniffEncoding, VR_KINDS, VR_LONG, VR_NONE, vrCode } from './encoding.ts';
import { trimPadding } from './padding.ts';

const PREAMBLE_BYTES = 128;
const PREFIX = 'DICM';
/** File meta holds a dozen short elements, and perhaps private information; more than this is not file meta. */
const MAX_META_BYTES = 1024 * 1024;
const MAX_META_ELEMENTS = 256;
const META_GROUP = 0x0002;
const FIRST_GROUP = 0x0008;
const MEDIA_STORAGE_SOP_CLASS_UID = 0x00020002;
const MEDIA_STORAGE_SOP_INSTANCE_UID = 0x00020003;
const TRANSFER_SYNTAX_UID = 0x00020010;
const READ = new Set([MEDIA_STORAGE_SOP_CLASS_UID, MEDIA_STORAGE_SOP_INSTANCE_UID, TRANSFER_SYNTAX_UID]);
/** From a UUID (PS3.5 annex B.2), drawn once for spillway. */
const IMPLEMENTATION_CLASS_UID = '2.25.95287303460927315340187522398474130371';
const IMPLEMENTATION_VERSION_NAME = 'SPILLWAY';

/** What stands before a data set. */
export interface FileMeta {
  /** Preamble, prefix and group 0002 are there (PS3.10 section 7.1). */
  readonly isPart10: boolean;
  readonly transferSyntaxUid: string | undefined;
  readonly sopClassUid: string | undefined;
  readonly sopInstanceUid: string | undefined;
  /** Where the data set begins. */
  readonly dataSetOffset: number;
}

/**
 * Reads what stands before a data set: preamble, prefix and file meta (PS3.10 section 7.1; explicit VR little endian), or
 * any part of them, or nothing: a data set straight from a C-STORE. The end of file meta is found by the first element
 * outside group 0002, since (0002,0000) is often wrong or missing.
 *
 * @param isBareAllowed - Take anything without a prefix for a data set, as when its transfer syntax is known otherwise.
 * @returns how many bytes are needed at least, when `head` is not enough and more may come
 * @throws SpillwayError `SPILLWAY_NOT_DICOM`
 */
export function readFileMeta(head: Buffer, ended: boolean, isBareAllowed: boolean): FileMeta | number {
  const prefixEnd = PREAMBLE_BYTES + PREFIX.length;
  const needed = prefixEnd + SNIFFED_BYTES;
  if (head.length < needed && !ended) return needed;
  if (isPrefix(head, PREAMBLE_BYTES)) return readGroup(head, prefixEnd, ended);
  const start = isPrefix(head, 0) ? PREFIX.length : 0;
  // Without a preamble, without a prefix, or behind a damaged one.
  for (const at of [start, PREAMBLE_BYTES, prefixEnd]) {
    if (isMeta(head, at)) {
      const meta = readGroup(head, at, ended);
      return typeof meta === 'number' ? meta : { ...meta, isPart10: false };
    }
    if (isDataSet(head, at)) return bare(at);
  }
  if (isBareAllowed) return bare(start);
  throw notDicom(head.length < SNIFFED_BYTES ? `${head.length} bytes` : 'bytes that begin like neither');
}

/** Preamble, prefix and file meta (PS3.10 table 7.1-1) for a data set that came without. */
export function writeFileMeta(
  identity: {
    readonly [Name in 'sopClassUid' | 'sopInstanceUid' | 'transferSyntaxUid']: InstanceIdentity[Name];
  },
): Buffer {
  const version = Buffer.from([0, 1]);
  const elements = Buffer.concat([
    Buffer.concat([metaHeader(0x0001, 'OB'), Buffer.alloc(2), Buffer.from([2, 0, 0, 0]), version]),
    metaElement(0x0002, 'UI', identity.sopClassUid),
    metaElement(0x0003, 'UI', identity.sopInstanceUid),
    metaElement(0x0010, 'UI', identity.transferSyntaxUid),
    metaElement(0x0012, 'UI', IMPLEMENTATION_CLASS_UID),
    metaElement(0x0013, 'SH', IMPLEMENTATION_VERSION_NAME),
  ]);
  const groupLength = Buffer.concat([metaHeader(0x0000, 'UL'), Buffer.from([4, 0, 0, 0, 0, 0])]);
  groupLength.writeUInt32LE(elements.length, 8);
  return Buffer.concat([Buffer.alloc(PREAMBLE_BYTES), Buffer.from(PREFIX), groupLength, elements]);
}

function readGroup(head: Buffer, start: number, ended: boolean): FileMeta | number {
  const values = new Map<number, string>();
  let isGroup = false;
  const metaUntil = (dataSetOffset: number): FileMeta => ({
    isPart10: isGroup,
    transferSyntaxUid: usable(values.get(TRANSFER_SYNTAX_UID)),
    sopClassUid: values.get(MEDIA_STORAGE_SOP_CLASS_UID) || undefined,
    sopInstanceUid: values.get(MEDIA_STORAGE_SOP_INSTANCE_UID) || undefined,
    dataSetOffset,
  });
  for (let [at, elements] = [start, 0]; ; elements += 1) {
    if (at - start > MAX_META_BYTES) throw notDicom(`file meta of more than ${MAX_META_BYTES} bytes`);
    if (elements > MAX_META_ELEMENTS) throw notDicom(`file meta of more than ${MAX_META_ELEMENTS} elements`);
    if (at + 2 <= head.length && head.readUInt16LE(at) !== META_GROUP) return metaUntil(at);
    if (at + 12 > head.length) {
      // An element of eight bytes may be the last there is.
      if (!ended) return at + 12;
      if (at + 8 > head.length) return metaUntil(head.length);
    }
    const { tag, valueAt, length } = elementAt(head, at);
    if (length > MAX_META_BYTES) throw notDicom(`a file meta element of ${length} bytes`);
    const end = valueAt + length;
    if (end > head.length) return ended ? metaUntil(head.length) : end;
    if (READ.has(tag)) values.set(tag, trimPadding(head.toString('latin1', valueAt, end)));
    isGroup = true;
    at = end;
  }
}

/** A transfer syntax that could be no UID at all is as good as none: the data set shows how it is encoded. */
function usable(uid: string | undefined): string | undefined {
  return uid !== undefined && /^[0-9][0-9.]*$/.test(uid) ? uid : undefined;
}

/** File meta is explicit VR; some wrote it in implicit VR all the same. */
function elementAt(head: Buffer, at: number): { tag: number; valueAt: number; length: number } {
  const tag = head.readUInt16LE(at) * 0x10000 + head.readUInt16LE(at + 2);
  const kind = VR_KINDS[head.readUInt16BE(at + 4)];
  if (kind === VR_NONE) return { tag, valueAt: at + 8, length: head.readUInt32LE(at + 4) };
  if (kind !== VR_LONG) return { tag, valueAt: at + 8, length: head.readUInt16LE(at + 6) };
  return { tag, valueAt: at + 12, length: at + 12 > head.length ? 0 : head.readUInt32LE(at + 8) };
}

function isPrefix(head: Buffer, at: number): boolean {
  return head.toString('latin1', at, at + PREFIX.length) === PREFIX;
}

function isMeta(head: Buffer, at: number): boolean {
  if (head.length - at < SNIFFED_BYTES) return false;
  return head.readUInt16LE(at) === META_GROUP && VR_KINDS[head.readUInt16BE(at + 4)] !== VR_NONE;
}

/** Every data set of an instance begins in group 0008: (0008,0016) is mandatory (PS3.3 C.12.1). */
function isDataSet(head: Buffer, at: number): boolean {
  const encoding = sniffEncoding(head, at);
  if (encoding === undefined) return false;
  return (encoding.bigEndian ? head.readUInt16BE(at) : head.readUInt16LE(at)) === FIRST_GROUP;
}

function bare(dataSetOffset: number): FileMeta {
  return {
    isPart10: false,
    transferSyntaxUid: undefined,
    sopClassUid: undefined,
    sopInstanceUid: undefined,
    dataSetOffset,
  };
}

function metaHeader(element: number, vr: string): Buffer {
  const header = Buffer.alloc(6);
  header.writeUInt16LE(META_GROUP, 0);
  header.writeUInt16LE(element, 2);
  header.writeUInt16BE(vrCode(vr), 4);
  return header;
}

function metaElement(element: number, vr: string, text: string): Buffer {
  const isOdd = text.length % 2 === 1;
  const value = Buffer.from(isOdd ? text + (vr === 'UI' ? '\0' : ' ') : text, 'latin1');
  const length = Buffer.alloc(2);
  length.writeUInt16LE(value.length);
  return Buffer.concat([metaHeader(element, vr), length, value]);
}

function notDicom(came: string): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_NOT_DICOM',
    `Expected a DICOM file (128 bytes of preamble, then "DICM", then file meta; PS3.10 section 7.1) or a data set, ` +
      `got ${came}. Check what the sender sends; nothing was kept.`,
  );
}
