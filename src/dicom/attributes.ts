/**
 * The top-level elements that spillway reads from a header, by tag (group << 16 | element) with their keyword (PS3.6).
 * Identity, dates for tiering (PS3.3 C.7.2.1, C.7.3.1, C.7.6.1, C.12.1) and hints of urgency; no patient data.
 */
export const HEADER_ATTRIBUTES: ReadonlyMap<number, string> = new Map([
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
  [0x00080201, 'TimezoneOffsetFromUTC'],
  [0x0020000d, 'StudyInstanceUID'],
  [0x0020000e, 'SeriesInstanceUID'],
  [0x0032000c, 'StudyPriorityID'],
  [0x00400244, 'PerformedProcedureStepStartDate'],
  [0x00400245, 'PerformedProcedureStepStartTime'],
  [0x00401003, 'RequestedProcedurePriority'],
  [0x00401009, 'ReportingPriority'],
]);
