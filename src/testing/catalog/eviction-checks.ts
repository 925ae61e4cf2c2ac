import assert from 'node:assert/strict';
import type { Catalog, EvictionTerms } from '../../storage/catalog.ts';
import {
  ANY,
  arrival,
  arrivalOf,
  both,
  type Check,
  evict,
  find,
  found,
  inState,
  lease,
  offer,
  outcomes,
  presences,
  rejectsWith,
  settleAs,
  studyOf,
} from './fixtures.ts';

/** Why the one study of a catalog may not be evicted, held against every method that says so. */
async function blockOf(catalog: Catalog, terms: EvictionTerms = ANY): Promise<string | undefined> {
  const [block, ...others] = await catalog.evictionBlocks(terms);
  assert.deepEqual(others, []);
  const studies = await catalog.studies({ limit: 10 });
  assert.deepEqual([block?.studies, block?.bytes], [1, studies[0]?.bytes]);
  const may = (await catalog.evictable({ ...terms, limit: 10 })).map(studyOf);
  assert.deepEqual(may, block?.reason === 'none' ? studies.map(studyOf) : []);
  if (block?.reason !== 'none') {
    const studyInstanceUid = studies[0]?.studyInstanceUid ?? '';
    assert.equal(await catalog.beginEviction({ studyInstanceUid, ...terms, at: 1 }), null);
  }
  return block?.reason;
}

export function evictionTermChecks(check: Check): void {
  check('evicts nothing of which a delivery is open, or ended otherwise than verified', async ({ catalog }) => {
    const study = '1.1';
    await catalog.accept([offer(1, { study, to: both }), offer(2, { study })]);
    assert.equal(await blockOf(catalog), 'pending');
    await settleAs(catalog, [arrival(1), arrival(2)], 'sent');
    assert.equal(await blockOf(catalog), 'pending', 'sent is open');
    await settleAs(catalog, [arrival(1), arrival(2)], 'verified');
    assert.equal(await blockOf(catalog), 'pending', 'at one of two destinations');
    await settleAs(catalog, [arrival(1)], 'verified', { destinationId: 'archive' });
    assert.equal(await blockOf(catalog), 'none');
    for (const [number, state] of [
      [3, 'quarantined'],
      [4, 'discarded'],
    ] as const) {
      const other = offer(number, { study: `1.${number}`, to: both });
      await catalog.accept([other]);
      await settleAs(catalog, [arrival(number)], 'verified');
      await settleAs(catalog, [arrival(number)], state, { destinationId: 'archive' });
    }
    assert.deepEqual(await catalog.evictionBlocks(ANY), [
      { reason: 'none', studies: 1, bytes: 2000 },
      { reason: 'unverified', studies: 2, bytes: 2000 },
    ]);
    assert.deepEqual((await catalog.evictable({ ...ANY, limit: 10 })).map(studyOf), ['1.1']);
  });

  check('evicts nothing of a study of which one instance was refused', async ({ catalog }) => {
    await catalog.accept([offer(1, { study: '1.1' }), offer(2, { study: '1.1' })]);
    await settleAs(catalog, [arrival(1)], 'verified');
    await settleAs(catalog, [arrival(2)], 'quarantined');
    assert.equal(await blockOf(catalog), 'unverified');
  });

  check('evicts nothing of which an instance is verified nowhere', async ({ catalog }) => {
    const study = '1.1';
    await catalog.accept([offer(1, { study }), offer(2, { study, to: {} })]);
    await settleAs(catalog, [arrival(1)], 'verified');
    assert.equal(await blockOf(catalog), 'unrouted');
  });

  check('evicts nothing of which only a file tells', async ({ catalog }) => {
    const study = '1.1';
    await catalog.accept([offer(1, { study })]);
    await settleAs(catalog, [arrival(1)], 'verified');
    assert.equal(await blockOf(catalog), 'none');
    await catalog.takeUp({ instances: [found(offer(2, { study }))], at: 9 });
    assert.equal(await blockOf(catalog), 'unrouted');
    assert.deepEqual(await presences(catalog), { kept: [arrival(1)], unconfirmed: [arrival(2)] });
  });

  check('does not ask for what a retired destination has, nor takes its word', async ({ catalog }) => {
    await catalog.accept([offer(1, { study: '1.1', to: both })]);
    await settleAs(catalog, [arrival(1)], 'verified');
    await catalog.retireDestination({ destinationId: 'archive', reason: 'gone', by: 'admin', at: 5 });
    assert.equal(await blockOf(catalog), 'none', 'what it was owed does not count');
    await catalog.registerDestination('archive');
    assert.equal(await blockOf(catalog), 'unverified', 'in use again, it lacks what was discarded');
    await catalog.retireDestination({ destinationId: 'pacs', reason: 'gone', by: 'admin', at: 6 });
    await catalog.retireDestination({ destinationId: 'archive', reason: 'gone', by: 'admin', at: 6 });
    assert.equal(await blockOf(catalog), 'unrouted', 'nobody in use has it');
  });
}

export function evictionReasonChecks(check: Check): void {
  check('asks for the evidence given, at every destination and of every instance', async ({ catalog }) => {
    const study = '1.1';
    await catalog.accept([offer(1, { study, to: both }), offer(2, { study })]);
    await settleAs(catalog, [arrival(1)], 'verified', { evidence: 'found' });
    await settleAs(catalog, [arrival(2)], 'verified', { evidence: 'compared' });
    await settleAs(catalog, [arrival(1)], 'verified', { destinationId: 'archive', evidence: 'committed' });
    const reasons = ['answered', 'found', 'committed', 'compared'] as const;
    assert.deepEqual(await Promise.all(reasons.map((evidence) => blockOf(catalog, { ...ANY, evidence }))), [
      'none',
      'none',
      'evidence',
      'evidence',
    ]);
  });

  check('asks when the last of a study was received', async ({ catalog }) => {
    const study = '1.1';
    await catalog.accept([offer(1, { study, receivedAt: 700 }), offer(2, { study, receivedAt: 300 })]);
    await settleAs(catalog, [arrival(1), arrival(2)], 'verified');
    assert.equal(await blockOf(catalog, { ...ANY, receivedBefore: 700 }), 'recent');
    assert.equal(await blockOf(catalog, { ...ANY, receivedBefore: 701 }), 'none');
  });

  check('counts a study under the first reason that holds', async ({ catalog }) => {
    const all = [1, 2, 3, 4, 5, 6].map((number) => offer(number, { study: `1.${number}`, bytes: 10 ** number }));
    await catalog.accept([...all.slice(0, 5), offer(6, { study: '1.6', bytes: 1e6, to: {} })]);
    await settleAs(catalog, [arrival(2)], 'quarantined');
    await settleAs(catalog, [arrival(3), arrival(4), arrival(5)], 'verified', { evidence: 'answered' });
    const terms = { evidence: 'found', receivedBefore: 0 } as const;
    assert.deepEqual(await catalog.evictionBlocks(terms), [
      { reason: 'evidence', studies: 3, bytes: 111_000 },
      { reason: 'pending', studies: 1, bytes: 10 },
      { reason: 'unrouted', studies: 1, bytes: 1_000_000 },
      { reason: 'unverified', studies: 1, bytes: 100 },
    ]);
    const recent = await catalog.evictionBlocks({ ...terms, evidence: 'answered' });
    assert.deepEqual(
      recent.map(({ reason, studies }) => [reason, studies]),
      [
        ['pending', 1],
        ['recent', 3],
        ['unrouted', 1],
        ['unverified', 1],
      ],
    );
  });
}

export function evictionOrderChecks(check: Check): void {
  check('asks of a version that was restored for its delivery anew', async ({ catalog }) => {
    const one = offer(1, { study: '1.1', to: both });
    await catalog.accept([one]);
    await settleAs(catalog, [arrival(1)], 'verified');
    await settleAs(catalog, [arrival(1)], 'verified', { destinationId: 'archive' });
    await catalog.markMissing({ arrivalId: arrival(1), at: 5 });
    assert.deepEqual(await catalog.evictionBlocks(ANY), [], 'nothing of it is here');
    assert.deepEqual(outcomes(await catalog.accept([one])), ['restored']);
    assert.equal(await blockOf(catalog), 'pending');
    await settleAs(catalog, [arrival(1)], 'verified');
    await settleAs(catalog, [arrival(1)], 'quarantined', { destinationId: 'archive' });
    assert.equal(await blockOf(catalog), 'unverified', 'the last word of a destination counts, not the first');
  });

  check('lets a study go whose last word is that it is verified', async ({ catalog }) => {
    const one = offer(1, { study: '1.1' });
    await catalog.accept([one]);
    await settleAs(catalog, [arrival(1)], 'quarantined');
    await catalog.markMissing({ arrivalId: arrival(1), at: 5 });
    await catalog.accept([one]);
    await settleAs(catalog, [arrival(1)], 'verified', { evidence: 'answered' });
    assert.equal(await blockOf(catalog, { ...ANY, evidence: 'found' }), 'evidence');
    assert.equal(await blockOf(catalog), 'none');
  });

  check('passes over what is missing, and lists those first that were received least recently', async ({ catalog }) => {
    const at = [500, 300, 300, 400];
    await catalog.accept(at.map((receivedAt, index) => offer(index, { study: `1.${index}`, receivedAt })));
    await catalog.accept([offer(9, { study: '1.1', receivedAt: 900, to: {} })]);
    await settleAs(catalog, [0, 1, 2, 3].map(arrival), 'verified');
    assert.deepEqual((await catalog.evictable({ ...ANY, limit: 10 })).map(studyOf), ['1.2', '1.3', '1.0']);
    await catalog.markMissing({ arrivalId: arrival(9), at: 5 });
    assert.deepEqual((await catalog.evictable({ ...ANY, limit: 10 })).map(studyOf), ['1.2', '1.3', '1.0', '1.1']);
    const listed = await catalog.evictable({ ...ANY, limit: 2 });
    assert.deepEqual(listed, await Promise.all(['1.2', '1.3'].map((study) => only(catalog, study))));
  });
}

async function only(catalog: Catalog, studyInstanceUid: string) {
  return (await catalog.studies({ studyInstanceUid, limit: 2 }))[0];
}

export function evictionChecks(check: Check): void {
  check('evicts a study whole, in two steps, and nobody reads it from the first on', async ({ catalog, reopen }) => {
    const study = '1.1';
    const offers = [
      offer(1, { study, bytes: 10, source: 'ct-1' }),
      offer(2, { study, sop: '1.3.1', digest: 'b', bytes: 20 }),
    ];
    await catalog.accept([...offers, offer(3, { bytes: 500 })]);
    await settleAs(catalog, [arrival(1)], 'verified');
    await settleAs(catalog, [arrival(2)], 'verified');
    const eviction = { studyInstanceUid: study, bytes: 30, blobRefs: ['blob 1', 'blob 2'] };
    const begun = await catalog.beginEviction({ studyInstanceUid: study, ...ANY, at: 60 });
    assert.deepEqual(begun && { ...begun, blobRefs: [...begun.blobRefs].sort() }, eviction);
    assert.equal(await catalog.beginEviction({ studyInstanceUid: study, ...ANY, at: 60 }), null, 'once');
    for (const state of ['evicting', 'evicted'] as const) {
      assert.deepEqual(await presences(catalog), { kept: [arrival(3)], [state]: [arrival(1), arrival(2)] });
      assert.deepEqual((await catalog.versions({ limit: 10 })).map(arrivalOf), [arrival(3)]);
      assert.deepEqual(await catalog.versions({ studyInstanceUid: study, limit: 10 }), []);
      const ofStudy = await catalog.versions({ studyInstanceUid: study, presence: state, limit: 10 });
      assert.deepEqual(ofStudy.map(arrivalOf), [arrival(1), arrival(2)]);
      assert.deepEqual((await catalog.studies({ limit: 10 })).map(studyOf), ['1.2.3']);
      assert.deepEqual(await catalog.held(), { instances: 1, bytes: 500, unconfirmed: 0, missing: 0 });
      assert.equal(await catalog.hasArrival(arrival(1)), false);
      assert.equal((await find(catalog, offers[0] ?? offer(0)))?.presence, state);
      assert.equal(await catalog.acceptanceOf(arrival(1)), null);
      assert.equal(await catalog.markMissing({ arrivalId: arrival(1), at: 62 }), false);
      const blocks = await catalog.evictionBlocks(ANY);
      assert.deepEqual(blocks, [{ reason: 'pending', studies: 1, bytes: 500 }]);
      if (state === 'evicting') {
        assert.deepEqual(await catalog.evictions({ limit: 10 }), [eviction]);
        await catalog.endEviction({ studyInstanceUid: study, at: 61 });
      }
    }
    assert.deepEqual(await catalog.evictions({ limit: 10 }), []);
    await catalog.endEviction({ studyInstanceUid: study, at: 63 });
    await catalog.endEviction({ studyInstanceUid: '1.7', at: 63 });
    assert.equal((await catalog.log({ afterId: 0, limit: 100 })).length, 1, 'ended once');
    assert.deepEqual(await presences(await reopen()), { kept: [arrival(3)], evicted: [arrival(1), arrival(2)] });
  });

  check('keeps what it has delivered of a study that was evicted', async ({ catalog }) => {
    await evict(catalog, [offer(1, { study: '1.1' })]);
    const [delivery, ...others] = await inState(catalog, 'verified');
    assert.deepEqual(others, []);
    assert.deepEqual([delivery?.arrivalId, delivery?.bytes], [arrival(1), 1000]);
    assert.equal(await catalog.lastArrivalId(), arrival(1));
    const facts = await catalog.rankingFacts({ destinationId: 'pacs', studyInstanceUid: '1.1', limit: 10 });
    assert.deepEqual(facts, [], 'it says nothing of its patient any more');
  });
}

export function crashedEvictionChecks(check: Check): void {
  check('knows after a crash what it was evicting', async ({ catalog, reopen }) => {
    const offers = [1, 2, 3].map((number) => offer(number, { study: `1.${number}`, bytes: number }));
    await catalog.accept(offers);
    await settleAs(catalog, [1, 2, 3].map(arrival), 'verified');
    for (const studyInstanceUid of ['1.1', '1.2']) {
      assert.ok(await catalog.beginEviction({ studyInstanceUid, ...ANY, at: 60 }));
    }
    const again = await reopen();
    assert.deepEqual(await again.evictions({ limit: 10 }), [
      { studyInstanceUid: '1.1', bytes: 1, blobRefs: ['blob 1'] },
      { studyInstanceUid: '1.2', bytes: 2, blobRefs: ['blob 2'] },
    ]);
    assert.equal((await again.evictions({ limit: 1 })).length, 1);
    assert.equal((await again.held()).bytes, 3);
    await again.endEviction({ studyInstanceUid: '1.1', at: 61 });
    assert.deepEqual((await again.evictions({ limit: 10 })).map(studyOf), ['1.2']);
    assert.deepEqual(await presences(again), { kept: [arrival(3)], evicting: [arrival(2)], evicted: [arrival(1)] });
  });

  check('takes what arrives while its study is evicted, and keeps it', async ({ catalog }) => {
    const [study, one] = ['1.1', offer(1, { study: '1.1' })];
    await catalog.accept([one]);
    await settleAs(catalog, [arrival(1)], 'verified');
    await catalog.beginEviction({ studyInstanceUid: study, ...ANY, at: 60 });
    await rejectsWith('SPILLWAY_STORE_FAILED', catalog.accept([offer(2, { study }), one]));
    assert.deepEqual(await presences(catalog), { evicting: [arrival(1)] }, 'whole or not at all');
    assert.equal((await lease(catalog, 0)).length, 0);
    await catalog.accept([offer(2, { study, bytes: 7 })]);
    await catalog.endEviction({ studyInstanceUid: study, at: 61 });
    assert.deepEqual(await presences(catalog), { kept: [arrival(2)], evicted: [arrival(1)] });
    const [record] = await catalog.studies({ limit: 10 });
    assert.deepEqual([record?.instances, record?.bytes, record?.openDeliveries], [1, 7, 1]);
  });

  check('evicts of a study only what is here', async ({ catalog }) => {
    const study = '1.1';
    await evict(catalog, [offer(1, { study })]);
    await catalog.accept([offer(2, { study, bytes: 7 }), offer(3, { study })]);
    await settleAs(catalog, [2, 3].map(arrival), 'verified');
    await catalog.markMissing({ arrivalId: arrival(3), at: 9 });
    const eviction = { studyInstanceUid: study, bytes: 7, blobRefs: ['blob 2'] };
    assert.deepEqual(await catalog.beginEviction({ studyInstanceUid: study, ...ANY, at: 60 }), eviction);
    assert.deepEqual(await catalog.evictions({ limit: 10 }), [eviction]);
    const others = { evicted: [arrival(1)], missing: [arrival(3)] };
    assert.deepEqual(await presences(catalog), { ...others, evicting: [arrival(2)] });
    await catalog.endEviction({ studyInstanceUid: study, at: 61 });
    assert.deepEqual(await presences(catalog), { ...others, evicted: [arrival(1), arrival(2)] });
    assert.deepEqual(await catalog.held(), { instances: 0, bytes: 0, unconfirmed: 0, missing: 1 });
  });

  check('begins no eviction of a study that it does not hold', async ({ catalog }) => {
    assert.equal(await catalog.beginEviction({ studyInstanceUid: '1.1', ...ANY, at: 60 }), null);
    await evict(catalog, [offer(1, { study: '1.1' })]);
    assert.equal(await catalog.beginEviction({ studyInstanceUid: '1.1', ...ANY, at: 60 }), null);
    assert.deepEqual(await catalog.evictable({ ...ANY, limit: 10 }), []);
    assert.deepEqual(await catalog.evictionBlocks(ANY), []);
  });
}
