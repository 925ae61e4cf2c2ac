import assert from 'node:assert/strict';
import type { Delivery, DeliveryState } from '../../domain/delivery.ts';
import {
  arrival,
  arrivalOf,
  at,
  type Check,
  due,
  inState,
  lease,
  leaseOne,
  offer,
  record,
  settlement,
  studyOf,
} from './fixtures.ts';

export function settlementChecks(check: Check): void {
  check('records settlements and counts them', async ({ catalog }) => {
    await catalog.accept([1, 2, 3, 4, 5].map((number) => offer(number, { study: '1.1', bytes: number })));
    const { leased, deliveries } = await leaseOne(catalog, 0);
    const states: DeliveryState[] = ['pending', 'sent', 'verified', 'quarantined', 'discarded'];
    const settlements = states.map((state, index) =>
      settlement(leased, at(deliveries, index), state, { attempts: index, reason: `because ${state}` }),
    );
    assert.deepEqual(await catalog.settle(settlements), []);
    for (const [index, state] of states.entries()) {
      const evidence = state === 'pending' ? 'accepted' : 'found';
      const expected = { ...at(deliveries, index), state, evidence, attempts: index, reason: `because ${state}` };
      assert.deepEqual(await inState(catalog, state), [expected]);
    }
    const { pending, sent, verified, quarantined, discarded } = await record(catalog, 'pacs');
    assert.deepEqual([pending, sent, verified, quarantined, discarded], [1, 1, 1, 1, 1]);
    assert.deepEqual(await catalog.backlog('pacs'), [{ tier: 1, studies: 1, instances: 2, bytes: 3 }]);
    assert.deepEqual((await due(catalog, '1.1', 0)).map(arrivalOf), [arrival(1), arrival(2)]);
  });

  check('leaves final deliveries and those of a stale lease as they are', async ({ catalog }) => {
    await catalog.accept([1, 2].map((number) => offer(number, { study: '1.1' })));
    const { leased, deliveries } = await leaseOne(catalog, 0);
    const [first, second] = [at(deliveries, 0), at(deliveries, 1)];
    const twice = [settlement(leased, first, 'verified'), settlement(leased, first, 'quarantined')];
    assert.deepEqual(await catalog.settle(twice), [first.id]);
    assert.deepEqual(await catalog.settle([settlement(leased, first, 'pending')]), [first.id]);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [leased.lease] });
    assert.deepEqual(await catalog.settle([settlement(leased, second, 'verified')]), [second.id], 'released');
    const { leased: anew } = await leaseOne(catalog, 0);
    const mixed = [
      settlement(leased, second, 'discarded'),
      { ...settlement(anew, second, 'verified'), deliveryId: 987_654 },
      settlement(anew, second, 'sent'),
    ];
    assert.deepEqual(await catalog.settle(mixed), [second.id, 987_654], 'the others of the call are recorded');
    const { sent, verified, pending, quarantined, discarded } = await record(catalog, 'pacs');
    assert.deepEqual([pending, sent, verified, quarantined, discarded], [0, 1, 1, 0, 0]);
  });

  check('takes a settlement only with the lease of its own study', async ({ catalog }) => {
    await catalog.accept([offer(1, { study: '1.1' }), offer(2, { study: '1.2' })]);
    const leased = await lease(catalog, 0);
    const [delivery] = await due(catalog, '1.2', 0);
    assert.ok(delivery);
    assert.deepEqual(await catalog.settle([settlement(at(leased, 0), delivery, 'verified')]), [delivery.id]);
    assert.deepEqual(await catalog.settle([settlement(at(leased, 1), delivery, 'verified')]), []);
    assert.deepEqual(await catalog.settle([]), []);
  });
}

export function dueChecks(check: Check): void {
  check('keeps each delivery until it is due', async ({ catalog }) => {
    await catalog.accept([1, 2, 3].map((number) => offer(number, { study: '1.1' })));
    assert.equal(await catalog.nextDueAt({ destinationId: 'pacs', now: 0 }), null, 'what is due now is not next');
    const { leased, deliveries } = await leaseOne(catalog, 0);
    await catalog.settle([
      settlement(leased, at(deliveries, 0), 'pending', { notBefore: 300 }),
      settlement(leased, at(deliveries, 1), 'sent', { notBefore: 200 }),
    ]);
    assert.deepEqual((await due(catalog, '1.1', 199)).map(arrivalOf), [arrival(3)]);
    assert.deepEqual((await due(catalog, '1.1', 200)).map(arrivalOf), [arrival(2), arrival(3)]);
    assert.equal(await catalog.nextDueAt({ destinationId: 'pacs', now: 100 }), 200);
    assert.equal(await catalog.nextDueAt({ destinationId: 'pacs', now: 200 }), 300);
    assert.equal(await catalog.nextDueAt({ destinationId: 'pacs', now: 300 }), null);
    assert.equal(await catalog.nextDueAt({ destinationId: 'archive', now: 0 }), null);
    await catalog.settle([settlement(leased, at(deliveries, 2), 'verified')]);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [leased.lease] });
    assert.deepEqual(await lease(catalog, 199), []);
    const { leased: again } = await leaseOne(catalog, 200);
    await catalog.settle([settlement(again, at(deliveries, 1), 'verified')]);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [again.lease], deferUntil: 250 });
    assert.equal(await catalog.nextDueAt({ destinationId: 'pacs', now: 200 }), 300, 'deferring brings nothing forward');
    assert.deepEqual(await lease(catalog, 299), []);
    assert.equal((await lease(catalog, 300)).length, 1);
  });

  check('takes instants that are no whole milliseconds, and never ends a wait early', async ({ catalog }) => {
    await catalog.accept([offer(1)]);
    const { leased, deliveries } = await leaseOne(catalog, 0.5);
    await catalog.settle([settlement(leased, at(deliveries, 0), 'pending', { notBefore: 100.25 })]);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [leased.lease], deferUntil: 50.75 });
    assert.deepEqual(await lease(catalog, 100.2), []);
    assert.equal((await lease(catalog, 101)).length, 1);
  });
}

export function furtherVersionChecks(check: Check): void {
  check('holds a further version back until the earlier ones are final', async ({ catalog }) => {
    const accepted = ['a', 'b', 'c'].map((digest, index) => offer(index, { study: '1.1', sop: '1.9', digest }));
    await catalog.accept([...accepted, offer(3, { study: '1.1', sop: '1.8' })]);
    const open = await inState(catalog, 'pending');
    assert.deepEqual(
      open.map(({ furtherVersion }) => furtherVersion),
      [false, true, true, false],
    );
    const { leased, deliveries } = await leaseOne(catalog, 0);
    assert.deepEqual(deliveries.map(arrivalOf), [arrival(0), arrival(3)]);
    await catalog.settle([settlement(leased, at(deliveries, 0), 'sent', { notBefore: 500 })]);
    assert.deepEqual((await due(catalog, '1.1', 400)).map(arrivalOf), [arrival(3)], 'sent is not final');
    await catalog.settle([settlement(leased, at(deliveries, 0), 'quarantined')]);
    assert.deepEqual((await due(catalog, '1.1', 400)).map(arrivalOf), [arrival(1), arrival(3)]);
    const rest = await due(catalog, '1.1', 400);
    await catalog.settle(rest.map((delivery) => settlement(leased, delivery, 'verified')));
    assert.deepEqual((await due(catalog, '1.1', 400)).map(arrivalOf), [arrival(2)]);
    await catalog.accept([offer(4, { study: '1.1', sop: '1.8', digest: 'b' })]);
    const late = (await due(catalog, '1.1', 400))[1];
    assert.deepEqual([late?.arrivalId, late?.furtherVersion], [arrival(4), true], 'nothing is open before it');
  });

  check('holds back by destination, also across studies, and is due again afterwards', async ({ catalog }) => {
    await catalog.accept([
      offer(1, { study: '1.1', sop: '1.9', to: { pacs: { tier: 0 } } }),
      offer(2, { study: '1.2', sop: '1.9', digest: 'b', to: { pacs: { tier: 1 }, archive: {} } }),
    ]);
    assert.equal((await due(catalog, '1.2', 0, 'archive')).length, 1, 'the archive owes no earlier one');
    const [first] = await lease(catalog, 0, 1);
    assert.ok(first);
    // A catalog may lease a study in which everything is held back, but it yields nothing and can be deferred.
    const leases = (await lease(catalog, 0)).map((study) => study.lease);
    assert.deepEqual(await due(catalog, '1.2', 0), []);
    await catalog.releaseStudies({ destinationId: 'pacs', leases, deferUntil: 300 });
    assert.deepEqual(await lease(catalog, 299), [], 'no busy loop');
    const [delivery] = await due(catalog, '1.1', 0);
    assert.ok(delivery);
    await catalog.settle([settlement(first, delivery, 'verified')]);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [first.lease] });
    assert.deepEqual((await lease(catalog, 300)).map(studyOf), ['1.2']);
    assert.deepEqual((await due(catalog, '1.2', 300)).map(arrivalOf), [arrival(2)]);
  });

  check('wakes the next version at its own time, inside one study', async ({ catalog }) => {
    await catalog.accept(['a', 'b'].map((digest, index) => offer(index, { study: '1.1', sop: '1.9', digest })));
    const { leased, deliveries } = await leaseOne(catalog, 0);
    await catalog.settle([settlement(leased, at(deliveries, 0), 'sent', { notBefore: 800 })]);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [leased.lease] });
    assert.deepEqual(await lease(catalog, 799), [], 'only what is held back would be due');
    const { leased: again } = await leaseOne(catalog, 800);
    await catalog.settle([settlement(again, at(deliveries, 0), 'verified')]);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [again.lease] });
    assert.equal((await leaseOne(catalog, 0)).deliveries[0]?.arrivalId, arrival(1));
  });
}

export function listingChecks(check: Check): void {
  check('pages deliveries, due deliveries and ranked studies by key', async ({ catalog }) => {
    await catalog.accept(
      [4, 2, 3, 1].flatMap((number) => [1, 2].map((index) => offer(number * 10 + index, { study: `1.${number}` }))),
    );
    const all = await inState(catalog, 'pending');
    const page = { destinationId: 'pacs', state: 'pending', limit: 3 } as const;
    const pages: Delivery[] = [];
    for (let afterId = 0; ; ) {
      const next = await catalog.deliveries({ ...page, afterId });
      assert.ok(next.length <= 3);
      pages.push(...next);
      const last = next.at(-1);
      if (last === undefined) break;
      afterId = last.id;
    }
    assert.equal(all.length, 8);
    assert.deepEqual(pages, all);
    await lease(catalog, 0);
    const study = { destinationId: 'pacs', studyInstanceUid: '1.2', now: 0, limit: 1 };
    const [first, ...others] = await catalog.dueDeliveries({ ...study, afterId: 0 });
    assert.deepEqual([first?.arrivalId, others.length], [arrival(21), 0]);
    const second = await catalog.dueDeliveries({ ...study, afterId: first?.id ?? 0 });
    assert.deepEqual(second.map(arrivalOf), [arrival(22)]);
    assert.deepEqual(await catalog.dueDeliveries({ ...study, afterId: second[0]?.id ?? 0 }), []);
    const ranked = await catalog.rankedStudies({ destinationId: 'pacs', limit: 2 });
    assert.deepEqual(ranked.map(studyOf), ['1.1', '1.2']);
    const rest = await catalog.rankedStudies({ destinationId: 'pacs', afterStudy: '1.2', limit: 9 });
    assert.deepEqual(rest.map(studyOf), ['1.3', '1.4']);
  });

  check('ranks only studies with open deliveries', async ({ catalog }) => {
    await catalog.accept([offer(1, { study: '1.1' }), offer(2, { study: '1.2' })]);
    const { leased, deliveries } = await leaseOne(catalog, 0);
    await catalog.settle([settlement(leased, at(deliveries, 0), 'discarded')]);
    assert.deepEqual((await catalog.rankedStudies({ destinationId: 'pacs', limit: 9 })).map(studyOf), ['1.2']);
  });
}
