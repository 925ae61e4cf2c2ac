/** How a data set is encoded (PS3.5 annex A), apart from compression. */
export interface DataSetEncoding {
  readonly explicitVr: boolean;
  readonly bigEndian: boolean;
}

/** `unreadable`: what follows some point is no data set; what was read before stands. */
export type ScanEnd = 'whole' | 'truncated' | 'unreadable';

const ITEM = 0xfffee000;
const ITEM_END = 0xfffee00d;
const SEQUENCE_END = 0xfffee0dd;
const PIXEL_DATA = 0x7fe00010;
const UNDEFINED_LENGTH = 0xffffffff;
const MAX_VALUE_BYTES = 4096;
/** Levels cost eight bytes each; real objects need fewer than twenty. */
const MAX_DEPTH = 65_536;
// VRs with a 32-bit length after two reserved bytes (PS3.5 section 7.1.2).
const LONG_VRS = new Set(
  ['OB', 'OD', 'OF', 'OL', 'OV', 'OW', 'SQ', 'SV', 'UC', 'UN', 'UR', 'UT', 'UV'].map(
    (vr) => (vr.charCodeAt(0) << 8) | vr.charCodeAt(1),
  ),
);
const UN = ('U'.charCodeAt(0) << 8) | 'N'.charCodeAt(0);

// What an open level of undefined length may hold.
const IN_SEQUENCE = 0;
const IN_ITEM = 1;
const IN_FRAGMENTS = 2;
/** Added to a level's kind when closing it must restore explicit VR. */
const RESTORES_EXPLICIT = 4;

/**
 * Walks a data set that arrives in chunks, hands over the wanted top-level values, and skips all else by its length:
 * no pixel data is kept, and nesting is a counter, not a call stack. Memory is bounded by one wanted value.
 *
 * A small scanner of our own rather than a library: see docs/decisions/0002-own-header-reader.md.
 */
export class ElementScanner {
  #explicit: boolean;
  readonly #bigEndian: boolean;
  readonly #wanted: ReadonlyMap<number, string>;
  readonly #onValue: (keyword: string, value: Buffer) => void;
  readonly #levels: number[] = [];
  #carry: Buffer = Buffer.alloc(0);
  #skip = 0;
  #unreadable = false;

  constructor(
    encoding: DataSetEncoding,
    wanted: ReadonlyMap<number, string>,
    onValue: (keyword: string, value: Buffer) => void,
  ) {
    this.#explicit = encoding.explicitVr;
    this.#bigEndian = encoding.bigEndian;
    this.#wanted = wanted;
    this.#onValue = onValue;
  }

  /** Takes the next bytes; keeps no reference to them. */
  feed(chunk: Buffer): void {
    if (this.#unreadable) return;
    if (this.#skip >= chunk.length) {
      this.#skip -= chunk.length;
      return;
    }
    const data = this.#carry.length > 0 ? Buffer.concat([this.#carry, chunk]) : chunk;
    let position = 0;
    while (!this.#unreadable) {
      const skipped = Math.min(this.#skip, data.length - position);
      position += skipped;
      this.#skip -= skipped;
      if (this.#skip > 0) break;
      const consumed = this.#element(data, position);
      if (consumed === 0) break;
      position += consumed;
    }
    // A copy, since the caller may reuse the chunk.
    this.#carry = this.#unreadable ? Buffer.alloc(0) : Buffer.from(data.subarray(position));
  }

  /** Says whether the data set ended where an element ended. */
  end(): ScanEnd {
    if (this.#unreadable) return 'unreadable';
    return this.#skip > 0 || this.#carry.length > 0 || this.#levels.length > 0 ? 'truncated' : 'whole';
  }

  /** Reads the element at `at`; returns how many bytes it took, 0 when more are needed. */
  #element(data: Buffer, at: number): number {
    if (data.length - at < 8) return 0;
    const tag = (this.#u16(data, at) * 0x10000 + this.#u16(data, at + 2)) >>> 0;
    if (tag >>> 16 === 0xfffe) return this.#delimiter(tag, this.#u32(data, at + 4));
    const level = this.#levels.at(-1);
    if (level !== undefined && (level & 3) !== IN_ITEM) return this.#giveUp();

    let headerBytes = 8;
    let vr = 0;
    let length: number;
    if (this.#explicit) {
      vr = (data[at + 4] ?? 0) * 256 + (data[at + 5] ?? 0);
      if (!isVr(vr)) return this.#giveUp();
      if (LONG_VRS.has(vr)) {
        headerBytes = 12;
        if (data.length - at < headerBytes) return 0;
        length = this.#u32(data, at + 8);
      } else {
        length = this.#u16(data, at + 6);
      }
    } else {
      length = this.#u32(data, at + 4);
    }

    const topLevel = level === undefined;
    if (length === UNDEFINED_LENGTH) {
      this.#open(topLevel && tag === PIXEL_DATA ? IN_FRAGMENTS : IN_SEQUENCE, vr === UN);
      return headerBytes;
    }
    const keyword = topLevel ? this.#wanted.get(tag) : undefined;
    if (keyword !== undefined && length <= MAX_VALUE_BYTES) {
      if (data.length - at < headerBytes + length) return 0;
      this.#onValue(keyword, data.subarray(at + headerBytes, at + headerBytes + length));
      return headerBytes + length;
    }
    this.#skip = length;
    return headerBytes;
  }

  #delimiter(tag: number, length: number): number {
    const level = this.#levels.at(-1);
    const kind = level === undefined ? undefined : level & 3;
    if (tag === ITEM && kind !== undefined && kind !== IN_ITEM) {
      if (length !== UNDEFINED_LENGTH) this.#skip = length;
      else if (kind === IN_SEQUENCE) this.#open(IN_ITEM, false);
      else return this.#giveUp();
      return 8;
    }
    const closes = (tag === ITEM_END && kind === IN_ITEM) || (tag === SEQUENCE_END && kind !== IN_ITEM);
    if (!closes || level === undefined) return this.#giveUp();
    this.#levels.pop();
    if ((level & RESTORES_EXPLICIT) !== 0) this.#explicit = true;
    return 8;
  }

  #open(kind: number, unknownVr: boolean): void {
    if (this.#levels.length >= MAX_DEPTH) {
      this.#giveUp();
      return;
    }
    // A sequence under VR UN is encoded in implicit VR, whatever surrounds it (PS3.5 section 6.2.2 note 2).
    const restores = unknownVr && this.#explicit;
    this.#levels.push(restores ? kind | RESTORES_EXPLICIT : kind);
    if (restores) this.#explicit = false;
  }

  #giveUp(): number {
    this.#unreadable = true;
    return 0;
  }

  #u16(data: Buffer, at: number): number {
    return this.#bigEndian ? data.readUInt16BE(at) : data.readUInt16LE(at);
  }

  #u32(data: Buffer, at: number): number {
    return this.#bigEndian ? data.readUInt32BE(at) : data.readUInt32LE(at);
  }
}

function isVr(vr: number): boolean {
  const first = vr >>> 8;
  const second = vr & 0xff;
  return first >= 0x41 && first <= 0x5a && second >= 0x41 && second <= 0x5a;
}
