import { createHash } from 'node:crypto';
import { isStandardUid } from '../../dicom/uid.ts';
import type { BlobPlacement } from '../blob-store.ts';

const SUFFIX = '.dcm';

/** A name that is safe on any file system: the UID itself where it conforms to PS3.5 9.1, otherwise a hash of it. */
export function safeName(uid: string): string {
  return isStandardUid(uid) ? uid : `x${createHash('sha256').update(uid).digest('hex').slice(0, 40)}`;
}

/** `studies/<study>/<series>/<instance>.<arrival id>-<digest>.dcm`, always with `/`. */
export function blobRefOf({ identity, arrivalId, digest }: BlobPlacement): string {
  const directory = `studies/${safeName(identity.studyInstanceUid)}/${safeName(identity.seriesInstanceUid)}`;
  return `${directory}/${safeName(identity.sopInstanceUid)}.${arrivalId}-${digest}${SUFFIX}`;
}

/** What a file name made by `blobRefOf` tells. */
export function placedAs(fileName: string): Pick<BlobPlacement, 'arrivalId' | 'digest'> | undefined {
  const [, arrivalId, digest] = /\.([0-9a-z]+)-([0-9a-f]{64})\.dcm$/.exec(fileName) ?? [];
  return arrivalId === undefined || digest === undefined ? undefined : { arrivalId, digest };
}
