import assert from 'node:assert/strict';
import type { Delivery, DeliveryFilter, DeliveryState } from '../../domain/delivery.ts';
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
  settleAs,
  settlement,
  studyOf,
} from './fixtures.ts';

export function settlementChecks(check: Check): void {
  check('records settlements and counts them', async ({ catalog }) => {
    await catalog.accept([1, 2, 3, 4, 5].map((number) => offer(number, { study: '1.1', bytes: number })));
    const { leased, deliveries } = await leaseOne(catalog, 0);
    const states: DeliveryState[] = ['pending', 'sent', 'verified', 'quarantined', 'discarded'];
    const settlements = states.map((state, index) =>
      settlement(leased, at(deliveries, index), state, { attempts: index, reason: `because ${state}`, at: 60 }),
    );
    assert.deepEqual(await catalog.settle(settlements), []);
    for (const [index, state] of states.entries()) {
      const evidence = state === 'pending' ? 'accepted' : 'found';
      const said = { state, evidence, attempts: index, reason: `because ${state}` } as const;
      const instants = { answeredAt: state === 'sent' ? 60 : null, settledAt: index > 1 ? 60 : null };
      assert.deepEqual(await inState(catalog, state), [{ ...at(deliveries, index), ...said, ...instants }]);
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
    for (let afterId: number | null = 0; afterId !== null; ) {
      const { deliveries, next }: Awaited<ReturnType<typeof catalog.deliveries>> = await catalog.deliveries({
        ...page,
        afterId,
      });
      assert.ok(deliveries.length <= 3);
      pages.push(...deliveries);
      afterId = next;
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

export function filterChecks(check: Check): void {
  check('lists deliveries by what their filter says, all of it', async ({ catalog }) => {
    await catalog.accept([
      offer(1, { study: '1.1', receivedAt: 100 }),
      offer(2, { study: '1.1', receivedAt: 200 }),
      offer(3, { study: '1.2', receivedAt: 300, to: { pacs: {}, archive: {} } }),
      offer(4, { study: '1.2', receivedAt: 400 }),
    ]);
    await settleAs(catalog, [arrival(1), arrival(3)], 'quarantined', { reason: 'A900 Größe falsch' });
    await settleAs(catalog, [arrival(2)], 'quarantined', { reason: '0122 SOP class' });
    await settleAs(catalog, [arrival(3)], 'quarantined', { destinationId: 'archive' });
    const listed = async (filter: DeliveryFilter) => {
      const page = { destinationId: 'pacs', state: 'quarantined', afterId: 0, limit: 9 } as const;
      const { deliveries, next } = await catalog.deliveries({ ...page, ...filter });
      assert.equal(next, null);
      return deliveries.map(arrivalOf);
    };
    const [one, two, three] = [1, 2, 3].map(arrival);
    assert.deepEqual(await listed({}), [one, two, three]);
    assert.deepEqual(await listed({ studyInstanceUid: '1.1' }), [one, two]);
    assert.deepEqual(await listed({ sopInstanceUid: '1.3.3' }), [three]);
    assert.deepEqual(await listed({ sopClassUid: '1.2.840.10008.5.1.4.1.1.2' }), [one, two, three]);
    assert.deepEqual(await listed({ sopClassUid: '1.2.840.10008.5.1.4.1.1.4' }), []);
    assert.deepEqual(await listed({ reason: 'a900 GRÖß' }), [one, three]);
    assert.deepEqual(await listed({ reason: '%' }), [], 'it is text, no pattern');
    assert.deepEqual(await listed({ receivedFrom: 200, receivedBefore: 300 }), [two]);
    assert.deepEqual(await listed({ receivedFrom: 200 }), [two, three]);
    assert.deepEqual(await listed({ studyInstanceUid: '1.1', reason: 'A900' }), [one]);
    assert.deepEqual(await listed({ destinationId: 'archive' }), [three]);
    assert.deepEqual(await listed({ destinationId: 'archive', reason: 'A' }), [], 'it has no reason');
  });

  check('a page of a filter says where to go on, however little it holds', async ({ catalog }) => {
    const batch = Array.from({ length: 2500 }, (_, number) => offer(number, { study: `1.${number % 2}` }));
    await catalog.accept(batch);
    const found: string[] = [];
    let pages = 0;
    for (let afterId: number | null = 0; afterId !== null; pages += 1) {
      const page: Awaited<ReturnType<typeof catalog.deliveries>> = await catalog.deliveries({
        destinationId: 'pacs',
        state: 'pending',
        studyInstanceUid: '1.1',
        afterId,
        limit: 100,
      });
      assert.ok(page.deliveries.length <= 100);
      found.push(...page.deliveries.map(arrivalOf));
      afterId = page.next;
    }
    const wanted = batch.filter(({ version }) => version.identity.studyInstanceUid === '1.1');
    assert.deepEqual(
      found,
      wanted.map(({ version }) => version.arrivalId),
    );
    assert.ok(pages <= 30, `${pages} pages`);
  });
}
