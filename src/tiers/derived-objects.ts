import { unpadded } from './unpadded.ts';

const STORAGE = '1.2.840.10008.5.1.4.1.1.';

/**
 * SOP classes (PS3.4 table B.5-1) of objects that are made from an examination, often long after it, by what follows
 * `STORAGE`; those with a dot at the end are families.
 */
const DERIVED = [
  '7', // Secondary Capture Image
  '7.', // Multi-frame Secondary Capture
  '9.100.', // Waveform Presentation States
  '11.', // Presentation States
  '30', // Parametric Map
  '66.', // Spatial Registration, Fiducials, Segmentation, Surface Segmentation, Tractography
  '67', // Real World Value Mapping
  '88.', // Structured Reports, Key Object Selection
  '90.1', // Content Assessment Results
  '91.1', // Microscopy Bulk Simple Annotations
  '104.', // Encapsulated Documents
  '131', // Basic Structured Display
  '481.', // Radiotherapy: doses, structure sets, plans, records
];
/** RT Image, Enhanced and Enhanced Continuous RT Image are acquired like any other image. */
const RT_IMAGES = new Set(['481.1', '481.23', '481.24']);
/** Modality (0008,0060) of such objects (PS3.3 C.7.3.1.1.1), for where no SOP class is given. */
const MODALITIES = new Set([
  'ANN',
  'DOC',
  'KO',
  'PLAN',
  'PR',
  'REG',
  'RTDOSE',
  'RTPLAN',
  'RTRECORD',
  'RTSTRUCT',
  'RWV',
  'SEG',
  'SR',
]);

/**
 * Whether an object is derived by its nature, so that its own dates are not those of the examination. ImageType is not
 * asked: images that a modality has processed for presentation are `DERIVED`, and are the examination.
 */
export function isDerivedObject(attributes: Readonly<Record<string, string>>): boolean {
  const sopClass = unpadded(attributes, 'SOPClassUID');
  if (sopClass === undefined) return MODALITIES.has(unpadded(attributes, 'Modality')?.trim().toUpperCase() ?? '');
  if (!sopClass.startsWith(STORAGE)) return false;
  const rest = sopClass.slice(STORAGE.length);
  if (RT_IMAGES.has(rest)) return false;
  return DERIVED.some((entry) => (entry.endsWith('.') ? rest.startsWith(entry) : rest === entry));
}
