import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { boundaryOf, closing, parseContentType, partHeader, readMultipart } from '../src/dicom/multipart.ts';
import { SpillwayError } from '../src/errors.ts';

const BOUNDARY = 'b0undary';

async function* chunksOf(bytes: Uint8Array, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

async function collect(body: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(Uint8Array.from(chunk));
  return Buffer.concat(chunks).toString('latin1');
}

async function readAll(text: string, sizes: readonly number[] = [7], boundary = BOUNDARY) {
  const parts: { headers: Record<string, string>; body: string }[] = [];
  for await (const part of readMultipart(chunksOf(Buffer.from(text, 'latin1'), sizes), boundary)) {
    parts.push({ headers: Object.fromEntries(part.headers), body: await collect(part.body) });
  }
  return parts;
}

async function codeOf(run: Promise<unknown>): Promise<string> {
  const error = await run.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  );
  return error instanceof SpillwayError ? error.code : String(error);
}

describe('readMultipart', () => {
  test('gives back any parts, whatever the chunks', async () => {
    // Pieces that look like a boundary or the beginning of one, so that every lookahead is taken.
    const piece = fc.constantFrom('\r', '\n', '\r\n', '\r\n--', '--', `\r\n--${BOUNDARY.slice(0, 4)}`, '\0', 'x', ' ');
    const lookalike = fc.constantFrom(`\r\n--${BOUNDARY}x`, `\r\n--${BOUNDARY}-x`, `\r\n--${BOUNDARY} \tx`);
    const content = fc.array(fc.oneof({ weight: 4, arbitrary: piece }, lookalike), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          content.map((pieces) => pieces.join('')),
          { maxLength: 4 },
        ),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 6 }),
        async (bodies, sizes) => {
          // A body must not itself complete a boundary line (RFC 2046 section 5.1.1).
          fc.pre(!bodies.some((body) => /--b0undary([ \t]*\r\n|--)/.test(`\r\n${body}\r\n`)));
          const whole = Buffer.concat([
            ...bodies.flatMap((body) => [partHeader(BOUNDARY, 'application/dicom'), Buffer.from(body, 'latin1')]),
            closing(BOUNDARY),
          ]);
          const parts = await readAll(whole.toString('latin1'), sizes);
          expect(parts.map((part) => part.body)).toEqual(bodies);
          expect(parts.every((part) => part.headers['content-type'] === 'application/dicom')).toBe(true);
        },
      ),
      { numRuns: 500 },
    );
  });

  test.each([[1], [2], [3], [1000]])('reads what other senders write, in chunks of %i', async (size) => {
    const text = [
      'a preamble\r\n',
      '--b0undary \t \r\nContent-Type: application/dicom\r\nX-Long: one\r\n  two\r\nX-Long: three\r\n\r\nfirst',
      '\r\n--b0undary\r\n\r\nno headers',
      '\r\n--b0undary\r\nContent-Type: a/b\r\n\r\n',
      '\r\n--b0undary\r\nContent-Type: c/d\r\n\r\n--b0undary--  \r\nan epilogue\r\n--b0undary\r\n\r\nnever seen',
    ].join('');
    expect(await readAll(text, [size])).toEqual([
      { headers: { 'content-type': 'application/dicom', 'x-long': 'one two, three' }, body: 'first' },
      { headers: {}, body: 'no headers' },
      { headers: { 'content-type': 'a/b' }, body: '' },
      { headers: { 'content-type': 'c/d' }, body: '' },
    ]);
  });

  test('reads a body without parts', async () => {
    expect(await readAll('--b0undary--')).toEqual([]);
    expect(await readAll('\r\n--b0undary--\r\n', [1])).toEqual([]);
  });

  test('passes bytes on as slices of what came, without copies', async () => {
    const chunk = Buffer.concat([partHeader(BOUNDARY, 'a/b'), Buffer.alloc(100_000, 'x'), closing(BOUNDARY)]);
    // The first chunk is joined with the line end that the reader starts from, the second arrives alone.
    for await (const part of readMultipart(chunksOf(chunk, [60_000]), BOUNDARY)) {
      const slices: Uint8Array[] = [];
      for await (const slice of part.body) slices.push(slice);
      expect(slices.at(-1)?.buffer).toBe(chunk.buffer);
    }
  });

  test.each([[1], [9], [5000]])('skips what a consumer leaves unread, in chunks of %i', async (size) => {
    const bodies = ['a'.repeat(3000), 'b'.repeat(3000), 'c'.repeat(20)];
    const whole = Buffer.concat([
      ...bodies.flatMap((body) => [partHeader(BOUNDARY, 'a/b'), Buffer.from(body)]),
      closing(BOUNDARY),
    ]);
    const read: string[] = [];
    let turn = 0;
    for await (const part of readMultipart(chunksOf(whole, [size]), BOUNDARY)) {
      turn += 1;
      if (turn === 1) continue;
      for await (const chunk of part.body) {
        read.push(Buffer.from(chunk).toString()[0] ?? '');
        break;
      }
    }
    expect(turn).toBe(3);
    expect(read).toEqual(['b', 'c']);
  });

  test('refuses to read a part after the next was asked for', async () => {
    const text = '--b0undary\r\n\r\none\r\n--b0undary\r\n\r\ntwo\r\n--b0undary--';
    const parts = readMultipart(chunksOf(Buffer.from(text), [5]), BOUNDARY);
    const first = await parts.next();
    await parts.next();
    if (first.done) throw new Error('there was no first part');
    expect(await codeOf(collect(first.value.body))).toBe('SPILLWAY_INCOMPLETE');
  });

  test('every cut before the closing boundary is an error, of the part and of the whole', async () => {
    const text = '--b0undary\r\nContent-Type: a/b\r\n\r\none\r\n--b0undary\r\n\r\ntwo\r\n--b0undary--';
    for (let cut = 0; cut < text.length; cut += 1) {
      expect(await codeOf(readAll(text.slice(0, cut))), `cut at ${cut}`).toBe('SPILLWAY_INCOMPLETE');
    }
    const parts = readMultipart(chunksOf(Buffer.from('--b0undary\r\n\r\ncut'), [4]), BOUNDARY);
    const part = await parts.next();
    if (part.done) throw new Error('there was no part');
    expect(await codeOf(collect(part.value.body))).toBe('SPILLWAY_INCOMPLETE');
    expect(await codeOf(parts.next())).toBe('SPILLWAY_INCOMPLETE');
  });

  test('an input that fails keeps its cause, also after the closing boundary', async () => {
    const reset = new Error('connection reset');
    for (const text of ['--b0undary\r\n\r\nhalf', '--b0undary\r\n\r\nwhole\r\n--b0undary--\r\n']) {
      const failing = async function* () {
        yield Buffer.from(text);
        throw reset;
      };
      const error = await (async () => {
        for await (const part of readMultipart(failing(), BOUNDARY)) await collect(part.body);
      })().catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'SPILLWAY_INCOMPLETE', cause: reset, isRetryable: true });
    }
  });

  test('bounds the headers of a part', async () => {
    const endless = async function* () {
      yield Buffer.from('--b0undary\r\n');
      // Far above the bound, yet an end, so that a reader without one fails rather than hangs.
      for (let line = 0; line < 5000; line += 1) yield Buffer.from('X-Header: and so on\r\n');
    };
    expect(await codeOf(readMultipart(endless(), BOUNDARY).next())).toBe('SPILLWAY_TOO_LARGE');
    const text = `--b0undary\r\nX: ${'x'.repeat(96)}\r\n\r\nbody\r\n--b0undary--`;
    const bytes = Buffer.from(text);
    const fits = readMultipart(chunksOf(bytes, [10]), BOUNDARY, { maxHeaderBytes: 101 });
    expect((await fits.next()).done).toBe(false);
    const tooLong = readMultipart(chunksOf(bytes, [10]), BOUNDARY, { maxHeaderBytes: 100 });
    expect(await codeOf(tooLong.next())).toBe('SPILLWAY_TOO_LARGE');
  });

  test('lets go of the input when its reader stops', async () => {
    let released = false;
    const input = async function* () {
      try {
        yield Buffer.from('--b0undary\r\n\r\nbody');
        yield Buffer.from('more of it');
      } finally {
        released = true;
      }
    };
    for await (const part of readMultipart(input(), BOUNDARY)) {
      expect(part.headers.size).toBe(0);
      break;
    }
    expect(released).toBe(true);
  });

  test.each([[''], ['a\r\nb']])('refuses the boundary %j', async (boundary) => {
    expect(await codeOf(readAll('--', [1], boundary))).toBe('SPILLWAY_OPTION_INVALID');
  });
});

describe('Content-Type', () => {
  test.each([
    ['multipart/related; type="application/dicom"; boundary=abc', 'application/dicom', 'abc'],
    ['Multipart/Related;TYPE=application/dicom;Boundary="a b;c=\\"d\\""', 'application/dicom', 'a b;c="d"'],
    ['multipart/related ; boundary = abc ; type = application/dicom+json', 'application/dicom+json', 'abc'],
    ['multipart/related; note="; boundary=wrong"; boundary=right; boundary=late; type=x', 'x', 'right'],
  ])('is read: %s', (value, type, boundary) => {
    expect(parseContentType(value).type).toBe('multipart/related');
    expect(parseContentType(value).parameters.get('type')).toBe(type);
    expect(boundaryOf(value)).toBe(boundary);
  });

  test.each([
    [''],
    ['application/dicom'],
    ['multipart/related'],
    ['multipart/related; boundary='],
    ['text/plain; boundary=a'],
  ])('without a usable boundary is a coded error: %j', (value) => {
    expect(() => boundaryOf(value)).toThrow(expect.objectContaining({ code: 'SPILLWAY_OPTION_INVALID' }));
  });
});
