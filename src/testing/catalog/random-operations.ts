import assert from 'node:assert/strict';
import type { DeliveryState, VersionRecord } from '../../domain/delivery.ts';
import { DATE_BASES } from '../../domain/rank.ts';
import type { Acceptance, Catalog, LeasedStudy } from '../../storage/catalog.ts';
import { brokenLink } from '../../storage/event-log.ts';
import { seededRandom } from '../seeded-random.ts';
import { due, found, idsOf, inState, offer, openEpisode, PRESENCES, settlement, sum } from './fixtures.ts';

/** What random operations have done to one destination. */
interface Model {
  catalog: Catalog;
  now: number;
  arrivals: number;
  /** Versions that were new, accepted or taken up. */
  versions: number;
  readonly received: Record<string, number>;
  readonly leases: Map<string, LeasedStudy>;
  readonly random: () => number;
}

export async function randomOperations(catalog: Catalog, reopen: () => Promise<Catalog>): Promise<void> {
  const received = { pacs: 0, archive: 0 };
  const model: Model = {
    catalog,
    now: 0,
    arrivals: 0,
    versions: 0,
    received,
    leases: new Map(),
    random: seededRandom(20_240),
  };
  const often = [randomAccept, randomAccept, randomLease, randomSettle, randomSettle, randomSettle, randomRelease];
  const seldom = [
    randomEviction,
    randomEviction,
    randomMissing,
    randomTakeUp,
    randomDecision,
    randomDecision,
    randomCopy,
  ];
  const operations = [...often, ...often, ...seldom];
  for (let step = 1; step <= 600; step += 1) {
    model.now += below(model, 40);
    const operation = operations[below(model, operations.length)] ?? randomAccept;
    await operation(model);
    if (step % 60 === 0) {
      model.catalog = await reopen();
      model.leases.clear();
    }
    if (step % 70 === 0) await openEpisode(model.catalog, destinationOf(model));
    if (step % 90 === 0) await randomMark(model);
    if (step === 210) await retireAndReturn(model);
    if (step % 20 === 0) await assertBalance(model);
  }
}

async function randomAccept(model: Model): Promise<void> {
  const batch = Array.from({ length: 1 + below(model, 5) }, () => randomOffer(model));
  const known = await Promise.all(batch.map(({ version }) => standingOf(model, version)));
  // What is being evicted is not taken.
  const taken = batch.filter((_, index) => known[index]?.presence !== 'evicting');
  for (const { outcome, destinations } of await model.catalog.accept(taken)) {
    assert.ok(outcome !== 'identical' || destinations.length === 0);
    if (outcome === 'created' || outcome === 'version') model.versions += 1;
    for (const destinationId of destinations) {
      model.received[destinationId] = (model.received[destinationId] ?? 0) + 1;
    }
  }
}

function randomOffer(model: Model): Acceptance {
  model.arrivals += 1;
  const study = `1.${below(model, 12)}`;
  const basis = DATE_BASES[below(model, DATE_BASES.length)] ?? 'dated';
  const rank = { tier: below(model, 3), acquiredAt: below(model, 1000), basis };
  const to = { ...(below(model, 4) > 0 ? { pacs: rank } : {}), ...(below(model, 3) === 0 ? { archive: rank } : {}) };
  const [instance, digest] = [below(model, 15), below(model, 3)];
  // The same data set is always as long, so that what is owed and what is here can be added up alike.
  const bytes = 100 + instance * 31 + digest * 7;
  return offer(model.arrivals, { study, sop: `${study}.${instance}`, digest: `${digest}`, bytes, to });
}

function standingOf({ catalog }: Model, { identity, digest }: VersionRecord): Promise<VersionRecord | null> {
  return catalog.findVersion({ ...identity, digest });
}

/** Evicts a study that may go, and leaves some in the middle, as a crash does; others are ended later. */
async function randomEviction(model: Model): Promise<void> {
  const { catalog, now } = model;
  const terms = { evidence: 'answered', receivedBefore: 1e9 } as const;
  const [study] = await catalog.evictable({ ...terms, limit: 1 });
  if (study !== undefined) {
    const { studyInstanceUid, bytes } = study;
    const eviction = await catalog.beginEviction({ studyInstanceUid, ...terms, at: now });
    assert.deepEqual([eviction?.studyInstanceUid, eviction?.bytes], [studyInstanceUid, bytes]);
  }
  if (below(model, 2) === 0) return;
  for (const { studyInstanceUid } of await catalog.evictions({ limit: 100 })) {
    await catalog.endEviction({ studyInstanceUid, at: now });
  }
}

async function randomMissing(model: Model): Promise<void> {
  const here = await model.catalog.versions({ limit: 1000 });
  const one = here[below(model, here.length)];
  if (one === undefined) return;
  assert.equal(await model.catalog.markMissing({ arrivalId: one.arrivalId, at: model.now }), true);
}

async function randomTakeUp(model: Model): Promise<void> {
  const one = found(randomOffer(model));
  const standing = await standingOf(model, one.version);
  const [outcome] = await model.catalog.takeUp({ instances: [one], at: model.now });
  const isGone = standing === null || standing.presence === 'missing' || standing.presence === 'evicted';
  assert.equal(outcome, isGone ? 'taken' : 'duplicate');
  if (standing === null) model.versions += 1;
}

async function randomLease(model: Model): Promise<void> {
  const destinationId = destinationOf(model);
  const lane = ([undefined, 'live', 'backlog', 'history'] as const)[below(model, 4)];
  const request = { destinationId, now: model.now, limit: 1 + below(model, 3), historyTier: 2 };
  for (const leased of await model.catalog.leaseStudies({ ...request, ...(lane !== undefined && { lane }) })) {
    const key = `${destinationId} ${leased.studyInstanceUid}`;
    assert.ok(!model.leases.has(key), `${key} is in two leases`);
    assert.notDeepEqual(await due(model.catalog, leased.studyInstanceUid, model.now, destinationId), []);
    model.leases.set(key, leased);
  }
}

async function randomSettle(model: Model): Promise<void> {
  const states: DeliveryState[] = ['pending', 'sent', 'sent', 'verified', 'verified', 'quarantined', 'discarded'];
  for (const [key, leased] of model.leases) {
    const [destinationId = ''] = key.split(' ');
    const deliveries = await due(model.catalog, leased.studyInstanceUid, model.now, destinationId);
    const instances = new Set(deliveries.map(({ identity }) => identity.sopInstanceUid));
    assert.equal(instances.size, deliveries.length, 'two versions of one instance are never due at once');
    const settlements = deliveries
      .filter(() => below(model, 2) === 0)
      .map((delivery) => {
        const state = states[below(model, states.length)] ?? 'sent';
        return settlement(leased, delivery, state, { notBefore: model.now + below(model, 200) });
      });
    assert.deepEqual(await model.catalog.settle(settlements), []);
  }
}

/** What a person decides, or what comes by itself, about a few deliveries in any state. */
async function randomDecision(model: Model): Promise<void> {
  const { catalog, now: at } = model;
  const destinationId = destinationOf(model);
  const before = await statesOf(catalog, destinationId);
  const ids = [...before.keys()];
  const deliveryIds = Array.from({ length: 1 + below(model, 12) }, () => ids[below(model, ids.length)] ?? 0);
  const request = { destinationId, deliveryIds, at };
  const decide = [
    async () => [await catalog.discard({ ...request, reason: 'r', by: 'b' }), 'discarded'],
    async () => [(await catalog.redrive({ ...request, by: 'b' })).redriven, 'pending'],
    async () => [await catalog.returnToBacklog({ ...request, reason: 'r' }), 'pending'],
    async () => [await catalog.raiseEvidence({ ...request, evidence: 'committed', settles: true }), 'verified'],
  ] as const;
  const [changed, state] = (await decide[below(model, decide.length)]?.()) ?? [[], 'pending'];
  const after = await statesOf(catalog, destinationId);
  for (const id of ids) {
    const isChanged = (changed as readonly number[]).includes(id);
    assert.equal(after.get(id), isChanged ? state : before.get(id), `delivery ${id}`);
  }
}

async function statesOf(catalog: Catalog, destinationId: string): Promise<ReadonlyMap<number, DeliveryState>> {
  const states: DeliveryState[] = ['pending', 'sent', 'verified', 'quarantined', 'discarded'];
  const lists = await Promise.all(states.map((state) => inState(catalog, state, destinationId)));
  return new Map(lists.flat().map(({ id, state }) => [id, state]));
}

async function randomCopy(model: Model): Promise<void> {
  const copy = { from: 'pacs', to: 'archive', afterId: below(model, 500), limit: 1 + below(model, 5) };
  const { copied } = await model.catalog.copyOpenDeliveries(copy);
  model.received.archive = (model.received.archive ?? 0) + copied;
}

async function randomRelease(model: Model): Promise<void> {
  for (const [key, leased] of [...model.leases]) {
    if (below(model, 2) === 0) continue;
    const [destinationId = ''] = key.split(' ');
    const defer = below(model, 3) === 0 ? { deferUntil: model.now + below(model, 100) } : {};
    const release = { destinationId, leases: [leased.lease], ...defer, clarified: below(model, 2) === 0 };
    await model.catalog.releaseStudies(release);
    model.leases.delete(key);
  }
}

async function randomMark(model: Model): Promise<void> {
  const episodes = await model.catalog.episodes({ openOnly: true, limit: 100 });
  const episode = episodes[below(model, episodes.length)];
  if (episode === undefined) return;
  await model.catalog.markEpisode({ episodeId: episode.id, as: 'ended', at: model.now });
}

async function retireAndReturn(model: Model): Promise<void> {
  await model.catalog.retireDestination({ destinationId: 'archive', reason: 'gone', by: 'someone', at: model.now });
  await model.catalog.registerDestination('archive');
  for (const key of [...model.leases.keys()]) if (key.startsWith('archive ')) model.leases.delete(key);
}

async function assertBalance(model: Model): Promise<void> {
  await assertHoldings(model);
  const { catalog, received } = model;
  for (const destination of await catalog.destinations()) {
    const { destinationId, pending, sent, verified, quarantined, discarded } = destination;
    assert.equal(pending + sent + verified + quarantined + discarded, received[destinationId], destinationId);
    const rows = { pending, sent, verified, quarantined, discarded };
    let openBytes = 0;
    for (const [state, count] of Object.entries(rows) as [DeliveryState, number][]) {
      const deliveries = await inState(catalog, state, destinationId);
      assert.equal(deliveries.length, count, `${destinationId} ${state}`);
      if (state === 'pending' || state === 'sent') openBytes += sum(deliveries.map(({ bytes }) => bytes));
    }
    const backlog = await catalog.backlog(destinationId);
    assert.equal(sum(backlog.map(({ instances }) => instances)), pending + sent);
    assert.equal(sum(backlog.map(({ bytes }) => bytes)), openBytes);
    const ranked = await catalog.rankedStudies({ destinationId, limit: 1000 });
    assert.equal(sum(backlog.map(({ studies }) => studies)), ranked.length);
    await assertTurns(catalog, destinationId);
  }
  for (const { id } of await catalog.episodes({ limit: 1000 })) {
    const { total, tiers } = await catalog.countEpisode(id);
    assert.equal(total.received, total.verified + total.quarantined + total.discarded + total.outstanding);
    for (const name of ['received', 'outstanding', 'verified'] as const) {
      assert.equal(sum(tiers.map((tier) => tier[name])), total[name]);
    }
    const remains = await catalog.episodeRemains(id);
    assert.deepEqual(remains, { pending: total.pending > 0, open: total.outstanding > 0 });
  }
}

/** Of the open deliveries of an instance the first is due, and no other. */
async function assertTurns(catalog: Catalog, destinationId: string): Promise<void> {
  const open = [
    ...(await inState(catalog, 'pending', destinationId)),
    ...(await inState(catalog, 'sent', destinationId)),
  ].sort((a, b) => a.id - b.id);
  const first = new Map<string, number>();
  for (const { id, identity } of open) {
    if (!first.has(identity.sopInstanceUid)) first.set(identity.sopInstanceUid, id);
  }
  const studies = new Set(open.map(({ identity }) => identity.studyInstanceUid));
  const dueNow = await Promise.all([...studies].map((study) => due(catalog, study, 1e12, destinationId)));
  const byId = (a: number, b: number) => a - b;
  assert.deepEqual(idsOf(dueNow.flat()).sort(byId), [...first.values()].sort(byId));
}

/** What is said of studies and of the whole is what their rows add up to. */
async function assertHoldings({ catalog, versions: known }: Model): Promise<void> {
  const here = await catalog.versions({ limit: 10_000 });
  const byPresence = await Promise.all(
    PRESENCES.map((presence) => catalog.versions({ presence, limit: 10_000 }).then((list) => list.length)),
  );
  const [kept = 0, unconfirmed = 0, , , missing = 0] = byPresence;
  assert.equal(sum(byPresence), known, 'no version is ever forgotten');
  assert.equal(kept + unconfirmed, here.length);
  const bytes = sum(here.map((version) => version.bytes));
  assert.deepEqual(await catalog.held(), { instances: here.length, bytes, unconfirmed, missing });
  const open = await openByStudy(catalog);
  const studies = await catalog.studies({ limit: 1000 });
  assert.equal(new Set(here.map(({ identity }) => identity.studyInstanceUid)).size, studies.length);
  for (const { studyInstanceUid, instances, bytes: ofStudy, openDeliveries } of studies) {
    const versions = await catalog.versions({ studyInstanceUid, limit: 10_000 });
    assert.deepEqual([instances, ofStudy], [versions.length, sum(versions.map((version) => version.bytes))]);
    assert.equal(openDeliveries, open.get(studyInstanceUid) ?? 0, studyInstanceUid);
  }
  const blocks = await catalog.evictionBlocks({ evidence: 'answered', receivedBefore: 1e9 });
  assert.equal(sum(blocks.map((block) => block.studies)), studies.length);
  assert.equal(sum(blocks.map((block) => block.bytes)), bytes);
  const hours = await catalog.hourlyTotals({ from: 0, to: 1e12, limit: 1000 });
  assert.equal(sum(hours.map(({ instances }) => instances)), known);
  assert.equal(brokenLink(null, await catalog.log({ afterId: 0, limit: 100_000 })), null);
}

async function openByStudy(catalog: Catalog): Promise<ReadonlyMap<string, number>> {
  const open = new Map<string, number>();
  for (const destinationId of ['pacs', 'archive']) {
    for (const state of ['pending', 'sent'] as const) {
      for (const { identity } of await inState(catalog, state, destinationId)) {
        open.set(identity.studyInstanceUid, (open.get(identity.studyInstanceUid) ?? 0) + 1);
      }
    }
  }
  return open;
}

function destinationOf(model: Model): string {
  return below(model, 3) === 0 ? 'archive' : 'pacs';
}

function below({ random }: Model, limit: number): number {
  return Math.floor(random() * limit);
}
