import assert from 'node:assert/strict';
import type { Catalog } from '../../storage/catalog.ts';
import {
  arrival,
  arrivalOf,
  at,
  type Check,
  due,
  everything,
  evict,
  idsOf,
  inState,
  lease,
  leaseOne,
  offer,
  openEpisode,
  record,
  rejectsWith,
  settleAs,
  settlement,
} from './fixtures.ts';

const BY = { destinationId: 'pacs', by: 'A. Person', at: 90 } as const;

/** Versions of one instance, in one study, by their digests. */
function versions(...digests: readonly string[]) {
  return digests.map((digest, index) => offer(index + 1, { study: '1.1', sop: '1.9', digest }));
}

/** The open deliveries, and which of them are not due: they wait for an earlier version. */
async function waiting(catalog: Catalog): Promise<readonly (readonly [string, 'due' | 'held'])[]> {
  const now = new Set((await due(catalog, '1.1', 1e9)).map(arrivalOf));
  const open = [...(await inState(catalog, 'pending')), ...(await inState(catalog, 'sent'))];
  return open.map(({ arrivalId }) => [arrivalId, now.has(arrivalId) ? 'due' : 'held']);
}

export function redriveChecks(check: Check): void {
  check('redrives what is in quarantine as if it had never been tried', async ({ catalog, reopen }) => {
    await catalog.accept([1, 2, 3].map((number) => offer(number, { study: '1.1' })));
    await settleAs(catalog, [arrival(1), arrival(2)], 'sent');
    await settleAs(catalog, [arrival(1), arrival(2)], 'quarantined', { reason: 'refused', evidence: 'answered' });
    await settleAs(catalog, [arrival(3)], 'verified');
    const [one, two] = await inState(catalog, 'quarantined');
    const [verified] = await inState(catalog, 'verified');
    const deliveryIds = [one, verified, one].map((delivery) => delivery?.id ?? 0);
    assert.deepEqual(await catalog.redrive({ ...BY, deliveryIds: [...deliveryIds, 987_654] }), {
      redriven: [one?.id],
      superseded: [],
    });
    const anew = {
      state: 'pending',
      evidence: 'accepted',
      attempts: 0,
      reason: null,
      answeredAt: null,
      settledAt: null,
    };
    assert.deepEqual(await inState(catalog, 'pending'), [{ ...one, ...anew }]);
    assert.deepEqual(await inState(catalog, 'quarantined'), [two]);
    const { pending, quarantined, verified: proven } = await record(catalog, 'pacs');
    assert.deepEqual([pending, quarantined, proven], [1, 1, 1]);
    assert.equal(at(await catalog.studies({ limit: 1 }), 0).openDeliveries, 1);
    assert.deepEqual(await catalog.backlog('pacs'), [{ tier: 1, studies: 1, instances: 1, bytes: 1000 }]);
    assert.deepEqual(await catalog.redrive({ ...BY, deliveryIds }), { redriven: [], superseded: [] }, 'it is pending');
    const [log] = (await catalog.log({ afterId: 0, limit: 100 })).filter(({ kind }) => kind === 'redriven');
    assert.deepEqual(log?.detail, { destinationId: 'pacs', arrivalId: arrival(1), reason: 'refused', by: 'A. Person' });
    const before = await everything(catalog);
    const again = await reopen();
    assert.deepEqual(await everything(again), before);
    const { leased, deliveries } = await leaseOne(again, 0);
    assert.deepEqual(deliveries.map(arrivalOf), [arrival(1)]);
    assert.deepEqual(await again.settle([settlement(leased, at(deliveries, 0), 'verified')]), []);
  });

  check('redrives at its own destination, and only what has its bytes here', async ({ catalog }) => {
    await catalog.accept([offer(1, { study: '1.1' }), offer(2, { study: '1.2' })]);
    await settleAs(catalog, [arrival(1), arrival(2)], 'quarantined');
    const deliveryIds = idsOf(await inState(catalog, 'quarantined'));
    await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
    const none = { redriven: [], superseded: [] };
    assert.deepEqual(await catalog.redrive({ ...BY, destinationId: 'archive', deliveryIds }), none);
    assert.deepEqual(await catalog.redrive({ ...BY, deliveryIds }), { redriven: deliveryIds.slice(1), superseded: [] });
  });
}

export function redriveOrderChecks(check: Check): void {
  check('what is redriven has its turn before later versions, and after earlier ones', async ({ catalog }) => {
    await catalog.accept(versions('a', 'b', 'c'));
    await settleAs(catalog, [arrival(1)], 'quarantined', { evidence: 'accepted' });
    await settleAs(catalog, [arrival(2)], 'quarantined', { evidence: 'accepted' });
    assert.deepEqual(await waiting(catalog), [[arrival(3), 'due']]);
    const [first, second] = idsOf(await inState(catalog, 'quarantined'));
    await catalog.redrive({ ...BY, deliveryIds: [second ?? 0] });
    assert.deepEqual(await waiting(catalog), [
      [arrival(2), 'due'],
      [arrival(3), 'held'],
    ]);
    await catalog.redrive({ ...BY, deliveryIds: [first ?? 0] });
    const inTurn = [
      [arrival(1), 'due'],
      [arrival(2), 'held'],
      [arrival(3), 'held'],
    ];
    assert.deepEqual(await waiting(catalog), inTurn);
    await settleAs(catalog, [arrival(1)], 'quarantined', { evidence: 'accepted' });
    await settleAs(catalog, [arrival(2)], 'quarantined', { evidence: 'accepted' });
    await catalog.redrive({ ...BY, deliveryIds: [first ?? 0] });
    await catalog.redrive({ ...BY, deliveryIds: [second ?? 0] });
    assert.deepEqual(await waiting(catalog), inTurn, 'in whatever order they are redriven');
    for (const number of [1, 2, 3]) {
      assert.deepEqual((await leaseOneOf(catalog)).map(arrivalOf), [arrival(number)]);
      await settleAs(catalog, [arrival(number)], 'verified');
    }
  });

  check(
    'a later version that was on its way has its turn again after the one that was redriven',
    async ({ catalog }) => {
      await catalog.accept(versions('a', 'b'));
      await settleAs(catalog, [arrival(1)], 'quarantined');
      const { leased, deliveries } = await leaseOne(catalog, 0);
      assert.deepEqual(deliveries.map(arrivalOf), [arrival(2)]);
      const { redriven } = await catalog.redrive({ ...BY, deliveryIds: idsOf(await inState(catalog, 'quarantined')) });
      assert.equal(redriven.length, 1);
      const late = settlement(leased, at(deliveries, 0), 'sent');
      assert.deepEqual(await catalog.settle([late]), [late.deliveryId], 'it would be there before the earlier one');
      await catalog.settle([settlement(leased, at(await due(catalog, '1.1', 0), 0), 'verified')]);
      assert.deepEqual(await catalog.settle([late]), []);
    },
  );

  for (const state of ['sent', 'verified'] as const) {
    check(`does not redrive what a later version that is ${state} would be put back by`, async ({ catalog }) => {
      await catalog.accept([...versions('a', 'b'), offer(3, { study: '1.1' })]);
      await settleAs(catalog, [arrival(1), arrival(3)], 'quarantined');
      await settleAs(catalog, [arrival(2)], state);
      const [superseded, other] = idsOf(await inState(catalog, 'quarantined'));
      assert.deepEqual(await catalog.redrive({ ...BY, deliveryIds: [superseded ?? 0, other ?? 0] }), {
        redriven: [other],
        superseded: [superseded],
      });
      assert.equal((await inState(catalog, 'quarantined')).length, 1);
    });
  }

  check(
    'does not put back a later version that was answered and then refused, but redrives both',
    async ({ catalog }) => {
      await catalog.accept(versions('a', 'b'));
      await settleAs(catalog, [arrival(1)], 'quarantined', { evidence: 'accepted' });
      await settleAs(catalog, [arrival(2)], 'quarantined', { evidence: 'answered' });
      const [first, second] = idsOf(await inState(catalog, 'quarantined'));
      const both = [first ?? 0, second ?? 0];
      assert.deepEqual(await catalog.redrive({ ...BY, deliveryIds: both.slice(0, 1) }), {
        redriven: [],
        superseded: both.slice(0, 1),
      });
      assert.deepEqual(await catalog.redrive({ ...BY, deliveryIds: both }), { redriven: both, superseded: [] });
      assert.deepEqual(await waiting(catalog), [
        [arrival(1), 'due'],
        [arrival(2), 'held'],
      ]);
    },
  );

  check('what is owed anew is a further version where another one was offered since', async ({ catalog }) => {
    await catalog.accept([...versions('a'), offer(8, { study: '1.1' })]);
    await settleAs(catalog, [arrival(1), arrival(8)], 'quarantined');
    await catalog.accept(versions('a', 'b').slice(1));
    const shown = async () => (await inState(catalog, 'pending')).map((each) => [arrivalOf(each), each.furtherVersion]);
    await catalog.redrive({ ...BY, deliveryIds: idsOf(await inState(catalog, 'quarantined')) });
    const expected = [
      [arrival(1), true],
      [arrival(8), false],
      [arrival(2), true],
    ];
    assert.deepEqual(await shown(), expected);
    const owed = idsOf(await inState(catalog, 'pending'));
    const raise = { destinationId: 'pacs', deliveryIds: owed, settles: true, at: 95 } as const;
    assert.deepEqual(await catalog.raiseEvidence({ ...raise, evidence: 'committed' }), owed.slice(1, 2));
    assert.deepEqual(await catalog.raiseEvidence({ ...raise, evidence: 'compared' }), [owed[0], owed[2]]);
    await catalog.returnToBacklog({ destinationId: 'pacs', deliveryIds: owed, reason: 'not found', at: 96 });
    assert.deepEqual(await shown(), expected);
  });
}

async function leaseOneOf(catalog: Catalog) {
  const { leased, deliveries } = await leaseOne(catalog, 0);
  await catalog.releaseStudies({ destinationId: 'pacs', leases: [leased.lease] });
  return deliveries;
}

export function retiredChecks(check: Check): void {
  check('what a destination out of use was owed is not owed again, and may be discarded', async ({ catalog }) => {
    await catalog.accept([offer(1), offer(2)]);
    await settleAs(catalog, [arrival(1)], 'quarantined');
    await settleAs(catalog, [arrival(2)], 'verified');
    await catalog.retireDestination({ destinationId: 'pacs', reason: 'gone', by: 'admin', at: 5 });
    const [quarantined, verified] = await Promise.all([inState(catalog, 'quarantined'), inState(catalog, 'verified')]);
    await rejectsWith('SPILLWAY_NOT_FOUND', catalog.redrive({ ...BY, deliveryIds: idsOf(quarantined) }));
    const lost = { destinationId: 'pacs', deliveryIds: idsOf(verified), reason: 'lost', at: 6 };
    await rejectsWith('SPILLWAY_NOT_FOUND', catalog.returnToBacklog(lost));
    const request = { ...BY, deliveryIds: idsOf(quarantined), reason: 'r' };
    assert.deepEqual(await catalog.discard(request), idsOf(quarantined));
  });
}

export function discardChecks(check: Check): void {
  check('discards what is open or in quarantine, with reason and person', async ({ catalog, reopen }) => {
    await catalog.accept([1, 2, 3, 4, 5].map((number) => offer(number, { study: '1.1', bytes: number })));
    await settleAs(catalog, [arrival(1)], 'verified');
    await settleAs(catalog, [arrival(2)], 'quarantined', { reason: 'refused' });
    await settleAs(catalog, [arrival(3)], 'sent');
    const all = [...(await inState(catalog, 'verified')), ...(await inState(catalog, 'quarantined'))];
    const deliveryIds = idsOf([...all, ...(await inState(catalog, 'sent')), ...(await inState(catalog, 'pending'))]);
    const request = { ...BY, deliveryIds: deliveryIds.slice(0, 4), reason: 'wrong patient' };
    assert.deepEqual(await catalog.discard({ ...request, destinationId: 'archive' }), []);
    assert.deepEqual(await catalog.discard(request), deliveryIds.slice(1, 4));
    assert.deepEqual(await catalog.discard(request), [], 'once');
    const discarded = await inState(catalog, 'discarded');
    assert.deepEqual(
      discarded.map(({ arrivalId, reason, settledAt }) => [arrivalId, reason, settledAt]),
      [
        [arrival(2), 'wrong patient', 0],
        [arrival(3), 'wrong patient', 90],
        [arrival(4), 'wrong patient', 90],
      ],
      'what was refused was final before',
    );
    const { pending, sent, verified, quarantined, discarded: count } = await record(catalog, 'pacs');
    assert.deepEqual([pending, sent, verified, quarantined, count], [1, 0, 1, 0, 3]);
    assert.deepEqual(await catalog.backlog('pacs'), [{ tier: 1, studies: 1, instances: 1, bytes: 5 }]);
    assert.equal(at(await catalog.studies({ limit: 1 }), 0).openDeliveries, 1);
    const log = (await catalog.log({ afterId: 0, limit: 100 })).filter(({ kind }) => kind === 'discarded');
    assert.deepEqual(
      log.map(({ detail }) => [detail.arrivalId, detail.reason, detail.by]),
      [2, 3, 4].map((number) => [arrival(number), 'wrong patient', 'A. Person']),
    );
    const before = await everything(catalog);
    assert.deepEqual(await everything(await reopen()), before);
  });

  check(
    'what is discarded while it is leased settles nothing, and the rest of its study goes on',
    async ({ catalog }) => {
      await catalog.accept([1, 2].map((number) => offer(number, { study: '1.1' })));
      const { leased, deliveries } = await leaseOne(catalog, 0);
      const [first, second] = [at(deliveries, 0), at(deliveries, 1)];
      assert.deepEqual(await catalog.discard({ ...BY, deliveryIds: [first.id], reason: 'r' }), [first.id]);
      assert.deepEqual(
        await catalog.settle([settlement(leased, first, 'verified'), settlement(leased, second, 'verified')]),
        [first.id],
      );
      await catalog.releaseStudies({ destinationId: 'pacs', leases: [leased.lease] });
      assert.deepEqual(await lease(catalog, 1e9), []);
      assert.equal(await catalog.nextDueAt({ destinationId: 'pacs', now: 0 }), null);
    },
  );

  check('discarding the first version releases the next, and one that is held nothing', async ({ catalog }) => {
    await catalog.accept(versions('a', 'b', 'c'));
    const [first, second] = idsOf(await inState(catalog, 'pending'));
    await catalog.discard({ ...BY, deliveryIds: [second ?? 0], reason: 'r' });
    assert.deepEqual(await waiting(catalog), [
      [arrival(1), 'due'],
      [arrival(3), 'held'],
    ]);
    await catalog.discard({ ...BY, deliveryIds: [first ?? 0], reason: 'r' });
    assert.deepEqual(await waiting(catalog), [[arrival(3), 'due']]);
    assert.deepEqual((await leaseOneOf(catalog)).map(arrivalOf), [arrival(3)]);
  });

  check('a study is due when what is left of it is', async ({ catalog }) => {
    await catalog.accept([1, 2].map((number) => offer(number, { study: '1.1' })));
    const { leased, deliveries } = await leaseOne(catalog, 0);
    const wait = (index: number, notBefore: number) =>
      settlement(leased, at(deliveries, index), 'pending', { notBefore });
    await catalog.settle([wait(0, 100), wait(1, 500)]);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [leased.lease] });
    await catalog.discard({ ...BY, deliveryIds: [at(deliveries, 0).id], reason: 'r' });
    assert.deepEqual(await lease(catalog, 499), [], 'no busy loop');
    assert.equal((await lease(catalog, 500)).length, 1);
  });
}

export function returnChecks(check: Check): void {
  const LOST = { destinationId: 'pacs', reason: 'not found', at: 90 } as const;

  check('owes again what a destination has lost', async ({ catalog, reopen }) => {
    await catalog.accept([1, 2, 3].map((number) => offer(number, { study: '1.1' })));
    await settleAs(catalog, [arrival(1), arrival(2)], 'verified', { evidence: 'committed' });
    const [one, two] = await inState(catalog, 'verified');
    const [pending] = await inState(catalog, 'pending');
    await catalog.markMissing({ arrivalId: arrival(2), at: 9 });
    const deliveryIds = idsOf([one, two, pending].flatMap((delivery) => delivery ?? []));
    assert.deepEqual(await catalog.returnToBacklog({ ...LOST, deliveryIds }), [one?.id], 'what can be sent again');
    assert.deepEqual(await catalog.returnToBacklog({ ...LOST, deliveryIds }), []);
    const anew = {
      state: 'pending',
      evidence: 'accepted',
      attempts: 0,
      reason: null,
      answeredAt: null,
      settledAt: null,
    };
    assert.deepEqual(await inState(catalog, 'pending'), [{ ...one, ...anew }, pending]);
    assert.deepEqual((await due(catalog, '1.1', 0)).map(arrivalOf), [arrival(1), arrival(3)]);
    const { pending: owed, verified } = await record(catalog, 'pacs');
    assert.deepEqual([owed, verified], [2, 1]);
    const [log] = (await catalog.log({ afterId: 0, limit: 100 })).filter(({ kind }) => kind === 'returned');
    const detail = { destinationId: 'pacs', arrivalId: arrival(1), evidence: 'committed', reason: 'not found' };
    assert.deepEqual(log?.detail, detail, 'what it had reached');
    const before = await everything(catalog);
    assert.deepEqual(await everything(await reopen()), before);
  });

  check('returns nothing whose bytes made room', async ({ catalog }) => {
    await evict(catalog, [offer(1)]);
    const deliveryIds = idsOf(await inState(catalog, 'verified'));
    assert.deepEqual(await catalog.returnToBacklog({ ...LOST, deliveryIds }), []);
  });

  check('never puts back a later version, which may be returned with it', async ({ catalog }) => {
    await catalog.accept(versions('a', 'b'));
    await settleAs(catalog, [arrival(1)], 'verified');
    await settleAs(catalog, [arrival(2)], 'verified');
    const both = idsOf(await inState(catalog, 'verified'));
    assert.deepEqual(await catalog.returnToBacklog({ ...LOST, deliveryIds: both.slice(0, 1) }), []);
    assert.deepEqual(await catalog.returnToBacklog({ ...LOST, deliveryIds: both }), both);
    assert.deepEqual(await waiting(catalog), [
      [arrival(1), 'due'],
      [arrival(2), 'held'],
    ]);
  });

  check('is owed once however often it is returned, and counts to the episodes that had it', async ({ catalog }) => {
    await catalog.accept([offer(9, { study: '1.2' }), offer(1, { study: '1.1' })]);
    const before = await openEpisode(catalog);
    await settleAs(catalog, [arrival(1)], 'verified');
    const between = await openEpisode(catalog);
    await catalog.returnToBacklog({ ...LOST, deliveryIds: idsOf(await inState(catalog, 'verified')) });
    const after = await openEpisode(catalog);
    await settleAs(catalog, [arrival(1)], 'verified');
    // Besides the one that stays open.
    const other = { quarantined: 0, discarded: 0, outstanding: 1, pending: 1 };
    for (const [{ id }, verified] of [
      [before, 1],
      [between, 0],
      [after, 1],
    ] as const) {
      const { total } = await catalog.countEpisode(id);
      assert.deepEqual(total, { received: verified + 1, verified, ...other }, `episode ${id}`);
    }
    await settleAs(catalog, [arrival(9)], 'verified');
    const [again] = (await inState(catalog, 'verified')).filter(({ arrivalId }) => arrivalId === arrival(1));
    await catalog.returnToBacklog({ ...LOST, deliveryIds: [again?.id ?? 0] });
    for (const { id } of [before, between, after]) await catalog.markEpisode({ episodeId: id, as: 'ended', at: 95 });
    const isOpen = { pending: true, open: true };
    assert.deepEqual(await catalog.episodeRemains(before.id), isOpen);
    assert.deepEqual(await catalog.episodeRemains(between.id), { pending: false, open: false }, 'it was final then');
    assert.deepEqual(await catalog.episodeRemains(after.id), isOpen);
    await settleAs(catalog, [arrival(1)], 'verified');
    assert.deepEqual(await catalog.episodeRemains(after.id), { pending: false, open: false });
  });
}
