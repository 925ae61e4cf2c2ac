import assert from 'node:assert/strict';
import {
  ANY,
  arrival,
  arrivalOf,
  type Check,
  everything,
  evict,
  find,
  found,
  inState,
  lease,
  offer,
  outcomes,
  presences,
  record,
  settleAs,
} from './fixtures.ts';

export function walkChecks(check: Check): void {
  check('takes up what only a file tells of: readable, and delivered nowhere', async ({ catalog, reopen }) => {
    const attributes = { Modality: 'CT', PatientID: 'P1', StudyDate: '20260101' };
    const one = offer(1, {
      study: '1.1',
      bytes: 30,
      receivedAt: 400,
      oddities: ['truncated'],
      attributes,
      source: 'x',
    });
    const early = offer(2, { study: '1.1', bytes: 12, receivedAt: 300, attributes });
    assert.deepEqual(await catalog.takeUp({ instances: [found(one), found(early)], at: 9 }), ['taken', 'taken']);
    assert.deepEqual(await presences(catalog), { unconfirmed: [arrival(1), arrival(2)] });
    const version = { ...one.version, presence: 'unconfirmed' } as const;
    assert.deepEqual((await catalog.versions({ limit: 10 }))[0], version);
    assert.deepEqual(await catalog.versions({ studyInstanceUid: '1.1', limit: 1 }), [version]);
    assert.deepEqual(await find(catalog, one), version);
    assert.equal(await catalog.hasArrival(arrival(1)), true);
    assert.equal(await catalog.lastArrivalId(), arrival(2));
    assert.deepEqual(await catalog.acceptanceOf(arrival(1)), { version, attributes, source: null, urgency: null });
    const [study] = await catalog.studies({ patientId: 'P1', limit: 10 });
    assert.deepEqual(
      [study?.instances, study?.bytes, study?.openDeliveries, study?.firstReceivedAt, study?.lastReceivedAt],
      [2, 42, 0, 300, 400],
    );
    assert.deepEqual([await lease(catalog, 0), await inState(catalog, 'pending')], [[], []]);
    assert.equal((await record(catalog, 'pacs')).pending, 0);
    const shown = await everything(catalog);
    assert.deepEqual(await everything(await reopen()), shown);
  });

  check('knows what it has taken up, and what is here under another arrival id', async ({ catalog }) => {
    const [kept, file] = [offer(1, { sop: '1.9' }), found(offer(2, { sop: '1.8' }))];
    await catalog.accept([kept]);
    const other = found(offer(3, { sop: '1.9' }));
    const again = found(offer(4, { sop: '1.8' }));
    const instances = [file, file, found(kept), other, again];
    assert.deepEqual(await catalog.takeUp({ instances, at: 9 }), ['taken', 'known', 'known', 'duplicate', 'duplicate']);
    assert.deepEqual(await presences(catalog), { kept: [arrival(1)], unconfirmed: [arrival(2)] });
    assert.equal((await find(catalog, kept))?.blobRef, 'blob 1');
    assert.deepEqual(await catalog.held(), { instances: 2, bytes: 2000, unconfirmed: 1, missing: 0 });
    const before = await everything(catalog);
    assert.deepEqual(await catalog.takeUp({ instances: [file, other], at: 9 }), ['known', 'duplicate']);
    assert.deepEqual(await catalog.takeUp({ instances: [], at: 9 }), []);
    assert.deepEqual(await everything(catalog), before, 'nothing to log either');
  });

  check('takes another data set or transfer syntax for a version of its own', async ({ catalog }) => {
    await catalog.accept([offer(1, { sop: '1.9' })]);
    const instances = [
      found(offer(2, { sop: '1.9', digest: 'b' })),
      found(offer(3, { sop: '1.9', syntax: '1.2.840.10008.1.2.4.90' })),
    ];
    assert.deepEqual(await catalog.takeUp({ instances, at: 9 }), ['taken', 'taken']);
    const [again] = await catalog.accept([offer(2, { sop: '1.9', digest: 'b' })]);
    assert.equal(again?.outcome, 'restored');
    assert.equal((await inState(catalog, 'pending'))[1]?.furtherVersion, true);
    assert.deepEqual(outcomes(await catalog.accept([offer(5, { sop: '1.9', digest: 'c' })])), ['version']);
  });
}

export function foundAgainChecks(check: Check): void {
  for (const was of ['missing', 'evicted'] as const) {
    check(`keeps again what was ${was} and is found`, async ({ catalog }) => {
      const one = offer(1, { study: '1.1', bytes: 30, source: 'ct-1', attributes: { PatientID: 'P1' } });
      if (was === 'evicted') await evict(catalog, [one]);
      else {
        await catalog.accept([one]);
        await settleAs(catalog, [arrival(1)], 'verified');
        await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
      }
      // Under its own arrival id or under another: a file that came back in another Part 10 header has another length.
      const file = found(offer(5, { study: '1.1', sop: '1.3.1', bytes: 34, attributes: { PatientID: 'P2' } }));
      assert.deepEqual(await catalog.takeUp({ instances: [file], at: 9 }), ['taken']);
      const version = { ...one.version, bytes: 34, blobRef: 'blob 5', presence: 'kept' } as const;
      assert.deepEqual(await find(catalog, one), version);
      assert.deepEqual(await presences(catalog), { kept: [arrival(1)] });
      assert.deepEqual((await catalog.acceptanceOf(arrival(1)))?.attributes, { PatientID: 'P2' });
      assert.deepEqual(await catalog.held(), { instances: 1, bytes: 34, unconfirmed: 0, missing: 0 });
      const [study] = await catalog.studies({ patientId: 'P2', limit: 10 });
      assert.deepEqual([study?.instances, study?.bytes, study?.openDeliveries], [1, 34, 0]);
      assert.equal((await record(catalog, 'pacs')).verified, 1);
      assert.deepEqual(await lease(catalog, 0), [], 'what was proven is not sent again');
      assert.deepEqual(outcomes(await catalog.accept([one])), ['identical']);
      assert.ok(await catalog.beginEviction({ studyInstanceUid: '1.1', ...ANY, at: 60 }), 'it may go again');
    });
  }

  check('keeps again under its own arrival id what was missing, with what it is still owed', async ({ catalog }) => {
    const one = offer(1, { study: '1.1' });
    await catalog.accept([one]);
    await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
    assert.deepEqual(await catalog.takeUp({ instances: [found(one)], at: 9 }), ['taken']);
    assert.deepEqual(await presences(catalog), { kept: [arrival(1)] });
    assert.equal((await inState(catalog, 'pending')).length, 1);
    assert.equal((await catalog.studies({ limit: 1 }))[0]?.openDeliveries, 1);
    await settleAs(catalog, [arrival(1)], 'sent');
    await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
    await catalog.takeUp({ instances: [found(one)], at: 9 });
    assert.deepEqual(await presences(catalog), { kept: [arrival(1)] });
  });

  check('never keeps what nobody has accepted, though it was gone meanwhile', async ({ catalog }) => {
    const one = offer(1, { study: '1.1' });
    await catalog.accept([offer(2, { study: '1.1' })]);
    await settleAs(catalog, [arrival(2)], 'verified');
    await catalog.takeUp({ instances: [found(one)], at: 9 });
    await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
    assert.deepEqual(await catalog.takeUp({ instances: [found(one)], at: 9 }), ['taken']);
    assert.deepEqual(await presences(catalog), { kept: [arrival(2)], unconfirmed: [arrival(1)] });
    const [result] = await catalog.accept([one]);
    assert.deepEqual([result?.outcome, result?.destinations], ['restored', ['pacs']]);
    await settleAs(catalog, [arrival(1)], 'quarantined');
    await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
    await catalog.takeUp({ instances: [found(one)], at: 9 });
    const unproven = { kept: [arrival(2)], unconfirmed: [arrival(1)] };
    assert.deepEqual(await presences(catalog), unproven, 'nobody has it, and nobody is owed it');
  });

  check('leaves alone what is found of a study that is being evicted', async ({ catalog }) => {
    const one = offer(1, { study: '1.1' });
    await catalog.accept([one]);
    await settleAs(catalog, [arrival(1)], 'verified');
    await catalog.beginEviction({ studyInstanceUid: '1.1', ...ANY, at: 60 });
    const other = found(offer(2, { study: '1.1', sop: '1.3.1' }));
    assert.deepEqual(await catalog.takeUp({ instances: [found(one), other], at: 9 }), ['known', 'duplicate']);
    assert.deepEqual(await presences(catalog), { evicting: [arrival(1)] });
  });
}

export function missingChecks(check: Check): void {
  check('tells arrivals whose bytes nobody knows of', async ({ catalog }) => {
    await evict(catalog, [offer(1)]);
    await catalog.accept([offer(2), offer(3), offer(4)]);
    await catalog.markMissing({ arrivalId: arrival(2), at: 9 });
    await settleAs(catalog, [arrival(3)], 'verified');
    await catalog.beginEviction({ studyInstanceUid: '1.2.3', ...ANY, at: 60 });
    await catalog.takeUp({ instances: [found(offer(5))], at: 9 });
    const arrivals = [1, 2, 3, 4, 5, 6].map(arrival);
    assert.deepEqual([...(await catalog.unknownArrivals(arrivals))].sort(), [1, 2, 6].map(arrival));
    assert.deepEqual(await catalog.unknownArrivals([]), []);
    const many = Array.from({ length: 1000 }, (_, index) => arrival(index));
    assert.equal((await catalog.unknownArrivals(many)).length, 997);
  });

  check('marks as missing what was held, once', async ({ catalog }) => {
    await catalog.accept([offer(1, { study: '1.1', bytes: 10 }), offer(2, { study: '1.1', bytes: 20 })]);
    await catalog.takeUp({ instances: [found(offer(3, { study: '1.1', bytes: 40 }))], at: 9 });
    const mark = (number: number) => catalog.markMissing({ arrivalId: arrival(number), at: 9 });
    assert.deepEqual([await mark(1), await mark(1), await mark(3), await mark(9)], [true, false, true, false]);
    assert.deepEqual(await presences(catalog), { kept: [arrival(2)], missing: [arrival(1), arrival(3)] });
    assert.deepEqual((await catalog.versions({ limit: 10 })).map(arrivalOf), [arrival(2)]);
    assert.deepEqual([await catalog.hasArrival(arrival(1)), await catalog.hasArrival(arrival(3))], [false, false]);
    assert.equal((await find(catalog, offer(1)))?.presence, 'missing');
    assert.deepEqual(await catalog.held(), { instances: 1, bytes: 20, unconfirmed: 0, missing: 2 });
    assert.equal((await catalog.studies({ limit: 1 }))[0]?.openDeliveries, 2, 'its deliveries stand');
    assert.deepEqual(
      (await catalog.acceptanceOf(arrival(1)))?.attributes,
      { Modality: 'CT' },
      'missing is not evicted',
    );
    const pages = [await catalog.versions({ presence: 'missing', limit: 1 })];
    pages.push(await catalog.versions({ presence: 'missing', afterArrivalId: arrival(1), limit: 1 }));
    assert.deepEqual(pages.flat().map(arrivalOf), [arrival(1), arrival(3)]);
    const ofStudy = await catalog.versions({ studyInstanceUid: '1.2', presence: 'missing', limit: 9 });
    assert.deepEqual(ofStudy, []);
  });

  check('gives an acceptance back as it was', async ({ catalog, reopen }) => {
    const attributes = { Modality: 'CT', PatientName: 'Doe^Jane', PatientID: 'Ä"\\1' };
    const one = offer(1, { attributes, source: 'ct-1', urgency: 'urgent', oddities: ['truncated'] });
    await catalog.accept([one, offer(2)]);
    const asAccepted = { version: one.version, attributes, source: 'ct-1', urgency: 'urgent' };
    assert.deepEqual(await catalog.acceptanceOf(arrival(1)), asAccepted);
    const { version } = offer(2);
    const unsaid = { version, attributes: { Modality: 'CT' }, source: null, urgency: null };
    assert.deepEqual(await catalog.acceptanceOf(arrival(2)), unsaid);
    assert.equal(await catalog.acceptanceOf(arrival(3)), null);
    await catalog.restateUrgency({ arrivalId: arrival(1), urgency: 'stat' });
    assert.deepEqual(await (await reopen()).acceptanceOf(arrival(1)), { ...asAccepted, urgency: 'stat' });
  });
}
