import assert from 'node:assert/strict';
import { arrival, arrivalOf, type Check, inState, offer, outcomes, record, rejectsWith } from './fixtures.ts';

export function acceptanceChecks(check: Check): void {
  check('says created, identical and version, also inside one batch', async ({ catalog }) => {
    const first = offer(1, { sop: '1.9' });
    const same = offer(2, { sop: '1.9' });
    const other = offer(3, { sop: '1.9', digest: 'b' });
    const otherSyntax = offer(4, { sop: '1.9', syntax: '1.2.840.10008.1.2.4.90' });
    assert.deepEqual(outcomes(await catalog.accept([first, same, other])), ['created', 'identical', 'version']);
    const again = await catalog.accept([offer(5, { sop: '1.9' }), otherSyntax]);
    assert.deepEqual(outcomes(again), ['identical', 'version']);
    assert.deepEqual(again[0]?.version, first.version, 'identical gives the version that stands');
    assert.deepEqual(again[1]?.version, otherSyntax.version);
    assert.deepEqual(await catalog.versions({ limit: 10 }), [first.version, other.version, otherSyntax.version]);
    assert.equal(await catalog.hasArrival(first.version.arrivalId), true);
    assert.equal(await catalog.hasArrival(same.version.arrivalId), false, 'nothing was recorded of what is identical');
    assert.equal((await record(catalog, 'pacs')).pending, 3);
  });

  check('makes a delivery for each destination of the route, and none without one', async ({ catalog }) => {
    const both = offer(1, { bytes: 700, to: { pacs: {}, archive: {} } });
    const nowhere = offer(2, { to: {} });
    assert.deepEqual(outcomes(await catalog.accept([both, nowhere])), ['created', 'created']);
    for (const destinationId of ['pacs', 'archive']) {
      const [delivery, ...others] = await inState(catalog, 'pending', destinationId);
      assert.deepEqual(others, []);
      assert.ok(delivery);
      assert.deepEqual(delivery, {
        id: delivery.id,
        destinationId,
        arrivalId: both.version.arrivalId,
        identity: both.version.identity,
        digest: both.version.digest,
        bytes: 700,
        blobRef: both.version.blobRef,
        state: 'pending',
        evidence: 'accepted',
        attempts: 0,
        furtherVersion: false,
        reason: null,
        answeredAt: null,
        settledAt: null,
      });
    }
    assert.equal(await catalog.hasArrival(nowhere.version.arrivalId), true);
  });

  check('numbers deliveries in the order of acceptance', async ({ catalog }) => {
    await catalog.accept([offer(2), offer(1)]);
    await catalog.accept([offer(3)]);
    const deliveries = await inState(catalog, 'pending');
    assert.deepEqual(deliveries.map(arrivalOf), [arrival(2), arrival(1), arrival(3)]);
    assert.ok(deliveries.every(({ id }, index) => id > (deliveries[index - 1]?.id ?? 0)));
  });

  check('takes up a whole batch or nothing of it', async ({ catalog }) => {
    await rejectsWith('SPILLWAY_NOT_FOUND', catalog.accept([offer(1), offer(2, { to: { elsewhere: {} } })]));
    assert.equal(await catalog.lastArrivalId(), null);
    assert.deepEqual(await catalog.backlog('pacs'), []);
    assert.equal((await record(catalog, 'pacs')).pending, 0);
    assert.deepEqual(outcomes(await catalog.accept([offer(1)])), ['created']);
  });
}

export function versionChecks(check: Check): void {
  check('finds versions by SOP Instance UID, transfer syntax and digest', async ({ catalog }) => {
    const { version } = offer(1, { sop: '1.9', digest: 'b', oddities: ['truncated'] });
    const key = { sopInstanceUid: '1.9', transferSyntaxUid: version.identity.transferSyntaxUid, digest: 'b' };
    assert.equal(await catalog.findVersion(key), null);
    await catalog.accept([offer(0, { sop: '1.9' }), offer(1, { sop: '1.9', digest: 'b', oddities: ['truncated'] })]);
    assert.deepEqual(await catalog.findVersion(key), version);
    assert.equal(await catalog.findVersion({ ...key, digest: 'c' }), null);
    assert.equal(await catalog.findVersion({ ...key, sopInstanceUid: '1.8' }), null);
    assert.equal(await catalog.findVersion({ ...key, transferSyntaxUid: '1.2.840.10008.1.2' }), null);
  });

  check('pages versions by arrival, of one study or of all', async ({ catalog }) => {
    assert.equal(await catalog.lastArrivalId(), null);
    const offers = [3, 1, 5, 2, 4].map((number) => offer(number, { study: number % 2 === 0 ? '1.2' : '1.1' }));
    await catalog.accept(offers);
    assert.equal(await catalog.lastArrivalId(), arrival(5));
    const first = await catalog.versions({ limit: 2 });
    assert.deepEqual(first.map(arrivalOf), [arrival(1), arrival(2)]);
    assert.deepEqual(first[0], offers[1]?.version);
    const rest = await catalog.versions({ afterArrivalId: arrival(2), limit: 10 });
    assert.deepEqual(rest.map(arrivalOf), [arrival(3), arrival(4), arrival(5)]);
    const odd = await catalog.versions({ studyInstanceUid: '1.1', afterArrivalId: arrival(1), limit: 1 });
    assert.deepEqual(odd.map(arrivalOf), [arrival(3)]);
    assert.deepEqual(await catalog.versions({ studyInstanceUid: '1.3', limit: 10 }), []);
  });
}
