import assert from 'node:assert/strict';
import type { Acceptance, Catalog } from '../../storage/catalog.ts';
import {
  arrival,
  arrivalOf,
  at,
  both,
  type Check,
  due,
  everything,
  evict,
  find,
  found,
  inState,
  lease,
  leaseOne,
  offer,
  openEpisode,
  outcomes,
  presences,
  record,
  rejectsWith,
  settleAs,
} from './fixtures.ts';

/** Ways in which a version can be known without being kept, each from nothing. */
const WAYS: Readonly<
  Record<'unconfirmed' | 'evicted' | 'missing', (catalog: Catalog, one: Acceptance) => Promise<void>>
> = {
  async unconfirmed(catalog, one) {
    assert.deepEqual(await catalog.takeUp({ instances: [found(one)], at: 9 }), ['taken']);
  },
  evicted: (catalog, one) => evict(catalog, [one]),
  async missing(catalog, one) {
    await catalog.accept([one]);
    await settleAs(catalog, [one.version.arrivalId], 'verified');
    assert.equal(await catalog.markMissing({ arrivalId: one.version.arrivalId, at: 9 }), true);
  },
};

export function restorationChecks(check: Check): void {
  for (const [was, make] of Object.entries(WAYS)) {
    check(`accepts again what is ${was}: restored, kept, and delivered as routed`, async ({ catalog, reopen }) => {
      const one = offer(1, { study: '1.1', bytes: 40, receivedAt: 100, source: 'first' });
      await make(catalog, one);
      const before = await record(catalog, 'pacs');
      const again = offer(7, {
        study: '1.1',
        sop: '1.3.1',
        bytes: 55,
        receivedAt: 900,
        blobRef: 'anew',
        source: 'second',
        urgency: 'urgent',
        attributes: { Modality: 'MR', PatientID: 'P1' },
        to: both,
      });
      const [result, twice] = await catalog.accept([again, again]);
      const version = { ...one.version, bytes: 55, blobRef: 'anew', presence: 'kept' } as const;
      assert.deepEqual(result, { outcome: 'restored', version, destinations: ['pacs', 'archive'] });
      assert.deepEqual(twice, { outcome: 'identical', version, destinations: [] });
      assert.deepEqual(await find(catalog, one), version);
      assert.deepEqual(await presences(catalog), { kept: [arrival(1)] }, 'it keeps its arrival id');
      assert.equal(await catalog.hasArrival(arrival(7)), false);
      assert.equal(await catalog.hasArrival(arrival(1)), true);
      assert.deepEqual(await catalog.acceptanceOf(arrival(1)), {
        version,
        attributes: again.attributes,
        source: 'second',
        urgency: 'urgent',
      });
      assert.equal((await record(catalog, 'pacs')).pending, before.pending + 1);
      assert.equal((await record(catalog, 'pacs')).verified, before.verified, 'what was, was');
      for (const destinationId of ['pacs', 'archive']) {
        const [delivery, ...others] = await inState(catalog, 'pending', destinationId);
        assert.deepEqual(others, []);
        assert.deepEqual(
          [delivery?.arrivalId, delivery?.blobRef, delivery?.furtherVersion, delivery?.evidence, delivery?.attempts],
          [arrival(1), 'anew', false, 'accepted', 0],
        );
        assert.equal((await due(catalog, '1.1', 0, destinationId)).length, 1);
      }
      const [study] = await catalog.studies({ limit: 10 });
      assert.deepEqual([study?.instances, study?.bytes, study?.openDeliveries, study?.patientId], [1, 55, 2, 'P1']);
      assert.deepEqual([study?.firstReceivedAt, study?.lastReceivedAt], [100, 900]);
      assert.deepEqual(await catalog.held(), { instances: 1, bytes: 55, unconfirmed: 0, missing: 0 });
      const hours = await catalog.hourlyTotals({ from: 0, to: 3_600_000, limit: 10 });
      assert.deepEqual(hours, [{ hour: 0, modality: 'CT', studies: 1, instances: 1, bytes: 40 }], 'received once');
      const shown = await everything(catalog);
      assert.deepEqual(await everything(await reopen()), shown);
    });
  }

  check('keeps source and urgency of a version where restoring it says nothing of them', async ({ catalog }) => {
    const one = offer(1, { source: 'ct-1', urgency: 'stat' });
    await catalog.accept([one]);
    await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
    await catalog.accept([{ ...one, source: null, urgency: null }]);
    const standing = await catalog.acceptanceOf(arrival(1));
    assert.deepEqual([standing?.source, standing?.urgency], ['ct-1', 'stat']);
  });
}

export function deliveryRestorationChecks(check: Check): void {
  check('does not double open deliveries of what it restores, and adds those that are missing', async ({ catalog }) => {
    const one = offer(1, { study: '1.1', to: { pacs: {} } });
    await catalog.accept([one]);
    const { leased, deliveries } = await leaseOne(catalog, 0);
    await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
    assert.equal((await inState(catalog, 'pending')).length, 1, 'it is still owed');
    const [result] = await catalog.accept([{ ...one, ...routed(both) }]);
    assert.deepEqual([result?.outcome, result?.destinations], ['restored', ['archive']]);
    assert.deepEqual(await inState(catalog, 'pending'), deliveries);
    assert.equal((await inState(catalog, 'pending', 'archive')).length, 1);
    assert.equal((await catalog.studies({ limit: 1 }))[0]?.openDeliveries, 2);
    await catalog.releaseStudies({ destinationId: 'pacs', leases: [leased.lease] });
    await settleAs(catalog, [arrival(1)], 'sent');
    await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
    assert.deepEqual((await catalog.accept([one]))[0]?.destinations, [], 'sent is open too');
  });

  check('leaves alone what a person has discarded, and delivers again what was refused', async ({ catalog }) => {
    const one = offer(1, { study: '1.1', to: both });
    await catalog.accept([one]);
    await settleAs(catalog, [arrival(1)], 'discarded');
    await settleAs(catalog, [arrival(1)], 'quarantined', { destinationId: 'archive' });
    await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
    const [result] = await catalog.accept([one]);
    assert.deepEqual([result?.outcome, result?.destinations], ['restored', ['archive']]);
    assert.deepEqual([(await lease(catalog, 0)).length, (await record(catalog, 'pacs')).discarded], [0, 1]);
    assert.equal((await inState(catalog, 'quarantined', 'archive')).length, 1, 'the first delivery stays as it is');
  });
}

export function rankRestorationChecks(check: Check): void {
  check('merges the rank of what it restores into that of its study', async ({ catalog }) => {
    const study = '1.1';
    const one = offer(1, { study, to: { pacs: { tier: 2 } } });
    await catalog.accept([one, offer(2, { study, to: { pacs: { tier: 2 } } })]);
    await settleAs(catalog, [arrival(1)], 'verified');
    await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
    await catalog.accept([offer(1, { study, to: { pacs: { tier: 0, urgency: 'stat' }, archive: { tier: 1 } } })]);
    const [ofPacs] = await catalog.rankedStudies({ destinationId: 'pacs', limit: 10 });
    assert.deepEqual([ofPacs?.rank.tier, ofPacs?.rank.urgency], [0, 'stat']);
    const [ofArchive] = await catalog.rankedStudies({ destinationId: 'archive', limit: 10 });
    assert.equal(ofArchive?.rank.tier, 1);
  });

  check('merges the rank of what it restores also where a delivery of it is open', async ({ catalog }) => {
    const study = '1.1';
    await catalog.accept([offer(1, { study, to: { pacs: { tier: 2 } } })]);
    await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
    await catalog.accept([offer(1, { study, urgency: 'stat', to: { pacs: { tier: 1, urgency: 'stat' } } })]);
    const [ranked] = await catalog.rankedStudies({ destinationId: 'pacs', limit: 10 });
    assert.deepEqual([ranked?.rank.tier, ranked?.rank.urgency], [1, 'stat']);
  });

  check('never thinks an order less urgent because its image was sent again', async ({ catalog }) => {
    const one = offer(1, { study: '1.1', urgency: 'stat' });
    await catalog.accept([one]);
    await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
    await catalog.accept([{ ...one, urgency: 'routine' }]);
    const facts = await catalog.rankingFacts({ destinationId: 'pacs', studyInstanceUid: '1.1', limit: 10 });
    assert.deepEqual(
      facts.map(({ urgency }) => urgency),
      ['stat'],
    );
  });
}

export function versionRestorationChecks(check: Check): void {
  check('marks what it restores as a further version where there are others', async ({ catalog }) => {
    const [study, sop] = ['1.1', '1.9'];
    await catalog.accept([offer(1, { study, sop, digest: 'a' })]);
    await settleAs(catalog, [arrival(1)], 'verified');
    await catalog.accept([offer(2, { study, sop, digest: 'b' })]);
    await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
    await catalog.accept([offer(1, { study, sop, digest: 'a' })]);
    const open = await inState(catalog, 'pending');
    assert.deepEqual(
      open.map(({ arrivalId, furtherVersion }) => [arrivalId, furtherVersion]),
      [
        [arrival(2), true],
        [arrival(1), true],
      ],
    );
    assert.deepEqual((await due(catalog, study, 0)).map(arrivalOf), [arrival(2)], 'one after another');
    await settleAs(catalog, [arrival(2)], 'verified');
    assert.deepEqual((await due(catalog, study, 0)).map(arrivalOf), [arrival(1)]);
  });

  check('offers another version under a SOP Instance UID that was evicted as one', async ({ catalog }) => {
    const [study, sop] = ['1.1', '1.9'];
    await evict(catalog, [offer(1, { study, sop })]);
    assert.deepEqual(outcomes(await catalog.accept([offer(2, { study, sop, digest: 'b' })])), ['version']);
    assert.equal((await inState(catalog, 'pending'))[0]?.furtherVersion, true);
  });

  check('restores nothing of a batch that names a destination that is not in use', async ({ catalog }) => {
    await catalog.takeUp({ instances: [found(offer(1))], at: 9 });
    await catalog.retireDestination({ destinationId: 'archive', reason: 'gone', by: 'admin', at: 5 });
    const before = await everything(catalog);
    await rejectsWith('SPILLWAY_NOT_FOUND', catalog.accept([offer(2), offer(1, { to: { archive: {} } })]));
    await rejectsWith('SPILLWAY_NOT_FOUND', catalog.accept([offer(2), offer(1, { to: { elsewhere: {} } })]));
    assert.deepEqual(await everything(catalog), before);
  });

  check('episodes balance whatever is evicted and restored in them', async ({ catalog }) => {
    const offers = [1, 2, 3].map((number) => offer(number, { study: `1.${number}` }));
    await catalog.accept(offers);
    const episode = await openEpisode(catalog);
    await settleAs(catalog, [1, 2].map(arrival), 'verified');
    await catalog.markMissing({ arrivalId: arrival(2), at: 9 });
    await catalog.markMissing({ arrivalId: arrival(3), at: 9 });
    assert.deepEqual(outcomes(await catalog.accept(offers)), ['identical', 'restored', 'restored']);
    const { total } = await catalog.countEpisode(episode.id);
    assert.deepEqual(total, { received: 4, verified: 2, quarantined: 0, discarded: 0, outstanding: 2, pending: 2 });
    await catalog.markEpisode({ episodeId: episode.id, as: 'ended', at: 40 });
    await settleAs(catalog, [2, 3].map(arrival), 'verified');
    const { total: ended } = await catalog.countEpisode(episode.id);
    assert.deepEqual([ended.received, ended.verified, ended.outstanding], [4, 4, 0]);
  });

  check('keeps the rank of a study that something was restored in since it was read', async ({ catalog }) => {
    const study = '1.1';
    await catalog.accept([
      offer(1, { study, to: { pacs: { tier: 2 } } }),
      offer(2, { study, to: { pacs: { tier: 2 } } }),
    ]);
    await settleAs(catalog, [arrival(1)], 'verified');
    await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
    const ranks = await catalog.rankedStudies({ destinationId: 'pacs', limit: 10 });
    await catalog.accept([offer(1, { study, to: { pacs: { tier: 0 } } })]);
    assert.deepEqual(await catalog.setRanks({ destinationId: 'pacs', ranks }), [study]);
    assert.equal(at(await catalog.rankedStudies({ destinationId: 'pacs', limit: 10 }), 0).rank.tier, 0);
  });
}

function routed(to: Readonly<Record<string, object>>): Pick<Acceptance, 'deliveries'> {
  return { deliveries: offer(0, { to }).deliveries };
}
