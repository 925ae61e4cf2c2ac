import { createHash } from 'node:crypto';
import { type InstanceIdentity, isSameIdentity } from '../domain/identity.ts';
import { SpillwayError } from '../errors.ts';
import { DicomReader } from './reader.ts';

/** What a stored file is to be. */
export interface ExpectedFile {
  readonly identity: InstanceIdentity;
  readonly digest: string;
  readonly bytes: number;
}

/**
 * The bytes of a stored file, as long as its data set has the digest that it was stored with, and file meta says of it
 * what it said. The last chunk is held back
 * until that is known, so that nobody takes a file whole that is not what came.
 *
 * @throws SpillwayError `SPILLWAY_STORE_DAMAGED`, in place of the last chunk at the latest; `onDamage` is called before
 */
export async function* checkedFile(
  chunks: AsyncIterable<Uint8Array>,
  { identity, digest, bytes }: ExpectedFile,
  onDamage: () => void,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  const reader = new DicomReader({ onDataSet: (bytes) => hash.update(bytes) });
  let held: Uint8Array | undefined;
  let length = 0;
  for await (const chunk of chunks) {
    await guarded(() => reader.push(chunk), onDamage);
    length += chunk.byteLength;
    if (held !== undefined) yield held;
    held = chunk;
  }
  const named = await guarded(() => reader.endIdentity(), onDamage);
  const isWhole = length === bytes && hash.digest('hex') === digest && isSameIdentity(named, identity);
  if (!isWhole) throw damaged(onDamage);
  if (held !== undefined) yield held;
}

async function guarded<T>(step: () => T | Promise<T>, onDamage: () => void): Promise<T> {
  try {
    return await step();
  } catch (error) {
    throw damaged(onDamage, error);
  }
}

function damaged(onDamage: () => void, cause?: unknown): SpillwayError {
  onDamage();
  return new SpillwayError(
    'SPILLWAY_STORE_DAMAGED',
    'the stored file is damaged: its data set is not the one that was accepted',
    { cause },
  );
}
