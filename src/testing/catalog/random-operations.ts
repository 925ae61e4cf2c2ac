import assert from 'node:assert/strict';
import type { DeliveryState } from '../../domain/delivery.ts';
import { DATE_BASES } from '../../domain/rank.ts';
import type { Catalog, LeasedStudy } from '../../storage/catalog.ts';
import { seededRandom } from '../seeded-random.ts';
import { due, inState, lease, offer, openEpisode, settlement, sum } from './fixtures.ts';

/** What random operations have done to one destination. */
interface Model {
  catalog: Catalog;
  now: number;
  arrivals: number;
  readonly received: Record<string, number>;
  readonly leases: Map<string, LeasedStudy>;
  readonly random: () => number;
}

export async function randomOperations(catalog: Catalog, reopen: () => Promise<Catalog>): Promise<void> {
  const received = { pacs: 0, archive: 0 };
  const model: Model = { catalog, now: 0, arrivals: 0, received, leases: new Map(), random: seededRandom(20_240) };
  const operations = [randomAccept, randomAccept, randomLease, randomSettle, randomSettle, randomSettle, randomRelease];
  for (let step = 1; step <= 400; step += 1) {
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
  const batch = Array.from({ length: 1 + below(model, 5) }, () => {
    model.arrivals += 1;
    const study = `1.${below(model, 12)}`;
    const basis = DATE_BASES[below(model, DATE_BASES.length)] ?? 'dated';
    const rank = { tier: below(model, 3), acquiredAt: below(model, 1000), basis };
    const to = { ...(below(model, 4) > 0 ? { pacs: rank } : {}), ...(below(model, 3) === 0 ? { archive: rank } : {}) };
    const sop = `${study}.${below(model, 15)}`;
    return offer(model.arrivals, { study, sop, digest: `${below(model, 3)}`, bytes: below(model, 5000), to });
  });
  for (const [index, { outcome }] of (await model.catalog.accept(batch)).entries()) {
    if (outcome === 'identical') continue;
    for (const { destinationId } of batch[index]?.deliveries ?? []) {
      model.received[destinationId] = (model.received[destinationId] ?? 0) + 1;
    }
  }
}

async function randomLease(model: Model): Promise<void> {
  const destinationId = destinationOf(model);
  for (const leased of await lease(model.catalog, model.now, 1 + below(model, 3), destinationId)) {
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

async function randomRelease(model: Model): Promise<void> {
  for (const [key, leased] of [...model.leases]) {
    if (below(model, 2) === 0) continue;
    const [destinationId = ''] = key.split(' ');
    const defer = below(model, 3) === 0 ? { deferUntil: model.now + below(model, 100) } : {};
    await model.catalog.releaseStudies({ destinationId, leases: [leased.lease], ...defer });
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

async function assertBalance({ catalog, received }: Model): Promise<void> {
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
  }
  for (const { id } of await catalog.episodes({ limit: 1000 })) {
    const { total, tiers } = await catalog.countEpisode(id);
    assert.equal(total.received, total.verified + total.quarantined + total.discarded + total.outstanding);
    assert.equal(sum(tiers.map(({ outstanding }) => outstanding)), total.outstanding);
    const remains = await catalog.episodeRemains(id);
    assert.deepEqual(remains, { pending: total.pending > 0, open: total.outstanding > 0 });
  }
}

function destinationOf(model: Model): string {
  return below(model, 3) === 0 ? 'archive' : 'pacs';
}

function below({ random }: Model, limit: number): number {
  return Math.floor(random() * limit);
}
