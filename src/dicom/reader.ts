import type { InstanceIdentity } from '../domain/identity.ts';
import type { Oddity } from '../domain/oddity.ts';
import { SpillwayError } from '../errors.ts';
import type { HeaderAttribute } from './attributes.ts';
import { TextDecoding } from './character-set.ts';
import { ElementScanner, type ScanEnd } from './element-scanner.ts';
import {
  DEFLATED,
  EXPLICIT_LE,
  encodingOf,
  IMPLICIT_LE,
  SNIFFED_BYTES,
  sniffEncoding,
  transferSyntaxOf,
} from './encoding.ts';
import { type FileMeta, readFileMeta } from './file-meta.ts';
import { Inflater } from './inflater.ts';
import { trimPadding } from './padding.ts';
import { assertUsableUid } from './uid.ts';

/** What is read of an instance. */
export interface DicomHeader {
  readonly identity: InstanceIdentity;
  /**
   * Values of `HEADER_ATTRIBUTES` that are present and not empty, by keyword, as text: character sets decoded, padding
   * taken off, several values separated by a backslash.
   */
  readonly attributes: Readonly<Record<string, string>>;
  readonly oddities: readonly Oddity[];
}

export interface DicomReaderOptions {
  /** Is given the data set's bytes as encoded, without preamble and file meta. */
  readonly onDataSet?: (bytes: Uint8Array) => void;
  /** Transfer syntax of a data set that comes without file meta, such as one from a C-STORE. */
  readonly transferSyntaxUid?: string | undefined;
}

const PRIORITY = 'RequestedProcedurePriority';
/** In characters; a study is made for a handful of requests. */
const MAX_PRIORITIES = 256;
const IDENTIFYING = ['StudyInstanceUID', 'SeriesInstanceUID', 'SOPInstanceUID', 'SOPClassUID'] as const;

/**
 * Reads the header of an instance from chunks of any size: a Part 10 file (PS3.10 section 7), or one without preamble
 * or file meta, or a bare data set. Keeps no pixel data, and goes on to the end to know whether the data set is whole.
 *
 * @throws SpillwayError `SPILLWAY_NOT_DICOM`, `SPILLWAY_IDENTITY_MISSING` or `SPILLWAY_UID_UNSAFE`
 */
export class DicomReader {
  readonly #options: DicomReaderOptions;
  /** As cut from the data set, one character for each byte. */
  readonly #values = new Map<HeaderAttribute, string>();
  readonly #requested = new Map<HeaderAttribute, string>();
  readonly #oddities = new Set<Oddity>();
  /** What came before it was known where the data set begins. */
  #head: Buffer[] = [];
  #headBytes = 0;
  #neededBytes = 0;
  #meta: FileMeta | undefined;
  #transferSyntaxUid = IMPLICIT_LE;
  #scanner: ElementScanner | undefined;
  #inflater: Inflater | undefined;

  constructor(options: DicomReaderOptions = {}) {
    this.#options = options;
  }

  /** Takes the next bytes and keeps no reference to them. Await what it returns. */
  push(chunk: Uint8Array): void | Promise<void> {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    if (this.#scanner !== undefined) return this.#dataSet(bytes);
    return this.#beginning(bytes, false);
  }

  /** Says what was read. Rejects when the instance cannot be identified. */
  async end(): Promise<DicomHeader> {
    await this.#finish();
    const attributes = this.#attributes();
    const identity = this.#identity((keyword) => attributes[keyword]);
    return { identity, attributes, oddities: [...this.#oddities] };
  }

  /** Instead of `end`: says who it is and decodes nothing else. */
  async endIdentity(): Promise<InstanceIdentity> {
    await this.#finish();
    return this.#identity((keyword) => this.#plain(keyword));
  }

  async #finish(): Promise<void> {
    if (this.#scanner === undefined) await this.#beginning(Buffer.alloc(0), true);
    await this.#inflater?.end();
    const end = this.#inflater?.failed ?? this.#scanEnd();
    if (end === 'truncated') this.#oddities.add('truncated');
    if (end === 'unreadable') this.#oddities.add('unreadable-tail');
    if (this.#oddities.has('transfer-syntax-missing') && this.#scanner?.isEncapsulated) {
      this.#oddities.add('compression-unknown');
    }
  }

  /**
   * Whether the instance came without a file meta that says what it is. Undefined as long as it is not known; then
   * `fileMetaIdentity` says what is to stand in one.
   */
  get needsFileMeta(): boolean | undefined {
    if (this.#meta === undefined) return undefined;
    return !this.#meta.isPart10 || this.#meta.transferSyntaxUid === undefined;
  }

  /** What file meta says of an instance, as soon as that is read. */
  get fileMetaIdentity(): Pick<InstanceIdentity, 'sopClassUid' | 'sopInstanceUid' | 'transferSyntaxUid'> | undefined {
    const sopClassUid = this.#plain('SOPClassUID');
    const sopInstanceUid = this.#plain('SOPInstanceUID');
    if (sopClassUid === undefined || sopInstanceUid === undefined) return undefined;
    return { sopClassUid, sopInstanceUid, transferSyntaxUid: this.#transferSyntaxUid };
  }

  #scanEnd(): ScanEnd {
    const end = this.#scanner?.end() ?? 'truncated';
    // What was not inflated may well be whole.
    return end === 'truncated' && this.#inflater?.stoppedEarly ? 'whole' : end;
  }

  #beginning(bytes: Buffer, ended: boolean): void | Promise<void> {
    this.#headBytes += bytes.length;
    if (this.#headBytes < this.#neededBytes && !ended) {
      this.#head.push(Buffer.from(bytes));
      return undefined;
    }
    const head = this.#head.length > 0 ? Buffer.concat([...this.#head, bytes]) : bytes;
    const meta = readFileMeta(head, ended, this.#options.transferSyntaxUid !== undefined);
    const needed = typeof meta === 'number' ? meta : meta.dataSetOffset + SNIFFED_BYTES;
    if (typeof meta === 'number' || (head.length < needed && !ended)) {
      this.#head = [Buffer.from(head)];
      this.#neededBytes = needed;
      return undefined;
    }
    this.#head = [];
    return this.#begin(meta, head.subarray(meta.dataSetOffset));
  }

  #begin(meta: FileMeta, rest: Buffer): void | Promise<void> {
    this.#meta = meta;
    if (!meta.isPart10) this.#oddities.add('file-meta-missing');
    const named = meta.transferSyntaxUid ?? this.#options.transferSyntaxUid;
    if (named === undefined) this.#oddities.add('transfer-syntax-missing');
    const sniffed = sniffEncoding(rest, 0);
    this.#transferSyntaxUid = named ?? transferSyntaxOf(sniffed ?? encodingOf(EXPLICIT_LE));
    const scanner = new ElementScanner(encodingOf(this.#transferSyntaxUid), {
      value: (attribute, data, start, end, requested) => this.#value(attribute, data, start, end, requested),
      oddity: (oddity) => this.#oddities.add(oddity),
    });
    this.#scanner = scanner;
    if (DEFLATED.has(this.#transferSyntaxUid)) this.#deflated(scanner, rest, sniffed?.explicitVr === true);
    return this.#dataSet(rest);
  }

  /** Some data sets are called deflated and are not: they begin with an element, as nothing deflated does. */
  #deflated(scanner: ElementScanner, rest: Buffer, isExplicit: boolean): void {
    const mismatch = () => this.#oddities.add('transfer-syntax-mismatch');
    if (isExplicit && rest.readUInt16LE(0) === 0x0008) mismatch();
    else this.#inflater = new Inflater((bytes) => scanner.feed(bytes), mismatch);
  }

  #dataSet(bytes: Buffer): void | Promise<void> {
    this.#options.onDataSet?.(bytes);
    if (this.#inflater !== undefined) return this.#inflater.write(bytes);
    this.#scanner?.feed(bytes);
    return undefined;
  }

  #value(attribute: HeaderAttribute, data: Buffer, start: number, end: number, requested: boolean): void {
    const values = requested ? this.#requested : this.#values;
    const known = values.get(attribute);
    // Of several requests each may be the urgent one; of anything else the first counts.
    const isFurther = known !== undefined && requested && attribute.keyword === PRIORITY;
    if (start === end || (known !== undefined && !isFurther)) return;
    let text: string;
    if (attribute.kind === 'number') {
      if (end - start < 2) return;
      text = String(this.#scanner?.isBigEndian ? data.readUInt16BE(start) : data.readUInt16LE(start));
    } else {
      // An offset from UTC must not begin with a space (PS3.3 C.12.1.1.8), so one that does is to be seen.
      text = trimPadding(data.toString('latin1', start, end), attribute.keyword === 'TimezoneOffsetFromUTC');
    }
    if (text !== '' && (known?.length ?? 0) < MAX_PRIORITIES)
      values.set(attribute, isFurther ? `${known}\\${text}` : text);
  }

  #attributes(): Record<string, string> {
    const text = new TextDecoding(this.#plain('SpecificCharacterSet'));
    const attributes: Record<string, string> = {};
    for (const values of [this.#requested, this.#values]) {
      for (const [{ keyword, kind }, value] of values) {
        attributes[keyword] = kind === 'text' || kind === 'name' ? text.decode(value, kind === 'name') : value;
      }
    }
    const priorities = [...this.#values, ...this.#requested].filter(([{ keyword }]) => keyword === PRIORITY);
    if (priorities.length > 1) attributes[PRIORITY] = priorities.map(([, value]) => value).join('\\');
    for (const oddity of text.oddities) this.#oddities.add(oddity);
    return attributes;
  }

  #plain(keyword: string): string | undefined {
    for (const [attribute, value] of this.#values) if (attribute.keyword === keyword) return value;
    return undefined;
  }

  #identity(textOf: (keyword: string) => string | undefined): InstanceIdentity {
    const uids: string[] = [];
    for (const keyword of IDENTIFYING) {
      let uid = textOf(keyword);
      if (uid === undefined) {
        // File meta names both as well (PS3.10 table 7.1-1).
        uid = { SOPInstanceUID: this.#meta?.sopInstanceUid, SOPClassUID: this.#meta?.sopClassUid }[keyword as string];
        if (uid !== undefined) this.#oddities.add('identity-from-file-meta');
      }
      if (uid === undefined) {
        throw new SpillwayError(
          'SPILLWAY_IDENTITY_MISSING',
          `Expected a data set with a ${keyword}, got one without${this.#lossHint()}. ` +
            'An instance that nobody can name cannot be kept for delivery; ask its sender to correct and send it again.',
        );
      }
      this.#checkUid(keyword, uid);
      uids.push(uid);
    }
    const [studyInstanceUid = '', seriesInstanceUid = '', sopInstanceUid = '', sopClassUid = ''] = uids;
    const transferSyntaxUid = this.#transferSyntaxUid;
    this.#checkUid('TransferSyntaxUID', transferSyntaxUid);
    const isOther = (meta: string | undefined, uid: string) => meta !== undefined && meta !== uid;
    if (isOther(this.#meta?.sopClassUid, sopClassUid) || isOther(this.#meta?.sopInstanceUid, sopInstanceUid)) {
      this.#oddities.add('file-meta-differs');
    }
    return { studyInstanceUid, seriesInstanceUid, sopInstanceUid, sopClassUid, transferSyntaxUid };
  }

  #checkUid(keyword: string, uid: string): void {
    if (!assertUsableUid(keyword, uid)) this.#oddities.add('uid-nonstandard');
  }

  #lossHint(): string {
    if (this.#oddities.has('truncated')) return ' (it ends inside an element)';
    return this.#oddities.has('unreadable-tail') ? ' (part of it cannot be read)' : '';
  }
}
