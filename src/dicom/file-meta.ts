import { SpillwayError } from '../errors.ts';

const PREAMBLE_BYTES = 128;
const META_START = PREAMBLE_BYTES + 4;
/** File meta holds a dozen short elements; more than this is not file meta. */
const MAX_META_BYTES = 1024 * 1024;
const TRANSFER_SYNTAX_UID = 0x00020010;

export interface FileMeta {
  readonly transferSyntaxUid: string | undefined;
  /** Where the data set begins. */
  readonly dataSetOffset: number;
}

/**
 * Reads preamble, prefix and file meta (PS3.10 section 7.1; always explicit VR little endian) from the beginning of a
 * file. The end is found by the first element outside group 0002, since (0002,0000) is often wrong or missing.
 * Returns undefined when more bytes are needed.
 *
 * @param ended - No more bytes will come.
 */
export function readFileMeta(head: Buffer, ended: boolean): FileMeta | undefined {
  if (head.length < META_START) {
    if (!ended) return undefined;
    throw notDicom(`${head.length} bytes`);
  }
  if (head.toString('latin1', PREAMBLE_BYTES, META_START) !== 'DICM') {
    throw notDicom(`other bytes in that place`);
  }
  let transferSyntaxUid: string | undefined;
  let at = META_START;
  for (;;) {
    if (at - META_START > MAX_META_BYTES) throw notDicom(`file meta of more than ${MAX_META_BYTES} bytes`);
    if (at + 2 <= head.length && head.readUInt16LE(at) !== 0x0002) return { transferSyntaxUid, dataSetOffset: at };
    const element = metaElement(head, at);
    if (element === undefined) return ended ? { transferSyntaxUid, dataSetOffset: head.length } : undefined;
    if (element.tag === TRANSFER_SYNTAX_UID) {
      const text = head.toString('latin1', element.valueAt, element.end).replace(/[\0 ]+$/, '');
      if (text !== '') transferSyntaxUid = text;
    }
    at = element.end;
  }
}

function metaElement(head: Buffer, at: number): { tag: number; valueAt: number; end: number } | undefined {
  if (at + 8 > head.length) return undefined;
  const tag = head.readUInt16LE(at) * 0x10000 + head.readUInt16LE(at + 2);
  const isLong = /^(O[BDFLVW]|S[QV]|U[CNRTV])$/.test(head.toString('latin1', at + 4, at + 6));
  if (isLong && at + 12 > head.length) return undefined;
  const valueAt = at + (isLong ? 12 : 8);
  const length = isLong ? head.readUInt32LE(at + 8) : head.readUInt16LE(at + 6);
  if (length > MAX_META_BYTES) throw notDicom(`a file meta element of ${length} bytes`);
  return valueAt + length > head.length ? undefined : { tag, valueAt, end: valueAt + length };
}

/** Whether the first element of a data set carries a VR. */
export function sniffExplicitVr(dataSet: Buffer): boolean {
  return /^[A-Z]{2}$/.test(dataSet.toString('latin1', 4, 6));
}

function notDicom(came: string): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_NOT_DICOM',
    `Expected a DICOM file (128 bytes of preamble, then "DICM", then file meta; PS3.10 section 7.1), got ${came}. ` +
      'Check what the sender sends; nothing was kept.',
  );
}
