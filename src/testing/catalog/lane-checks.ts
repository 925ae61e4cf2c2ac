import assert from 'node:assert/strict';
import type { Lane } from '../../domain/delivery.ts';
import type { Catalog } from '../../storage/catalog.ts';
import {
  arrival,
  arrivalOf,
  at,
  type Check,
  due,
  idsOf,
  inState,
  lease,
  leaseOne,
  offer,
  openEpisode,
  settleAs,
  settlement,
  studyOf,
} from './fixtures.ts';

/** Which studies a lane has; nothing stays leased. */
async function inLane(catalog: Catalog, lane: Lane | undefined, historyTier?: number): Promise<readonly string[]> {
  const leased = await catalog.leaseStudies({
    destinationId: 'pacs',
    now: 1e9,
    limit: 100,
    ...(lane !== undefined && { lane }),
    ...(historyTier !== undefined && { historyTier }),
  });
  await catalog.releaseStudies({ destinationId: 'pacs', leases: leased.map((study) => study.lease) });
  return leased.map(studyOf);
}

async function lanes(catalog: Catalog): Promise<Readonly<Record<'live' | 'backlog', readonly string[]>>> {
  return { live: await inLane(catalog, 'live'), backlog: await inLane(catalog, 'backlog') };
}

function end(catalog: Catalog, episodeId: number) {
  return catalog.markEpisode({ episodeId, as: 'ended', at: 40 });
}

export function laneChecks(check: Check): void {
  check(
    'what was open at an outage and what came in it is backlog, what comes afterwards is live',
    async ({ catalog, reopen }) => {
      await catalog.accept([offer(1, { study: '1.1' }), offer(2, { study: '1.2' })]);
      await settleAs(catalog, [arrival(2)], 'verified');
      assert.deepEqual(await lanes(catalog), { live: ['1.1'], backlog: [] });
      const episode = await openEpisode(catalog);
      assert.deepEqual(await lanes(catalog), { live: [], backlog: ['1.1'] });
      await catalog.accept([offer(3, { study: '1.2' }), offer(4, { study: '1.3' }), offer(5, { study: '1.4' })]);
      await settleAs(catalog, [arrival(5)], 'verified');
      assert.deepEqual(await lanes(catalog), { live: [], backlog: ['1.1', '1.2', '1.3'] });
      await end(catalog, episode.id);
      await catalog.accept([
        offer(6, { study: '1.3' }),
        offer(7, { study: '1.4' }),
        offer(8, { study: '1.5' }),
        offer(9, { study: '1.2' }),
      ]);
      const expected = { live: ['1.4', '1.5'], backlog: ['1.1', '1.2', '1.3'] };
      assert.deepEqual(await lanes(catalog), expected, 'a study that is still owed goes whole');
      await settleAs(catalog, [arrival(4), arrival(6)], 'verified');
      await catalog.accept([offer(10, { study: '1.3' })]);
      const later = { live: ['1.3', '1.4', '1.5'], backlog: ['1.1', '1.2'] };
      assert.deepEqual(await lanes(catalog), later, 'nothing of it was open');
      assert.deepEqual(await inLane(catalog, undefined), ['1.1', '1.2', '1.3', '1.4', '1.5'], 'all by rank');
      assert.deepEqual(await lanes(await reopen()), later);
    },
  );

  check(
    'an outage of one destination makes no backlog of another, and the last of two makes the end',
    async ({ catalog }) => {
      await catalog.accept([offer(1, { study: '1.1' })]);
      await openEpisode(catalog, 'archive');
      assert.deepEqual(await lanes(catalog), { live: ['1.1'], backlog: [] });
      const [first, second] = [await openEpisode(catalog), await openEpisode(catalog)];
      await end(catalog, first.id);
      await catalog.accept([offer(2, { study: '1.2' })]);
      assert.deepEqual(await lanes(catalog), { live: [], backlog: ['1.1', '1.2'] });
      await end(catalog, second.id);
      await catalog.accept([offer(3, { study: '1.3' })]);
      assert.deepEqual(await lanes(catalog), { live: ['1.3'], backlog: ['1.1', '1.2'] });
      const third = await openEpisode(catalog);
      await catalog.markEpisode({ episodeId: third.id, as: 'closed', at: 41 });
      await catalog.accept([offer(4, { study: '1.4' })]);
      assert.deepEqual((await lanes(catalog)).live, ['1.4'], 'one that is closed is none any more');
    },
  );

  check('the last tier is a lane of its own where it is asked for', async ({ catalog }) => {
    const tiers = [0, 2, 1, 2, 3];
    await catalog.accept(tiers.map((tier, index) => offer(index, { study: `1.${index}`, to: { pacs: { tier } } })));
    await end(catalog, (await openEpisode(catalog)).id);
    await catalog.accept([offer(9, { study: '1.9', to: { pacs: { tier: 2 } } })]);
    assert.deepEqual(await inLane(catalog, 'backlog', 2), ['1.0', '1.2']);
    assert.deepEqual(await inLane(catalog, 'history', 2), ['1.1', '1.3', '1.4'], 'and later ones, of another policy');
    assert.deepEqual(await inLane(catalog, 'live', 2), ['1.9'], 'live has no history');
    assert.deepEqual(await inLane(catalog, 'backlog'), ['1.0', '1.2', '1.1', '1.3', '1.4']);
    assert.deepEqual(await inLane(catalog, 'history'), [], 'there is none');
    assert.deepEqual(await inLane(catalog, undefined), ['1.0', '1.2', '1.1', '1.3', '1.9', '1.4']);
    const limited = await catalog.leaseStudies({
      destinationId: 'pacs',
      now: 0,
      limit: 2,
      lane: 'history',
      historyTier: 2,
    });
    assert.deepEqual(limited.map(studyOf), ['1.1', '1.3']);
  });

  check('what is returned is backlog, what is redriven goes by when', async ({ catalog }) => {
    await catalog.accept([1, 2, 3].map((number) => offer(number, { study: `1.${number}` })));
    await end(catalog, (await openEpisode(catalog)).id);
    await settleAs(catalog, [arrival(1)], 'verified');
    await settleAs(catalog, [arrival(2), arrival(3)], 'quarantined');
    const [two, three] = idsOf(await inState(catalog, 'quarantined'));
    const deliveryIds = idsOf(await inState(catalog, 'verified'));
    await catalog.returnToBacklog({ destinationId: 'pacs', deliveryIds, reason: 'lost', at: 50 });
    await catalog.redrive({ destinationId: 'pacs', deliveryIds: [two ?? 0], by: 'A', at: 50 });
    assert.deepEqual(await lanes(catalog), { live: ['1.2'], backlog: ['1.1'] });
    await openEpisode(catalog);
    await catalog.redrive({ destinationId: 'pacs', deliveryIds: [three ?? 0], by: 'A', at: 50 });
    assert.deepEqual(await lanes(catalog), { live: [], backlog: ['1.1', '1.2', '1.3'] });
  });
}

export function boundChecks(check: Check): void {
  check('bounds what was put off by a clock that was ahead', async ({ catalog }) => {
    await catalog.accept([
      ...['a', 'b'].map((digest, index) => offer(index, { study: '1.1', sop: '1.9', digest })),
      offer(2, { study: '1.2' }),
      offer(3, { study: '1.3' }),
      offer(4, { study: '1.4', to: { archive: {} } }),
    ]);
    const leased = await lease(catalog, 0);
    const [first, second, third] = [at(leased, 0), at(leased, 1), at(leased, 2)];
    await catalog.settle([settlement(second, at(await due(catalog, '1.2', 0), 0), 'sent', { notBefore: 300 })]);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [first.lease], deferUntil: 9000 });
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [second.lease] });
    await catalog.settle([settlement(third, at(await due(catalog, '1.3', 0), 0), 'pending', { notBefore: 7000 })]);
    const { leased: elsewhere } = { leased: at(await lease(catalog, 0, 1, 'archive'), 0) };
    await catalog.releaseStudies({ destinationId: 'archive', leases: [elsewhere.lease], deferUntil: 8000 });
    await catalog.boundDelays({ destinationId: 'pacs', latest: 500 });
    assert.equal(await catalog.nextDueAt({ destinationId: 'pacs', now: 0 }), 300, 'what is due earlier stays so');
    assert.equal(await catalog.nextDueAt({ destinationId: 'pacs', now: 300 }), 500);
    assert.equal(await catalog.nextDueAt({ destinationId: 'pacs', now: 500 }), null);
    assert.equal(await catalog.nextDueAt({ destinationId: 'archive', now: 0 }), 8000, 'no other destination');
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [third.lease] });
    assert.deepEqual((await lease(catalog, 499)).map(studyOf), ['1.2']);
    const again = await lease(catalog, 500);
    assert.deepEqual(again.map(studyOf), ['1.1', '1.3']);
    await catalog.settle([settlement(at(again, 0), at(await due(catalog, '1.1', 500), 0), 'verified')]);
    assert.deepEqual((await due(catalog, '1.1', 500)).map(arrivalOf), [arrival(1)], 'also what was held back');
  });

  check('bounds nothing where nothing is late', async ({ catalog }) => {
    await catalog.accept([offer(1)]);
    await catalog.boundDelays({ destinationId: 'pacs', latest: 500 });
    assert.equal(await catalog.nextDueAt({ destinationId: 'pacs', now: 0 }), null);
    assert.equal((await leaseOne(catalog, 0)).deliveries.length, 1);
  });
}

export function clarifiedChecks(check: Check): void {
  check(
    'a study that an interrupted send may have reached stays so until it was asked for',
    async ({ catalog, reopen }) => {
      await catalog.accept([offer(1, { study: '1.1' })]);
      await lease(catalog, 0);
      let opened = await reopen();
      const [leased] = await lease(opened, 0);
      assert.equal(leased?.interrupted, true);
      opened = await reopen();
      await opened.releaseStudies({ destinationId: 'pacs', leases: [leased?.lease ?? 0], clarified: true });
      const [again] = await lease(opened, 0);
      assert.equal(again?.interrupted, true, 'a stale lease clarifies nothing');
      await opened.releaseStudies({ destinationId: 'archive', leases: [again?.lease ?? 0], clarified: true });
      await opened.releaseStudies({ destinationId: 'pacs', leases: [again?.lease ?? 0] });
      const [third] = await lease(opened, 0);
      assert.equal(third?.interrupted, true);
      await opened.releaseStudies({ destinationId: 'pacs', leases: [third?.lease ?? 0], clarified: true });
      assert.equal((await lease(opened, 0))[0]?.interrupted, false);
    },
  );
}
