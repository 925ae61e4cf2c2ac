import assert from 'node:assert/strict';
import type { LogEntry } from '../../domain/log.ts';
import type { Catalog } from '../../storage/catalog.ts';
import { brokenLink } from '../../storage/event-log.ts';
import {
  ANY,
  arrival,
  at,
  type Check,
  evict,
  found,
  leaseOne,
  offer,
  openEpisode,
  settleAs,
  settlement,
} from './fixtures.ts';

function whole(catalog: Catalog): Promise<readonly LogEntry[]> {
  return catalog.log({ afterId: 0, limit: 1000 });
}

/** What a step adds to the log, the whole of which stays chained. */
async function logged(catalog: Catalog, step: () => Promise<unknown>): Promise<readonly unknown[]> {
  const before = await whole(catalog);
  await step();
  const after = await whole(catalog);
  assert.equal(brokenLink(null, after), null);
  assert.deepEqual(after.slice(0, before.length), before, 'entries never change');
  return after.slice(before.length).map(({ at: instant, kind, detail }) => ({ at: instant, kind, ...detail }));
}

export function logChecks(check: Check): void {
  check('appends to the event log, chained and in pages', async ({ catalog, reopen }) => {
    assert.deepEqual(await whole(catalog), []);
    const details = [{ by: 'someone', count: 2, dry: false, reason: null }, {}, { text: 'Ä "\n\u2028 \ud800' }];
    const appended: LogEntry[] = [];
    for (const [index, detail] of details.entries()) {
      const entry = await catalog.appendLog({ at: 100 - index, kind: `kind ${index}`, detail });
      assert.deepEqual([entry.id, entry.at, entry.kind], [index + 1, 100 - index, `kind ${index}`]);
      assert.deepEqual(entry.detail, detail);
      appended.push(entry);
    }
    assert.deepEqual(await whole(catalog), appended);
    assert.equal(brokenLink(null, appended), null);
    assert.deepEqual(await catalog.log({ afterId: 1, limit: 1 }), [appended[1]]);
    assert.deepEqual(await catalog.log({ afterId: 3, limit: 10 }), []);
    const again = await reopen();
    assert.deepEqual(await whole(again), appended);
    const next = await again.appendLog({ at: 5.4, kind: 'after', detail: {} });
    assert.equal(brokenLink(at(appended, 2), [next]), null, 'the chain goes on after a reopening');
    assert.deepEqual(await again.log({ afterId: 0, limit: 4 }), [...appended, next]);
  });

  check('chains what is appended at once', async ({ catalog }) => {
    const entries = await Promise.all(
      Array.from({ length: 20 }, (_, index) => catalog.appendLog({ at: index, kind: 'k', detail: { index } })),
    );
    assert.deepEqual(
      await whole(catalog),
      [...entries].sort((a, b) => a.id - b.id),
    );
    assert.equal(brokenLink(null, await whole(catalog)), null);
  });
}

export function loggedChecks(check: Check): void {
  check(
    'logs quarantine and discard with what was said of them, and nothing else of deliveries',
    async ({ catalog }) => {
      const study = '1.1';
      await catalog.accept([1, 2, 3, 4, 5].map((number) => offer(number, { study })));
      const { leased, deliveries } = await leaseOne(catalog, 0);
      const states = ['pending', 'sent', 'verified', 'quarantined', 'discarded'] as const;
      const settlements = states.map((state, index) =>
        settlement(leased, at(deliveries, index), state, { reason: `because ${state}`, at: 70 + index }),
      );
      const added = await logged(catalog, () => catalog.settle(settlements));
      assert.deepEqual(added, [
        { at: 73, kind: 'quarantined', destinationId: 'pacs', arrivalId: arrival(4), reason: 'because quarantined' },
        { at: 74, kind: 'discarded', destinationId: 'pacs', arrivalId: arrival(5), reason: 'because discarded' },
      ]);
      assert.deepEqual(
        await logged(catalog, () => catalog.settle(settlements.slice(2))),
        [],
        'a stale one says nothing',
      );
    },
  );

  check('logs retirement and the marks of episodes, each once', async ({ catalog }) => {
    await catalog.accept([offer(1), offer(2)]);
    await settleAs(catalog, [arrival(1)], 'sent');
    const { id } = await openEpisode(catalog);
    const [opened] = await whole(catalog);
    assert.deepEqual([opened?.at, opened?.kind], [20, 'episode-opened']);
    assert.deepEqual(opened?.detail, { episodeId: id, destinationId: 'pacs', cause: 'probe failed' });
    for (const as of ['ended', 'drained', 'closed'] as const) {
      const added = await logged(catalog, async () => {
        await catalog.markEpisode({ episodeId: id, as, at: 30 });
        await catalog.markEpisode({ episodeId: id, as, at: 31 });
      });
      assert.deepEqual(added, [{ at: 30, kind: `episode-${as}`, episodeId: id, destinationId: 'pacs' }]);
    }
    const retirement = { destinationId: 'pacs', reason: 'replaced', by: 'admin', at: 50 };
    const added = await logged(catalog, () => catalog.retireDestination(retirement));
    assert.deepEqual(added, [{ ...retirement, kind: 'retired', discarded: 2 }]);
  });

  check('logs evictions when they end, and what is taken up, missing or restored', async ({ catalog, reopen }) => {
    const study = '1.1';
    const patient = { Modality: 'CT', PatientID: 'SECRET', PatientName: 'SECRET' };
    const offers = [1, 2].map((number) => offer(number, { study, attributes: patient }));
    assert.deepEqual(await logged(catalog, () => catalog.accept(offers)), []);
    assert.deepEqual(await logged(catalog, () => settleAs(catalog, [1, 2].map(arrival), 'verified')), []);
    const begin = () => catalog.beginEviction({ studyInstanceUid: study, ...ANY, at: 60 });
    assert.deepEqual(await logged(catalog, begin), []);
    const ended = await logged(catalog, () => catalog.endEviction({ studyInstanceUid: study, at: 61 }));
    assert.deepEqual(ended, [{ at: 61, kind: 'evicted', studyInstanceUid: study, instances: 2, bytes: 2000 }]);
    const restored = await logged(catalog, () => catalog.accept([{ ...at(offers, 0) }]));
    const receivedAt = at(offers, 0).version.receivedAt;
    assert.deepEqual(restored, [{ at: receivedAt, kind: 'restored', arrivalId: arrival(1), was: 'evicted' }]);
    const missing = () => catalog.markMissing({ arrivalId: arrival(1), at: 70 });
    const sopInstanceUid = '1.3.1';
    assert.deepEqual(await logged(catalog, missing), [
      { at: 70, kind: 'missing', arrivalId: arrival(1), sopInstanceUid },
    ]);
    assert.deepEqual(await logged(catalog, missing), []);
    const instances = [at(offers, 0), offer(3, { attributes: patient }), offer(3)].map(found);
    const taken = await logged(catalog, () => catalog.takeUp({ instances, at: 80 }));
    assert.deepEqual(taken, [{ at: 80, kind: 'taken-up', instances: 2 }]);
    assert.ok(!JSON.stringify(await whole(catalog)).includes('SECRET'), 'no patient data');
    const all = await whole(catalog);
    assert.deepEqual(await whole(await reopen()), all);
  });

  check('logs nothing of what was refused', async ({ catalog }) => {
    await evict(catalog, [offer(1)]);
    const refused = [offer(1), offer(2, { to: { elsewhere: {} } })];
    assert.deepEqual(await logged(catalog, () => catalog.accept(refused).catch(() => {})), []);
  });
}
