/** Who an instance is. All UIDs are stored as they came, without padding (PS3.5 section 9.1). */
export interface InstanceIdentity {
  readonly studyInstanceUid: string;
  readonly seriesInstanceUid: string;
  readonly sopInstanceUid: string;
  readonly sopClassUid: string;
  /** The transfer syntax that the data set is encoded in; it belongs to a version's identity. */
  readonly transferSyntaxUid: string;
}

export function isSameIdentity(a: InstanceIdentity, b: InstanceIdentity): boolean {
  return (
    a.studyInstanceUid === b.studyInstanceUid &&
    a.seriesInstanceUid === b.seriesInstanceUid &&
    a.sopInstanceUid === b.sopInstanceUid &&
    a.sopClassUid === b.sopClassUid &&
    a.transferSyntaxUid === b.transferSyntaxUid
  );
}
