import { messageOf, SpillwayError } from '../errors.ts';

/** One part of a multipart body. */
export interface MultipartPart {
  /** By lower-case name; a header that came several times has its values joined by `, `. */
  readonly headers: ReadonlyMap<string, string>;
  /**
   * The part's bytes, as slices of what came in. Read it before the next part is asked for: what is left unread then
   * is skipped, and reading it later throws.
   */
  readonly body: AsyncIterable<Uint8Array>;
}

const DEFAULT_MAX_HEADER_BYTES = 16 * 1024;
/** Spaces and tabs that a gateway may have put after a boundary (RFC 2046 section 5.1.1). */
const MAX_PADDING_BYTES = 1024;
const CR = 0x0d;
const LF = 0x0a;
const HYPHEN = 0x2d;
const HEADER_END = Buffer.from('\r\n\r\n');

/**
 * Reads a multipart body (RFC 2046 section 5.1; multipart/related as in PS3.18 section 8.6.1.2) in chunks of any size.
 * Memory is bounded by one chunk and one header block; bodies are not copied. Preamble and epilogue are ignored.
 *
 * A line that merely begins like the boundary but goes on otherwise is content: instances are never altered.
 *
 * @param options - `maxHeaderBytes`: bound of one part's header block. Default 16 KiB.
 * @throws SpillwayError `SPILLWAY_INCOMPLETE`, from the part's body or from the generator, when the input fails or ends
 *   before the closing boundary (a SpillwayError of the input is passed on as it is); `SPILLWAY_TOO_LARGE` for a header
 *   block above `maxHeaderBytes`; `SPILLWAY_OPTION_INVALID` for an empty boundary.
 */
export async function* readMultipart(
  body: AsyncIterable<Uint8Array>,
  boundary: string,
  options?: { readonly maxHeaderBytes?: number },
): AsyncGenerator<MultipartPart, void, undefined> {
  const scanner = new MultipartScanner(body, boundary, options?.maxHeaderBytes ?? DEFAULT_MAX_HEADER_BYTES);
  try {
    await drain(scanner.content());
    while (!scanner.closed) {
      const headers = await scanner.headers();
      const content = scanner.content();
      const reading = readOnce(content);
      yield { headers, body: reading.body };
      reading.end();
      await drain(content);
    }
    await scanner.discardRest();
  } finally {
    await scanner.release();
  }
}

async function drain(content: AsyncGenerator<Uint8Array, void>): Promise<void> {
  while (!(await content.next()).done);
}

/** Lets a consumer stop early without ending `content`, which the reader still has to drain. */
function readOnce(content: AsyncGenerator<Uint8Array, void>): {
  readonly body: AsyncIterable<Uint8Array>;
  end(): void;
} {
  let ended = false;
  const iterator: AsyncIterableIterator<Uint8Array, undefined> = {
    async next() {
      if (ended) {
        throw new SpillwayError(
          'SPILLWAY_INCOMPLETE',
          'Expected a part to be read before the next part is asked for; its bytes have been skipped.',
        );
      }
      const step = await content.next();
      return step.done ? { done: true, value: undefined } : { done: false, value: step.value };
    },
    async return() {
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]() {
      return iterator;
    },
  };
  return {
    body: iterator,
    end() {
      ended = true;
    },
  };
}

class MultipartScanner {
  /** The closing boundary has been seen. */
  closed = false;
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #delimiter: Buffer;
  readonly #maxHeaderBytes: number;
  // What came and is not consumed yet. The body starts as if after a line end, so that the first boundary needs none.
  #buffer: Buffer = Buffer.from('\r\n');
  #sourceEnded = false;
  #failure: SpillwayError | undefined;
  /** Bytes at the start of the buffer that belong to the line before, needed only to recognise a boundary. */
  #lead = 2;

  constructor(body: AsyncIterable<Uint8Array>, boundary: string, maxHeaderBytes: number) {
    if (boundary === '' || /[\r\n]/.test(boundary)) {
      throw new SpillwayError(
        'SPILLWAY_OPTION_INVALID',
        `Expected a boundary of at least one character and without line breaks, got ${JSON.stringify(boundary)}.`,
      );
    }
    this.#source = body[Symbol.asyncIterator]();
    this.#delimiter = Buffer.from(`\r\n--${boundary}`, 'latin1');
    this.#maxHeaderBytes = maxHeaderBytes;
  }

  /** Yields bytes up to the next boundary and consumes it. */
  async *content(): AsyncGenerator<Uint8Array, void, undefined> {
    let searchFrom = 0;
    for (;;) {
      const at = this.#buffer.indexOf(this.#delimiter, searchFrom);
      const line = at < 0 ? 'partial' : this.#lineEnd(at + this.#delimiter.length);
      if (line === 'content') {
        searchFrom = at + 1;
        continue;
      }
      const safe = at < 0 ? this.#beforePartialDelimiter(searchFrom) : at;
      if (safe > this.#lead) yield this.#buffer.subarray(this.#lead, safe);
      if (line !== 'partial') {
        this.#buffer = this.#buffer.subarray(line.end);
        this.#lead = 0;
        this.closed = line.closing;
        return;
      }
      this.#lead = Math.max(this.#lead - safe, 0);
      this.#buffer = this.#buffer.subarray(safe);
      searchFrom = 0;
      await this.#more('the boundary that ends a part');
    }
  }

  /** Consumes a header block, leaving the line end before the body, which may belong to a boundary. */
  async headers(): Promise<ReadonlyMap<string, string>> {
    // The part before may have ended by an error that only its consumer saw.
    if (this.#failure !== undefined) throw this.#failure;
    for (;;) {
      // The boundary's own line end is still there, so that a block without headers is no special case.
      const at = this.#buffer.indexOf(HEADER_END);
      if ((at < 0 ? this.#buffer.length - HEADER_END.length : at) > this.#maxHeaderBytes) {
        throw new SpillwayError(
          'SPILLWAY_TOO_LARGE',
          `Expected a part's headers within ${this.#maxHeaderBytes} bytes, got more. Check what the sender sends.`,
        );
      }
      if (at >= 0) {
        const headers = parseHeaders(this.#buffer.toString('latin1', 0, at));
        this.#buffer = this.#buffer.subarray(at + 2);
        this.#lead = 2;
        return headers;
      }
      await this.#more("the end of a part's headers");
    }
  }

  /** Reads to the end of the input, since only there it is known whether it came whole. */
  async discardRest(): Promise<void> {
    this.#buffer = Buffer.alloc(0);
    while (!this.#sourceEnded) await this.#read();
  }

  async release(): Promise<void> {
    if (!this.#sourceEnded) await this.#source.return?.();
  }

  /**
   * What follows a boundary at `at`: the line's end (before its line break), or that it goes on and is content, or
   * that it cannot be told yet.
   */
  #lineEnd(at: number): { readonly end: number; readonly closing: boolean } | 'content' | 'partial' {
    const buffer = this.#buffer;
    if (buffer[at] === HYPHEN) {
      if (at + 1 >= buffer.length) return 'partial';
      return buffer[at + 1] === HYPHEN ? { end: at + 2, closing: true } : 'content';
    }
    let end = at;
    const limit = Math.min(buffer.length, at + MAX_PADDING_BYTES);
    while (end < limit && (buffer[end] === 0x20 || buffer[end] === 0x09)) end += 1;
    if (end >= buffer.length || (buffer[end] === CR && end + 1 >= buffer.length)) return 'partial';
    return buffer[end] === CR && buffer[end + 1] === LF ? { end, closing: false } : 'content';
  }

  /** Where the part of the buffer ends that no boundary can begin in. */
  #beforePartialDelimiter(searchFrom: number): number {
    const buffer = this.#buffer;
    const tailStart = Math.max(searchFrom, buffer.length - this.#delimiter.length + 1);
    const inTail = buffer.subarray(tailStart).lastIndexOf(CR);
    if (inTail < 0) return buffer.length;
    // A delimiter has no second CR, so that only the last one can begin it.
    const at = tailStart + inTail;
    return buffer.compare(this.#delimiter, 0, buffer.length - at, at) === 0 ? at : buffer.length;
  }

  async #more(expected: string): Promise<void> {
    if (await this.#read()) return;
    this.#failure = new SpillwayError(
      'SPILLWAY_INCOMPLETE',
      `Expected ${expected}, got the end of the input. The sender was cut off, or left out the closing boundary; ` +
        'have it send again.',
    );
    throw this.#failure;
  }

  async #read(): Promise<boolean> {
    if (this.#sourceEnded) return false;
    let step: IteratorResult<Uint8Array>;
    try {
      step = await this.#source.next();
    } catch (error) {
      this.#sourceEnded = true;
      this.#failure =
        error instanceof SpillwayError
          ? error
          : new SpillwayError(
              'SPILLWAY_INCOMPLETE',
              `Expected a whole multipart body, but reading it failed: ${messageOf(error)}. Have the sender send again.`,
              { cause: error },
            );
      throw this.#failure;
    }
    if (step.done) {
      this.#sourceEnded = true;
      return false;
    }
    const chunk = Buffer.from(step.value.buffer, step.value.byteOffset, step.value.byteLength);
    this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk]);
    return true;
  }
}

function parseHeaders(block: string): ReadonlyMap<string, string> {
  const headers = new Map<string, string>();
  // A line that begins with white space continues the one before (RFC 5322 section 2.2.3).
  for (const line of block.replace(/\r\n[ \t]+/g, ' ').split('\r\n')) {
    const colon = line.indexOf(':');
    if (colon < 1) continue;
    const name = line.slice(0, colon).trim().toLowerCase();
    const value = line.slice(colon + 1).trim();
    const before = headers.get(name);
    headers.set(name, before === undefined ? value : `${before}, ${value}`);
  }
  return headers;
}

/**
 * Reads a Content-Type (RFC 9110 section 8.3.1): type and parameter names in lower case, values as they are, quoted
 * or not. Tolerates unquoted `type=application/dicom`. Of a parameter that comes twice the first one counts.
 */
export function parseContentType(value: string): {
  readonly type: string;
  readonly parameters: ReadonlyMap<string, string>;
} {
  const parameters = new Map<string, string>();
  const semicolon = value.indexOf(';');
  const type = (semicolon < 0 ? value : value.slice(0, semicolon)).trim().toLowerCase();
  if (semicolon >= 0) {
    for (const match of value.slice(semicolon).matchAll(/;\s*([^\s=;]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))/g)) {
      const [, name = '', quoted, token = ''] = match;
      const text = quoted === undefined ? token.trim() : quoted.replace(/\\(.)/g, '$1');
      if (!parameters.has(name.toLowerCase())) parameters.set(name.toLowerCase(), text);
    }
  }
  return { type, parameters };
}

/**
 * The boundary that a multipart Content-Type names.
 *
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID` when it is no multipart type or names none.
 */
export function boundaryOf(contentType: string): string {
  const { type, parameters } = parseContentType(contentType);
  const boundary = parameters.get('boundary');
  if (type.startsWith('multipart/') && boundary !== undefined && boundary !== '') return boundary;
  throw new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    'Expected a Content-Type such as multipart/related; type="application/dicom"; boundary=…, ' +
      `got ${JSON.stringify(contentType.slice(0, 200))}.`,
  );
}

/**
 * What a sender writes before a part's bytes. A body is `partHeader`, bytes, `partHeader`, bytes, …, `closing`, and
 * its length the sum of theirs: the line break that ends a part is the beginning of what follows it.
 */
export function partHeader(boundary: string, contentType: string): Uint8Array {
  return Buffer.from(`\r\n--${boundary}\r\nContent-Type: ${contentType}\r\n\r\n`, 'latin1');
}

/** What a sender writes after the last part's bytes. */
export function closing(boundary: string): Uint8Array {
  return Buffer.from(`\r\n--${boundary}--\r\n`, 'latin1');
}
