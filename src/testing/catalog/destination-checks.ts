import assert from 'node:assert/strict';
import {
  arrival,
  arrivalOf,
  at,
  both,
  type Check,
  due,
  inState,
  lease,
  leaseOne,
  offer,
  openEpisode,
  record,
  rejectsWith,
  settlement,
  studyOf,
} from './fixtures.ts';

export function destinationChecks(check: Check): void {
  check('registers destinations once and lists them by id', async ({ catalog }) => {
    await catalog.accept([offer(1)]);
    await catalog.registerDestination('pacs');
    const none = { retiredAt: null, retiredReason: null, retiredBy: null, rankedBy: null };
    const zero = { pending: 0, sent: 0, verified: 0, quarantined: 0, discarded: 0 };
    assert.deepEqual(await catalog.destinations(), [
      { destinationId: 'archive', ...none, ...zero },
      { destinationId: 'pacs', ...none, ...zero, pending: 1 },
    ]);
  });

  check('retires a destination: its open deliveries are discarded with the reason', async ({ catalog }) => {
    await catalog.accept([1, 2, 3, 4].map((number) => offer(number, { study: `1.${number % 2}`, to: both })));
    const { leased, deliveries } = await leaseOne(catalog, 0);
    const [first, second] = [at(deliveries, 0), at(deliveries, 1)];
    await catalog.settle([settlement(leased, first, 'verified'), settlement(leased, second, 'sent')]);
    await catalog.retireDestination({ destinationId: 'pacs', reason: 'replaced', by: 'admin', at: 123 });
    const retired = { retiredAt: 123, retiredReason: 'replaced', retiredBy: 'admin', rankedBy: null };
    const counts = { pending: 0, sent: 0, verified: 1, quarantined: 0, discarded: 3 };
    assert.deepEqual(await record(catalog, 'pacs'), { destinationId: 'pacs', ...retired, ...counts });
    const discarded = await inState(catalog, 'discarded');
    assert.deepEqual(
      discarded.map(({ reason }) => reason),
      ['replaced', 'replaced', 'replaced'],
    );
    assert.deepEqual(await catalog.settle([settlement(leased, second, 'verified')]), [second.id], 'the lease is void');
    assert.deepEqual([await lease(catalog, 1e6), await catalog.backlog('pacs')], [[], []]);
    assert.equal((await record(catalog, 'archive')).pending, 4, 'others keep theirs');
    await rejectsWith('SPILLWAY_NOT_FOUND', catalog.accept([offer(5)]));
    await catalog.registerDestination('pacs');
    const inUse = { retiredAt: null, retiredReason: null, retiredBy: null, rankedBy: null };
    assert.deepEqual(await record(catalog, 'pacs'), { destinationId: 'pacs', ...inUse, ...counts });
    await catalog.accept([offer(5, { study: leased.studyInstanceUid })]);
    const { leased: anew, deliveries: open } = await leaseOne(catalog, 0);
    assert.deepEqual(open.map(arrivalOf), [arrival(5)]);
    assert.equal(anew.interrupted, false, 'nothing of it was under way');
  });
}

export function failureChecks(check: Check): void {
  check('names an unknown destination', async ({ catalog }) => {
    const destinationId = 'elsewhere';
    const calls: (() => Promise<unknown>)[] = [
      () => catalog.accept([offer(1, { to: { elsewhere: {} } })]),
      () => catalog.retireDestination({ destinationId, reason: 'r', by: 'b', at: 0 }),
      () => catalog.leaseStudies({ destinationId, now: 0, limit: 1 }),
      () => catalog.releaseStudies({ destinationId, leases: [1] }),
      () => due(catalog, '1.1', 0, destinationId),
      () => catalog.nextDueAt({ destinationId, now: 0 }),
      () => catalog.rankedStudies({ destinationId, limit: 1 }),
      () => catalog.rankingFacts({ destinationId, studyInstanceUid: '1.1', limit: 1 }),
      () => catalog.setRanks({ destinationId, ranks: [] }),
      () => catalog.markRanked({ destinationId, rankedBy: 'r' }),
      () => catalog.backlog(destinationId),
      () => inState(catalog, 'pending', destinationId),
      () => openEpisode(catalog, destinationId),
      () => catalog.episodes({ destinationId, limit: 1 }),
    ];
    for (const call of calls) await rejectsWith('SPILLWAY_NOT_FOUND', call());
  });

  check('names an unknown episode', async ({ catalog }) => {
    await rejectsWith('SPILLWAY_NOT_FOUND', catalog.markEpisode({ episodeId: 99, as: 'ended', at: 0 }));
    await rejectsWith('SPILLWAY_NOT_FOUND', catalog.episodeRemains(99));
    await rejectsWith('SPILLWAY_NOT_FOUND', catalog.countEpisode(99));
  });

  check('orders calls that overlap', async ({ catalog }) => {
    const offers = Array.from({ length: 40 }, (_, index) => offer(index, { sop: `1.9.${index % 20}` }));
    const results = (await Promise.all(offers.map((each) => catalog.accept([each])))).flat();
    assert.equal(results.filter(({ outcome }) => outcome === 'created').length, 20);
    assert.equal(results.filter(({ outcome }) => outcome === 'identical').length, 20);
    const leases = await Promise.all([1, 2, 3, 4].map(() => lease(catalog, 0, 6)));
    const studies = leases.flat().map(studyOf);
    assert.equal(new Set(studies).size, studies.length);
  });
}
