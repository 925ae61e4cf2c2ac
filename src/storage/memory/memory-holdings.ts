import { EVIDENCE, type Evidence, type Presence, type VersionRecord } from '../../domain/delivery.ts';
import type { LogDetail, LogEntry } from '../../domain/log.ts';
import type {
  CommitmentTransaction,
  Eviction,
  EvictionBlock,
  EvictionTerms,
  HourlyTotal,
  StudyFilter,
  StudyRecord,
} from '../catalog.ts';
import { hashOfEntry, LOG_BEGINNING } from '../event-log.ts';

const HOUR_MS = 3_600_000;

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

/** A version as the memory catalog keeps it; what is given out is a copy. */
export type HeldVersion = Mutable<VersionRecord>;

/** The last delivery of a version to a destination, as eviction sees it. */
export interface LastDelivery {
  readonly isRetired: boolean;
  readonly isVerified: boolean;
  readonly evidence: Evidence;
}

/** What is held, by study; what was received, by hour; what was asked of destinations; and the event log. */
export class MemoryHoldings {
  readonly #studies = new Map<string, Mutable<StudyRecord>>();
  readonly #hours = new Map<string, Mutable<HourlyTotal>>();
  /** By transaction UID. */
  readonly commitments = new Map<string, CommitmentTransaction>();
  readonly #log: LogEntry[] = [];

  /** What was asked about deliveries before says nothing of them any more: they are owed anew. */
  disregardRequests(owed: readonly number[]): void {
    for (const [transactionUid, transaction] of this.commitments) {
      const deliveryIds = transaction.deliveryIds.filter((id) => !owed.includes(id));
      if (deliveryIds.length < transaction.deliveryIds.length) {
        this.commitments.set(transactionUid, { ...transaction, deliveryIds });
      }
    }
  }

  add(version: VersionRecord, attributes: Readonly<Record<string, string>>, isNew: boolean): void {
    const { identity, bytes, receivedAt } = version;
    const { Modality: modality = '' } = attributes;
    const standing = this.#studies.get(identity.studyInstanceUid);
    const known = standing?.modalities ?? [];
    const isFirst = standing === undefined || (modality === '' ? standing.instances === 0 : !known.includes(modality));
    const study = standing ?? emptyStudy(identity.studyInstanceUid, receivedAt);
    this.#studies.set(identity.studyInstanceUid, study);
    study.patientId = attributes.PatientID ?? study.patientId;
    study.patientName = attributes.PatientName ?? study.patientName;
    study.accessionNumber = attributes.AccessionNumber ?? study.accessionNumber;
    study.studyDate = attributes.StudyDate ?? study.studyDate;
    study.studyDescription = attributes.StudyDescription ?? study.studyDescription;
    study.modalities = modality === '' || known.includes(modality) ? known : [...known, modality].sort();
    study.instances += 1;
    study.bytes += bytes;
    study.firstReceivedAt = Math.min(study.firstReceivedAt, receivedAt);
    study.lastReceivedAt = Math.max(study.lastReceivedAt, receivedAt);
    if (!isNew) return;
    const hour = receivedAt - (receivedAt % HOUR_MS);
    const key = `${hour} ${modality}`;
    const total = this.#hours.get(key) ?? { hour, modality, studies: 0, instances: 0, bytes: 0 };
    this.#hours.set(key, total);
    total.studies += Number(isFirst);
    total.instances += 1;
    total.bytes += bytes;
  }

  remove(versions: readonly VersionRecord[]): void {
    for (const { identity, bytes } of versions) {
      const study = this.#studies.get(identity.studyInstanceUid);
      if (study === undefined) continue;
      study.instances -= 1;
      study.bytes -= bytes;
      if (study.instances > 0) continue;
      study.patientId = null;
      study.patientName = null;
      study.accessionNumber = null;
      study.studyDate = null;
      study.studyDescription = null;
    }
  }

  countOpen(studyInstanceUid: string, change: number): void {
    const study = this.#studies.get(studyInstanceUid);
    if (study !== undefined) study.openDeliveries += change;
  }

  held(): { instances: number; bytes: number } {
    let [instances, bytes] = [0, 0];
    for (const study of this.#studies.values()) {
      instances += study.instances;
      bytes += study.bytes;
    }
    return { instances, bytes };
  }

  study(studyInstanceUid: string): StudyRecord | undefined {
    return this.#studies.get(studyInstanceUid);
  }

  /** Studies with bytes here, by UID. */
  all(): StudyRecord[] {
    return [...this.#studies.values()]
      .filter(({ instances }) => instances > 0)
      .sort((a, b) => compare(a.studyInstanceUid, b.studyInstanceUid))
      .map((study) => ({ ...study }));
  }

  find({ after = '', limit, ...filter }: StudyFilter): StudyRecord[] {
    const name = filter.patientName === undefined ? null : wildcards(filter.patientName.toLowerCase());
    const { from, to } = filter.studyDate ?? {};
    return this.all()
      .filter(
        (study) =>
          study.studyInstanceUid > after &&
          (filter.studyInstanceUid === undefined || study.studyInstanceUid === filter.studyInstanceUid) &&
          (filter.patientId === undefined || study.patientId === filter.patientId) &&
          (filter.accessionNumber === undefined || study.accessionNumber === filter.accessionNumber) &&
          (filter.modality === undefined || study.modalities.includes(filter.modality)) &&
          (from === undefined || (study.studyDate !== null && study.studyDate >= from)) &&
          (to === undefined || (study.studyDate !== null && study.studyDate <= to)) &&
          (name === null || (study.patientName !== null && name.test(study.patientName.toLowerCase()))),
      )
      .slice(0, limit);
  }

  hours(
    from: number,
    to: number,
    after: Pick<HourlyTotal, 'hour' | 'modality'> | undefined,
    limit: number,
  ): HourlyTotal[] {
    return [...this.#hours.values()]
      .sort((a, b) => a.hour - b.hour || compare(a.modality, b.modality))
      .filter(({ hour }) => hour >= from && hour < to)
      .filter(
        ({ hour, modality }) =>
          after === undefined || hour > after.hour || (hour === after.hour && modality > after.modality),
      )
      .slice(0, limit)
      .map((total) => ({ ...total }));
  }

  append(at: number, kind: string, detail: LogDetail): LogEntry {
    const last = this.#log.at(-1);
    const entry = { id: (last?.id ?? 0) + 1, at: Math.round(at), kind, detail };
    const appended = { ...entry, hash: hashOfEntry(last?.hash ?? LOG_BEGINNING, entry) };
    this.#log.push(appended);
    return appended;
  }

  log(afterId: number, limit: number): LogEntry[] {
    return this.#log.slice(afterId, afterId + limit);
  }
}

/** Why a study may not be evicted; null when it may. */
export function blockOf(
  study: StudyRecord,
  versions: readonly { readonly presence: Presence; readonly deliveries: readonly LastDelivery[] }[],
  { evidence, receivedBefore }: EvictionTerms,
): Exclude<EvictionBlock['reason'], 'none'> | null {
  if (study.openDeliveries > 0) return 'pending';
  const inUse = versions
    .filter(({ presence }) => presence === 'kept' || presence === 'unconfirmed')
    .map(({ deliveries }) => deliveries.filter(({ isRetired }) => !isRetired));
  if (inUse.some((deliveries) => deliveries.some(({ isVerified }) => !isVerified))) return 'unverified';
  if (inUse.some((deliveries) => deliveries.length === 0)) return 'unrouted';
  const least = EVIDENCE.indexOf(evidence);
  const isLess = ({ evidence: reached }: LastDelivery) => EVIDENCE.indexOf(reached) < least;
  if (inUse.some((deliveries) => deliveries.some(isLess))) return 'evidence';
  return study.lastReceivedAt >= receivedBefore ? 'recent' : null;
}

export function evictionOf(studyInstanceUid: string, versions: readonly VersionRecord[]): Eviction {
  return {
    studyInstanceUid,
    bytes: versions.reduce((total, version) => total + version.bytes, 0),
    blobRefs: versions.map(({ blobRef }) => blobRef),
  };
}

function emptyStudy(studyInstanceUid: string, receivedAt: number): Mutable<StudyRecord> {
  return {
    studyInstanceUid,
    patientId: null,
    patientName: null,
    accessionNumber: null,
    studyDate: null,
    studyDescription: null,
    modalities: [],
    instances: 0,
    bytes: 0,
    openDeliveries: 0,
    firstReceivedAt: receivedAt,
    lastReceivedAt: receivedAt,
  };
}

function wildcards(pattern: string): RegExp {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '[^]*')
    .replaceAll('?', '[^]');
  return new RegExp(`^${source}$`, 'iu');
}

// By code unit, never by a locale.
function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
