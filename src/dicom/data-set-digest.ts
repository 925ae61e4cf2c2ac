import { createHash } from 'node:crypto';
import { type DicomHeader, DicomReader } from './reader.ts';

/** What is known of an instance once its bytes have passed by. */
export interface DigestedInstance {
  readonly header: DicomHeader;
  /** SHA-256 (hex) of the data set as encoded, without preamble and file meta, which receivers may alter (PS3.10 7.5). */
  readonly digest: string;
  readonly bytes: number;
}

/** Reads an instance's header and digests its data set. `onChunk` sees every chunk before the next is asked for. */
export async function readAndDigest(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  onChunk?: (chunk: Uint8Array) => Promise<void>,
): Promise<DigestedInstance> {
  const hash = createHash('sha256');
  const reader = new DicomReader({ onDataSet: (dataSet) => hash.update(dataSet) });
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.byteLength;
    await reader.push(chunk);
    await onChunk?.(chunk);
  }
  return { header: await reader.end(), digest: hash.digest('hex'), bytes };
}
