import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Clock } from './domain/clock.ts';
import { messageOf, SpillwayError } from './errors.ts';

/**
 * Where an instance comes from: the path of a file (or a `file:` URL), its bytes, or a stream of them. Web streams,
 * Node streams and any other async iterable of bytes will do.
 */
export type InstanceSource = string | URL | Uint8Array | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>;

/** Pieces that a caller's whole instance in memory is written in. */
const SLICE_BYTES = 1024 * 1024;

export interface SourceOptions {
  readonly expectedBytes: number | undefined;
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** A source that gives nothing for so long has died. */
  readonly idleTimeoutMs: number;
}

/**
 * Opens a source. Its own failures come while it is read, as `SPILLWAY_INCOMPLETE`: so does an end that comes before or
 * after `expectedBytes` (for a file, its size).
 */
export async function openSource(source: InstanceSource, options: SourceOptions): Promise<AsyncIterable<Uint8Array>> {
  const { expectedBytes } = options;
  if (source instanceof Uint8Array) return whole(slices(source), expectedBytes);
  if (typeof source === 'string' || source instanceof URL) {
    try {
      const path = typeof source === 'string' ? source : fileURLToPath(source);
      const { size } = await stat(path);
      return whole(guarded(createReadStream(path), options), expectedBytes ?? size);
    } catch (error) {
      throw incomplete(`a readable file`, error);
    }
  }
  if (typeof source === 'object' && source !== null && Symbol.asyncIterator in source) {
    return whole(guarded(source, options), expectedBytes);
  }
  throw new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    `Expected a path, a file: URL, a Uint8Array, or a stream of bytes, got ${source === null ? 'null' : typeof source}.`,
  );
}

async function* slices(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += SLICE_BYTES) yield bytes.subarray(at, at + SLICE_BYTES);
}

/** Judged before what was read, since a data set that was cut off on its way only looks like a bad one. */
async function* whole(
  chunks: AsyncIterable<Uint8Array>,
  expectedBytes: number | undefined,
): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.byteLength;
    yield chunk;
  }
  if (expectedBytes === undefined || bytes === expectedBytes) return;
  throw new SpillwayError(
    'SPILLWAY_INCOMPLETE',
    `Expected ${expectedBytes} bytes, got ${bytes}. Nothing of it was kept; send it again.`,
  );
}

/** Turns whatever a stream throws into a coded error, refuses what is no bytes, and ends it when aborted. */
async function* guarded(stream: AsyncIterable<unknown>, options: SourceOptions): AsyncGenerator<Uint8Array> {
  const iterator = stream[Symbol.asyncIterator]();
  let finished = false;
  try {
    for (;;) {
      const result = await nextInTime(iterator, options);
      if (result.done) {
        finished = true;
        return;
      }
      if (!(result.value instanceof Uint8Array)) {
        throw new SpillwayError(
          'SPILLWAY_OPTION_INVALID',
          `Expected a stream of Uint8Array chunks, got a chunk of type ${typeof result.value}. ` +
            'Do not set an encoding on the stream.',
        );
      }
      yield result.value;
    }
  } finally {
    // Not awaited: a stream that hangs would hang its end too.
    if (!finished) void Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

async function nextInTime(
  iterator: AsyncIterator<unknown>,
  { signal, clock, idleTimeoutMs }: SourceOptions,
): Promise<IteratorResult<unknown>> {
  const next = iterator.next().catch((error: unknown) => {
    throw error instanceof SpillwayError ? error : incomplete('the whole instance', error);
  });
  let onAbort = () => {};
  let cancel = () => {};
  const given = new Promise<never>((_, reject) => {
    onAbort = () => reject(abortedError(signal));
    cancel = clock.schedule(idleTimeoutMs, () => {
      reject(incomplete('the whole instance', new Error(`nothing came for ${idleTimeoutMs} ms`)));
    });
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([next, given]);
  } finally {
    cancel();
    signal.removeEventListener('abort', onAbort);
    next.catch(() => {}); // the loser of the race must not be an unhandled rejection
  }
}

/** The error of a call whose signal was aborted. */
export function abortedError(signal: AbortSignal): SpillwayError {
  if (signal.reason instanceof SpillwayError) return signal.reason;
  return new SpillwayError('SPILLWAY_ABORTED', 'The call was aborted by its signal.', { cause: signal.reason });
}

function incomplete(expected: string, error: unknown): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_INCOMPLETE',
    `Expected ${expected}, but reading failed: ${messageOf(error)}. Nothing of it was kept; send it again.`,
    { cause: error },
  );
}
