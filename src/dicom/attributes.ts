/** How a value is turned into text: what its VR means for padding and character sets (PS3.5 section 6.2). */
export type ValueKind =
  /** A UID, date, time or code: never subject to Specific Character Set. */
  | 'plain'
  /** SH, LO: subject to it. */
  | 'text'
  /** PN: subject to it, in up to three representations. */
  | 'name'
  /** US: two bytes. */
  | 'number';

/** An element that is read from a header. */
export interface HeaderAttribute {
  readonly keyword: string;
  readonly kind: ValueKind;
}

/**
 * The top-level elements that spillway reads from a header, by tag (group << 16 | element), under their keywords
 * (PS3.6): identity, what a date of the examination may be had from (PS3.3 C.7.2.1, C.7.3.1, C.7.6.1, C.12.1), what
 * QIDO-RS answers and matches by (PS3.18 tables 10.6.3-3 to 10.6.3-5), and hints of how urgent the order was.
 */
export const HEADER_ATTRIBUTES: ReadonlyMap<number, HeaderAttribute> = table({
  plain: [
    [0x00080005, 'SpecificCharacterSet'],
    [0x00080008, 'ImageType'],
    [0x00080012, 'InstanceCreationDate'],
    [0x00080013, 'InstanceCreationTime'],
    [0x00080016, 'SOPClassUID'],
    [0x00080018, 'SOPInstanceUID'],
    [0x00080020, 'StudyDate'],
    [0x00080021, 'SeriesDate'],
    [0x00080022, 'AcquisitionDate'],
    [0x00080023, 'ContentDate'],
    [0x0008002a, 'AcquisitionDateTime'],
    [0x00080030, 'StudyTime'],
    [0x00080031, 'SeriesTime'],
    [0x00080032, 'AcquisitionTime'],
    [0x00080033, 'ContentTime'],
    [0x00080060, 'Modality'],
    [0x00100030, 'PatientBirthDate'],
    [0x00100040, 'PatientSex'],
    [0x00180015, 'BodyPartExamined'],
    [0x0020000d, 'StudyInstanceUID'],
    [0x0020000e, 'SeriesInstanceUID'],
    [0x00200011, 'SeriesNumber'],
    [0x00200013, 'InstanceNumber'],
    [0x00200060, 'Laterality'],
    [0x00280008, 'NumberOfFrames'],
    [0x00400244, 'PerformedProcedureStepStartDate'],
    [0x00400245, 'PerformedProcedureStepStartTime'],
    [0x00404050, 'PerformedProcedureStepStartDateTime'],
    [0x00741200, 'ScheduledProcedureStepPriority'],
  ],
  text: [
    [0x00080050, 'AccessionNumber'],
    [0x00080080, 'InstitutionName'],
    [0x00080201, 'TimezoneOffsetFromUTC'],
    [0x00081010, 'StationName'],
    [0x00081030, 'StudyDescription'],
    [0x0008103e, 'SeriesDescription'],
    [0x00081040, 'InstitutionalDepartmentName'],
    [0x00100020, 'PatientID'],
    [0x00100021, 'IssuerOfPatientID'],
    [0x00181030, 'ProtocolName'],
    [0x00200010, 'StudyID'],
    [0x0032000c, 'StudyPriorityID'],
    [0x00321060, 'RequestedProcedureDescription'],
    [0x00380010, 'AdmissionID'],
    [0x00380300, 'CurrentPatientLocation'],
    [0x00400253, 'PerformedProcedureStepID'],
    [0x00401001, 'RequestedProcedureID'],
    [0x00401002, 'ReasonForTheRequestedProcedure'],
    [0x00401003, 'RequestedProcedurePriority'],
    [0x00401009, 'ReportingPriority'],
    [0x00402016, 'PlacerOrderNumberImagingServiceRequest'],
    [0x00402017, 'FillerOrderNumberImagingServiceRequest'],
  ],
  name: [
    [0x00080090, 'ReferringPhysicianName'],
    [0x00100010, 'PatientName'],
  ],
  number: [
    [0x00280010, 'Rows'],
    [0x00280011, 'Columns'],
    [0x00280100, 'BitsAllocated'],
  ],
});

/** Request Attributes Sequence (PS3.3 table 10-9): the only one that is looked into. */
export const REQUEST_ATTRIBUTES_SEQUENCE = 0x00400275;

/** What is read of its first item that has it, where the data set does not say it itself. */
export const REQUEST_ATTRIBUTES: ReadonlyMap<number, HeaderAttribute> = table({
  plain: [],
  text: [
    [0x00080050, 'AccessionNumber'],
    [0x00321060, 'RequestedProcedureDescription'],
    [0x00400009, 'ScheduledProcedureStepID'],
    [0x00401001, 'RequestedProcedureID'],
    [0x00401002, 'ReasonForTheRequestedProcedure'],
    [0x00401003, 'RequestedProcedurePriority'],
  ],
  name: [],
  number: [],
});

function table(
  rows: Readonly<Record<ValueKind, readonly (readonly [tag: number, keyword: string])[]>>,
): ReadonlyMap<number, HeaderAttribute> {
  const kinds = Object.keys(rows) as ValueKind[];
  return new Map(kinds.flatMap((kind) => rows[kind].map(([tag, keyword]) => [tag, { keyword, kind }] as const)));
}
