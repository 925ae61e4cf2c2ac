import { trimPadding } from './padding.ts';

/** A data set in the DICOM JSON model (PS3.18 annex F), by tag as eight upper-case hexadecimal digits. */
export type DicomJson = Readonly<Record<string, { readonly vr: string; readonly Value?: readonly unknown[] }>>;

/** Tags that STOW-RS and QIDO-RS answers are read and written by, under their keywords (PS3.6). */
export const TAGS = {
  sopClassUid: '00080016',
  sopInstanceUid: '00080018',
  studyDate: '00080020',
  studyTime: '00080030',
  modality: '00080060',
  modalitiesInStudy: '00080061',
  referencedSopClassUid: '00081150',
  referencedSopInstanceUid: '00081155',
  retrieveUrl: '00081190',
  warningReason: '00081196',
  failureReason: '00081197',
  failedSopSequence: '00081198',
  referencedSopSequence: '00081199',
  otherFailuresSequence: '0008119A',
  patientId: '00100020',
  studyInstanceUid: '0020000D',
  seriesInstanceUid: '0020000E',
  numberOfStudyRelatedSeries: '00201206',
  numberOfStudyRelatedInstances: '00201208',
  numberOfSeriesRelatedInstances: '00201209',
} as const;

// The readers take whatever a peer sent, of any shape, and never throw: what is not as PS3.18 says is not there.

/** The element's strings; numbers as text, empty values left out, padding trimmed. */
export function stringsOf(dataSet: unknown, tag: string): readonly string[] {
  const strings: string[] = [];
  for (const value of valuesOf(dataSet, tag)) {
    // A person's name is an object of up to three representations.
    const text = isRecord(value) ? value.Alphabetic : value;
    if (typeof text === 'string') strings.push(trimPadding(text));
    else if (typeof text === 'number') strings.push(String(text));
  }
  return strings.filter((text) => text !== '');
}

/** The element's first value as a number, also where it came as text. */
export function numberOf(dataSet: unknown, tag: string): number | undefined {
  const [text] = stringsOf(dataSet, tag);
  if (text === undefined) return undefined;
  const value = Number(text);
  return Number.isFinite(value) ? value : undefined;
}

/** The sequence's items. */
export function sequenceOf(dataSet: unknown, tag: string): readonly DicomJson[] {
  return valuesOf(dataSet, tag).filter(isDataSet);
}

function valuesOf(dataSet: unknown, tag: string): readonly unknown[] {
  if (!isRecord(dataSet)) return [];
  const element = dataSet[tag];
  return isRecord(element) && Array.isArray(element.Value) ? element.Value : [];
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

// The elements themselves are looked at when they are asked for.
function isDataSet(value: unknown): value is DicomJson {
  return isRecord(value);
}
