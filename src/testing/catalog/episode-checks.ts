import assert from 'node:assert/strict';
import type { Catalog } from '../../storage/catalog.ts';
import {
  arrival,
  arrivalOf,
  at,
  both,
  type Check,
  idsOf,
  inState,
  leaseOne,
  offer,
  openEpisode,
  rejectsWith,
  settleAs,
  settlement,
} from './fixtures.ts';

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
      { tier: 0, ...sizes(3, 1), verified: 1, quarantined: 1, discarded: 0, ...waits },
      { tier: 1, ...sizes(2, 1), verified: 0, quarantined: 0, discarded: 1, ...waits },
    ]);
    const ranked = await catalog.rankedStudies({ destinationId: 'pacs', limit: 100 });
    const ranks = ranked.map((study) => ({ ...study, rank: { ...study.rank, tier: 0 } }));
    assert.deepEqual(await catalog.setRanks({ destinationId: 'pacs', ranks }), []);
    const moved = await catalog.countEpisode(episode.id);
    assert.deepEqual(
      moved.tiers,
      [{ tier: 0, ...sizes(5, 2), ...ended, outstanding: 2, pending: 2 }],
      'by the present tier',
    );
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

/** Of instances of 1,000 bytes, in studies of which none is done. */
function sizes(received: number, studies: number) {
  return { received, studies, bytes: received * 1000, firstStudyAt: null, lastStudyAt: null };
}

export function episodeMarkChecks(check: Check): void {
  check('sets each mark of an episode once', async ({ catalog }) => {
    const opened = await openEpisode(catalog);
    const { id } = opened;
    const marks = { endedAt: null, drainedAt: null, closedAt: null };
    const unplanned = { cause: 'probe failed', planned: false, expectedEndAt: null, planEndedAt: null };
    const expected = { id, destinationId: 'pacs', ...unplanned, startedAt: 10, detectedAt: 20, ...marks };
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

export function plannedChecks(check: Check): void {
  check('opens an episode that is planned, and says so in the log', async ({ catalog, reopen }) => {
    const episode = await catalog.openEpisode({
      destinationId: 'pacs',
      cause: 'upgrade',
      startedAt: 10,
      detectedAt: 10,
      planned: true,
      expectedEndAt: 5000,
      by: 'A. Person',
    });
    assert.deepEqual([episode.planned, episode.expectedEndAt, episode.cause], [true, 5000, 'upgrade']);
    assert.deepEqual(await (await reopen()).episodes({ limit: 1 }), [episode]);
    const [log] = await (await reopen()).log({ afterId: 0, limit: 1 });
    assert.deepEqual(log?.detail, {
      episodeId: episode.id,
      destinationId: 'pacs',
      cause: 'upgrade',
      planned: true,
      expectedEndAt: 5000,
      by: 'A. Person',
    });
  });

  check('takes an outage under way over as planned, and changes what was said of it', async ({ catalog }) => {
    const opened = await openEpisode(catalog);
    const plan = (cause: string, expectedEndAt: number | null) =>
      catalog.planEpisode({ episodeId: opened.id, cause, expectedEndAt, by: 'A', at: 50 });
    assert.deepEqual(await plan('upgrade', 900), { ...opened, planned: true, cause: 'upgrade', expectedEndAt: 900 });
    const changed = { ...opened, planned: true, cause: 'takes longer', expectedEndAt: null };
    assert.deepEqual(await plan('takes longer', null), changed);
    const [, log] = await catalog.log({ afterId: 0, limit: 2 });
    const said = { episodeId: opened.id, destinationId: 'pacs', cause: 'upgrade', expectedEndAt: 900, by: 'A' };
    assert.deepEqual([log?.kind, log?.detail, log?.at], ['episode-planned', said, 50]);
    await catalog.markEpisode({ episodeId: opened.id, as: 'ended', at: 60 });
    assert.deepEqual(await plan('too late', 1), { ...changed, endedAt: 60 });
    await rejectsWith(
      'SPILLWAY_NOT_FOUND',
      catalog.planEpisode({ episodeId: 99, cause: 'c', expectedEndAt: 1, by: 'A', at: 1 }),
    );
  });
}

export function endedPlanChecks(check: Check): void {
  check('keeps that a plan was ended, until it is planned anew', async ({ catalog, reopen }) => {
    const opened = await openEpisode(catalog);
    const end = { episodeId: opened.id, by: 'B', at: 70 };
    assert.deepEqual(await catalog.endPlan(end), opened, 'nothing was planned');
    const plan = { episodeId: opened.id, cause: 'upgrade', expectedEndAt: null, by: 'A', at: 50 };
    const planned = await catalog.planEpisode(plan);
    assert.deepEqual(await catalog.endPlan(end), { ...planned, planEndedAt: 70 });
    assert.deepEqual(await catalog.endPlan({ ...end, at: 80 }), { ...planned, planEndedAt: 70 });
    const after = await reopen();
    assert.deepEqual(await after.episodes({ limit: 1 }), [{ ...planned, planEndedAt: 70 }]);
    const log = (await after.log({ afterId: 0, limit: 9 })).filter(({ kind }) => kind === 'planned-outage-ended');
    assert.deepEqual(
      log.map(({ detail }) => detail),
      [{ episodeId: opened.id, destinationId: 'pacs', by: 'B' }],
    );
    assert.equal((await after.planEpisode(plan)).planEndedAt, null);
    await rejectsWith('SPILLWAY_NOT_FOUND', after.endPlan({ ...end, episodeId: 99 }));
  });
}

export function tierChecks(check: Check): void {
  check('tells of each tier its studies, bytes, and when the first and the last were done', async ({ catalog }) => {
    const of = (number: number, study: string, tier: number) =>
      offer(number, { study, bytes: number, to: { pacs: { tier } } });
    await catalog.accept([
      of(1, '1.1', 0),
      of(2, '1.1', 0),
      of(3, '1.2', 0),
      of(4, '1.3', 1),
      of(5, '1.4', 2),
      of(7, '1.1', 0),
    ]);
    await settleAs(catalog, [arrival(1)], 'verified');
    const { id } = await openEpisode(catalog);
    await settleOneByOne(catalog, [
      [2, 70],
      [7, 75],
      [3, 90],
      [4, 50],
    ]);
    const none = { verified: 0, quarantined: 0, discarded: 0, outstanding: 0, pending: 0 };
    const done = { ...none, received: 3, verified: 3 };
    const { total, tiers } = await catalog.countEpisode(id);
    assert.deepEqual(total, { ...none, received: 5, verified: 4, outstanding: 1, pending: 1 });
    assert.deepEqual(tiers, [
      { tier: 0, ...done, studies: 2, bytes: 12, firstStudyAt: 75, lastStudyAt: 90 },
      { tier: 1, ...none, received: 1, verified: 1, studies: 1, bytes: 4, firstStudyAt: 50, lastStudyAt: 50 },
      {
        tier: 2,
        ...none,
        received: 1,
        outstanding: 1,
        pending: 1,
        studies: 1,
        bytes: 5,
        firstStudyAt: null,
        lastStudyAt: null,
      },
    ]);
    await catalog.accept([of(6, '1.2', 0)]);
    const [first] = (await catalog.countEpisode(id)).tiers;
    assert.deepEqual([first?.firstStudyAt, first?.lastStudyAt, first?.bytes], [75, null, 18], 'not all are done');
  });
}

async function settleOneByOne(catalog: Catalog, settled: readonly (readonly [number, number])[]): Promise<void> {
  for (const [number, instant] of settled) {
    const { leased, deliveries } = await leaseOne(catalog, 0);
    const [delivery] = deliveries.filter(({ arrivalId }) => arrivalId === arrival(number));
    assert.ok(delivery);
    await catalog.settle([settlement(leased, delivery, 'verified', { at: instant })]);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [leased.lease] });
  }
}

export function episodeListChecks(check: Check): void {
  check('lists what of an episode is not verified, in pages', async ({ catalog }) => {
    await catalog.accept([1, 2, 3].map((number) => offer(number, { to: both })));
    await settleAs(catalog, [arrival(1)], 'quarantined');
    const { id } = await openEpisode(catalog);
    await catalog.accept([4, 5, 6, 7].map((number) => offer(number)));
    await settleAs(catalog, [arrival(2), arrival(4), arrival(6)], 'quarantined');
    await settleAs(catalog, [arrival(5)], 'verified');
    await catalog.markEpisode({ episodeId: id, as: 'ended', at: 40 });
    await catalog.accept([offer(8), offer(9)]);
    await settleAs(catalog, [arrival(8)], 'quarantined');
    const list = async (state: 'pending' | 'sent' | 'quarantined' | 'discarded', limit: number) => {
      const arrivals: string[] = [];
      for (let afterId: number | null = 0; afterId !== null; ) {
        const page: Awaited<ReturnType<Catalog['episodeDeliveries']>> = await catalog.episodeDeliveries({
          episodeId: id,
          state,
          afterId,
          limit,
        });
        assert.ok(page.deliveries.length <= limit);
        arrivals.push(...page.deliveries.map(arrivalOf));
        afterId = page.next;
      }
      return arrivals;
    };
    for (const limit of [1, 2, 9]) {
      assert.deepEqual(await list('quarantined', limit), [2, 4, 6].map(arrival));
      assert.deepEqual(await list('pending', limit), [3, 7].map(arrival));
      assert.deepEqual(await list('sent', limit), []);
    }
    const [first] = idsOf(await inState(catalog, 'quarantined'));
    await catalog.redrive({ destinationId: 'pacs', deliveryIds: [first ?? 0], by: 'A', at: 50 });
    assert.deepEqual(await list('pending', 9), [3, 7].map(arrival), 'it was final when the episode began');
    await rejectsWith(
      'SPILLWAY_NOT_FOUND',
      catalog.episodeDeliveries({ episodeId: 99, state: 'sent', afterId: 0, limit: 1 }),
    );
  });
}
