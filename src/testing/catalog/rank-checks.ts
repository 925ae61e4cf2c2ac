import assert from 'node:assert/strict';
import type { Rank, Urgency } from '../../domain/rank.ts';
import { arrival, arrivalOf, at, type Check, lease, offer, record, settleAs, studyOf } from './fixtures.ts';

export function rankChecks(check: Check): void {
  check('merges the ranks of a study, for each destination by itself', async ({ catalog }) => {
    const estimated = rank({ tier: 0, acquiredAt: 900, basis: 'estimated', ageTier: 0 });
    const dated = rank({ tier: 2, urgency: 'routine', acquiredAt: 100, ageTier: 2 });
    const newer = rank({ tier: 1, urgency: 'stat', acquiredAt: 200, ageTier: 1 });
    const secondary = rank({ tier: 0, acquiredAt: 950, basis: 'secondary', ageTier: 0 });
    await catalog.accept([
      offer(1, { study: '1.1', to: { pacs: estimated, archive: estimated } }),
      offer(2, { study: '1.1', to: { pacs: dated } }),
    ]);
    await catalog.accept([
      offer(3, { study: '1.1', to: { pacs: newer } }),
      offer(4, { study: '1.1', to: { pacs: secondary } }),
    ]);
    const lastArrivalId = arrival(4);
    const merged = [{ studyInstanceUid: '1.1', rank: newer, lastArrivalId }];
    assert.deepEqual(await catalog.rankedStudies({ destinationId: 'pacs', limit: 5 }), merged);
    const alone = [{ studyInstanceUid: '1.1', rank: estimated, lastArrivalId }];
    assert.deepEqual(await catalog.rankedStudies({ destinationId: 'archive', limit: 5 }), alone);
    const [leased] = await lease(catalog, 0);
    assert.deepEqual(leased?.rank, newer);
  });

  check('keeps what rules placed apart from what age says', async ({ catalog }) => {
    const byAge = rank({ tier: 2, acquiredAt: 100, ageTier: 2 });
    const ruled = rank({ tier: 1, acquiredAt: 900, ageTier: null, ruledTier: 1 });
    await catalog.accept([offer(1, { study: '1.1', to: { pacs: byAge, archive: ruled } })]);
    await catalog.accept([offer(2, { study: '1.1', to: { pacs: ruled } })]);
    const [pacs] = await catalog.rankedStudies({ destinationId: 'pacs', limit: 5 });
    assert.deepEqual(pacs?.rank, rank({ tier: 1, acquiredAt: 100, ageTier: 2, ruledTier: 1 }));
    const [archive] = await catalog.rankedStudies({ destinationId: 'archive', limit: 5 });
    assert.deepEqual(archive?.rank, ruled);
  });

  check('leases in the order of tier, urgency, age, study UID', async ({ catalog }) => {
    const inOrder: [string, Partial<Rank>][] = [
      ['1.8', { tier: 0, urgency: 'routine', acquiredAt: 9 }],
      ['1.7', { tier: 1, urgency: 'stat', acquiredAt: 9 }],
      ['1.6', { tier: 1, urgency: 'urgent', acquiredAt: 9 }],
      ['1.5', { tier: 1, urgency: 'unknown', acquiredAt: 2 }],
      ['1.3', { tier: 1, urgency: 'unknown', acquiredAt: 3 }],
      ['1.4', { tier: 1, urgency: 'unknown', acquiredAt: 3 }],
      ['1.2', { tier: 1, urgency: 'routine', acquiredAt: 1 }],
      ['1.1', { tier: 2, urgency: 'stat', acquiredAt: 1 }],
    ];
    const order = inOrder.map(([study]) => study);
    const offers = inOrder.map(([study, given], index) => offer(index, { study, to: { pacs: given } }));
    await catalog.accept([...offers.filter((_, index) => index % 2 === 1), ...offers]);
    assert.deepEqual((await lease(catalog, 0, 3)).map(studyOf), order.slice(0, 3));
    assert.deepEqual((await lease(catalog, 0, 9)).map(studyOf), order.slice(3));
  });
}

export function rankingFactChecks(check: Check): void {
  check('goes on with the very next version after the one that was read last', async ({ catalog }) => {
    await catalog.accept([1, 2, 3].map((number) => offer(number, { study: '1.1' })));
    const page = { destinationId: 'pacs', studyInstanceUid: '1.1', afterArrivalId: arrival(1) };
    const next = await catalog.rankingFacts({ ...page, limit: 10 });
    assert.deepEqual(next.map(arrivalOf), [arrival(2), arrival(3)]);
    assert.deepEqual((await catalog.rankingFacts({ ...page, limit: 1 })).map(arrivalOf), [arrival(2)]);
  });
}

export function rankingChecks(check: Check): void {
  check('replaces ranks, which order leases and backlog', async ({ catalog, reopen }) => {
    await catalog.accept([
      offer(1, { study: '1.1', bytes: 10, to: { pacs: { tier: 0 }, archive: { tier: 0 } } }),
      offer(2, { study: '1.1', bytes: 20, to: { pacs: { tier: 0 } } }),
      offer(3, { study: '1.2', bytes: 30, to: { pacs: { tier: 1 } } }),
    ]);
    assert.deepEqual(await catalog.backlog('pacs'), [
      { tier: 0, studies: 1, instances: 2, bytes: 30 },
      { tier: 1, studies: 1, instances: 1, bytes: 30 },
    ]);
    const other = rank({ tier: 2, urgency: 'stat', acquiredAt: 7, basis: 'secondary', ageTier: null, ruledTier: 2 });
    const ranks = [
      { studyInstanceUid: '1.1', rank: other, lastArrivalId: arrival(2) },
      { studyInstanceUid: '1.99', rank: other, lastArrivalId: arrival(2) },
    ];
    assert.deepEqual(await catalog.setRanks({ destinationId: 'pacs', ranks }), [], 'an unknown study is ignored');
    assert.deepEqual(await catalog.backlog('pacs'), [
      { tier: 1, studies: 1, instances: 1, bytes: 30 },
      { tier: 2, studies: 1, instances: 2, bytes: 30 },
    ]);
    assert.deepEqual(await catalog.backlog('archive'), [{ tier: 0, studies: 1, instances: 1, bytes: 10 }]);
    const leased = await lease(await reopen(), 0);
    assert.deepEqual(leased.map(studyOf), ['1.2', '1.1']);
    assert.deepEqual(leased[1]?.rank, other);
  });

  check('leaves a study alone that has received a version since', async ({ catalog }) => {
    await catalog.accept([offer(1, { study: '1.1' }), offer(2, { study: '1.2' })]);
    const read = await catalog.rankedStudies({ destinationId: 'pacs', limit: 5 });
    // It went to another destination: that the instances differ is reason enough.
    await catalog.accept([offer(3, { study: '1.1', to: { archive: {} } })]);
    const ranks = read.map((study) => ({ ...study, rank: rank({ tier: 2, ageTier: 2 }) }));
    assert.deepEqual(await catalog.setRanks({ destinationId: 'pacs', ranks }), ['1.1']);
    const after = await catalog.rankedStudies({ destinationId: 'pacs', limit: 5 });
    assert.deepEqual(
      after.map((study) => [study.studyInstanceUid, study.rank.tier, study.lastArrivalId]),
      [
        ['1.1', 1, arrival(3)],
        ['1.2', 2, arrival(2)],
      ],
    );
  });

  check('leaves a study alone that has received an earlier arrival since', async ({ catalog, reopen }) => {
    await catalog.accept([offer(2, { study: '1.1' }), offer(4, { study: '1.2' })]);
    const read = await catalog.rankedStudies({ destinationId: 'pacs', limit: 5 });
    // Its bytes took longer, so that it is accepted after a greater arrival id.
    const stat = rank({ tier: 0, urgency: 'stat', ageTier: 0 });
    await catalog.accept([offer(1, { study: '1.1', to: { pacs: stat } })]);
    const ranks = read.map((study) => ({ ...study, rank: rank({ tier: 2, ageTier: 2 }) }));
    assert.deepEqual(await catalog.setRanks({ destinationId: 'pacs', ranks }), ['1.1']);
    const again = await reopen();
    const [study] = await again.rankedStudies({ destinationId: 'pacs', limit: 1 });
    assert.deepEqual(study, { studyInstanceUid: '1.1', rank: stat, lastArrivalId: arrival(1) });
    assert.deepEqual(await again.setRanks({ destinationId: 'pacs', ranks: [at([study], 0)] }), []);
  });

  check('replaces the rank of a leased study without breaking its lease', async ({ catalog }) => {
    await catalog.accept([offer(1, { study: '1.1' })]);
    const leased = at(await lease(catalog, 0), 0);
    const ranks = [{ studyInstanceUid: '1.1', rank: rank({ tier: 2, ageTier: 2 }), lastArrivalId: arrival(1) }];
    assert.deepEqual(await catalog.setRanks({ destinationId: 'pacs', ranks }), []);
    assert.deepEqual(await lease(catalog, 0), []);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [leased.lease] });
    assert.equal((await lease(catalog, 0))[0]?.rank.tier, 2);
  });

  check('tells what ranks were judged by, of what goes to the destination, in pages', async ({ catalog, reopen }) => {
    await catalog.accept([
      offer(1, { study: '1.1', urgency: 'stat' }),
      offer(2, { study: '1.1', to: { archive: {} } }),
      offer(3, { study: '1.2' }),
      offer(4, { study: '1.1', to: { pacs: {}, archive: {} } }),
    ]);
    const again = await reopen();
    const facts = { attributes: { Modality: 'CT' }, urgency: null };
    const page = { destinationId: 'pacs', studyInstanceUid: '1.1' };
    const [first, second] = [
      { ...facts, arrivalId: arrival(1), receivedAt: 5001, urgency: 'stat' },
      { ...facts, arrivalId: arrival(4), receivedAt: 5004 },
    ];
    assert.deepEqual(await again.rankingFacts({ ...page, limit: 9 }), [first, second]);
    assert.deepEqual(await again.rankingFacts({ ...page, limit: 1 }), [first]);
    assert.deepEqual(await again.rankingFacts({ ...page, afterArrivalId: arrival(1), limit: 1 }), [second]);
    assert.deepEqual(await again.rankingFacts({ ...page, studyInstanceUid: '1.9', limit: 1 }), []);
  });

  check(
    'takes the rank of an arrival alone, where what is known is of another policy and nothing is open',
    async ({ catalog }) => {
      const old = rank({ tier: 4, urgency: 'routine', ageTier: null, ruledTier: 4 });
      const fresh = rank({ tier: 0, ageTier: 0 });
      await catalog.accept([
        offer(1, { study: '1.1', to: { pacs: old } }),
        offer(2, { study: '1.2', to: { pacs: old } }),
      ]);
      await settleAs(catalog, [arrival(1)], 'verified');
      await catalog.markRanked({ destinationId: 'pacs', rankedBy: 'this' });
      await catalog.accept([offer(3, { study: '1.1', to: { pacs: fresh } })]);
      const ranks = async () =>
        (await catalog.rankedStudies({ destinationId: 'pacs', limit: 5 })).map(({ rank: each }) => each);
      const merged = { ...old, tier: 0, ageTier: 0 };
      assert.deepEqual(await ranks(), [merged, old], 'of one policy they are merged');
      await settleAs(catalog, [arrival(3)], 'verified');
      await catalog.markRanked({ destinationId: 'pacs', rankedBy: null });
      await catalog.accept([
        offer(4, { study: '1.1', to: { pacs: fresh } }),
        offer(5, { study: '1.2', to: { pacs: fresh } }),
      ]);
      assert.deepEqual(await ranks(), [fresh, merged], 'what is open is merged, and will be judged again');
      await settleAs(catalog, [arrival(4)], 'verified');
      await catalog.accept([offer(6, { study: '1.1', to: { pacs: old } })]);
      assert.deepEqual((await ranks())[0], merged, 'from then on they are of one policy');
    },
  );

  check('takes up what the caller says later of an order', async ({ catalog, reopen }) => {
    await catalog.accept([
      offer(1, { study: '1.1', to: { pacs: {}, archive: {} } }),
      offer(2, { study: '1.1', urgency: 'stat', to: { archive: {} } }),
      offer(3, { study: '1.2' }),
    ]);
    const restate = (number: number, urgency: Urgency) =>
      catalog.restateUrgency({ arrivalId: arrival(number), urgency });
    assert.equal(await restate(1, 'urgent'), true);
    assert.equal(await restate(1, 'routine'), false, 'less says nothing');
    assert.equal(await restate(1, 'unknown'), false);
    assert.equal(await restate(2, 'urgent'), false);
    assert.equal(await restate(9, 'stat'), false, 'of what is not there');
    const again = await reopen();
    const [first, second] = await again.rankedStudies({ destinationId: 'pacs', limit: 5 });
    assert.deepEqual([first?.rank.urgency, second?.rank.urgency], ['urgent', 'unknown']);
    const [archived] = await again.rankedStudies({ destinationId: 'archive', limit: 5 });
    assert.equal(archived?.rank.urgency, 'urgent');
    const facts = await again.rankingFacts({ destinationId: 'archive', studyInstanceUid: '1.1', limit: 5 });
    assert.deepEqual(
      facts.map(({ urgency }) => urgency),
      ['urgent', 'stat'],
    );
  });

  check('notes by what a backlog is ranked', async ({ catalog, reopen }) => {
    assert.equal((await record(catalog, 'pacs')).rankedBy, null);
    await catalog.markRanked({ destinationId: 'pacs', rankedBy: 'one' });
    await catalog.markRanked({ destinationId: 'pacs', rankedBy: 'two' });
    const again = await reopen();
    assert.equal((await record(again, 'pacs')).rankedBy, 'two');
    assert.equal((await record(again, 'archive')).rankedBy, null);
    await again.markRanked({ destinationId: 'pacs', rankedBy: null });
    assert.equal((await record(again, 'pacs')).rankedBy, null);
  });
}

function rank(given: Partial<Rank>): Rank {
  return { tier: 1, urgency: 'unknown', acquiredAt: 1000, basis: 'dated', ageTier: 1, ruledTier: null, ...given };
}
