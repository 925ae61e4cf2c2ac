import type { VersionRecord } from '../../domain/delivery.ts';
import type { Eviction, EvictionBlock, EvictionTerms, StudyRecord } from '../catalog.ts';
import { blockOf, evictionOf, type LastDelivery } from './memory-holdings.ts';
import type { MemoryTables } from './memory-tables.ts';
import { byStudy } from './memory-work.ts';

export function evictable(tables: MemoryTables, terms: EvictionTerms & { readonly limit: number }): StudyRecord[] {
  return tables.holdings
    .all()
    .filter((study) => blockOf(study, lastDeliveries(tables, study.studyInstanceUid), terms) === null)
    .sort((a, b) => a.lastReceivedAt - b.lastReceivedAt || byStudy(a, b))
    .slice(0, terms.limit);
}

export function evictionBlocks(tables: MemoryTables, terms: EvictionTerms): EvictionBlock[] {
  const blocks = new Map<EvictionBlock['reason'], { studies: number; bytes: number }>();
  for (const study of tables.holdings.all()) {
    const reason = blockOf(study, lastDeliveries(tables, study.studyInstanceUid), terms) ?? 'none';
    const block = blocks.get(reason) ?? { studies: 0, bytes: 0 };
    blocks.set(reason, { studies: block.studies + 1, bytes: block.bytes + study.bytes });
  }
  return [...blocks].map(([reason, block]) => ({ reason, ...block })).sort((a, b) => (a.reason < b.reason ? -1 : 1));
}

export function beginEviction(
  tables: MemoryTables,
  { studyInstanceUid, ...terms }: EvictionTerms & { readonly studyInstanceUid: string },
): Eviction | null {
  const study = tables.holdings.study(studyInstanceUid);
  if (study === undefined || study.instances === 0) return null;
  if (blockOf(study, lastDeliveries(tables, studyInstanceUid), terms) !== null) return null;
  const versions = (tables.versionsByStudy.get(studyInstanceUid) ?? []).filter(({ presence }) => presence === 'kept');
  for (const version of versions) version.presence = 'evicting';
  tables.holdings.remove(versions);
  return evictionOf(studyInstanceUid, versions);
}

export function endEviction(
  tables: MemoryTables,
  { studyInstanceUid, at }: { readonly studyInstanceUid: string; readonly at: number },
): void {
  const versions = (tables.versionsByStudy.get(studyInstanceUid) ?? []).filter(
    ({ presence }) => presence === 'evicting',
  );
  if (versions.length === 0) return;
  for (const version of versions) {
    version.presence = 'evicted';
    const facts = tables.rankingFacts.get(version.arrivalId);
    if (facts !== undefined) tables.rankingFacts.set(version.arrivalId, { ...facts, attributes: {} });
    tables.sources.set(version.arrivalId, null);
  }
  const { bytes } = evictionOf(studyInstanceUid, versions);
  tables.holdings.append(at, 'evicted', { studyInstanceUid, instances: versions.length, bytes });
}

/** Those that have begun and not ended. */
export function evictions(tables: MemoryTables, limit: number): Eviction[] {
  const byStudyUid = new Map<string, VersionRecord[]>();
  for (const version of tables.versions) {
    if (version.presence !== 'evicting') continue;
    const { studyInstanceUid } = version.identity;
    byStudyUid.set(studyInstanceUid, [...(byStudyUid.get(studyInstanceUid) ?? []), version]);
  }
  return [...byStudyUid].slice(0, limit).map(([study, versions]) => evictionOf(study, versions));
}

/** Of each version of a study the last delivery to each destination. */
function lastDeliveries({ versionsByStudy, destinations }: MemoryTables, studyInstanceUid: string) {
  return (versionsByStudy.get(studyInstanceUid) ?? []).map((version) => ({
    presence: version.presence,
    deliveries: [...destinations.values()].flatMap(({ retired, deliveries }): LastDelivery[] => {
      const last = deliveries.findLast((delivery) => delivery.version === version);
      if (last === undefined) return [];
      return [{ isRetired: retired !== null, isVerified: last.state === 'verified', evidence: last.evidence }];
    }),
  }));
}
