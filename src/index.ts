/**
 * spillway keeps DICOM studies safe while the PACS is down, and replays them to it afterwards, most urgent first, with
 * proof that nothing is missing.
 *
 * @example
 * ```ts
 * import { dicomwebDestination, fileStore, openSpillway } from 'spillway';
 *
 * await using spillway = await openSpillway({
 *   store: fileStore({ directory: '/var/lib/gateway/spill' }),
 *   destinations: [dicomwebDestination({ id: 'pacs', url: 'http://pacs.example/dicom-web' })],
 * });
 * const receipt = await spillway.accept('/incoming/image.dcm');
 * ```
 * @module
 */
export type { AbortableOptions } from './domain/abort.ts';
export type { Clock } from './domain/clock.ts';
export type {
  Delivery,
  DeliveryFilter,
  DeliveryState,
  Evidence,
  Lane,
  Presence,
  VerifyLevel,
  VersionRecord,
} from './domain/delivery.ts';
export type { EpisodeCounts, EpisodeRecord, EpisodeTierCounts } from './domain/episode.ts';
export type { InstanceIdentity } from './domain/identity.ts';
export type { LogDetail, LogEntry } from './domain/log.ts';
export type { Oddity } from './domain/oddity.ts';
export type { DateBasis, Rank, Urgency } from './domain/rank.ts';
export type { Receipt } from './domain/receipt.ts';
export { formatBytes, formatDuration } from './domain/units.ts';
export { SpillwayError, type SpillwayErrorCode } from './errors.ts';
export type { SpillwayEvents } from './events.ts';
export type { SkipReason } from './folders/directory-walk.ts';
export type { ExportedInstance, ExportOptions, ExportSummary } from './folders/export-studies.ts';
export type { ExportOutcome } from './folders/exported-file.ts';
export type { ImportedFile, ImportOptions, ImportSummary } from './folders/import-studies.ts';
export type { AcceptOptions, Route, RoutedInstance } from './intake.ts';
export type { InstanceSource } from './intake-source.ts';
export type { Reclassification } from './replay/backlog-ranking.ts';
export type { DeliverySelection, DiscardOptions, RedriveOptions, RedriveReport } from './replay/decisions.ts';
export type {
  Backlog,
  DeliveryEvent,
  DestinationStatus,
  HealthEventDetail,
  Rate,
  ReplayEvents,
  RollbackSuspicion,
  TierStatus,
} from './replay/events.ts';
export { deliveriesCsv } from './replay/not-verified.ts';
export {
  formatReconciliation,
  type ReconciledTier,
  type Reconciliation,
  reconciliationCsv,
} from './replay/reconciliation.ts';
export type { ReverifyOptions, ReverifyReport } from './replay/reverify.ts';
export type { EvictedStudy } from './retention/evictor.ts';
export type { RetentionOptions, Rung } from './retention/policy.ts';
export type { StorageEvents, StorageStatus } from './retention/store-keeper.ts';
export type { VerifyOptions, VerifyReport } from './retention/verify.ts';
export type { WalkReport } from './retention/walk.ts';
export { type DestinationPolicy, defaultDestinationPolicy } from './routing/destination.ts';
export type { DrainEstimate } from './routing/estimate.ts';
export type { FlowPolicy, Pace } from './routing/flow.ts';
export type { HealthPhase, HealthPolicy, HealthStatus } from './routing/health.ts';
export type { ReferenceInstant } from './routing/order.ts';
export type { RetryPolicy } from './routing/retry.ts';
export type { SharePolicy } from './routing/share.ts';
export type { FlowWindow, Weekday } from './routing/windows.ts';
export {
  type Confirmation,
  openSpillway,
  type PlannedOutageOptions,
  type QuarantinedDelivery,
  type ReclassifyOptions,
  type Spillway,
  type SpillwayOptions,
  type SpillwayStatus,
} from './spillway.ts';
export type { BlobPlacement, BlobRoom, BlobStore, BlobWriter, StoredBlob } from './storage/blob-store.ts';
export type {
  Acceptance,
  AcceptanceResult,
  Catalog,
  CommitmentTransaction,
  DestinationRecord,
  Eviction,
  EvictionBlock,
  EvictionTerms,
  FoundInstance,
  Holdings,
  HourlyTotal,
  LeasedStudy,
  RankedStudy,
  RankingFacts,
  Settlement,
  StudyFilter,
  StudyRecord,
  TierBacklog,
} from './storage/catalog.ts';
export { type FileStoreOptions, fileStore } from './storage/file-store.ts';
export { type MemoryStoreOptions, memoryStore } from './storage/memory/memory-store.ts';
export type { OpenStore, Rebuild, Store } from './storage/store.ts';
export type { Tier, TierPolicy } from './tiers/policy.ts';
export { dicomwebDestination } from './transports/dicomweb/destination.ts';
export type { DicomwebDestinationOptions } from './transports/dicomweb/options.ts';
export type {
  CommitmentReport,
  CommitmentRequest,
  Destination,
  OutgoingInstance,
  ProbeOutcome,
  SendOutcome,
  Transport,
} from './transports/transport.ts';
