import { createHash } from 'node:crypto';
import type { InstanceIdentity } from '../domain/identity.ts';
import { SpillwayError } from '../errors.ts';
import { writeFileMeta } from './file-meta.ts';
import { type DicomHeader, DicomReader } from './reader.ts';

/** What is known of an instance once its bytes have passed by. */
export interface DigestedInstance {
  readonly header: DicomHeader;
  /** SHA-256 (hex) of the data set as encoded, without preamble and file meta, which receivers may alter (PS3.10 7.5). */
  readonly digest: string;
  /** Length of the file. */
  readonly bytes: number;
}

export interface DigestOptions {
  /** Transfer syntax of a data set that comes without file meta. */
  readonly transferSyntaxUid?: string | undefined;
  /** Is given the file's bytes, each piece before the next is asked for. */
  readonly onFile?: (piece: Uint8Array) => Promise<void>;
}

/** A data set without file meta shows its SOP class and instance at its very beginning; it is held until it does. */
const MAX_HELD_BYTES = 1024 * 1024;

/**
 * Reads an instance's header and digests its data set. A file with file meta passes as it came; what came without one
 * gets one, so that anything can read the file.
 */
export async function readAndDigest(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options: DigestOptions = {},
): Promise<DigestedInstance> {
  const hash = createHash('sha256');
  /** Of the chunk in hand. */
  let dataSet: Uint8Array[] = [];
  const reader = new DicomReader({
    transferSyntaxUid: options.transferSyntaxUid,
    onDataSet: (bytes) => dataSet.push(bytes),
  });
  const pieces = new FilePieces(reader);
  let bytes = 0;
  const pass = async (file: readonly Uint8Array[]) => {
    for (const piece of file) {
      if (piece.byteLength === 0) continue;
      bytes += piece.byteLength;
      await options.onFile?.(piece);
    }
  };
  /** Writing goes on in another thread meanwhile. */
  const digestWhile = async (passing: Promise<void>) => {
    for (const piece of dataSet) hash.update(piece);
    await passing;
  };
  for await (const chunk of source) {
    dataSet = [];
    await reader.push(chunk);
    await digestWhile(pass(pieces.next(chunk, dataSet)));
  }
  dataSet = [];
  const header = await reader.end();
  await digestWhile(pass(pieces.last(dataSet, header.identity)));
  return { header, digest: hash.digest('hex'), bytes };
}

/** Makes the file's bytes from what comes in: the same, or file meta and the data set. */
class FilePieces {
  readonly #reader: DicomReader;
  #state: 'undecided' | 'as-it-came' | 'without-meta' | 'meta-written' = 'undecided';
  #held: Uint8Array[] = [];
  #heldBytes = 0;

  constructor(reader: DicomReader) {
    this.#reader = reader;
  }

  /** @param dataSet - What the chunk, and what was held back before, brought of the data set. */
  next(chunk: Uint8Array, dataSet: readonly Uint8Array[]): readonly Uint8Array[] {
    if (this.#state === 'undecided') {
      const { needsFileMeta } = this.#reader;
      if (needsFileMeta === undefined) return this.#hold([chunk]);
      this.#state = needsFileMeta ? 'without-meta' : 'as-it-came';
      const held = this.#held;
      this.#held = [];
      if (!needsFileMeta) return [...held, chunk];
    }
    if (this.#state === 'as-it-came') return [chunk];
    if (this.#state === 'meta-written') return dataSet;
    const identity = this.#reader.fileMetaIdentity;
    if (identity === undefined) return this.#hold(dataSet);
    this.#state = 'meta-written';
    const held = this.#held;
    this.#held = [];
    return [writeFileMeta(identity), ...held, ...dataSet];
  }

  /** What is left at the end, when it is known who the instance is. */
  last(dataSet: readonly Uint8Array[], identity: InstanceIdentity): readonly Uint8Array[] {
    const rest = this.next(new Uint8Array(0), dataSet);
    if (this.#state !== 'without-meta') return rest;
    // File meta alone named it, and did not say how it is encoded.
    this.#state = 'meta-written';
    return [writeFileMeta(identity), ...this.#held];
  }

  #hold(pieces: readonly Uint8Array[]): readonly Uint8Array[] {
    for (const piece of pieces) {
      // A copy, since the source may reuse its chunks.
      this.#held.push(Uint8Array.from(piece));
      this.#heldBytes += piece.byteLength;
    }
    // What comes before it is known where the data set begins is bounded by the reader.
    if (this.#state === 'undecided' || this.#heldBytes <= MAX_HELD_BYTES) return [];
    throw new SpillwayError(
      'SPILLWAY_IDENTITY_MISSING',
      `Expected a data set without file meta to show its SOPClassUID and SOPInstanceUID in its first ${MAX_HELD_BYTES} ` +
        'bytes, got none. Send it as a DICOM file.',
    );
  }
}
