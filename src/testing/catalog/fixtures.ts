import assert from 'node:assert/strict';
import type { Delivery, DeliveryState, Evidence, Presence, VersionRecord } from '../../domain/delivery.ts';
import type { EpisodeRecord } from '../../domain/episode.ts';
import type { Rank, Urgency } from '../../domain/rank.ts';
import { SpillwayError, type SpillwayErrorCode } from '../../errors.ts';
import type {
  Acceptance,
  AcceptanceResult,
  Catalog,
  FoundInstance,
  LeasedStudy,
  Settlement,
} from '../../storage/catalog.ts';

/** An open catalog in which the destinations `pacs` and `archive` are registered. */
export interface Context {
  readonly catalog: Catalog;
  /** Closes the store and opens it again, as a restart does. */
  reopen(): Promise<Catalog>;
}

export type Check = (name: string, run: (context: Context) => Promise<void>) => void;

export const both = { pacs: {}, archive: {} } as const;

interface Offer {
  readonly study?: string;
  readonly sop?: string;
  readonly syntax?: string;
  readonly digest?: string;
  readonly bytes?: number;
  readonly oddities?: readonly string[];
  readonly urgency?: Urgency;
  readonly receivedAt?: number;
  readonly blobRef?: string;
  readonly source?: string;
  readonly attributes?: Acceptance['attributes'];
  readonly to?: Readonly<Record<string, Partial<Rank>>>;
}

/** An acceptance; without anything said, the only instance of its own study, for the PACS. */
export function offer(
  number: number,
  { study = `1.2.${number}`, sop = `1.3.${number}`, ...rest }: Offer = {},
): Acceptance {
  const rank: Rank = { tier: 1, urgency: 'unknown', acquiredAt: 1000, basis: 'dated', ageTier: 1, ruledTier: null };
  const version: VersionRecord = {
    arrivalId: arrival(number),
    identity: {
      studyInstanceUid: study,
      seriesInstanceUid: `${study}.1`,
      sopInstanceUid: sop,
      sopClassUid: '1.2.840.10008.5.1.4.1.1.2',
      transferSyntaxUid: rest.syntax ?? '1.2.840.10008.1.2.1',
    },
    digest: rest.digest ?? 'a',
    bytes: rest.bytes ?? 1000,
    blobRef: rest.blobRef ?? `blob ${number}`,
    receivedAt: rest.receivedAt ?? 5000 + number,
    oddities: rest.oddities ?? [],
    presence: 'kept',
  };
  const to = Object.entries(rest.to ?? { pacs: {} });
  return {
    version,
    attributes: rest.attributes ?? { Modality: 'CT' },
    source: rest.source ?? null,
    urgency: rest.urgency ?? null,
    deliveries: to.map(([destinationId, given]) => {
      const ageTier = given.tier ?? rank.ageTier;
      return { destinationId, rank: { ...rank, ageTier, ...given } };
    }),
  };
}

export function arrival(number: number): string {
  return `arrival-${String(number).padStart(6, '0')}`;
}

export function settlement(
  { lease: token }: LeasedStudy,
  { id }: Delivery,
  state: DeliveryState,
  given: Partial<Pick<Settlement, 'evidence' | 'attempts' | 'reason' | 'notBefore' | 'at'>> = {},
): Settlement {
  const evidence = state === 'pending' ? 'accepted' : 'found';
  return { deliveryId: id, lease: token, state, evidence, attempts: 0, reason: null, notBefore: 0, at: 0, ...given };
}

export function lease(
  catalog: Catalog,
  now: number,
  limit = 10,
  destinationId = 'pacs',
): Promise<readonly LeasedStudy[]> {
  return catalog.leaseStudies({ destinationId, now, limit });
}

/** Leases the most urgent study, and lists what is due in it. */
export async function leaseOne(catalog: Catalog, now: number) {
  const leased = at(await lease(catalog, now, 1), 0);
  return { leased, deliveries: await due(catalog, leased.studyInstanceUid, now) };
}

export function due(catalog: Catalog, studyInstanceUid: string, now: number, destinationId = 'pacs') {
  return catalog.dueDeliveries({ destinationId, studyInstanceUid, now, afterId: 0, limit: 1000 });
}

export async function inState(
  catalog: Catalog,
  state: DeliveryState,
  destinationId = 'pacs',
): Promise<readonly Delivery[]> {
  const { deliveries, next } = await catalog.deliveries({ destinationId, state, afterId: 0, limit: 10_000 });
  assert.equal(next, null);
  return deliveries;
}

/** Leases everything of a destination, settles the deliveries of these arrivals, and releases everything. */
export async function settleAs(
  catalog: Catalog,
  arrivals: readonly string[],
  state: DeliveryState,
  given: { readonly destinationId?: string; readonly evidence?: Evidence; readonly reason?: string } = {},
): Promise<void> {
  const { destinationId = 'pacs', ...rest } = given;
  const leased = await lease(catalog, 0, 100, destinationId);
  for (const study of leased) {
    const deliveries = (await due(catalog, study.studyInstanceUid, 0, destinationId)).filter((each) =>
      arrivals.includes(each.arrivalId),
    );
    assert.deepEqual(await catalog.settle(deliveries.map((delivery) => settlement(study, delivery, state, rest))), []);
  }
  await catalog.releaseStudies({ destinationId, leases: leased.map((study) => study.lease) });
}

/** A study may be evicted by these as soon as all of it is verified. */
export const ANY = { evidence: 'answered', receivedBefore: 1e12 } as const;

/** Accepts, has everything verified by the PACS, and evicts the studies whole. */
export async function evict(catalog: Catalog, offers: readonly Acceptance[]): Promise<void> {
  await catalog.accept(offers);
  await settleAs(
    catalog,
    offers.map(({ version }) => version.arrivalId),
    'verified',
  );
  for (const studyInstanceUid of new Set(offers.map(({ version }) => version.identity.studyInstanceUid))) {
    assert.ok(await catalog.beginEviction({ studyInstanceUid, ...ANY, at: 60 }));
    await catalog.endEviction({ studyInstanceUid, at: 61 });
  }
}

/** The same instance as a walk finds it. */
export function found({ version, attributes }: Acceptance): FoundInstance {
  return { version: { ...version, presence: 'unconfirmed' }, attributes };
}

export const PRESENCES = [
  'kept',
  'unconfirmed',
  'evicting',
  'evicted',
  'missing',
] as const satisfies readonly Presence[];

/** Arrival ids by presence; presences without any are left out. */
export async function presences(catalog: Catalog): Promise<Partial<Record<Presence, readonly string[]>>> {
  const entries = await Promise.all(
    PRESENCES.map(async (presence) => {
      const versions = await catalog.versions({ presence, limit: 1000 });
      assert.ok(versions.every((version) => version.presence === presence));
      return [presence, versions.map(arrivalOf)] as const;
    }),
  );
  return Object.fromEntries(entries.filter(([, arrivals]) => arrivals.length > 0));
}

/** What is found of a version in one presence or another. */
export async function find(catalog: Catalog, { version }: Pick<Acceptance, 'version'>): Promise<VersionRecord | null> {
  return catalog.findVersion({ ...version.identity, digest: version.digest });
}

export function openEpisode(catalog: Catalog, destinationId = 'pacs'): Promise<EpisodeRecord> {
  return catalog.openEpisode({ destinationId, cause: 'probe failed', startedAt: 10, detectedAt: 20 });
}

export async function record(catalog: Catalog, destinationId: string) {
  const found = (await catalog.destinations()).find((destination) => destination.destinationId === destinationId);
  assert.ok(found);
  return found;
}

/** All that a catalog shows. */
export async function everything(catalog: Catalog): Promise<unknown> {
  const episodes = await catalog.episodes({ limit: 100 });
  const states: DeliveryState[] = ['pending', 'sent', 'verified', 'quarantined', 'discarded'];
  return {
    last: await catalog.lastArrivalId(),
    versions: await catalog.versions({ limit: 1000 }),
    presences: await presences(catalog),
    studies: await catalog.studies({ limit: 1000 }),
    held: await catalog.held(),
    hours: await catalog.hourlyTotals({ from: 0, to: 1e12, limit: 1000 }),
    evictions: await catalog.evictions({ limit: 100 }),
    blocks: await catalog.evictionBlocks({ evidence: 'found', receivedBefore: 1e12 }),
    commitments: await catalog.commitments({ limit: 100 }),
    log: await catalog.log({ afterId: 0, limit: 1000 }),
    destinations: await catalog.destinations(),
    deliveries: await Promise.all(states.map((state) => inState(catalog, state))),
    ranked: await catalog.rankedStudies({ destinationId: 'pacs', limit: 1000 }),
    backlog: await catalog.backlog('pacs'),
    next: await catalog.nextDueAt({ destinationId: 'pacs', now: 0 }),
    due: [await due(catalog, '1.1', 0), await due(catalog, '1.1', 700)],
    episodes,
    counts: await Promise.all(episodes.map(({ id }) => catalog.countEpisode(id))),
  };
}

export async function rejectsWith(code: SpillwayErrorCode, call: Promise<unknown>): Promise<void> {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof SpillwayError, String(error));
    assert.equal(error.code, code);
    return true;
  });
}

export function at<T>(items: readonly T[], index: number): T {
  const item = items[index];
  assert.ok(item !== undefined, `expected an item at ${index} of ${items.length}`);
  return item;
}

export function outcomes(results: readonly AcceptanceResult[]): string[] {
  return results.map(({ outcome }) => outcome);
}

export function arrivalOf({ arrivalId }: { readonly arrivalId: string }): string {
  return arrivalId;
}

export function idsOf(deliveries: readonly Delivery[]): number[] {
  return deliveries.map(({ id }) => id);
}

export function studyOf({ studyInstanceUid }: { readonly studyInstanceUid: string }): string {
  return studyInstanceUid;
}

export function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
