import assert from 'node:assert/strict';
import { SpillwayError } from '../../errors.ts';
import {
  arrival,
  arrivalOf,
  at,
  type Check,
  due,
  everything,
  lease,
  leaseOne,
  offer,
  outcomes,
  settlement,
  studyOf,
} from './fixtures.ts';

export function leaseChecks(check: Check): void {
  check('gives a study to one lease at a time', async ({ catalog }) => {
    await catalog.accept([offer(1, { study: '1.1', to: { pacs: {}, archive: {} } }), offer(2, { study: '1.2' })]);
    const first = await lease(catalog, 0);
    assert.deepEqual(first.map(studyOf), ['1.1', '1.2']);
    assert.ok(first.every(({ interrupted }) => !interrupted));
    await catalog.accept([offer(3, { study: '1.1' })]);
    assert.deepEqual(await lease(catalog, 0), [], 'what arrives does not break a lease');
    assert.deepEqual((await lease(catalog, 0, 10, 'archive')).map(studyOf), ['1.1'], 'destinations lease apart');
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [at(first, 0).lease] });
    const [again, ...others] = await lease(catalog, 0);
    assert.ok(again);
    assert.deepEqual([again.studyInstanceUid, again.interrupted, others.length], ['1.1', false, 0]);
    assert.ok(
      first.every((earlier) => earlier.lease !== again.lease),
      'a lease is never given twice',
    );
  });

  check('ignores the release of a stale lease', async ({ catalog }) => {
    await catalog.accept([offer(1)]);
    const [stale] = await lease(catalog, 0);
    assert.ok(stale);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [stale.lease] });
    const [current] = await lease(catalog, 0);
    assert.ok(current);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [stale.lease, 987_654], deferUntil: 5000 });
    assert.deepEqual(await lease(catalog, 0), []);
    assert.equal((await due(catalog, current.studyInstanceUid, 0)).length, 1);
  });

  check('defers what is open at the release, not what arrives later', async ({ catalog }) => {
    await catalog.accept([offer(1, { study: '1.1' }), offer(2, { study: '1.2' })]);
    const leases = (await lease(catalog, 0)).map((study) => study.lease);
    await catalog.releaseStudies({ destinationId: 'pacs', leases, deferUntil: 1000 });
    assert.deepEqual(await lease(catalog, 999), []);
    assert.equal(await catalog.nextDueAt({ destinationId: 'pacs', now: 0 }), 1000);
    await catalog.accept([offer(3, { study: '1.2' })]);
    const [withArrival, ...others] = await lease(catalog, 999);
    assert.deepEqual([withArrival?.studyInstanceUid, others.length], ['1.2', 0]);
    assert.deepEqual((await due(catalog, '1.2', 999)).map(arrivalOf), [arrival(3)]);
    assert.deepEqual((await lease(catalog, 1000)).map(studyOf), ['1.1']);
    assert.deepEqual((await due(catalog, '1.1', 1000)).map(arrivalOf), [arrival(1)]);
  });

  check('leases nothing without open deliveries', async ({ catalog }) => {
    await catalog.accept([offer(1)]);
    const { leased, deliveries } = await leaseOne(catalog, 0);
    assert.deepEqual(await catalog.settle([settlement(leased, at(deliveries, 0), 'verified')]), []);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [leased.lease] });
    assert.deepEqual(await lease(catalog, 1e6), []);
    assert.deepEqual(await due(catalog, leased.studyInstanceUid, 1e6), []);
    await catalog.accept([offer(2, { study: leased.studyInstanceUid })]);
    assert.equal((await lease(catalog, 0)).length, 1);
  });
}

export function restartChecks(check: Check): void {
  check('voids leases at opening, and says what was interrupted until it is clarified', async ({ catalog, reopen }) => {
    await catalog.accept([1, 2, 3].map((number) => offer(number, { study: `1.${number}` })));
    const before = await lease(catalog, 0, 2);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [at(before, 0).lease] });
    const after = await reopen();
    const stale = settlement(at(before, 1), at(await due(after, '1.2', 0), 0), 'verified');
    assert.deepEqual(await after.settle([stale]), [stale.deliveryId], 'a lease of the former opening is void');
    const leased = await lease(after, 0);
    assert.deepEqual(
      leased.map(({ studyInstanceUid, interrupted }) => [studyInstanceUid, interrupted]),
      [
        ['1.1', false],
        ['1.2', true],
        ['1.3', false],
      ],
    );
    assert.ok(leased.every((study) => before.every((earlier) => earlier.lease !== study.lease)));
    await after.releaseStudies({ destinationId: 'pacs', leases: leased.map((study) => study.lease) });
    const again = await lease(after, 0);
    assert.deepEqual(
      again.map(({ interrupted }) => interrupted),
      [false, true, false],
    );
    const leases = again.map((study) => study.lease);
    await after.releaseStudies({ destinationId: 'pacs', leases, clarified: true });
    const clear = await lease(after, 0);
    assert.ok(clear.every(({ interrupted }) => !interrupted));
    const [first] = clear;
    assert.ok(first !== undefined);
    await after.releaseStudies({ destinationId: 'pacs', leases: [first.lease], clarified: false });
    const [doubtful] = await lease(after, 0);
    assert.deepEqual([doubtful?.studyInstanceUid, doubtful?.interrupted], [first.studyInstanceUid, true]);
  });

  check('stays interrupted while it is leased and opened again', async ({ catalog, reopen }) => {
    await catalog.accept([offer(1)]);
    await lease(catalog, 0);
    await lease(await reopen(), 0);
    const [leased] = await lease(await reopen(), 0);
    assert.equal(leased?.interrupted, true);
  });

  check('keeps everything over a restart', async ({ catalog, reopen }) => {
    await catalog.accept([
      offer(1, { study: '1.1', oddities: ['a', 'b'], to: { pacs: { tier: 1, urgency: 'stat' }, archive: {} } }),
      offer(2, { study: '1.1', sop: '1.9' }),
      offer(3, { study: '1.1', sop: '1.9', digest: 'b' }),
      offer(4, { study: '1.2' }),
    ]);
    const { leased, deliveries } = await leaseOne(catalog, 0);
    await catalog.settle([
      settlement(leased, at(deliveries, 0), 'sent', { notBefore: 700, attempts: 2, reason: 'once refused' }),
      settlement(leased, at(deliveries, 1), 'quarantined', { reason: 'refused' }),
    ]);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [leased.lease] });
    await catalog.retireDestination({ destinationId: 'archive', reason: 'gone', by: 'someone', at: 77 });
    const episode = await catalog.openEpisode({ destinationId: 'pacs', cause: 'c', startedAt: 1, detectedAt: 2 });
    await catalog.markEpisode({ episodeId: episode.id, as: 'ended', at: 3 });
    const before = await everything(catalog);
    assert.deepEqual(await everything(await reopen()), before);
  });

  check('refuses calls after its close, which may come twice', async ({ catalog }) => {
    const underWay = catalog.accept([offer(1)]);
    const closed = Promise.all([catalog.close(), catalog.close()]);
    assert.deepEqual(outcomes(await underWay), ['created']);
    await closed;
    await assert.rejects(catalog.lastArrivalId(), SpillwayError);
  });
}
