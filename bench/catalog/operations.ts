import { randomBytes } from 'node:crypto';
import type { Acceptance, Catalog, Settlement } from '../../src/storage/catalog.ts';
import { fileStore } from '../../src/storage/file-store.ts';
import type { CatalogOperations } from '../../src/storage/sqlite/operations.ts';
import { DESTINATION, type MadeStore } from './backlog-store.ts';
import type { Job, OperationsResult } from './job.ts';

const CALLS = 30;
const LEASED = 16;
const PAGE = 256;
const RANKED_PAGE = 500;
const FACTS_PAGE = 200;
const SEARCH_PAGE = 100;
const DAY_MS = 24 * 3_600_000;

/** The search that the catalog is to have: studies by what QIDO-RS asks for. */
interface StudySearch {
  studies(filter: {
    readonly patientId?: string;
    readonly patientName?: string;
    readonly studyDate?: { readonly from?: string; readonly to?: string };
    readonly limit: number;
  }): Promise<readonly unknown[]>;
}

/** A catalog, or its operations without the thread. */
export type CatalogCalls = {
  readonly [Method in Exclude<keyof CatalogOperations, 'countEpisodePart'>]: (
    ...parameters: Parameters<CatalogOperations[Method]>
  ) => Maybe<ReturnType<CatalogOperations[Method]>>;
} & Pick<Catalog, 'countEpisode'>;
type Maybe<T> = T | Promise<T>;
type Timed = <T>(name: string, call: () => Maybe<T>) => Promise<T>;

export async function measureOperations({ directory, made }: Job): Promise<OperationsResult> {
  const store = await fileStore({ directory }).open();
  const result: Record<string, number[]> = {};
  try {
    await callEverything(store.catalog, made, CALLS, async (name, call) => {
      const start = performance.now();
      const value = await call();
      result[name] ??= [];
      result[name].push(performance.now() - start);
      return value;
    });
  } finally {
    await store.close();
  }
  return result;
}

/** Every call that the way of an instance and an opening make. Leaves its rows behind. */
export async function callEverything(
  catalog: CatalogCalls,
  made: MadeStore,
  calls: number,
  timed: Timed,
): Promise<void> {
  const { now } = made;
  const destinationId = DESTINATION;
  for (let call = 0; call < calls; call += 1) {
    await timed('lastArrivalId', () => catalog.lastArrivalId());
    await timed('destinations', () => catalog.destinations());
    await timed('backlog', () => catalog.backlog(destinationId));
    await timed('nextDueAt', () => catalog.nextDueAt({ destinationId, now }));
    await timed('episodes, open', () => catalog.episodes({ destinationId, openOnly: true, limit: 10 }));
    await timed('deliveries, quarantined', () =>
      catalog.deliveries({ destinationId, state: 'quarantined', afterId: 0, limit: PAGE }),
    );
    await timed('accept, 1', () => catalog.accept([madeUp(now, uid())]));
    await workOnStudies(catalog, now, timed);
  }
  for (let call = 0; call < calls / 2; call += 1) {
    const studies = Array.from({ length: 4 }, uid);
    const batch = Array.from({ length: PAGE }, (_, index) => madeUp(now, studies[index % studies.length] ?? uid()));
    await timed('accept, 256', () => catalog.accept(batch));
    const ranked = await timed('rankedStudies, 500', () =>
      catalog.rankedStudies({ destinationId, limit: RANKED_PAGE }),
    );
    await timed('setRanks, 500', () => catalog.setRanks({ destinationId, ranks: ranked }));
    const studyInstanceUid = ranked[call % ranked.length]?.studyInstanceUid ?? '';
    await timed('rankingFacts, 200', () =>
      catalog.rankingFacts({ destinationId, studyInstanceUid, limit: FACTS_PAGE }),
    );
    await timed('versions, of a study', () => catalog.versions({ studyInstanceUid, limit: PAGE }));
  }
  if (hasSearch(catalog)) await search(catalog, made.patientId, calls, timed);
  else console.error('missing: a search for studies, which this catalog does not have');
  await outage(catalog, now, timed);
}

async function workOnStudies(catalog: CatalogCalls, now: number, timed: Timed): Promise<void> {
  const destinationId = DESTINATION;
  const leased = await timed('leaseStudies, 16', () => catalog.leaseStudies({ destinationId, now, limit: LEASED }));
  const [first] = leased;
  if (first !== undefined) {
    const { studyInstanceUid, lease } = first;
    const due = await timed('dueDeliveries, 256', () =>
      catalog.dueDeliveries({ destinationId, studyInstanceUid, now, afterId: 0, limit: PAGE }),
    );
    const [one, ...others] = due.map(({ id }) => settlement(id, lease, now));
    if (one !== undefined) await timed('settle, 1', () => catalog.settle([one]));
    await timed('settle, 16', () => catalog.settle(others.slice(0, 16)));
  }
  const leases = leased.map(({ lease }) => lease);
  await timed('releaseStudies, 16', () => catalog.releaseStudies({ destinationId, leases }));
}

async function search(catalog: StudySearch, patientId: string, calls: number, timed: Timed): Promise<void> {
  for (let call = 0; call < calls; call += 1) {
    await timed('studies by patient id', () => catalog.studies({ patientId, limit: SEARCH_PAGE }));
    await timed('studies by name', () => catalog.studies({ patientName: 'Berg*', limit: SEARCH_PAGE }));
    await timed('studies by date', () =>
      catalog.studies({ studyDate: { from: '20240101', to: '20240131' }, limit: SEARCH_PAGE }),
    );
  }
}

/** An episode over the whole backlog. */
async function outage(catalog: CatalogCalls, now: number, timed: Timed): Promise<void> {
  const { id } = await timed('openEpisode', () =>
    catalog.openEpisode({ destinationId: DESTINATION, cause: 'benchmark', startedAt: now, detectedAt: now }),
  );
  await timed('episodeRemains', () => catalog.episodeRemains(id));
  for (const as of ['ended', 'drained', 'closed'] as const) {
    await timed('markEpisode', () => catalog.markEpisode({ episodeId: id, as, at: now }));
    await timed('episodeRemains', () => catalog.episodeRemains(id));
  }
  for (let call = 0; call < 3; call += 1) await timed('countEpisode', () => catalog.countEpisode(id));
}

function settlement(deliveryId: number, lease: number, at: number): Settlement {
  const settled = {
    deliveryId,
    lease,
    state: 'verified',
    evidence: 'found',
    attempts: 0,
    reason: null,
    notBefore: 0,
    at,
  } as const;
  return settled;
}

function uid(): string {
  return `2.25.${BigInt(`0x${randomBytes(16).toString('hex')}`)}`;
}

/** An instance of a least urgent study. It has no file. */
function madeUp(now: number, studyInstanceUid: string): Acceptance {
  const digest = randomBytes(32).toString('hex');
  const identity = {
    studyInstanceUid,
    seriesInstanceUid: uid(),
    sopInstanceUid: uid(),
    sopClassUid: '1.2.840.10008.5.1.4.1.1.2',
    transferSyntaxUid: '1.2.840.10008.1.2.1',
  };
  // Later than any that is there.
  const arrivalId = ((BigInt(Date.now() + 1_000) << 16n) + BigInt(madeUpCount)).toString(16).padStart(16, '0');
  madeUpCount += 1;
  return {
    version: {
      arrivalId,
      identity,
      digest,
      bytes: 1_024,
      blobRef: `none/${digest}`,
      receivedAt: now,
      oddities: [],
      presence: 'kept' as const,
    },
    attributes: { PatientID: 'NOBODY', Modality: 'CT', StudyDate: '20200101' },
    source: null,
    urgency: null,
    deliveries: [
      {
        destinationId: DESTINATION,
        rank: {
          tier: 2,
          urgency: 'routine',
          acquiredAt: now - 4_000 * DAY_MS,
          basis: 'dated',
          ageTier: 2,
          ruledTier: null,
        },
      },
    ],
  };
}

let madeUpCount = 0;

function hasSearch(catalog: CatalogCalls): catalog is CatalogCalls & StudySearch {
  return 'studies' in catalog && typeof catalog.studies === 'function';
}
