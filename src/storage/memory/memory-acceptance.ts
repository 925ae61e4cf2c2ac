import type { VersionRecord } from '../../domain/delivery.ts';
import { mergeRank, mergeUrgency, type Rank, type Urgency } from '../../domain/rank.ts';
import type { Acceptance, AcceptanceResult, FoundInstance } from '../catalog.ts';
import type { HeldVersion } from './memory-holdings.ts';
import { destinationEntry, destinationInUse } from './memory-records.ts';
import { type DestinationEntry, type MemoryTables, type StudyEntry, setLane } from './memory-tables.ts';

export function isHere({ presence }: VersionRecord): boolean {
  return presence === 'kept' || presence === 'unconfirmed';
}

export function findVersion(
  tables: MemoryTables,
  sopInstanceUid: string,
  transferSyntaxUid: string,
  digest: string,
): HeldVersion | null {
  const versions = tables.versionsByInstance.get(sopInstanceUid) ?? [];
  return (
    versions.find((version) => version.identity.transferSyntaxUid === transferSyntaxUid && version.digest === digest) ??
    null
  );
}

export function accept(tables: MemoryTables, acceptance: Acceptance): AcceptanceResult {
  const { version: offered } = acceptance;
  const { sopInstanceUid, transferSyntaxUid } = offered.identity;
  const known = findVersion(tables, sopInstanceUid, transferSyntaxUid, offered.digest);
  if (known?.presence === 'kept') return { outcome: 'identical', version: { ...known }, destinations: [] };
  if (known !== null) return restore(tables, known, acceptance);
  const isFurther = tables.versionsByInstance.has(sopInstanceUid);
  const version = tables.addVersion({ ...offered, presence: 'kept' }, acceptance);
  const destinations = addDeliveries(tables, version, isFurther, acceptance.deliveries);
  return { outcome: isFurther ? 'version' : 'created', version: { ...version }, destinations };
}

/** A version that is known, but whose bytes were not here, or of which only the file told. */
function restore(tables: MemoryTables, known: HeldVersion, acceptance: Acceptance): AcceptanceResult {
  const { arrivalId, identity, presence: was } = known;
  const { version: offered, attributes, source, urgency } = acceptance;
  if (was === 'unconfirmed') tables.holdings.remove([known]);
  known.presence = 'kept';
  known.blobRef = offered.blobRef;
  known.bytes = offered.bytes;
  const facts = tables.rankingFacts.get(arrivalId);
  if (facts !== undefined) {
    tables.rankingFacts.set(arrivalId, { ...facts, attributes, urgency: higherOf(facts.urgency, urgency) });
  }
  if (source !== null) tables.sources.set(arrivalId, source);
  tables.holdings.add({ ...known, receivedAt: offered.receivedAt }, attributes, false);
  // Whoever read ranks before must not overwrite what its rank is merged into.
  tables.acceptedLast.set(identity.studyInstanceUid, arrivalId);
  const wanted = acceptance.deliveries.filter(({ destinationId, rank }) => {
    const destination = destinationEntry(tables, destinationId);
    const standing = destination.deliveries.filter(({ version }) => version === known).map(({ state }) => state);
    const isOpen = standing.includes('pending') || standing.includes('sent');
    if (isOpen) rankedStudy(destination, identity.studyInstanceUid, rank);
    return !isOpen && !standing.includes('discarded');
  });
  const others = (tables.versionsByInstance.get(identity.sopInstanceUid) ?? []).length > 1;
  const destinations = addDeliveries(tables, known, others, wanted);
  tables.holdings.append(offered.receivedAt, 'restored', { arrivalId, was });
  return { outcome: 'restored', version: { ...known }, destinations };
}

function higherOf(known: Urgency | null, said: Urgency | null): Urgency | null {
  return known === null || said === null ? (known ?? said) : mergeUrgency(known, said);
}

function addDeliveries(
  tables: MemoryTables,
  version: HeldVersion,
  isFurther: boolean,
  deliveries: Acceptance['deliveries'],
): readonly string[] {
  for (const { destinationId, rank } of deliveries) {
    const destination = destinationInUse(tables, destinationId);
    const study = rankedStudy(destination, version.identity.studyInstanceUid, rank);
    tables.addDelivery(destination, version, isFurther, study);
  }
  return deliveries.map(({ destinationId }) => destinationId);
}

/** What became of a file that no row knew. */
export function takeUp(tables: MemoryTables, { version, attributes }: FoundInstance): 'known' | 'taken' | 'duplicate' {
  const { identity, arrivalId, digest } = version;
  const standing =
    tables.arrivals.get(arrivalId) ?? findVersion(tables, identity.sopInstanceUid, identity.transferSyntaxUid, digest);
  // Other bytes under a name that was another's: whatever they are, they are not that.
  const isSame =
    standing?.digest === digest &&
    standing.identity.sopInstanceUid === identity.sopInstanceUid &&
    standing.identity.transferSyntaxUid === identity.transferSyntaxUid;
  if (standing !== null && !isSame) return 'known';
  if (standing?.presence === 'missing' || standing?.presence === 'evicted') {
    // What was never accepted is not kept: accepting it would be `identical` then, and it would be delivered nowhere.
    standing.presence = isDelivered(tables, standing) ? 'kept' : 'unconfirmed';
    standing.blobRef = version.blobRef;
    standing.bytes = version.bytes;
    const facts = tables.rankingFacts.get(standing.arrivalId);
    if (facts !== undefined) tables.rankingFacts.set(standing.arrivalId, { ...facts, attributes });
    tables.holdings.add(standing, attributes, false);
    return 'taken';
  }
  if (standing !== null) return standing.arrivalId === arrivalId ? 'known' : 'duplicate';
  tables.addVersion({ ...version, presence: 'unconfirmed' }, { attributes, source: null, urgency: null });
  return 'taken';
}

/** Whether a version is owed to a destination or proven at one. */
function isDelivered({ destinations }: MemoryTables, known: HeldVersion): boolean {
  return [...destinations.values()].some(({ deliveries }) =>
    deliveries.some(
      ({ version, state }) => version === known && (state === 'pending' || state === 'sent' || state === 'verified'),
    ),
  );
}

/** A study that receives something, in the order and the lane that it has then. */
export function rankedStudy(destination: DestinationEntry, studyInstanceUid: string, arrived: Rank): StudyEntry {
  const known = destination.studies.get(studyInstanceUid);
  if (known !== undefined) {
    // Judged by a policy that is none any more, and by nobody judged again since nothing was open.
    const isOutdated = known.open.size === 0 && known.ranking !== destination.ranking;
    known.rank = isOutdated ? arrived : mergeRank(known.rank, arrived);
    known.ranking = destination.ranking;
    setLane(destination, known, false);
    return known;
  }
  const study: StudyEntry = {
    studyInstanceUid,
    rank: arrived,
    ranking: destination.ranking,
    open: new Map(),
    openBytes: 0,
    dueAt: Number.POSITIVE_INFINITY,
    lease: null,
    isInterrupted: false,
    isBacklog: destination.outages > 0,
  };
  destination.studies.set(studyInstanceUid, study);
  return study;
}
