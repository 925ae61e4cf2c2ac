import { readAndDigest } from '../dicom/data-set-digest.ts';
import type { VersionRecord } from '../domain/delivery.ts';
import { type InstanceIdentity, isSameIdentity } from '../domain/identity.ts';
import { SpillwayError } from '../errors.ts';
import type { BlobStore } from '../storage/blob-store.ts';

/** Where the bytes of a version are, and what they are. */
export type PlacedBytes = Pick<VersionRecord, 'arrivalId' | 'blobRef' | 'digest' | 'bytes'> & {
  /** Who it says it is; null where only the digest is known. */
  readonly identity: InstanceIdentity | null;
};

/**
 * Reads the bytes of a version, and says whether they are what they were.
 *
 * @throws SpillwayError `SPILLWAY_STORE_FAILED`: a disk that cannot be read is another matter than bytes that read otherwise
 */
export async function examine(
  blobs: BlobStore,
  { blobRef, digest, bytes, identity }: PlacedBytes,
): Promise<'sound' | 'damaged' | 'missing'> {
  try {
    const found = await readAndDigest(blobs.read(blobRef));
    // The digest leaves the file meta out; what it says of the data set is compared by itself.
    const isWhole = found.digest === digest && found.bytes === bytes;
    return isWhole && (identity === null || isSameIdentity(found.header.identity, identity)) ? 'sound' : 'damaged';
  } catch (error) {
    if (!(error instanceof SpillwayError)) throw error;
    if (error.code === 'SPILLWAY_NOT_FOUND') return 'missing';
    if (error.code === 'SPILLWAY_STORE_FAILED') throw error;
    return 'damaged';
  }
}

/**
 * The same, where good bytes are at hand: a file that its medium does not give back is no better than a damaged one. Any
 * other failure says nothing of the file, and must not set it aside.
 */
export async function examineForReplacement(
  blobs: BlobStore,
  placed: PlacedBytes,
): Promise<'sound' | 'damaged' | 'missing'> {
  try {
    return await examine(blobs, placed);
  } catch (error) {
    const cause = error instanceof SpillwayError ? error.cause : undefined;
    if (cause instanceof Error && 'code' in cause && cause.code === 'EIO') return 'damaged';
    throw error;
  }
}
