import assert from 'node:assert/strict';
import type { HourlyTotal, StudyFilter } from '../../storage/catalog.ts';
import { arrival, both, type Check, evict, found, offer, settleAs, studyOf } from './fixtures.ts';

const HOUR = 3_600_000;

export function holdingChecks(check: Check): void {
  check('describes a study by its versions and its open deliveries', async ({ catalog }) => {
    assert.deepEqual(await catalog.held(), { instances: 0, bytes: 0, unconfirmed: 0, missing: 0 });
    const attributes = {
      Modality: 'MR',
      PatientID: 'P1',
      PatientName: 'Doe^Jane=unused',
      AccessionNumber: 'A1',
      StudyDate: '20260302',
      StudyDescription: 'Head',
    };
    await catalog.accept([
      offer(1, { study: '1.1', bytes: 10, receivedAt: 500, attributes: { Modality: 'US' }, to: both }),
      offer(2, { study: '1.1', bytes: 20, receivedAt: 300, attributes }),
      offer(3, { study: '1.1', bytes: 40, receivedAt: 400, attributes: { ...attributes, Modality: 'CT' }, to: {} }),
    ]);
    const study = {
      studyInstanceUid: '1.1',
      patientId: 'P1',
      patientName: 'Doe^Jane=unused',
      accessionNumber: 'A1',
      studyDate: '20260302',
      studyDescription: 'Head',
      modalities: ['CT', 'MR', 'US'],
      instances: 3,
      bytes: 70,
      openDeliveries: 3,
      firstReceivedAt: 300,
      lastReceivedAt: 500,
    };
    assert.deepEqual(await catalog.studies({ limit: 10 }), [study]);
    await settleAs(catalog, [arrival(1)], 'verified');
    await settleAs(catalog, [arrival(2)], 'sent');
    await catalog.accept([offer(4, { study: '1.1', sop: '1.3.1', digest: 'b', attributes: {}, receivedAt: 450 })]);
    const last = { ...study, instances: 4, bytes: 1070 };
    assert.deepEqual(await catalog.studies({ limit: 10 }), [last], 'as the last version that says it has it');
    await catalog.retireDestination({ destinationId: 'archive', reason: 'gone', by: 'admin', at: 5 });
    assert.equal((await catalog.studies({ limit: 10 }))[0]?.openDeliveries, 2);
    assert.deepEqual(await catalog.held(), { instances: 4, bytes: 1070, unconfirmed: 0, missing: 0 });
  });

  check('forgets a study with the last of its bytes, and knows it again with the next', async ({ catalog }) => {
    const attributes = { Modality: 'CT', PatientID: 'P1', PatientName: 'Doe' };
    const of = (number: number) => offer(number, { study: '1.1', bytes: number, receivedAt: number * 10, attributes });
    await catalog.accept([of(1), of(2)]);
    await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
    const [study] = await catalog.studies({ limit: 10 });
    assert.deepEqual([study?.instances, study?.bytes, study?.openDeliveries, study?.patientId], [1, 2, 2, 'P1']);
    await catalog.markMissing({ arrivalId: arrival(2), at: 9 });
    assert.deepEqual(await catalog.studies({ limit: 10 }), []);
    assert.deepEqual(await catalog.studies({ patientId: 'P1', limit: 10 }), []);
    assert.deepEqual(await catalog.held(), { instances: 0, bytes: 0, unconfirmed: 0, missing: 2 });
    await catalog.accept([offer(3, { study: '1.1', bytes: 3, attributes: {} })]);
    const [again] = await catalog.studies({ limit: 10 });
    assert.deepEqual([again?.instances, again?.bytes, again?.openDeliveries, again?.patientId], [1, 3, 3, null]);
  });

  check('tells what is held for sure from what only files told of', async ({ catalog }) => {
    await catalog.accept([offer(1, { bytes: 10 })]);
    await catalog.takeUp({ instances: [found(offer(2, { bytes: 20 })), found(offer(3, { bytes: 30 }))], at: 9 });
    assert.deepEqual(await catalog.held(), { instances: 3, bytes: 60, unconfirmed: 2, missing: 0 });
    await catalog.markMissing({ arrivalId: arrival(2), at: 9 });
    assert.deepEqual(await catalog.held(), { instances: 2, bytes: 40, unconfirmed: 1, missing: 1 });
    await catalog.accept([offer(3, { bytes: 30 })]);
    assert.deepEqual(await catalog.held(), { instances: 2, bytes: 40, unconfirmed: 0, missing: 1 });
  });
}

const PATIENTS = [
  ['1.1', 'P1', 'Doe^Jane', 'A1', '20260101', 'CT'],
  ['1.2', 'P1', 'DOE^JANE', 'A2', '20260102', 'MR'],
  ['1.3', 'P2', 'Doe^John', 'A3', '20260103', 'CT'],
  ['1.4', 'P3', 'D%e_^J.hn', 'A1', '20260104', 'CTX'],
  ['1.5', 'p1', 'Roe\\^Jane', 'A5', '20260105', 'US'],
] as const;

/** A filter, and the studies that it finds. */
const SEARCHES: readonly (readonly [Omit<StudyFilter, 'limit'>, readonly string[]])[] = [
  [{}, ['1.1', '1.2', '1.3', '1.4', '1.5', '1.6']],
  [{ studyInstanceUid: '1.3' }, ['1.3']],
  [{ studyInstanceUid: '1' }, []],
  [{ patientId: 'P1' }, ['1.1', '1.2']],
  [{ patientId: 'P*' }, []],
  [{ patientName: 'doe^jane' }, ['1.1', '1.2']],
  [{ patientName: 'doe' }, []],
  [{ patientName: 'doe*' }, ['1.1', '1.2', '1.3']],
  [{ patientName: '*JANE' }, ['1.1', '1.2', '1.5']],
  [{ patientName: 'doe^j?n*' }, ['1.1', '1.2']],
  [{ patientName: 'doe^jane*' }, ['1.1', '1.2']],
  [{ patientName: 'd?e?^j?hn' }, ['1.4']],
  [{ patientName: 'd?e^j?hn' }, ['1.3']],
  [{ patientName: 'd%e*' }, ['1.4']],
  [{ patientName: 'd_e*' }, []],
  [{ patientName: 'd*_*' }, ['1.4']],
  [{ patientName: 'doe^j.hn' }, []],
  [{ patientName: 'roe\\*' }, ['1.5']],
  [{ patientName: '*' }, ['1.1', '1.2', '1.3', '1.4', '1.5']],
  [{ accessionNumber: 'A1' }, ['1.1', '1.4']],
  [{ studyDate: {} }, ['1.1', '1.2', '1.3', '1.4', '1.5', '1.6']],
  [{ studyDate: { from: '20260103' } }, ['1.3', '1.4', '1.5']],
  [{ studyDate: { to: '20260103' } }, ['1.1', '1.2', '1.3']],
  [{ studyDate: { from: '20260102', to: '20260102' } }, ['1.2']],
  [{ modality: 'CT' }, ['1.1', '1.3']],
  [{ modality: 'PR' }, ['1.1']],
  [{ modality: 'C' }, []],
  [{ modality: 'TX' }, []],
  [{ after: '1.4' }, ['1.5', '1.6']],
  [{ after: '1.2', modality: 'CT' }, ['1.3']],
  [{ patientId: 'P1', patientName: '*j*', studyDate: { to: '20260101' } }, ['1.1']],
  [{ patientId: 'P1', accessionNumber: 'A3' }, []],
  [{ studyInstanceUid: '1.1', modality: 'CT', accessionNumber: 'A1', patientId: 'P1' }, ['1.1']],
];

export function searchChecks(check: Check): void {
  check('finds studies by each filter, and by all that are given together', async ({ catalog }) => {
    const offers = PATIENTS.map(([study, PatientID, PatientName, AccessionNumber, StudyDate, Modality], index) =>
      offer(index, { study, attributes: { PatientID, PatientName, AccessionNumber, StudyDate, Modality } }),
    );
    const [first = offer(0)] = offers;
    const second = offer(10, { study: '1.1', attributes: { ...first.attributes, Modality: 'PR' } });
    await catalog.accept([...offers, second, offer(11, { study: '1.6', attributes: {} })]);
    await evict(catalog, [offer(12, { study: '1.7', attributes: first.attributes })]);
    for (const [filter, studies] of SEARCHES) {
      const whole = await catalog.studies({ ...filter, limit: 100 });
      assert.deepEqual(whole.map(studyOf), studies, JSON.stringify(filter));
      const paged: string[] = [];
      for (let after = filter.after ?? ''; ; ) {
        const page = await catalog.studies({ ...filter, after, limit: 1 });
        assert.ok(page.length <= 1);
        paged.push(...page.map(studyOf));
        after = page[0]?.studyInstanceUid ?? '';
        if (page.length === 0) break;
      }
      assert.deepEqual(paged, studies, `${JSON.stringify(filter)}, one by one`);
    }
  });
}

export function hourChecks(check: Check): void {
  check('adds up what was received by hour and modality, in pages', async ({ catalog }) => {
    const of = (number: number, study: string, receivedAt: number, modality: string, bytes: number) =>
      offer(number, { study, receivedAt, bytes, attributes: modality === '' ? {} : { Modality: modality } });
    await catalog.accept([
      of(1, '1.1', 2 * HOUR, 'CT', 1),
      of(2, '1.1', 3 * HOUR - 1, 'CT', 2),
      of(3, '1.1', 3 * HOUR, 'CT', 4),
      of(4, '1.1', 3 * HOUR, 'MR', 8),
      of(5, '1.2', 3 * HOUR + 5, 'CT', 16),
      of(6, '1.3', 3 * HOUR + 5, '', 32),
      of(7, '1.2', 5 * HOUR, 'CT', 64),
      of(8, '1.3', 3 * HOUR + 6, '', 128),
    ]);
    const total = (hour: number, modality: string, studies: number, instances: number, bytes: number): HourlyTotal => ({
      hour: hour * HOUR,
      modality,
      studies,
      instances,
      bytes,
    });
    const totals = [
      total(2, 'CT', 1, 2, 3),
      total(3, '', 1, 2, 160),
      total(3, 'CT', 1, 2, 20),
      total(3, 'MR', 1, 1, 8),
      total(5, 'CT', 0, 1, 64),
    ];
    const list = (from: number, to: number) => catalog.hourlyTotals({ from: from * HOUR, to: to * HOUR, limit: 10 });
    assert.deepEqual(await list(0, 100), totals);
    assert.deepEqual(await list(3, 5), totals.slice(1, 4), 'from its beginning to before its end');
    assert.deepEqual(await list(3, 3), []);
    for (const from of [0, 2 * HOUR, 3 * HOUR]) {
      const paged: HourlyTotal[] = [];
      for (let after: HourlyTotal | undefined; paged.length <= totals.length; ) {
        const page = { from, to: 100 * HOUR, limit: 1 };
        const [next, ...more] = await catalog.hourlyTotals(after === undefined ? page : { ...page, after });
        assert.deepEqual(more, []);
        if (next === undefined) break;
        paged.push(next);
        after = next;
      }
      assert.deepEqual(
        paged,
        totals.filter(({ hour }) => hour >= from),
        `from ${from}, one by one`,
      );
    }
  });

  check('keeps hourly totals of what was evicted, missing or restored', async ({ catalog, reopen }) => {
    const one = offer(1, { study: '1.1', bytes: 5 });
    await evict(catalog, [one]);
    await catalog.accept([one]);
    await catalog.markMissing({ arrivalId: arrival(1), at: 9 });
    await catalog.takeUp({ instances: [found(one), found(offer(2, { study: '1.1', bytes: 6 }))], at: 9 });
    const totals = [{ hour: 0, modality: 'CT', studies: 1, instances: 2, bytes: 11 }];
    assert.deepEqual(await catalog.hourlyTotals({ from: 0, to: HOUR, limit: 10 }), totals);
    assert.deepEqual(await (await reopen()).hourlyTotals({ from: 0, to: HOUR, limit: 10 }), totals);
  });
}
