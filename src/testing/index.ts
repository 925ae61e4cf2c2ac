/**
 * What the project tests itself with, for users' own adapters and gateways: contract suites, a virtual clock,
 * synthetic DICOM, and a small DICOMweb PACS that shows a real one's faults.
 *
 * @module
 */
export { blobContract } from './blob-contract.ts';
export { catalogContract } from './catalog-contract.ts';
export type { ContractOptions } from './contract.ts';
export * from './pacs.ts';
export { type JournalEntry, readJournal } from './pacs-archive.ts';
export type { WritableElement } from './part10-writer.ts';
export { seededRandom } from './seeded-random.ts';
export { storeContract } from './store-contract.ts';
export * from './synthetic.ts';
export { VirtualClock } from './virtual-clock.ts';
