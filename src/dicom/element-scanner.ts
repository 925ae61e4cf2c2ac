import type { Oddity } from '../domain/oddity.ts';
import {
  HEADER_ATTRIBUTES,
  type HeaderAttribute,
  REQUEST_ATTRIBUTES,
  REQUEST_ATTRIBUTES_SEQUENCE,
} from './attributes.ts';
import {
  type DataSetEncoding,
  SNIFFED_BYTES,
  sniffEncoding,
  VR_KINDS,
  VR_LONG,
  VR_NONE,
  VR_SHORT,
  VR_UNKNOWN,
  vrCode,
} from './encoding.ts';

/** `unreadable`: what follows some point is no data set; what was read before stands. */
export type ScanEnd = 'whole' | 'truncated' | 'unreadable';

/** What a scanner tells of. */
export interface ScanListener {
  /**
   * A wanted value: `data` from `start` to `end`, valid during the call.
   *
   * @param requested - It stands in an item of the Request Attributes Sequence.
   */
  value(attribute: HeaderAttribute, data: Buffer, start: number, end: number, requested: boolean): void;
  /** May come more than once. */
  oddity(oddity: Oddity): void;
}

const ITEM = 0xfffee000;
const ITEM_END = 0xfffee00d;
const SEQUENCE_END = 0xfffee0dd;
const DELIMITERS_GROUP = 0xfffe;
const PIXEL_DATA = 0x7fe00010;
const UNDEFINED_LENGTH = 0xffffffff;
/** Longer than any value that is read may be, in any character set (PS3.5 table 6.2-1). */
const MAX_VALUE_BYTES = 1024;
/** Levels cost a few bytes each; real objects need fewer than twenty. */
const MAX_DEPTH = 65_536;
/** An element without a VR amid others that have one is believed up to this length. */
const MAX_MISFIT_BYTES = 16 * 1024 * 1024;
const UN = vrCode('UN');
/** A value with a 16-bit length, and the header of the element behind it. */
const MAX_LOOK_AHEAD = 8 + 65_535 + 8;

// What an open level may hold, and at the top.
const IN_SEQUENCE = 0;
const IN_ITEM = 1;
const IN_FRAGMENTS = 2;
const AT_TOP = 3;
const KIND = 3;
// Added to a level's kind.
const RESTORES_EXPLICIT = 4;
const RESTORES_BIG_ENDIAN = 8;
const IS_UNKNOWN = 16;
const IS_REQUEST = 32;

/**
 * Walks a data set that arrives in chunks, hands over the wanted values, and skips all else by its length: no pixel data
 * is kept, and nesting is a list, not a call stack. Memory is bounded by one wanted value and `MAX_DEPTH` levels.
 * Whatever is no proper data set is stepped over where there is a way on, for what identifies the instance may follow.
 *
 * A small scanner of our own rather than a library: see docs/decisions/0002-own-header-reader.md.
 */
export class ElementScanner {
  #explicit: boolean;
  #bigEndian: boolean;
  readonly #listener: ScanListener;
  readonly #levels: number[] = [];
  /** Where each level ends, in bytes from the beginning of the data set; infinite for one of undefined length. */
  readonly #ends: number[] = [];
  /** Open levels under VR UN. */
  #unknown = 0;
  #lastTag = 0;
  #carry: Buffer = Buffer.alloc(0);
  /** Bytes of the data set before `#carry`, or before the chunk in hand. */
  #offset = 0;
  #skip = 0;
  #isSniffed = false;
  #isUnreadable = false;
  #isEncapsulated = false;
  #isEnding = false;

  constructor(encoding: DataSetEncoding, listener: ScanListener) {
    this.#explicit = encoding.explicitVr;
    this.#bigEndian = encoding.bigEndian;
    this.#listener = listener;
  }

  /** Whether numbers are big endian at the present place. */
  get isBigEndian(): boolean {
    return this.#bigEndian;
  }

  /** Whether pixel data in fragments was met (PS3.5 annex A.4). */
  get isEncapsulated(): boolean {
    return this.#isEncapsulated;
  }

  /** Takes the next bytes; keeps no reference to them. */
  feed(chunk: Buffer): void {
    if (this.#isUnreadable) return;
    if (this.#skip > 0 && this.#skip >= chunk.length) {
      this.#skip -= chunk.length;
      this.#offset += chunk.length;
      return;
    }
    const data = this.#carry.length > 0 ? Buffer.concat([this.#carry, chunk]) : chunk;
    if (!this.#isSniffed) this.#sniff(data);
    let position = 0;
    while (!this.#isUnreadable) {
      const skipped = Math.min(this.#skip, data.length - position);
      position += skipped;
      this.#skip -= skipped;
      if (this.#skip > 0) break;
      const consumed = this.#next(data, position);
      if (consumed === 0) break;
      position += consumed;
    }
    this.#offset += position;
    // A copy, since the caller may reuse the chunk.
    this.#carry = this.#isUnreadable ? Buffer.alloc(0) : Buffer.from(data.subarray(position));
  }

  /** Says whether the data set ended where an element ended. */
  end(): ScanEnd {
    this.#isEnding = true;
    // What waited for more than there is.
    if (this.#carry.length > 0) this.feed(Buffer.alloc(0));
    if (this.#isUnreadable) return 'unreadable';
    const isOpen = this.#ends.some((end) => end > this.#offset);
    return this.#skip > 0 || this.#carry.length > 0 || isOpen ? 'truncated' : 'whole';
  }

  /** What a transfer syntax says is sometimes not how the data set is. */
  #sniff(data: Buffer): void {
    // Less than that is no element, and nothing is read of it.
    if (data.length < SNIFFED_BYTES) return;
    this.#isSniffed = true;
    const found = sniffEncoding(data, 0);
    if (found === undefined) return;
    if (found.explicitVr === this.#explicit && found.bigEndian === this.#bigEndian) return;
    this.#listener.oddity('transfer-syntax-mismatch');
    this.#explicit = found.explicitVr;
    this.#bigEndian = found.bigEndian;
  }

  /** Reads what stands at `at`; returns how many bytes it took, 0 when more are needed. */
  #next(data: Buffer, at: number): number {
    while ((this.#ends.at(-1) ?? Number.POSITIVE_INFINITY) <= this.#offset + at) this.#close();
    if (data.length - at < 8) return 0;
    const tag = (this.#u16(data, at) * 0x10000 + this.#u16(data, at + 2)) >>> 0;
    if (tag >>> 16 === DELIMITERS_GROUP) return this.#delimiter(tag, this.#u32(data, at + 4), at);
    if (this.#kind() === IN_FRAGMENTS) return this.#giveUp();
    if (this.#kind() === IN_SEQUENCE) {
      // Its delimiter was lost.
      this.#malformed();
      this.#close();
    }
    return this.#element(data, at, tag);
  }

  #element(data: Buffer, at: number, tag: number): number {
    let headerBytes = 8;
    let vr = 0;
    let length = this.#u32(data, at + 4);
    if (this.#hasVr(data, at)) {
      vr = (data[at + 4] ?? 0) * 256 + (data[at + 5] ?? 0);
      if (isLong(data, at, vr)) {
        headerBytes = 12;
        if (data.length - at < headerBytes) return 0;
        length = this.#u32(data, at + 8);
      } else {
        length = this.#u16(data, at + 6);
      }
    } else if (this.#explicit) {
      const short = this.#u16(data, at + 6);
      if (data.length - at < Math.min(8 + short + 8, MAX_LOOK_AHEAD) && !this.#isEnding) return 0;
      if (this.#isElementAt(data, at + 8 + short, tag)) {
        // Its VR is rubbish, but what follows its length is an element.
        length = short;
      } else if (!this.#isCredible(tag, length)) {
        return this.#giveUp();
      }
      // Else its VR was left out, as some writers do, of private elements or inside sequences.
      this.#malformed();
    }

    const depth = this.#levels.length;
    if (depth === 0) this.#lastTag = tag;
    const isRequest = depth === 0 && tag === REQUEST_ATTRIBUTES_SEQUENCE;
    if (length === UNDEFINED_LENGTH) {
      const inFragments = depth === 0 && tag === PIXEL_DATA;
      if (inFragments) this.#isEncapsulated = true;
      const kind = inFragments ? IN_FRAGMENTS : IN_SEQUENCE;
      this.#open(isRequest ? kind | IS_REQUEST : kind, Number.POSITIVE_INFINITY, vr === UN);
      return headerBytes;
    }
    if (isRequest) {
      this.#open(IN_SEQUENCE | IS_REQUEST, this.#offset + at + headerBytes + length, vr === UN);
      return headerBytes;
    }
    return headerBytes + this.#value(data, at + headerBytes, tag, length, headerBytes);
  }

  /** Returns how many bytes of the value were taken; minus `headerBytes` when more are needed. */
  #value(data: Buffer, start: number, tag: number, length: number, headerBytes: number): number {
    const attribute = this.#wanted(tag);
    if (attribute !== undefined && length <= MAX_VALUE_BYTES) {
      if (data.length - start < length) return -headerBytes;
      this.#listener.value(attribute, data, start, start + length, this.#levels.length > 0);
      return length;
    }
    if (attribute !== undefined) this.#listener.oddity('value-too-long');
    this.#skip = length;
    return 0;
  }

  #wanted(tag: number): HeaderAttribute | undefined {
    const depth = this.#levels.length;
    if (depth === 0) return HEADER_ATTRIBUTES.get(tag);
    const isRequestItem = depth === 2 && ((this.#levels[0] ?? 0) & IS_REQUEST) !== 0;
    return isRequestItem ? REQUEST_ATTRIBUTES.get(tag) : undefined;
  }

  #delimiter(tag: number, length: number, at: number): number {
    if (tag === ITEM) return this.#item(length, at);
    const kind = this.#kind();
    if (tag === ITEM_END && kind === IN_ITEM) {
      this.#close();
    } else if (tag === ITEM_END && kind === IN_SEQUENCE) {
      // Some put one behind an item of known length, which has ended by then.
    } else if (tag === SEQUENCE_END && kind !== AT_TOP) {
      if (kind === IN_ITEM) {
        this.#malformed();
        this.#close();
      }
      if (this.#ends.at(-1) === Number.POSITIVE_INFINITY) this.#close();
    } else {
      this.#malformed();
    }
    return 8;
  }

  #item(length: number, at: number): number {
    if (this.#kind() === IN_ITEM) {
      // The delimiter of the item before it was lost.
      this.#malformed();
      this.#close();
    }
    const level = this.#levels.at(-1);
    if (level === undefined) this.#malformed();
    const isRequest = level !== undefined && (level & IS_REQUEST) !== 0;
    if (length === UNDEFINED_LENGTH) {
      if (this.#kind() === IN_FRAGMENTS) return this.#giveUp();
      this.#open(IN_ITEM, Number.POSITIVE_INFINITY, false);
    } else if (isRequest) {
      this.#open(IN_ITEM, this.#offset + at + 8 + length, false);
    } else {
      this.#skip = length;
    }
    return 8;
  }

  #open(kind: number, end: number, isUnknown: boolean): void {
    if (this.#levels.length >= MAX_DEPTH) {
      this.#giveUp();
      return;
    }
    let level = kind;
    if (isUnknown) {
      // A sequence under VR UN is encoded in implicit VR little endian, whatever surrounds it (PS3.5 section 6.2.2).
      level |= IS_UNKNOWN | (this.#explicit ? RESTORES_EXPLICIT : 0) | (this.#bigEndian ? RESTORES_BIG_ENDIAN : 0);
      this.#explicit = false;
      this.#bigEndian = false;
      this.#unknown += 1;
    }
    this.#levels.push(level);
    // What claims to be longer than what it stands in does not swallow what follows that.
    this.#ends.push(Math.min(end, this.#endOfParent(end)));
  }

  #close(): void {
    const level = this.#levels.pop() ?? 0;
    this.#ends.pop();
    if ((level & IS_UNKNOWN) === 0) return;
    this.#explicit = (level & RESTORES_EXPLICIT) !== 0;
    this.#bigEndian = (level & RESTORES_BIG_ENDIAN) !== 0;
    this.#unknown -= 1;
  }

  #kind(): number {
    const level = this.#levels.at(-1);
    return level === undefined ? AT_TOP : level & KIND;
  }

  /** Whether the element at `at` carries a VR; under UN some do all the same. */
  #hasVr(data: Buffer, at: number): boolean {
    const kind = VR_KINDS[data.readUInt16BE(at + 4)];
    if (this.#explicit) return kind !== VR_NONE;
    if (this.#unknown === 0 || (kind !== VR_SHORT && kind !== VR_LONG)) return false;
    // As the lower half of a length the letters of a VR need an upper half, or it is the reserved bytes.
    return (kind === VR_LONG) === (data.readUInt16BE(at + 6) === 0);
  }

  #isCredible(tag: number, length: number): boolean {
    const isInOrder = this.#levels.length > 0 ? tag !== 0 : tag >= this.#lastTag;
    return isInOrder && (length <= MAX_MISFIT_BYTES || length === UNDEFINED_LENGTH);
  }

  /** Whether an element with a known VR, of a greater tag, stands there, or the end. */
  #isElementAt(data: Buffer, at: number, after: number): boolean {
    if (this.#isEnding && data.length === at) return true;
    if (data.length - at < 8) return false;
    const tag = (this.#u16(data, at) * 0x10000 + this.#u16(data, at + 2)) >>> 0;
    const kind = VR_KINDS[data.readUInt16BE(at + 4)];
    return tag > after && (kind === VR_SHORT || kind === VR_LONG);
  }

  /** Infinite ends are those of undefined length, which their delimiter ends. */
  #endOfParent(end: number): number {
    return end === Number.POSITIVE_INFINITY ? end : (this.#ends.at(-1) ?? end);
  }

  #malformed(): void {
    this.#listener.oddity('element-malformed');
  }

  #giveUp(): number {
    this.#isUnreadable = true;
    return 0;
  }

  #u16(data: Buffer, at: number): number {
    return this.#bigEndian ? data.readUInt16BE(at) : data.readUInt16LE(at);
  }

  #u32(data: Buffer, at: number): number {
    return this.#bigEndian ? data.readUInt32BE(at) : data.readUInt32LE(at);
  }
}

/** Whether a VR has a 32-bit length. One that is not known yet has (PS3.5 section 6.2), unless the form says otherwise. */
function isLong(data: Buffer, at: number, vr: number): boolean {
  const kind = VR_KINDS[vr];
  return kind === VR_LONG || (kind === VR_UNKNOWN && data.readUInt16BE(at + 6) === 0);
}
