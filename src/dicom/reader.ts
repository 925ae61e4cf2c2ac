import { createInflateRaw, type InflateRaw } from 'node:zlib';
import type { InstanceIdentity } from '../domain/identity.ts';
import type { Oddity } from '../domain/oddity.ts';
import { SpillwayError } from '../errors.ts';
import { HEADER_ATTRIBUTES } from './attributes.ts';
import { type DataSetEncoding, ElementScanner, type ScanEnd } from './element-scanner.ts';
import { readFileMeta, sniffExplicitVr } from './file-meta.ts';
import { assertUsableUid } from './uid.ts';

/** What is read of an instance. */
export interface DicomHeader {
  readonly identity: InstanceIdentity;
  /** Values of `HEADER_ATTRIBUTES` that are present and not empty, by keyword, without padding. */
  readonly attributes: Readonly<Record<string, string>>;
  readonly oddities: readonly Oddity[];
}

const DEFLATED_EXPLICIT_LE = '1.2.840.10008.1.2.1.99';
const EXPLICIT_BE = '1.2.840.10008.1.2.2';
const IMPLICIT_LE = '1.2.840.10008.1.2';
const EXPLICIT_LE = '1.2.840.10008.1.2.1';
/** Inflating ends here: a header that has not shown its identity by then is no header but a bomb. */
const MAX_INFLATED_BYTES = 64 * 1024 * 1024;

/**
 * Deflated bytes are inflated in blocks of this length: a block that turns out to be corrupt gives nothing, so that
 * blocks of any other length would make what is read depend on how the bytes arrive.
 */
const DEFLATED_BLOCK_BYTES = 4096;
/** As many bytes of a data set show whether its first element carries a VR. */
const SNIFFED_BYTES = 6;

const IDENTIFYING = ['StudyInstanceUID', 'SeriesInstanceUID', 'SOPInstanceUID', 'SOPClassUID'] as const;

/**
 * Reads the header of a Part 10 file (PS3.10 section 7) from chunks of any size, without keeping pixel data, and goes
 * on to the end to know whether the data set is whole. `onDataSet` is given the data set's bytes as encoded, without
 * preamble and file meta.
 *
 * @throws SpillwayError `SPILLWAY_NOT_DICOM`, `SPILLWAY_IDENTITY_MISSING` or `SPILLWAY_UID_UNSAFE`
 */
export class DicomReader {
  readonly #onDataSet: (bytes: Uint8Array) => void;
  readonly #attributes: Record<string, string> = {};
  readonly #oddities: Oddity[] = [];
  #head: Buffer = Buffer.alloc(0);
  #transferSyntaxUid: string | undefined;
  #scanner: ElementScanner | undefined;
  #inflater: Inflater | undefined;

  constructor(options?: { readonly onDataSet?: (bytes: Uint8Array) => void }) {
    this.#onDataSet = options?.onDataSet ?? (() => {});
  }

  /** Takes the next bytes and keeps no reference to them. Await what it returns. */
  push(chunk: Uint8Array): void | Promise<void> {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    if (this.#transferSyntaxUid !== undefined) return this.#dataSet(bytes);
    this.#head = Buffer.concat([this.#head, bytes]);
    return this.#fileMeta(false);
  }

  /** Says what was read. Rejects when the instance cannot be identified. */
  async end(): Promise<DicomHeader> {
    if (this.#transferSyntaxUid === undefined) await this.#fileMeta(true);
    await this.#inflater?.end();
    const end = this.#inflater?.failed ?? this.#scanEnd();
    if (end === 'truncated') this.#oddities.push('truncated');
    if (end === 'unreadable') this.#oddities.push('unreadable-tail');
    return { identity: this.#identity(), attributes: this.#attributes, oddities: this.#oddities };
  }

  #scanEnd(): ScanEnd {
    const end = this.#scanner?.end() ?? 'truncated';
    // What was not inflated may well be whole.
    return end === 'truncated' && this.#inflater?.stoppedEarly ? 'whole' : end;
  }

  #fileMeta(ended: boolean): void | Promise<void> {
    const meta = readFileMeta(this.#head, ended);
    if (meta === undefined) return undefined;
    const rest = this.#head.subarray(meta.dataSetOffset);
    if (meta.transferSyntaxUid === undefined && rest.length < SNIFFED_BYTES && !ended) return undefined;
    this.#head = Buffer.alloc(0);
    this.#transferSyntaxUid = meta.transferSyntaxUid ?? (sniffExplicitVr(rest) ? EXPLICIT_LE : IMPLICIT_LE);
    if (meta.transferSyntaxUid === undefined) this.#oddities.push('transfer-syntax-missing');
    this.#scanner = new ElementScanner(encodingOf(this.#transferSyntaxUid), HEADER_ATTRIBUTES, (keyword, value) => {
      const text = trimPadding(value.toString('latin1'));
      if (text !== '') this.#attributes[keyword] ??= text;
    });
    if (this.#transferSyntaxUid === DEFLATED_EXPLICIT_LE) this.#inflater = new Inflater(this.#scanner);
    return this.#dataSet(rest);
  }

  #dataSet(bytes: Buffer): void | Promise<void> {
    this.#onDataSet(bytes);
    if (this.#inflater !== undefined) return this.#inflater.write(bytes);
    this.#scanner?.feed(bytes);
    return undefined;
  }

  #identity(): InstanceIdentity {
    for (const keyword of IDENTIFYING) {
      const uid = this.#attributes[keyword];
      if (uid === undefined) {
        throw new SpillwayError(
          'SPILLWAY_IDENTITY_MISSING',
          `Expected a data set with a ${keyword}, got one without${this.#lossHint()}. ` +
            'An instance that nobody can name cannot be kept for delivery; ask its sender to correct and send it again.',
        );
      }
      this.#checkUid(keyword, uid);
    }
    const [studyInstanceUid = '', seriesInstanceUid = '', sopInstanceUid = '', sopClassUid = ''] = IDENTIFYING.map(
      (keyword) => this.#attributes[keyword],
    );
    const transferSyntaxUid = this.#transferSyntaxUid ?? IMPLICIT_LE;
    this.#checkUid('TransferSyntaxUID', transferSyntaxUid);
    return { studyInstanceUid, seriesInstanceUid, sopInstanceUid, sopClassUid, transferSyntaxUid };
  }

  #checkUid(keyword: string, uid: string): void {
    const isOdd = !assertUsableUid(keyword, uid);
    if (isOdd && !this.#oddities.includes('uid-nonstandard')) this.#oddities.push('uid-nonstandard');
  }

  #lossHint(): string {
    if (this.#oddities.includes('truncated')) return ' (it ends inside an element)';
    return this.#oddities.includes('unreadable-tail') ? ' (part of it cannot be read)' : '';
  }
}

/** Feeds a scanner from deflated bytes (PS3.5 annex A.5), as far as `MAX_INFLATED_BYTES`. */
class Inflater {
  stoppedEarly = false;
  failed: ScanEnd | undefined;
  readonly #inflate: InflateRaw = createInflateRaw();
  readonly #block = Buffer.alloc(DEFLATED_BLOCK_BYTES);
  #filled = 0;
  #inflated = 0;

  constructor(scanner: ElementScanner) {
    this.#inflate.on('data', (chunk: Buffer) => {
      if (this.stoppedEarly) return;
      scanner.feed(chunk);
      this.#inflated += chunk.length;
      if (this.#inflated > MAX_INFLATED_BYTES) {
        this.stoppedEarly = true;
        this.#inflate.destroy();
      }
    });
    this.#inflate.on('error', (error: NodeJS.ErrnoException) => {
      this.failed = error.code === 'Z_BUF_ERROR' ? 'truncated' : 'unreadable';
    });
  }

  async write(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length && !this.#done(); ) {
      const copied = bytes.copy(this.#block, this.#filled, at);
      this.#filled += copied;
      at += copied;
      if (this.#filled === DEFLATED_BLOCK_BYTES) await this.#flush();
    }
  }

  async end(): Promise<void> {
    if (this.#done()) return;
    await this.#flush();
    if (this.#done()) return;
    await new Promise<void>((resolve) => {
      this.#inflate.once('close', resolve);
      this.#inflate.end();
    });
  }

  async #flush(): Promise<void> {
    const block = Buffer.from(this.#block.subarray(0, this.#filled));
    this.#filled = 0;
    await new Promise<void>((resolve) => {
      // `close` comes instead of the callback when the stream is destroyed in mid-write.
      const settle = () => {
        this.#inflate.off('close', settle);
        resolve();
      };
      this.#inflate.once('close', settle);
      this.#inflate.write(block, settle);
    });
  }

  #done(): boolean {
    return this.stoppedEarly || this.failed !== undefined || this.#inflate.closed;
  }
}

function encodingOf(transferSyntaxUid: string): DataSetEncoding {
  return { explicitVr: transferSyntaxUid !== IMPLICIT_LE, bigEndian: transferSyntaxUid === EXPLICIT_BE };
}

/**
 * Trailing NUL and space, and leading space, are padding in every VR that is read here (PS3.5 section 6.2). Other
 * white space is not: it must not vanish from a UID.
 */
function trimPadding(text: string): string {
  let start = 0;
  let end = text.length;
  while (end > 0 && (text.charCodeAt(end - 1) === 0 || text.charCodeAt(end - 1) === 0x20)) end -= 1;
  while (start < end && text.charCodeAt(start) === 0x20) start += 1;
  return text.slice(start, end);
}
