import assert from 'node:assert/strict';
import { arrival, at, both, type Check, offer, openEpisode, settleAs } from './fixtures.ts';

export function episodeChecks(check: Check): void {
  check('an episode holds what was open at its start and what came until its end', async ({ catalog }) => {
    await catalog.accept([1, 2, 3].map((number) => offer(number, { study: '1.1', to: both })));
    await settleAs(catalog, [arrival(1)], 'verified');
    await settleAs(catalog, [arrival(2)], 'sent');
    const episode = await openEpisode(catalog);
    assert.equal(episode.pendingAtStart, 2);
    await catalog.accept([4, 5, 6].map((number) => offer(number, { study: '1.2', to: { pacs: { tier: 0 } } })));
    await settleAs(catalog, [arrival(4)], 'verified');
    await catalog.markEpisode({ episodeId: episode.id, as: 'ended', at: 40 });
    await catalog.accept([7, 8].map((number) => offer(number, { study: '1.1', to: both })));
    await settleAs(catalog, [arrival(7)], 'verified');
    await settleAs(catalog, [arrival(5)], 'quarantined');
    await settleAs(catalog, [arrival(2)], 'discarded');
    const counts = await catalog.countEpisode(episode.id);
    const waits = { outstanding: 1, pending: 1 };
    const ended = { verified: 1, quarantined: 1, discarded: 1 };
    assert.deepEqual(counts.total, { received: 5, ...ended, outstanding: 2, pending: 2 });
    assert.deepEqual(counts.tiers, [
      { tier: 0, verified: 1, quarantined: 1, discarded: 0, ...waits },
      { tier: 1, verified: 0, quarantined: 0, discarded: 1, ...waits },
    ]);
    const ranked = await catalog.rankedStudies({ destinationId: 'pacs', limit: 100 });
    const ranks = ranked.map((study) => ({ ...study, rank: { ...study.rank, tier: 0 } }));
    assert.deepEqual(await catalog.setRanks({ destinationId: 'pacs', ranks }), []);
    const moved = await catalog.countEpisode(episode.id);
    assert.deepEqual(moved.tiers, [{ tier: 0, ...ended, outstanding: 2, pending: 2 }], 'by the present tier');
  });

  check('knows what an ended episode still has to send and to prove', async ({ catalog }) => {
    await catalog.accept([offer(1, { study: '1.1' })]);
    const episode = await openEpisode(catalog);
    await catalog.accept([offer(2, { study: '1.2' })]);
    await catalog.markEpisode({ episodeId: episode.id, as: 'ended', at: 40 });
    await catalog.accept([offer(3, { study: '1.1' })]);
    assert.deepEqual(await catalog.episodeRemains(episode.id), { pending: true, open: true });
    await settleAs(catalog, [arrival(1), arrival(2)], 'sent');
    assert.deepEqual(await catalog.episodeRemains(episode.id), { pending: false, open: true });
    await settleAs(catalog, [arrival(1)], 'verified');
    assert.deepEqual(await catalog.episodeRemains(episode.id), { pending: false, open: true }, 'the last of the set');
    await settleAs(catalog, [arrival(2)], 'quarantined');
    assert.deepEqual(await catalog.episodeRemains(episode.id), { pending: false, open: false });
    assert.equal((await catalog.countEpisode(episode.id)).total.outstanding, 0);
  });

  check('counts two overlapping episodes, each by itself', async ({ catalog }) => {
    await catalog.accept([1, 2, 3].map((number) => offer(number)));
    const first = await openEpisode(catalog);
    await catalog.markEpisode({ episodeId: first.id, as: 'ended', at: 40 });
    await catalog.accept([offer(4)]);
    await settleAs(catalog, [arrival(1)], 'verified');
    const second = await openEpisode(catalog);
    assert.equal(second.pendingAtStart, 3);
    await catalog.accept([offer(5)]);
    await settleAs(catalog, [arrival(2), arrival(4)], 'verified');
    const rest = { quarantined: 0, discarded: 0 };
    const ofFirst = { received: 3, verified: 2, ...rest, outstanding: 1, pending: 1 };
    const ofSecond = { received: 4, verified: 2, ...rest, outstanding: 2, pending: 2 };
    assert.deepEqual((await catalog.countEpisode(first.id)).total, ofFirst);
    assert.deepEqual((await catalog.countEpisode(second.id)).total, ofSecond);
    assert.deepEqual(await catalog.episodes({ destinationId: 'pacs', openOnly: true, limit: 9 }), [
      await catalog.markEpisode({ episodeId: first.id, as: 'ended', at: 99 }),
      second,
    ]);
  });
}

export function episodeMarkChecks(check: Check): void {
  check('sets each mark of an episode once', async ({ catalog }) => {
    const opened = await openEpisode(catalog);
    const { id } = opened;
    const marks = { endedAt: null, drainedAt: null, closedAt: null };
    const expected = { id, destinationId: 'pacs', cause: 'probe failed', startedAt: 10, detectedAt: 20, ...marks };
    assert.deepEqual(opened, { ...expected, pendingAtStart: 0 });
    const mark = (as: 'ended' | 'drained' | 'closed', instant: number) =>
      catalog.markEpisode({ episodeId: id, as, at: instant });
    assert.deepEqual(await mark('ended', 30), { ...opened, endedAt: 30 });
    await catalog.accept([offer(1)]);
    assert.deepEqual(await mark('ended', 31), { ...opened, endedAt: 30 });
    assert.equal((await catalog.countEpisode(id)).total.received, 0, 'the first end fixed the set');
    assert.deepEqual(await mark('drained', 40), { ...opened, endedAt: 30, drainedAt: 40 });
    assert.deepEqual(await mark('closed', 50), { ...opened, endedAt: 30, drainedAt: 40, closedAt: 50 });
    assert.deepEqual(await mark('drained', 60), { ...opened, endedAt: 30, drainedAt: 40, closedAt: 50 });
  });

  check('lists episodes by id, of one destination, unclosed ones, in pages', async ({ catalog }) => {
    const episodes = [await openEpisode(catalog), await openEpisode(catalog, 'archive'), await openEpisode(catalog)];
    const ids = episodes.map(({ id }) => id);
    assert.deepEqual(await catalog.episodes({ limit: 9 }), episodes);
    assert.deepEqual(await catalog.episodes({ afterId: at(ids, 0), limit: 1 }), [episodes[1]]);
    const ofPacs = await catalog.episodes({ destinationId: 'pacs', limit: 9 });
    assert.deepEqual(ofPacs, [episodes[0], episodes[2]]);
    await catalog.markEpisode({ episodeId: at(ids, 0), as: 'closed', at: 5 });
    assert.deepEqual(await catalog.episodes({ openOnly: true, limit: 9 }), episodes.slice(1));
    assert.deepEqual(await catalog.episodes({ destinationId: 'pacs', openOnly: true, limit: 9 }), [episodes[2]]);
  });
}
