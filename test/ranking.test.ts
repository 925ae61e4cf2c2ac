import { describe, expect, onTestFinished, test } from 'vitest';
import { type Rank, URGENCIES } from '../src/domain/rank.ts';
import { SpillwayError } from '../src/errors.ts';
import { BacklogRanker, type Ranking } from '../src/replay/backlog-ranking.ts';
import type { DestinationStatus } from '../src/replay/events.ts';
import { openSpillway, type Spillway, type SpillwayOptions } from '../src/spillway.ts';
import { MemoryCatalog } from '../src/storage/memory/memory-catalog.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import { MemoryTables } from '../src/storage/memory/memory-tables.ts';
import type { OpenStore } from '../src/storage/store.ts';
import { syntheticStudy } from '../src/testing/synthetic.ts';
import { VirtualClock } from '../src/testing/virtual-clock.ts';
import { defaultTierPolicy, type TierPolicy } from '../src/tiers/policy.ts';
import { ScriptedTransport } from './support/scripted-transport.ts';
import { close, until } from './support/virtual-time.ts';

const NOON = Date.parse('2026-03-02T12:00:00Z');
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const [TODAY, WEEK, HISTORY] = ['last-24-hours', 'last-week', 'historical'];

interface Rig {
  readonly clock: VirtualClock;
  readonly peer: ScriptedTransport;
  readonly spillway: Spillway;
  readonly store: SpillwayOptions['store'];
  /** What is opened of the store, to look at or to put faults into. */
  readonly opened: () => OpenStore;
}

async function rig(options: Partial<SpillwayOptions> = {}, given: Partial<Rig> = {}): Promise<Rig> {
  const { clock = new VirtualClock(NOON), peer = new ScriptedTransport() } = given;
  let opened: OpenStore | undefined;
  const inner = given.store ?? memoryStore();
  const store = {
    open: async () => {
      opened = await inner.open();
      return opened;
    },
  };
  const spillway = await openSpillway({
    store,
    destinations: [{ id: 'pacs', transport: peer, maxConcurrency: 1 }],
    clock,
    closeTimeoutMs: 0,
    timeZone: 'UTC',
    ...options,
  });
  onTestFinished(() => close(clock, spillway));
  return {
    clock,
    peer,
    spillway,
    store: inner,
    opened: () => {
      if (opened === undefined) throw new Error('not open');
      return opened;
    },
  };
}

/** A rig whose PACS is down, with that on record. */
async function down(options: Partial<SpillwayOptions> = {}): Promise<Rig> {
  const r = await rig(options);
  r.peer.reachable = false;
  await accept(r, 99, 0);
  await until(r.clock, async () => (await r.spillway.episodes()[Symbol.asyncIterator]().next()).done === false);
  return r;
}

/** Accepts a study of a modality, acquired an age ago; returns its UID. */
async function accept(r: Rig, seed: number, ageMs: number, modality: 'CT' | 'MR' | 'CR' = 'CT', instances = 1) {
  const acquiredAt = r.clock.now() - ageMs;
  const study = [...syntheticStudy({ modality, rows: 8, columns: 8, instances, acquiredAt, seed })];
  for (const { bytes } of study) await r.spillway.accept(bytes);
  return study[0]?.identity.studyInstanceUid ?? '';
}

async function tiers(r: Rig): Promise<Readonly<Record<string, number>>> {
  const { destinations } = await r.spillway.status();
  const { backlog } = destinations[0] as DestinationStatus;
  return Object.fromEntries(backlog.tiers.filter(({ studies }) => studies > 0).map((row) => [row.tier, row.studies]));
}

const ranks = async (r: Rig) => {
  const page = await r.opened().catalog.rankedStudies({ destinationId: 'pacs', limit: 1_000 });
  return new Map(page.map(({ studyInstanceUid, rank }) => [studyInstanceUid, rank]));
};

const twoTiers: TierPolicy = {
  tiers: [
    { id: 'three-days', maxAgeMs: 3 * DAY },
    { id: 'rest', maxAgeMs: Number.POSITIVE_INFINITY },
  ],
};
const radiographsFirst: TierPolicy = {
  ...defaultTierPolicy,
  rules: [{ id: 'radiographs', when: { modality: 'CR' }, tier: 'last-24-hours', urgency: 'stat' }],
};

describe('reclassify', () => {
  test('one call ranks the whole backlog by the new policy, and what comes after it too', async () => {
    const r = await down();
    await accept(r, 1, 2 * DAY);
    const old = await accept(r, 2, 30 * DAY, 'CR');
    await accept(r, 3, 30 * DAY);
    expect(await tiers(r)).toEqual({ [TODAY as string]: 1, [WEEK as string]: 1, [HISTORY as string]: 2 });

    expect(await r.spillway.reclassify({ tiers: twoTiers })).toEqual({ studies: 4, changed: 3 });
    expect(await tiers(r)).toEqual({ 'three-days': 2, rest: 2 });

    await r.spillway.reclassify({ tiers: radiographsFirst });
    expect(await tiers(r)).toEqual({ [TODAY as string]: 2, [WEEK as string]: 1, [HISTORY as string]: 1 });
    expect((await ranks(r)).get(old)).toMatchObject({ urgency: 'stat', ruledTier: 0, ageTier: null });
    await accept(r, 4, 30 * DAY, 'CR');
    expect(await tiers(r)).toMatchObject({ [TODAY as string]: 3 });
  });

  test('more studies than one batch holds', async () => {
    const r = await down();
    for (let seed = 1; seed <= 600; seed += 1) await accept(r, 1_000 + seed, 2 * DAY);
    const { catalog } = r.opened();
    const sizes: number[] = [];
    const { setRanks } = catalog;
    catalog.setRanks = (change) => {
      sizes.push(change.ranks.length);
      return setRanks.call(catalog, change);
    };
    expect(await r.spillway.reclassify({ tiers: twoTiers })).toMatchObject({ studies: 601, changed: 600 });
    // The one that was there before is in the first tier of both policies.
    expect(sizes).toHaveLength(2);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(500);
    expect(await tiers(r)).toEqual({ 'three-days': 601 });
  });

  test('what the caller said of the order is kept', async () => {
    const r = await down();
    const [instance] = [
      ...syntheticStudy({ modality: 'CT', rows: 8, columns: 8, instances: 1, acquiredAt: NOON, seed: 5 }),
    ];
    await r.spillway.accept(instance?.bytes ?? new Uint8Array(), { urgency: 'routine' });
    await r.spillway.reclassify({ tiers: twoTiers });
    const rank = (await ranks(r)).get(instance?.identity.studyInstanceUid ?? '');
    expect(rank?.urgency).toBe('routine');
  });

  test('an arrival in the middle of it: its study is judged again, with it', async () => {
    const acquiredAt = NOON - 30 * DAY;
    const [first, second] = [
      ...syntheticStudy({ modality: 'CR', rows: 8, columns: 8, instances: 2, acquiredAt, seed: 7 }),
    ];
    const r = await down();
    await r.spillway.accept(first?.bytes ?? new Uint8Array());
    const { catalog } = r.opened();
    const { setRanks } = catalog;
    let arrived = false;
    catalog.setRanks = async (change) => {
      if (!arrived) {
        arrived = true;
        await r.spillway.accept(second?.bytes ?? new Uint8Array());
      }
      return setRanks.call(catalog, change);
    };
    expect(await r.spillway.reclassify({ tiers: radiographsFirst })).toEqual({ studies: 2, changed: 1 });
    expect(arrived).toBe(true);
    const rank = (await ranks(r)).get(first?.identity.studyInstanceUid ?? '');
    expect(rank).toMatchObject({ tier: 0, ageTier: null, ruledTier: 0 });
  });

  test('what was judged by the old policy, and is not committed yet, is judged again', async () => {
    const r = await down();
    const { catalog } = r.opened();
    const { accept: commit } = catalog;
    let isCommitting = false;
    let release = () => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    catalog.accept = async (batch) => {
      isCommitting = true;
      await gate;
      return commit.call(catalog, batch);
    };
    const taking = accept(r, 1, 30 * DAY);
    await until(r.clock, () => isCommitting);
    const done = r.spillway.reclassify({ tiers: twoTiers });
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    release();
    await Promise.all([taking, done]);
    expect(await tiers(r)).toEqual({ 'three-days': 1, rest: 1 });
  });

  /** A rig with a study of three instances of today, of which the first is in flight until `open` is called. */
  const inFlight = async () => {
    const r = await rig();
    let open = () => {};
    r.peer.gate = () =>
      new Promise((resolve) => {
        open = resolve;
      });
    r.peer.batch = { maxInstances: 1, maxBytes: 1024 * 1024 };
    const first = await accept(r, 1, HOUR, 'CT', 3);
    await until(r.clock, () => r.peer.inFlight === 1);
    const goOn = async (requests: number, gate: () => Promise<void> = async () => {}) => {
      expect(r.peer.inFlight).toBe(1);
      r.peer.gate = gate;
      open();
      await until(r.clock, () => r.peer.requests.length >= requests);
      const studies = await studyOf(r);
      return r.peer.requests.slice(0, requests).map(([uid]) => studies.get(uid ?? ''));
    };
    return { r, first, goOn };
  };

  test('what is in flight goes on; the next is taken in the new order', async () => {
    const { r, first, goOn } = await inFlight();
    await accept(r, 2, 2 * HOUR);
    const radiograph = await accept(r, 3, 30 * DAY, 'CR');
    await r.spillway.reclassify({ tiers: radiographsFirst });
    expect((await goOn(2)).slice(0, 2)).toEqual([first, radiograph]);
  });

  test('what waits in the window is given back, so that the most urgent takes its place', async () => {
    const { r, first, goOn } = await inFlight();
    await accept(r, 2, 2 * HOUR, 'CT', 2);
    // A second request, so that both studies are in the window.
    let open = () => {};
    const second = () =>
      new Promise<void>((resolve) => {
        open = resolve;
      });
    expect(await goOn(1, second)).toEqual([first]);
    await until(r.clock, () => r.peer.requests.length === 2 && r.peer.inFlight === 1);
    const before = r.peer.requests.length;
    const radiograph = await accept(r, 3, 30 * DAY, 'CR');
    await r.spillway.reclassify({ tiers: radiographsFirst });
    r.peer.gate = async () => {};
    open();
    await until(r.clock, () => r.peer.requests.length > before);
    expect((await studyOf(r)).get(r.peer.requests[before]?.[0] ?? '')).toBe(radiograph);
  });

  test('the rest of a study that is in flight goes by its new rank', async () => {
    const { r, first, goOn } = await inFlight();
    const other = await accept(r, 2, 3 * DAY, 'MR');
    const rules = [{ id: 'last', when: { modality: 'CT' }, tier: 'historical' }];
    await r.spillway.reclassify({ tiers: { ...defaultTierPolicy, rules } });
    expect(await goOn(3)).toEqual([first, other, first]);
  });

  test('a policy that leaves a gap changes nothing', async () => {
    const r = await down();
    const gap: TierPolicy = { tiers: [{ id: 'only', maxAgeMs: DAY }] };
    await expect(r.spillway.reclassify({ tiers: gap })).rejects.toMatchObject({ code: 'SPILLWAY_OPTION_INVALID' });
    await expect(r.spillway.reclassify({ reference: 'then' as 'now' })).rejects.toMatchObject({
      code: 'SPILLWAY_OPTION_INVALID',
    });
    await expect(r.spillway.reclassify({ tier: twoTiers } as object)).rejects.toMatchObject({
      code: 'SPILLWAY_OPTION_INVALID',
    });
    expect(await tiers(r)).toEqual({ [TODAY as string]: 1 });
  });

  test('cut short, the next opening ranks all anew, even by the policy of before', async () => {
    const r = await down();
    const radiograph = await accept(r, 1, 30 * DAY, 'CR');
    await r.spillway.reclassify();
    const { catalog } = r.opened();
    const { markRanked } = catalog;
    // Killed after the last rank was set, before it is noted.
    catalog.markRanked = async (mark) => {
      if (mark.rankedBy !== null) throw new SpillwayError('SPILLWAY_STORE_FAILED', 'killed');
      return markRanked.call(catalog, mark);
    };
    await expect(r.spillway.reclassify({ tiers: radiographsFirst })).rejects.toThrow('killed');
    expect((await ranks(r)).get(radiograph)?.tier).toBe(0);
    catalog.markRanked = markRanked;
    await close(r.clock, r.spillway);
    const again = await rig({}, r);
    await until(r.clock, async () => (await ranks(again)).get(radiograph)?.tier === 2);
  });

  test('aborted, it leaves the new policy in force, and the next call completes it', async () => {
    const r = await down();
    await accept(r, 1, 2 * DAY);
    await expect(r.spillway.reclassify({ tiers: twoTiers, signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'SPILLWAY_ABORTED',
    });
    expect(await r.spillway.reclassify()).toEqual({ studies: 2, changed: 1 });
    expect(await tiers(r)).toEqual({ 'three-days': 2 });
  });
});

test('a study that goes on arriving is judged by what is new, and does not hold up the rest', async () => {
  const { catalog, offer } = await offering();
  for (let index = 0; index < 600; index += 1) await offer('1.1');
  await offer('1.2');
  const [setRanks, rankingFacts] = [catalog.setRanks, catalog.rankingFacts];
  let [arrivals, read] = [0, 0];
  catalog.setRanks = async (change) => {
    // Something of it comes in at each of the first rounds.
    if (arrivals < 30) {
      arrivals += 1;
      await offer('1.1');
    }
    return setRanks.call(catalog, change);
  };
  catalog.rankingFacts = async (page) => {
    const facts = await rankingFacts.call(catalog, page);
    read += facts.length;
    return facts;
  };
  const ranked = await rankerOf(catalog).reclassify(NOON);
  expect(ranked).toEqual({ studies: 2, changed: 2 });
  // Each instance once: 600, 30 more, and the other study's one, which is judged in the first round.
  expect(read).toBe(631);
  expect((await catalog.rankedStudies({ destinationId: 'pacs', limit: 9 })).map(({ rank }) => rank.tier)).toEqual([
    0, 0,
  ]);
});

test('a rank that another policy leaves as it is counts as one of that policy', async () => {
  const { catalog, offer } = await offering();
  await offer('1.1');
  const ranker = rankerOf(catalog);
  expect(await ranker.reclassify(NOON)).toEqual({ studies: 1, changed: 1 });
  await catalog.restateUrgency({ arrivalId: '000000001', urgency: 'stat' });
  expect(await ranker.reclassify(NOON)).toEqual({ studies: 1, changed: 0 });
  const [leased] = await catalog.leaseStudies({ destinationId: 'pacs', now: 0, limit: 1 });
  const [delivery] = await catalog.dueDeliveries({
    destinationId: 'pacs',
    studyInstanceUid: '1.1',
    now: 0,
    afterId: 0,
    limit: 1,
  });
  const settled = { state: 'verified', evidence: 'found', attempts: 0, reason: null, notBefore: 0, at: 0 } as const;
  await catalog.settle([{ deliveryId: delivery?.id ?? 0, lease: leased?.lease ?? 0, ...settled }]);
  // Nothing of it is open; the next instance still belongs to a study that is urgent.
  await offer('1.1');
  const [study] = await catalog.rankedStudies({ destinationId: 'pacs', limit: 1 });
  expect(study?.rank.urgency).toBe('stat');
});

test('the ranks of all pages of a study are merged', async () => {
  const { catalog, offer } = await offering();
  await offer('1.1', { Modality: 'CR' });
  for (let index = 0; index < 450; index += 1) await offer('1.1');
  await rankerOf(catalog, radiographsFirst).reclassify(NOON);
  const [study] = await catalog.rankedStudies({ destinationId: 'pacs', limit: 1 });
  expect(study?.rank).toMatchObject({ tier: 0, urgency: 'stat', ruledTier: 0 });
});

test('a policy that changes in the middle leaves the backlog unmarked', async () => {
  const { catalog, offer } = await offering();
  await offer('1.1');
  let ranking: Ranking = { policy: defaultTierPolicy, timeZone: 'UTC', reference: 'now' };
  const ranker = new BacklogRanker({
    catalog,
    destinationId: 'pacs',
    ranking: () => ranking,
    referenceAt: () => NOON,
    isStopping: () => false,
    onRanked: () => {},
  });
  const { rankingFacts } = catalog;
  catalog.rankingFacts = (page) => {
    ranking = { ...ranking, policy: twoTiers };
    return rankingFacts.call(catalog, page);
  };
  await ranker.reclassify(NOON);
  expect((await catalog.destinations())[0]?.rankedBy).toBeNull();
});

test('a ranker that is stopped, or aborted, ends in the middle of a page', async () => {
  const { catalog, offer } = await offering();
  for (let index = 0; index < 50; index += 1) await offer(`1.${index}`);
  const { rankingFacts } = catalog;
  const abort = new AbortController();
  let looks = 0;
  catalog.rankingFacts = async (page) => {
    looks += 1;
    if (looks === 10) abort.abort();
    return rankingFacts.call(catalog, page);
  };
  const ranker = rankerOf(catalog, defaultTierPolicy, () => looks >= 20);
  await expect(ranker.reclassify(NOON, abort.signal)).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED' });
  expect(looks).toBe(10);
  await expect(ranker.reclassify(NOON)).rejects.toMatchObject({ code: 'SPILLWAY_CLOSED' });
  expect(looks).toBe(20);
  expect((await catalog.destinations())[0]?.rankedBy).toBeNull();
});

test('a study that was missed is judged again, though others came in before it', async () => {
  const { catalog, offer } = await offering();
  const name = (index: number) => `1.${1_000 + index}`;
  for (let index = 0; index < 500; index += 1) await offer(name(index));
  const { setRanks } = catalog;
  let arrived = false;
  catalog.setRanks = async (change) => {
    if (!arrived) {
      arrived = true;
      await offer(name(499));
      for (let index = 0; index < 20; index += 1) await offer(`1.0${index}`);
    }
    return setRanks.call(catalog, change);
  };
  await rankerOf(catalog).byAge(NOON);
  const [last] = await catalog.rankedStudies({ destinationId: 'pacs', afterStudy: name(498), limit: 1 });
  expect(last).toMatchObject({ studyInstanceUid: name(499), rank: { tier: 0 } });
});

describe('opening', () => {
  test('nothing is sent before the ranks are right', async () => {
    // Up, and busy for an hour.
    const r = await rig();
    r.peer.respond = () => ({ kind: 'push-back', reason: '503', retryAfterMs: HOUR });
    await accept(r, 2, HOUR, 'CT');
    const radiograph = await accept(r, 3, 30 * DAY, 'CR');
    await close(r.clock, r.spillway);
    r.peer.requests.length = 0;
    r.peer.respond = () => ({ kind: 'stored' });
    r.clock.advance(2 * HOUR);
    r.peer.batch = { maxInstances: 1, maxBytes: 1024 * 1024 };
    const again = await rig({ tiers: radiographsFirst }, r);
    await until(r.clock, () => r.peer.requests.length >= 1);
    expect((await studyOf(again)).get(r.peer.requests[0]?.[0] ?? '')).toBe(radiograph);
  });

  test('another policy than before ranks the backlog anew by itself, the same one does not classify', async () => {
    const r = await down();
    const radiograph = await accept(r, 2, 30 * DAY, 'CR');
    await close(r.clock, r.spillway);
    const second = await rig({ tiers: radiographsFirst }, r);
    await until(r.clock, async () => (await ranks(second)).get(radiograph)?.tier === 0);
    await close(r.clock, second.spillway);

    let classified = 0;
    const inner = second.store;
    const counting = {
      open: async () => {
        const opened = await inner.open();
        const { rankingFacts } = opened.catalog;
        opened.catalog.rankingFacts = (page) => {
          classified += 1;
          return rankingFacts.call(opened.catalog, page);
        };
        return opened;
      },
    };
    const third = await rig({ tiers: radiographsFirst }, { ...r, store: counting });
    await third.spillway.reclassify({});
    const byHand = classified;
    expect(byHand).toBeGreaterThan(0);
    expect((await ranks(third)).get(radiograph)).toMatchObject({ tier: 0, ruledTier: 0 });
    await close(r.clock, third.spillway);
    classified = 0;
    const fourth = await rig({ tiers: radiographsFirst }, { ...r, store: counting });
    await until(r.clock, () => true);
    await fourth.spillway.status();
    expect(classified).toBe(0);
  });
});

describe('the reference instant', () => {
  const isStillToday = async (r: Rig) => (await tiers(r))[TODAY as string] === 2;

  test('outage-start: what was fresh when the PACS failed stays so', async () => {
    const r = await down({ reference: 'outage-start' });
    await accept(r, 1, 20 * HOUR);
    for (let step = 0; step < 20; step += 1) {
      r.clock.advance(HOUR);
      await until(r.clock, () => true);
    }
    expect(await isStillToday(r)).toBe(true);
  });

  test('now: studies slide into later tiers while they wait', async () => {
    const r = await rig({ reference: 'now' });
    r.peer.reachable = false;
    const study = await accept(r, 1, 23 * HOUR);
    expect((await ranks(r)).get(study)?.tier).toBe(0);
    await until(r.clock, async () => (await ranks(r)).get(study)?.tier === 1, 'it grew older', 60_000);
    expect(r.clock.now() - NOON).toBeLessThan(2 * HOUR);
  });

  test('an instant: ages count from it, whatever the time', async () => {
    const r = await rig({ reference: NOON - 30 * DAY });
    r.peer.reachable = false;
    const study = await accept(r, 1, 32 * DAY);
    expect((await ranks(r)).get(study)?.tier).toBe(1);
  });

  test.each(['end', Number.NaN, '2026-03-02', null, NOON * 1e6])('%s is refused', async (reference) => {
    await expect(rig({ reference: reference as 'now' })).rejects.toMatchObject({
      code: 'SPILLWAY_OPTION_INVALID',
      message: expect.stringContaining('reference'),
    });
  });
});

describe('accept', () => {
  test.each([
    ['urgency', { urgency: 'STAT' }],
    ['transferSyntaxUid', { transferSyntaxUid: 'implicit' }],
    ['expectedBytes', { expectedBytes: -1 }],
    ['source', { source: 7 }],
    ['urgncy', { urgncy: 'stat' }],
  ])('refuses a bad %s before anything is read', async (name, options) => {
    const r = await rig();
    await expect(r.spillway.accept(new Uint8Array(), options as object)).rejects.toMatchObject({
      code: 'SPILLWAY_OPTION_INVALID',
      message: expect.stringContaining(name),
    });
  });

  test('the same instance sent again as urgent moves its study forward', async () => {
    const r = await down();
    const instanceOf = (seed: number) =>
      [
        ...syntheticStudy({ modality: 'CT', rows: 8, columns: 8, instances: 1, acquiredAt: NOON - seed * HOUR, seed }),
      ][0];
    const [first, second] = [instanceOf(3), instanceOf(2)];
    for (const instance of [first, second]) {
      await r.spillway.accept(instance?.bytes ?? new Uint8Array(), { urgency: 'routine' });
    }
    const again = await r.spillway.accept(second?.bytes ?? new Uint8Array(), { urgency: 'stat' });
    expect(again).toMatchObject({ outcome: 'identical', urgency: 'stat' });
    const uid = second?.identity.studyInstanceUid ?? '';
    expect((await ranks(r)).get(uid)?.urgency).toBe('stat');
    // It is remembered, too.
    await r.spillway.reclassify({ tiers: twoTiers });
    expect((await ranks(r)).get(uid)?.urgency).toBe('stat');
  });

  test('and of a study that is in flight the rest goes first, too', async () => {
    const r = await rig();
    r.peer.batch = { maxInstances: 1, maxBytes: 1024 * 1024 };
    let open = () => {};
    r.peer.gate = () =>
      new Promise((resolve) => {
        open = resolve;
      });
    const studyOfSeed = (seed: number, instances: number) => [
      ...syntheticStudy({ modality: 'CT', rows: 8, columns: 8, instances, acquiredAt: NOON - HOUR, seed }),
    ];
    const first = studyOfSeed(1, 3);
    for (const { bytes } of first) await r.spillway.accept(bytes, { urgency: 'routine' });
    await until(r.clock, () => r.peer.inFlight === 1);
    for (const { bytes } of studyOfSeed(2, 1)) await r.spillway.accept(bytes, { urgency: 'urgent' });
    await r.spillway.accept(first[2]?.bytes ?? new Uint8Array(), { urgency: 'stat' });
    r.peer.gate = async () => {};
    open();
    await until(r.clock, () => r.peer.requests.length >= 2);
    expect((await studyOf(r)).get(r.peer.requests[1]?.[0] ?? '')).toBe(first[0]?.identity.studyInstanceUid);
  });

  test('takes every urgency', async () => {
    const r = await down();
    for (const [index, urgency] of URGENCIES.entries()) {
      const [instance] = [
        ...syntheticStudy({ modality: 'CT', rows: 8, columns: 8, instances: 1, acquiredAt: NOON, seed: 50 + index }),
      ];
      const receipt = await r.spillway.accept(instance?.bytes ?? new Uint8Array(), { urgency });
      expect(receipt.urgency).toBe(urgency);
    }
  });
});

async function studyOf(r: Rig): Promise<Map<string, string>> {
  const versions = await r.opened().catalog.versions({ limit: 1_000 });
  return new Map(versions.map(({ identity }) => [identity.sopInstanceUid, identity.studyInstanceUid]));
}

/** A catalog, and a way to put instances into it, all acquired at noon and ranked as if they were history. */
async function offering() {
  const catalog = new MemoryCatalog(new MemoryTables());
  await catalog.registerDestination('pacs');
  let arrivals = 0;
  const offer = async (study: string, attributes: Readonly<Record<string, string>> = {}): Promise<void> => {
    arrivals += 1;
    const arrivalId = String(arrivals).padStart(9, '0');
    const identity = {
      studyInstanceUid: study,
      seriesInstanceUid: study,
      sopInstanceUid: arrivalId,
      sopClassUid: '1.2',
      transferSyntaxUid: '1.2',
    };
    const version = {
      arrivalId,
      identity,
      digest: arrivalId,
      bytes: 1,
      blobRef: arrivalId,
      receivedAt: NOON,
      oddities: [],
      presence: 'kept' as const,
    };
    const rank: Rank = { tier: 2, urgency: 'unknown', acquiredAt: NOON, basis: 'dated', ageTier: 2, ruledTier: null };
    const deliveries = [{ destinationId: 'pacs', rank }];
    await catalog.accept([{ version, attributes, source: null, urgency: null, deliveries }]);
  };
  return { catalog, offer };
}

function rankerOf(catalog: MemoryCatalog, policy: TierPolicy = defaultTierPolicy, isStopping = () => false) {
  const ranking: Ranking = { policy, timeZone: 'UTC', reference: 'now' };
  return new BacklogRanker({
    catalog,
    destinationId: 'pacs',
    ranking: () => ranking,
    referenceAt: () => NOON,
    isStopping,
    onRanked: () => {},
  });
}
