import assert from 'node:assert/strict';
import type { Catalog } from '../../storage/catalog.ts';
import { arrival, arrivalOf, type Check, due, inState, offer, record, rejectsWith, settleAs } from './fixtures.ts';

async function takeOver(catalog: Catalog, limit = 2): Promise<{ copied: number; pages: number }> {
  let [copied, pages] = [0, 0];
  for (let afterId: number | null = 0; afterId !== null; pages += 1) {
    const page: Awaited<ReturnType<Catalog['copyOpenDeliveries']>> = await catalog.copyOpenDeliveries({
      from: 'pacs',
      to: 'archive',
      afterId,
      limit,
    });
    copied += page.copied;
    afterId = page.next;
  }
  return { copied, pages };
}

export function standbyChecks(check: Check): void {
  check('a standby is owed what is open, once, in its order and by its rank', async ({ catalog, reopen }) => {
    await catalog.accept([
      offer(1, { study: '1.1', bytes: 10, to: { pacs: { tier: 2 } } }),
      offer(2, { study: '1.2', bytes: 20, to: { pacs: { tier: 0, urgency: 'stat' } } }),
      offer(3, { study: '1.1', bytes: 30, to: { pacs: { tier: 1 }, archive: { tier: 1 } } }),
      offer(4, { study: '1.3', bytes: 40, to: { pacs: { tier: 1 } } }),
      offer(5, { study: '1.1', bytes: 50, to: { pacs: { tier: 2 } } }),
    ]);
    await settleAs(catalog, [arrival(2)], 'sent');
    await settleAs(catalog, [arrival(4)], 'verified');
    const ofPacs = await record(catalog, 'pacs');
    assert.deepEqual(await takeOver(catalog), { copied: 3, pages: 3 });
    assert.deepEqual((await inState(catalog, 'pending', 'archive')).map(arrivalOf), [3, 1, 2, 5].map(arrival));
    assert.deepEqual(await record(catalog, 'pacs'), ofPacs, 'it is owed to both');
    assert.equal((await record(catalog, 'archive')).pending, 4);
    const [one, two] = await catalog.studies({ limit: 9 });
    assert.deepEqual([one?.openDeliveries, two?.openDeliveries], [6, 2]);
    const leased = await catalog.leaseStudies({ destinationId: 'archive', now: 0, limit: 9 });
    assert.deepEqual(
      leased.map(({ studyInstanceUid, rank }) => [studyInstanceUid, rank.tier, rank.urgency]),
      [
        ['1.2', 0, 'stat'],
        ['1.1', 1, 'unknown'],
      ],
    );
    assert.deepEqual((await takeOver(catalog, 100)).copied, 0, 'nothing twice');
    await catalog.accept([offer(6, { study: '1.1' })]);
    assert.deepEqual(await takeOver(await reopen(), 100), { copied: 1, pages: 1 });
  });

  check('a standby gets versions one after another, and never an earlier after a later one', async ({ catalog }) => {
    const version = (number: number, digest: string, to: object) =>
      offer(number, { study: '1.1', sop: '1.9', digest, to: { pacs: {}, ...to } });
    await catalog.accept([version(1, 'a', {}), version(2, 'b', {})]);
    assert.equal((await takeOver(catalog)).copied, 2);
    assert.deepEqual((await due(catalog, '1.1', 0, 'archive')).map(arrivalOf), [arrival(1)]);
    const copies = await inState(catalog, 'pending', 'archive');
    assert.deepEqual(
      copies.map(({ furtherVersion }) => furtherVersion),
      [false, true],
    );
    await settleAs(catalog, [arrival(1)], 'verified', { destinationId: 'archive' });
    assert.deepEqual((await due(catalog, '1.1', 0, 'archive')).map(arrivalOf), [arrival(2)]);
    await catalog.accept([version(3, 'c', {}), version(4, 'd', { archive: {} })]);
    assert.equal((await takeOver(catalog)).copied, 0, 'it has a later one');
  });

  check('what was ever routed to a standby is not copied, and one out of use takes nothing', async ({ catalog }) => {
    await catalog.accept([offer(1, { to: { archive: {}, pacs: {} } }), offer(2)]);
    await settleAs(catalog, [arrival(1)], 'discarded', { destinationId: 'archive' });
    assert.equal((await takeOver(catalog)).copied, 1);
    const copy = { from: 'pacs', to: 'nowhere', afterId: 0, limit: 9 };
    await rejectsWith('SPILLWAY_NOT_FOUND', catalog.copyOpenDeliveries(copy));
    await rejectsWith('SPILLWAY_NOT_FOUND', catalog.copyOpenDeliveries({ ...copy, from: 'nowhere', to: 'archive' }));
    await catalog.retireDestination({ destinationId: 'archive', reason: 'gone', by: 'admin', at: 5 });
    await rejectsWith('SPILLWAY_NOT_FOUND', catalog.copyOpenDeliveries({ ...copy, to: 'archive' }));
  });
}
