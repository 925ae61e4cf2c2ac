import { type DigestedInstance, readAndDigest } from '../../src/dicom/data-set-digest.ts';
import { SpillwayError } from '../../src/errors.ts';

export async function read(chunks: Iterable<Uint8Array>, transferSyntaxUid?: string): Promise<DigestedInstance> {
  return readAndDigest(chunks, { transferSyntaxUid });
}

/** What was read, or the code of the error; anything else that is thrown goes on. */
export async function outcomeOf(chunks: Iterable<Uint8Array>): Promise<DigestedInstance | string> {
  try {
    return await read(chunks);
  } catch (error) {
    if (error instanceof SpillwayError) return error.code;
    throw error;
  }
}

export function* chunksOf(bytes: Uint8Array, size: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

export function splitAt(bytes: Uint8Array, points: readonly number[]): Uint8Array[] {
  const edges = [0, ...[...points].sort((a, b) => a - b), bytes.length];
  return edges.slice(1).map((end, index) => bytes.subarray(edges[index], end));
}
