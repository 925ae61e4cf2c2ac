/**
 * What the project tests itself with, for users' own adapters and gateways: contract suites, faults among them (calls that
 * fail, kills, loss of power), a virtual clock, synthetic DICOM, a small DICOMweb PACS that shows a real one's faults, and a
 * TCP proxy that shows those of a network.
 *
 * @module
 */
export type { FileStatus, FileSystem, WritableFile } from '../storage/directory/file-system.ts';
export { blobContract } from './blob-contract.ts';
export { catalogContract } from './catalog-contract.ts';
export type { ContractOptions } from './contract.ts';
export { intakeFaultContract } from './intake-fault-contract.ts';
export { intakeUntilKilled, type KillStep } from './kill/intake-until-killed.ts';
export type { KillableStore } from './kill/victim.ts';
export { type KillOptions, killContract } from './kill-contract.ts';
export * from './pacs.ts';
export { type JournalEntry, readJournal } from './pacs-archive.ts';
export type { WritableElement } from './part10-writer.ts';
export { type LeftOutSync, ModelFileSystem, type ModelFileSystemOptions } from './power-loss/model-file-system.ts';
export { Scheduler } from './power-loss/scheduler.ts';
export { type PowerLossOptions, powerLossContract } from './power-loss-contract.ts';
export { seededRandom } from './seeded-random.ts';
export { storeContract } from './store-contract.ts';
export * from './synthetic.ts';
export { type TcpBreak, type TcpLine, TcpProxy, type TcpProxyOptions } from './tcp-proxy.ts';
export { VirtualClock } from './virtual-clock.ts';
