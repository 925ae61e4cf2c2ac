import type { VersionRecord } from '../domain/delivery.ts';
import { safeName } from '../storage/directory/blob-names.ts';

const SUFFIX = '.dcm';
/** What is not whole yet: files of an export that was killed, and what a store had in flight. */
const UNFINISHED_SUFFIX = '.part';

/** `<study>/<series>/<instance>.dcm`, always with `/`; the same for every version of an instance. */
export function plainPathOf({ identity }: VersionRecord): string {
  const { studyInstanceUid, seriesInstanceUid, sopInstanceUid } = identity;
  return `${safeName(studyInstanceUid)}/${safeName(seriesInstanceUid)}/${safeName(sopInstanceUid)}${SUFFIX}`;
}

/** `<study>/<series>/<instance>.<arrival id>.dcm`, of a version that another one came after. */
export function earlierPathOf(version: VersionRecord): string {
  return `${plainPathOf(version).slice(0, -SUFFIX.length)}.${version.arrivalId}${SUFFIX}`;
}

/** A name, unique to this process and call, for what is being written. */
export function unfinishedName(unique: string): string {
  return `.spillway-export-${unique}${UNFINISHED_SUFFIX}`;
}

export function isUnfinished(name: string): boolean {
  return name.endsWith(UNFINISHED_SUFFIX);
}

/**
 * What names of several versions of one instance have in common, as an export names them, or a store
 * (`<instance>.<arrival id>-<digest>.dcm`). Sorted by name, versions come in the order of their arrival.
 */
export function stemOf(name: string): string {
  return name.replace(/(\.[0-9a-f]{16}(-[0-9a-f]{64})?)?\.dcm$/, '');
}
