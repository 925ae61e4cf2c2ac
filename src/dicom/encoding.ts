/** How a data set is encoded (PS3.5 annex A), apart from compression. */
export interface DataSetEncoding {
  readonly explicitVr: boolean;
  readonly bigEndian: boolean;
}

export const IMPLICIT_LE = '1.2.840.10008.1.2';
export const EXPLICIT_LE = '1.2.840.10008.1.2.1';
/** Deflated as a whole: explicit VR (PS3.5 annex A.5), and the JPIP referenced ones (A.6, A.11). */
export const DEFLATED: ReadonlySet<string> = new Set([
  '1.2.840.10008.1.2.1.99',
  '1.2.840.10008.1.2.4.95',
  '1.2.840.10008.1.2.4.205',
]);
const EXPLICIT_BE = '1.2.840.10008.1.2.2';

/** As many bytes of a data set show how it is encoded. */
export const SNIFFED_BYTES = 8;
/** Every instance has elements in group 0008 and 0020 (PS3.3 C.12.1, C.7.3.1), so none begins behind these. */
const MAX_FIRST_GROUP = 0x28;
/** No element that a data set begins with is longer; more is a misreading. */
const MAX_FIRST_VALUE_BYTES = 1024 * 1024;

/** Of two bytes: no letters; a VR with a 16-bit length; one with a 32-bit length; letters of no known VR. */
export const VR_NONE = 0;
export const VR_SHORT = 1;
export const VR_LONG = 2;
export const VR_UNKNOWN = 3;

// Those with a 32-bit length after two reserved bytes (PS3.5 section 7.1.2), and the others (table 6.2-1).
const LONG_VRS = ['OB', 'OD', 'OF', 'OL', 'OV', 'OW', 'SQ', 'SV', 'UC', 'UN', 'UR', 'UT', 'UV'];
const SHORT_VRS = 'AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US'.split(' ');

/** What kind of VR two bytes are, by their big-endian number. */
export const VR_KINDS: Uint8Array = vrKinds();

/** The two bytes of a VR as `VR_KINDS` counts them. */
export function vrCode(vr: string): number {
  return vr.charCodeAt(0) * 256 + vr.charCodeAt(1);
}

export function encodingOf(transferSyntaxUid: string): DataSetEncoding {
  return { explicitVr: transferSyntaxUid !== IMPLICIT_LE, bigEndian: transferSyntaxUid === EXPLICIT_BE };
}

/** The transfer syntax of an uncompressed data set that is encoded so. */
export function transferSyntaxOf(encoding: DataSetEncoding): string {
  if (encoding.bigEndian) return EXPLICIT_BE;
  return encoding.explicitVr ? EXPLICIT_LE : IMPLICIT_LE;
}

/**
 * How the data set that begins at `at` is encoded, by its first element; undefined when it is none that can be. Implicit
 * VR exists in little endian only.
 */
export function sniffEncoding(data: Buffer, at: number): DataSetEncoding | undefined {
  if (data.length - at < SNIFFED_BYTES) return undefined;
  const [first = 0, second = 0] = data.subarray(at, at + 2);
  if ((first === 0) === (second === 0) || Math.max(first, second) > MAX_FIRST_GROUP) return undefined;
  const bigEndian = first === 0;
  const kind = VR_KINDS[data.readUInt16BE(at + 4)];
  if (kind === VR_SHORT || kind === VR_LONG) return { explicitVr: true, bigEndian };
  if (bigEndian || kind === VR_UNKNOWN || data.readUInt32LE(at + 4) > MAX_FIRST_VALUE_BYTES) return undefined;
  return { explicitVr: false, bigEndian };
}

function vrKinds(): Uint8Array {
  const kinds = new Uint8Array(65_536);
  const letters = Array.from({ length: 26 }, (_, index) => String.fromCharCode(0x41 + index));
  for (const first of letters) for (const second of letters) kinds[vrCode(first + second)] = VR_UNKNOWN;
  for (const vr of SHORT_VRS) kinds[vrCode(vr)] = VR_SHORT;
  for (const vr of LONG_VRS) kinds[vrCode(vr)] = VR_LONG;
  return kinds;
}
