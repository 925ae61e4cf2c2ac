import assert from 'node:assert/strict';
import type { Evidence } from '../../domain/delivery.ts';
import type { Catalog } from '../../storage/catalog.ts';
import {
  ANY,
  arrival,
  arrivalOf,
  at,
  both,
  type Check,
  due,
  everything,
  idsOf,
  inState,
  lease,
  leaseOne,
  offer,
  openEpisode,
  record,
  settleAs,
  settlement,
} from './fixtures.ts';

const PACS = { destinationId: 'pacs' } as const;

export function instantChecks(check: Check): void {
  check('knows when a delivery was first answered, and when it became final', async ({ catalog }) => {
    await catalog.accept([1, 2].map((number) => offer(number, { study: '1.1' })));
    const { leased, deliveries } = await leaseOne(catalog, 0);
    const [first, second] = [at(deliveries, 0), at(deliveries, 1)];
    const instants = async () =>
      [
        ...(await inState(catalog, 'pending')),
        ...(await inState(catalog, 'sent')),
        ...(await inState(catalog, 'verified')),
      ]
        .filter(({ id }) => id === first.id)
        .map(({ answeredAt, settledAt }) => [answeredAt, settledAt])[0];
    assert.deepEqual(await instants(), [null, null]);
    await catalog.settle([settlement(leased, first, 'sent', { at: 10 })]);
    await catalog.settle([settlement(leased, first, 'sent', { at: 20 })]);
    assert.deepEqual(await instants(), [10, null], 'the first time');
    await catalog.settle([settlement(leased, first, 'pending', { at: 30 })]);
    assert.deepEqual(await instants(), [null, null], 'it is to be sent anew');
    await catalog.settle([settlement(leased, first, 'sent', { at: 40 })]);
    await catalog.settle([settlement(leased, first, 'verified', { at: 50 })]);
    assert.deepEqual(await instants(), [40, 50]);
    await catalog.settle([settlement(leased, second, 'verified', { evidence: 'answered', at: 60 })]);
    const [, answered] = await inState(catalog, 'verified');
    assert.deepEqual([answered?.answeredAt, answered?.settledAt], [60, 60], 'the answer was enough');
  });

  check('says when the first of those that wait for evidence was answered', async ({ catalog }) => {
    assert.equal(await catalog.oldestAnswerAt('pacs'), null);
    await catalog.accept([1, 2, 3].map((number) => offer(number, { study: '1.1' })));
    const { leased, deliveries } = await leaseOne(catalog, 0);
    const answered = [2, 1].map((index) =>
      settlement(leased, at(deliveries, index), 'sent', { at: 100 * (3 - index) }),
    );
    await catalog.settle(answered);
    assert.equal(await catalog.oldestAnswerAt('pacs'), 200, 'of the first that was accepted');
    assert.equal(await catalog.oldestAnswerAt('archive'), null);
    await catalog.settle([settlement(leased, at(deliveries, 1), 'verified')]);
    assert.equal(await catalog.oldestAnswerAt('pacs'), 100);
    await catalog.settle([settlement(leased, at(deliveries, 2), 'pending')]);
    assert.equal(await catalog.oldestAnswerAt('pacs'), null);
  });
}

function raise(catalog: Catalog, deliveryIds: readonly number[], evidence: Evidence = 'committed', settles = true) {
  return catalog.raiseEvidence({ ...PACS, deliveryIds, evidence, settles, at: 90 });
}

export function raiseChecks(check: Check): void {
  check('takes evidence that comes by itself for what is open, leased or not', async ({ catalog, reopen }) => {
    await catalog.accept([1, 2, 3, 4].map((number) => offer(number, { study: `1.${number % 2}` })));
    await settleAs(catalog, [arrival(1)], 'sent', { evidence: 'answered' });
    const [leased] = await lease(catalog, 0, 1);
    assert.equal(leased?.studyInstanceUid, '1.0');
    const ids = idsOf([...(await inState(catalog, 'sent')), ...(await inState(catalog, 'pending'))]);
    assert.deepEqual(await raise(catalog, [...ids.slice(0, 2), 987_654, ids[0] ?? 0]), ids.slice(0, 2));
    assert.deepEqual(await raise(catalog, ids.slice(0, 2)), [], 'they are');
    const verified = await inState(catalog, 'verified');
    assert.deepEqual(
      verified.map(({ arrivalId, evidence, reason, settledAt }) => [arrivalId, evidence, reason, settledAt]),
      [1, 2].map((number) => [arrival(number), 'committed', null, 90]),
    );
    const { pending, sent, verified: count } = await record(catalog, 'pacs');
    assert.deepEqual([pending, sent, count], [2, 0, 2]);
    assert.equal((await due(catalog, '1.0', 0)).length, 1);
    const stale = settlement(leased, at(verified, 1), 'quarantined');
    assert.deepEqual(await catalog.settle([stale]), [stale.deliveryId]);
    const before = await everything(catalog);
    assert.deepEqual(await everything(await reopen()), before);
  });

  check('raises evidence, never lowers it, and settles nothing unless it suffices', async ({ catalog }) => {
    await catalog.accept([1, 2].map((number) => offer(number, { study: '1.1' })));
    await settleAs(catalog, [arrival(1)], 'verified', { evidence: 'found' });
    await settleAs(catalog, [arrival(2)], 'sent', { evidence: 'found' });
    const [verified, sent] = [...(await inState(catalog, 'verified')), ...(await inState(catalog, 'sent'))];
    const ids = idsOf([verified, sent].flatMap((delivery) => delivery ?? []));
    assert.deepEqual(await raise(catalog, ids, 'answered'), [ids[1]], 'what is verified already is no news');
    assert.deepEqual(await raise(catalog, ids, 'committed', false), []);
    const [first, second] = await inState(catalog, 'verified');
    assert.deepEqual([first?.evidence, first?.settledAt], ['committed', 0]);
    assert.equal(second?.evidence, 'committed');
    await catalog.accept([offer(3, { study: '1.1' })]);
    const [pending] = await inState(catalog, 'pending');
    assert.deepEqual(await raise(catalog, [pending?.id ?? 0], 'answered', false), []);
    assert.equal((await inState(catalog, 'pending'))[0]?.evidence, 'answered');
  });

  check(
    'late evidence ends a quarantine, and never a discard; episodes keep their sets',
    async ({ catalog, reopen }) => {
      await catalog.accept([3, 1, 2].map((number) => offer(number, { study: '1.1', to: both })));
      const before = await openEpisode(catalog);
      await settleAs(catalog, [arrival(1)], 'quarantined', { reason: 'refused' });
      await settleAs(catalog, [arrival(2)], 'discarded');
      const after = await openEpisode(catalog);
      const ids = idsOf([...(await inState(catalog, 'quarantined')), ...(await inState(catalog, 'discarded'))]);
      assert.deepEqual(await raise(catalog, ids), ids.slice(0, 1));
      const [verified] = await inState(catalog, 'verified');
      assert.deepEqual([verified?.evidence, verified?.reason, verified?.settledAt], ['committed', null, 90]);
      assert.equal((await inState(catalog, 'discarded'))[0]?.evidence, 'found');
      const { quarantined, verified: count, discarded } = await record(catalog, 'pacs');
      assert.deepEqual([quarantined, count, discarded], [0, 1, 1]);
      const [log] = (await catalog.log({ afterId: 0, limit: 100 })).filter(({ kind }) => kind === 'verified-late');
      assert.deepEqual(log?.detail, { destinationId: 'pacs', arrivalId: arrival(1), evidence: 'committed' });
      const counts = [(await catalog.countEpisode(before.id)).total, (await catalog.countEpisode(after.id)).total];
      assert.deepEqual(
        counts.map((total) => [total.received, total.verified, total.quarantined, total.discarded]),
        [
          [3, 1, 0, 1],
          [1, 0, 0, 0],
        ],
      );
      const shown = await everything(catalog);
      assert.deepEqual(await everything(await reopen()), shown);
    },
  );

  check('what proves a UID settles nothing where another version was sent', async ({ catalog }) => {
    await catalog.accept(['a', 'b'].map((digest, index) => offer(index + 1, { study: '1.1', sop: '1.9', digest })));
    await settleAs(catalog, [arrival(1)], 'sent', { evidence: 'answered' });
    const [first] = idsOf(await inState(catalog, 'sent'));
    const [second] = idsOf(await inState(catalog, 'pending'));
    await settleAs(catalog, [arrival(1)], 'quarantined', { evidence: 'answered' });
    const ids = [first ?? 0, second ?? 0];
    for (const evidence of ['found', 'committed'] as const) {
      assert.deepEqual(await raise(catalog, ids, evidence), [], 'the second may be there, or the first');
      assert.deepEqual(await raise(catalog, ids, evidence, false), []);
    }
    assert.equal((await inState(catalog, 'quarantined'))[0]?.evidence, 'answered');
    assert.equal((await inState(catalog, 'pending'))[0]?.evidence, 'accepted');
    assert.deepEqual(await raise(catalog, ids, 'compared'), ids);
  });

  check('what waits for its turn takes nothing from the version before it', async ({ catalog }) => {
    await catalog.accept(['a', 'b'].map((digest, index) => offer(index + 1, { study: '1.1', sop: '1.9', digest })));
    await settleAs(catalog, [arrival(1)], 'sent', { evidence: 'answered' });
    const sent = idsOf(await inState(catalog, 'sent'));
    assert.deepEqual(await raise(catalog, sent), sent);
  });

  check('evidence for a version releases the next', async ({ catalog }) => {
    await catalog.accept(['a', 'b'].map((digest, index) => offer(index, { study: '1.1', sop: '1.9', digest })));
    const ids = idsOf(await inState(catalog, 'pending'));
    await raise(catalog, ids.slice(0, 1));
    assert.deepEqual((await leaseOne(catalog, 0)).deliveries.map(arrivalOf), [arrival(1)]);
  });
}

async function walkBack(catalog: Catalog, limit: number, since?: number) {
  const arrivals: string[] = [];
  let [evicted, unavailable, pages] = [0, 0, 0];
  for (let before: number | null | undefined; before !== null; pages += 1) {
    const page: Awaited<ReturnType<Catalog['recentlyVerified']>> = await catalog.recentlyVerified({
      ...PACS,
      limit,
      ...(before !== undefined && { before }),
      ...(since !== undefined && { since }),
    });
    assert.ok(page.deliveries.length <= limit);
    assert.ok(page.deliveries.every(({ state }) => state === 'verified'));
    arrivals.push(...page.deliveries.map(arrivalOf));
    evicted += page.evicted;
    unavailable += page.unavailable;
    before = page.next;
  }
  return { arrivals, evicted, unavailable, pages };
}

/** Has them verified one after another, at 10, 20, … */
async function verifyInTurn(catalog: Catalog, numbers: readonly number[]): Promise<void> {
  for (const [index, number] of numbers.entries()) {
    const [delivery] = (await inState(catalog, 'pending')).filter(({ arrivalId }) => arrivalId === arrival(number));
    const verified = {
      deliveryIds: [delivery?.id ?? 0],
      evidence: 'found',
      settles: true,
      at: 10 * (index + 1),
    } as const;
    assert.equal((await catalog.raiseEvidence({ ...PACS, ...verified })).length, 1);
  }
}

export function recentChecks(check: Check): void {
  check('walks back through what was verified, by when it was, in pages', async ({ catalog }) => {
    assert.deepEqual(await catalog.recentlyVerified({ ...PACS, limit: 9 }), {
      deliveries: [],
      evicted: 0,
      unavailable: 0,
      next: null,
    });
    await catalog.accept([1, 2, 3, 4, 5].map((number) => offer(number, { to: both })));
    await verifyInTurn(catalog, [3, 1, 5]);
    await settleAs(catalog, [arrival(4)], 'quarantined');
    const backwards = [5, 1, 3].map(arrival);
    for (const limit of [1, 2, 3, 9]) {
      const { arrivals, evicted, pages } = await walkBack(catalog, limit);
      assert.deepEqual([arrivals, evicted], [backwards, 0]);
      assert.ok(pages <= 4);
    }
    assert.deepEqual((await walkBack(catalog, 2, 20)).arrivals, [5, 1].map(arrival));
    assert.deepEqual((await walkBack(catalog, 1, 30)).arrivals, [arrival(5)]);
    assert.deepEqual((await walkBack(catalog, 1, 31)).arrivals, []);
    const [first] = (await catalog.recentlyVerified({ ...PACS, limit: 1 })).deliveries;
    await catalog.returnToBacklog({ ...PACS, deliveryIds: [first?.id ?? 0], reason: 'lost', at: 40 });
    assert.deepEqual((await walkBack(catalog, 9)).arrivals, [1, 3].map(arrival));
    await verifyInTurn(catalog, [5]);
    assert.deepEqual((await walkBack(catalog, 9)).arrivals, backwards, 'it was verified last');
  });

  check('a clock that went back for a while hides nothing', async ({ catalog }) => {
    await catalog.accept([1, 2, 3].map((number) => offer(number)));
    for (const [number, instant] of [
      [1, 500],
      [2, 100],
      [3, 600],
    ] as const) {
      const [delivery] = (await inState(catalog, 'pending')).filter(({ arrivalId }) => arrivalId === arrival(number));
      const verified = { deliveryIds: [delivery?.id ?? 0], evidence: 'found', settles: true, at: instant } as const;
      await catalog.raiseEvidence({ ...PACS, ...verified });
    }
    assert.deepEqual((await walkBack(catalog, 1, 400)).arrivals, [3, 1].map(arrival));
  });

  check('walks back by the last version of each instance, past what has no bytes here', async ({ catalog }) => {
    const versions = ['a', 'b'].map((digest, index) => offer(index + 1, { study: '1.1', sop: '1.9', digest }));
    await catalog.accept([...versions, ...[3, 4, 5].map((number) => offer(number, { study: `1.${number}` }))]);
    await verifyInTurn(catalog, [1, 3, 4, 5]);
    assert.deepEqual((await walkBack(catalog, 9)).arrivals, [5, 4, 3, 1].map(arrival), 'the later one was not sent');
    const late = { ...PACS, deliveryIds: idsOf(await inState(catalog, 'pending')), at: 50 } as const;
    await catalog.raiseEvidence({ ...late, evidence: 'answered', settles: false });
    assert.deepEqual((await walkBack(catalog, 9)).arrivals, [5, 4, 3].map(arrival), 'the later one was answered');
    await catalog.raiseEvidence({ ...late, evidence: 'compared', settles: true });
    assert.deepEqual((await walkBack(catalog, 9)).arrivals, [2, 5, 4, 3].map(arrival));
    assert.ok(await catalog.beginEviction({ studyInstanceUid: '1.3', ...ANY, at: 60 }));
    await catalog.endEviction({ studyInstanceUid: '1.3', at: 61 });
    assert.ok(await catalog.beginEviction({ studyInstanceUid: '1.4', ...ANY, at: 60 }));
    await catalog.markMissing({ arrivalId: arrival(5), at: 62 });
    const { arrivals, evicted, unavailable } = await walkBack(catalog, 9);
    assert.deepEqual([arrivals, evicted, unavailable], [[arrival(2)], 2, 1]);
  });
}
