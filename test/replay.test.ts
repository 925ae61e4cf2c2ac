import { describe, expect, onTestFinished, test } from 'vitest';
import type { Rank } from '../src/domain/rank.ts';
import type { SpillwayEvents } from '../src/events.ts';
import type { DestinationStatus } from '../src/replay/events.ts';
import type { Reconciliation } from '../src/replay/reconciliation.ts';
import { type BatchBounds, ReplayWindow } from '../src/replay/replay-window.ts';
import { openSpillway, type Spillway, type SpillwayOptions } from '../src/spillway.ts';
import type { Catalog } from '../src/storage/catalog.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import { syntheticInstance, syntheticStudy } from '../src/testing/synthetic.ts';
import { VirtualClock } from '../src/testing/virtual-clock.ts';
import type { SendOutcome } from '../src/transports/transport.ts';
import { ScriptedTransport } from './support/scripted-transport.ts';
import { close, until } from './support/virtual-time.ts';

const NOON = Date.parse('2026-03-02T12:00:00Z');
const HOUR = 3_600_000;
const DAY = 24 * HOUR;

interface Rig {
  readonly clock: VirtualClock;
  readonly peer: ScriptedTransport;
  readonly spillway: Spillway;
  readonly store: SpillwayOptions['store'];
  readonly events: { readonly name: string; readonly detail: unknown }[];
  reopen(): Promise<Rig>;
}

const NAMES = ['health', 'outage', 'recovery', 'delivery', 'quarantine', 'drained', 'closed', 'fault'] as const;

async function rig(
  options: Partial<SpillwayOptions> & { verify?: 'answered' | 'found' | 'compared'; maxConcurrency?: number } = {},
  given: Partial<Pick<Rig, 'clock' | 'peer' | 'store'>> = {},
): Promise<Rig> {
  const { clock = new VirtualClock(NOON), peer = new ScriptedTransport(), store = memoryStore() } = given;
  const { verify, maxConcurrency = 4, ...rest } = options;
  const spillway = await openSpillway({
    store,
    destinations: [{ id: 'pacs', transport: peer, maxConcurrency, ...(verify && { verify }) }],
    clock,
    closeTimeoutMs: 0,
    ...rest,
  });
  onTestFinished(() => close(clock, spillway));
  const events: Rig['events'] = [];
  for (const name of NAMES) spillway.on(name, (detail: SpillwayEvents[typeof name]) => events.push({ name, detail }));
  return {
    clock,
    peer,
    spillway,
    store,
    events,
    async reopen() {
      await close(clock, spillway);
      return rig(options, { clock, peer, store });
    },
  };
}

async function pacs({ spillway }: Rig): Promise<DestinationStatus> {
  const { destinations } = await spillway.status();
  return destinations[0] as DestinationStatus;
}

const named = (r: Rig, name: (typeof NAMES)[number]) => r.events.filter((event) => event.name === name);
const drained = (r: Rig) => until(r.clock, async () => (await pacs(r)).backlog.instances === 0, 'drained');

/** Small instances of one study. */
function study(seed: number, instances: number, acquiredAt = NOON - HOUR) {
  return [...syntheticStudy({ modality: 'CT', rows: 8, columns: 8, instances, acquiredAt, seed })];
}

async function accept(r: Rig, instances: readonly { bytes: Uint8Array }[]) {
  return Promise.all(instances.map(({ bytes }) => r.spillway.accept(bytes)));
}

/** A window on what is live at the destination `pacs`. */
function liveWindow(catalog: Catalog, maxStudies: number): ReplayWindow {
  return new ReplayWindow({
    catalog,
    destinationId: 'pacs',
    lane: 'live',
    historyTier: undefined,
    maxStudies,
    onLeased: () => {},
    onFinished: () => {},
    isInDoubt: () => false,
    isWithheld: () => false,
  });
}

const BOUNDS: BatchBounds = {
  maxInstances: 10,
  maxBytes: 1_000,
  companyOf: () => Number.POSITIVE_INFINITY,
  maySend: true,
  mayLookUp: true,
};

describe('delivery', () => {
  test('what is accepted reaches the destination, unaltered, and is verified by a query', async () => {
    const r = await rig();
    const receipts = await accept(r, study(1, 10));
    await drained(r);
    expect([...r.peer.held.values()].map(({ digest }) => digest).sort()).toEqual(
      receipts.map(({ digest }) => digest).sort(),
    );
    expect(await pacs(r)).toMatchObject({ verified: 10, quarantined: 0 });
    const verified = named(r, 'delivery').filter(({ detail }) => (detail as { state: string }).state === 'verified');
    expect(verified).toHaveLength(10);
    expect(verified[0]?.detail).toMatchObject({ evidence: 'found' });
    expect(named(r, 'fault')).toEqual([]);
  });

  test('a destination that is asked for `answered` is not queried', async () => {
    const r = await rig({ verify: 'answered' });
    await accept(r, study(1, 3));
    await drained(r);
    expect(r.peer.lookUps).toBe(0);
    expect(await pacs(r)).toMatchObject({ verified: 3 });
  });

  test('answered, but not found: it waits, sends again, and in the end puts it aside; nothing is called delivered', async () => {
    const r = await rig();
    r.peer.showsHeld = false;
    await accept(r, study(1, 1));
    await until(r.clock, () => named(r, 'quarantine').length === 1, 'quarantined', 60_000);
    expect(await pacs(r)).toMatchObject({ verified: 0, quarantined: 1 });
    expect(r.peer.requests).toHaveLength(2);
    const [delivery] = await Array.fromAsync(r.spillway.quarantined());
    expect(delivery?.reason).toMatch(/shows nothing/);
  });

  test('several instances go in one request, bounded in number and bytes', async () => {
    const r = await rig({ maxConcurrency: 1 });
    r.peer.batch = { maxInstances: 3, maxBytes: 1024 * 1024 };
    r.peer.reachable = false;
    await accept(r, study(1, 10));
    r.peer.reachable = true;
    await drained(r);
    expect(Math.max(...r.peer.requests.map((request) => request.length))).toBe(3);
  });

  test('an instance that the destination refuses for good is put aside, and the rest goes on', async () => {
    const r = await rig();
    const instances = study(1, 6);
    const bad = instances[2]?.identity.sopInstanceUid;
    r.peer.respond = ({ sopInstanceUid }) =>
      sopInstanceUid === bad ? { kind: 'refused', reason: 'A900 data set', mayRetry: false } : { kind: 'stored' };
    await accept(r, instances);
    await drained(r);
    expect(await pacs(r)).toMatchObject({ verified: 5, quarantined: 1, health: { phase: 'up' } });
    const quarantined = await Array.fromAsync(r.spillway.quarantined({ destinationId: 'pacs' }));
    expect(quarantined.map(({ identity, reason }) => [identity.sopInstanceUid, reason])).toEqual([
      [bad, 'A900 data set'],
    ]);
  });

  test('a refusal that may pass gets one delayed retry', async () => {
    const r = await rig();
    let refusals = 0;
    r.peer.respond = () => {
      refusals += 1;
      return refusals === 1 ? { kind: 'refused', reason: '0110', mayRetry: true } : { kind: 'stored' };
    };
    await accept(r, study(1, 1));
    await drained(r);
    expect(await pacs(r)).toMatchObject({ verified: 1, quarantined: 0 });
  });

  test('an answer that says nothing of some instances: those are looked up, then sent alone', async () => {
    const r = await rig({ maxConcurrency: 1 });
    const instances = study(1, 4);
    const [lost, silent] = instances.map(({ identity }) => identity.sopInstanceUid);
    const answered = new Set<string>();
    r.peer.keeps = ({ sopInstanceUid }) => sopInstanceUid === lost;
    r.peer.respond = ({ sopInstanceUid }): SendOutcome => {
      if (answered.has(sopInstanceUid) || ![lost, silent].includes(sopInstanceUid)) return { kind: 'stored' };
      answered.add(sopInstanceUid);
      return { kind: 'unanswered', reason: 'in neither list' };
    };
    r.peer.reachable = false;
    await accept(r, instances);
    r.peer.reachable = true;
    await drained(r);
    expect(await pacs(r)).toMatchObject({ verified: 4, quarantined: 0 });
    const sends = r.peer.requests.flat();
    expect(sends.filter((uid) => uid === lost)).toHaveLength(1);
    expect(r.peer.requests.filter((request) => request.includes(silent ?? ''))).toContainEqual([silent]);
  });

  test('a lost answer: what arrived is settled by a query and not sent twice', async () => {
    const r = await rig();
    const instances = study(1, 3);
    let lost = false;
    r.peer.keeps = () => true;
    r.peer.respond = (): SendOutcome => {
      if (lost) return { kind: 'stored' };
      lost = true;
      return { kind: 'ambiguous', reason: 'connection lost after the last byte' };
    };
    await accept(r, instances.slice(0, 1));
    await drained(r);
    expect(r.peer.requests.flat()).toHaveLength(1);
    expect(await pacs(r)).toMatchObject({ verified: 1 });
  });

  test('an instance that brings every connection down is put aside in the end, and the rest goes on', async () => {
    const r = await rig();
    const instances = study(1, 6);
    const bad = instances[0]?.identity.sopInstanceUid;
    r.peer.respond = ({ sopInstanceUid }) =>
      sopInstanceUid === bad ? { kind: 'ambiguous', reason: 'connection reset' } : { kind: 'stored' };
    await accept(r, instances);
    let others = 0;
    const oneMoreComes = async () => {
      others += 1;
      await accept(r, study(1_000 + others, 1));
      return named(r, 'quarantine').length === 1;
    };
    await until(r.clock, oneMoreComes, 'quarantined', 20_000);
    await until(r.clock, async () => (await pacs(r)).backlog.instances === 0, 'the rest delivered');
    expect(await pacs(r)).toMatchObject({ verified: 5 + others, quarantined: 1 });
    expect(r.peer.requests.filter((request) => request.includes(bad ?? '')).length).toBeLessThan(15);
  });

  test('push-back slows the destination and costs nothing', async () => {
    const r = await rig();
    let busy = 5;
    r.peer.respond = (): SendOutcome => {
      busy -= 1;
      return busy >= 0 ? { kind: 'push-back', reason: '503', retryAfterMs: 2_000 } : { kind: 'stored' };
    };
    await accept(r, study(1, 20));
    const before = r.clock.now();
    await drained(r);
    expect(r.clock.now() - before).toBeGreaterThanOrEqual(2_000);
    expect(await pacs(r)).toMatchObject({ verified: 20, quarantined: 0, health: { phase: 'up' } });
    expect(named(r, 'outage')).toEqual([]);
  });

  test('concurrency begins with one request and never passes its ceiling', async () => {
    const r = await rig({ maxConcurrency: 3 });
    r.peer.batch = { maxInstances: 1, maxBytes: 1 };
    let allowed = Promise.resolve();
    r.peer.gate = () => allowed;
    let open = () => {};
    allowed = new Promise((resolve) => {
      open = resolve;
    });
    await accept(r, study(1, 30));
    await until(r.clock, () => r.peer.inFlight > 0, 'a first request');
    for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(r.peer.inFlight).toBe(1);
    // What takes no time tells nothing of what pays.
    r.peer.gate = () => new Promise((resolve) => void r.clock.schedule(50, resolve));
    open();
    await drained(r);
    expect(r.peer.mostInFlight).toBe(3);
  });

  test.each([
    [
      'throws',
      () => {
        throw new Error('listener');
      },
    ],
    ['is async and rejects', () => Promise.reject(new Error('listener'))],
  ])('a listener that %s breaks nothing, and is reported', async (_, listener: () => unknown) => {
    const r = await rig();
    r.spillway.on('delivery', listener);
    await accept(r, study(1, 2));
    await drained(r);
    expect(named(r, 'fault').length).toBeGreaterThan(0);
    expect(await pacs(r)).toMatchObject({ verified: 2 });
  });
});

describe('versions', () => {
  const options = { rows: 8, columns: 8, sopInstanceUid: '1.2.3.4', studyInstanceUid: '1.2.3' };
  const first = syntheticInstance({ ...options, seed: 1 });
  const second = syntheticInstance({ ...options, seed: 2 });

  test('the same again is identical; another data set is a version, delivered after the first and compared', async () => {
    const r = await rig();
    const one = await r.spillway.accept(first);
    expect(await r.spillway.accept(first)).toMatchObject({ outcome: 'identical', arrivalId: one.arrivalId });
    const two = await r.spillway.accept(second);
    expect([one.outcome, two.outcome]).toEqual(['created', 'version']);
    await drained(r);
    expect(r.peer.requests).toEqual([['1.2.3.4'], ['1.2.3.4']]);
    expect(r.peer.held.get('1.2.3.4')?.digest).toBe(two.digest);
    const last = named(r, 'delivery').at(-1)?.detail;
    expect(last).toMatchObject({ arrivalId: two.arrivalId, state: 'verified', evidence: 'compared' });
  });

  test('a destination that keeps the old one: the new one is put aside, never called delivered', async () => {
    const r = await rig();
    r.peer.replaces = false;
    await r.spillway.accept(first);
    await r.spillway.accept(second);
    await drained(r);
    expect(await pacs(r)).toMatchObject({ verified: 1, quarantined: 1 });
    const [delivery] = await Array.fromAsync(r.spillway.quarantined());
    expect(delivery?.reason).toMatch(/another version/);
  });

  test('a destination that cannot be read back: the new one is put aside as undecided', async () => {
    const r = await rig();
    r.peer.supports = { lookUp: true, readBack: false };
    await r.spillway.accept(first);
    await r.spillway.accept(second);
    await drained(r);
    const [delivery] = await Array.fromAsync(r.spillway.quarantined());
    expect(delivery?.reason).toBe('destination may hold another version');
  });
});

describe('outage', () => {
  test('one outage, one recovery; the backlog goes by tier, oldest first, and the episode balances', async () => {
    const r = await rig({ maxConcurrency: 2 });
    await accept(r, study(1, 2));
    await drained(r);
    r.peer.reachable = false;
    const historical = study(2, 5, NOON - 400 * DAY);
    const week = study(3, 5, NOON - 3 * DAY);
    const fresh = study(4, 5, NOON - 2 * HOUR);
    const older = study(5, 5, NOON - 3 * HOUR);
    for (const instances of [historical, week, fresh, older]) await accept(r, instances);
    await until(r.clock, () => named(r, 'outage').length === 1, 'an outage');
    expect(await pacs(r)).toMatchObject({
      health: { phase: expect.stringMatching(/down|probing/), reason: 'connection refused' },
      backlog: {
        studies: 4,
        instances: 20,
        tiers: [
          { tier: 'last-24-hours', studies: 2, instances: 10 },
          { tier: 'last-week', studies: 1, instances: 5 },
          { tier: 'historical', studies: 1, instances: 5 },
        ],
      },
    });
    r.clock.advance(HOUR);
    r.peer.requests.length = 0;
    r.peer.reachable = true;
    await until(r.clock, () => named(r, 'closed').length === 1, 'closed');
    const sent = r.peer.requests.flat();
    const order = [older, fresh, week, historical].flat().map(({ identity }) => identity.sopInstanceUid);
    const rank = sent.map((uid) => Math.floor(order.indexOf(uid) / 5));
    expect(rank).toEqual([...rank].sort((a, b) => a - b));
    expect(sent).toHaveLength(20);
    expect(named(r, 'outage')).toHaveLength(1);
    expect(named(r, 'recovery')).toHaveLength(1);
    const closed = named(r, 'closed')[0]?.detail as Reconciliation;
    expect(closed).toMatchObject({ received: 20, verified: 20, quarantined: 0, outstanding: 0, unaccounted: 0 });
    expect(closed.tiers.map(({ tier, verified }) => [tier, verified])).toEqual([
      ['last-24-hours', 10],
      ['last-week', 5],
      ['historical', 5],
    ]);
    const { episode } = closed;
    expect(episode.startedAt).toBeLessThanOrEqual(episode.detectedAt);
    expect(episode.endedAt).toBeLessThanOrEqual(episode.drainedAt ?? 0);
    expect(await r.spillway.reconciliation(episode.id)).toEqual(closed);
  });

  test('no study slides out of its tier while it waits for its turn after the outage', async () => {
    const r = await rig({ maxConcurrency: 1 });
    await accept(r, study(9, 1));
    await drained(r);
    r.peer.reachable = false;
    await accept(r, study(1, 4, NOON - 23 * HOUR));
    await until(r.clock, () => named(r, 'outage').length === 1, 'an outage');
    r.peer.batch = { maxInstances: 1, maxBytes: 1 };
    r.peer.reachable = true;
    let open = () => {};
    await until(r.clock, () => named(r, 'recovery').length === 1, 'recovery');
    r.peer.gate = () =>
      new Promise((resolve) => {
        open = resolve;
      });
    r.clock.advance(5 * HOUR);
    const status = await pacs(r);
    expect(status.backlog.tiers[1]).toMatchObject({ tier: 'last-week', instances: 0 });
    r.peer.gate = async () => {};
    open();
    await drained(r);
  });

  test('in the outage the reference is now: what was fresh when it came may be last week by its end', async () => {
    const r = await rig();
    await accept(r, study(9, 1));
    await drained(r);
    r.peer.reachable = false;
    const early = study(1, 3, NOON - HOUR);
    await accept(r, early);
    await until(r.clock, () => named(r, 'outage').length === 1, 'an outage');
    r.clock.advance(40 * HOUR);
    const late = study(2, 3, r.clock.now() - HOUR);
    await accept(r, late);
    r.peer.requests.length = 0;
    r.peer.reachable = true;
    await until(r.clock, () => named(r, 'closed').length === 1, 'closed');
    expect(r.peer.requests.flat().slice(0, 3).sort()).toEqual(
      late.map(({ identity }) => identity.sopInstanceUid).sort(),
    );
    const closed = named(r, 'closed')[0]?.detail as Reconciliation;
    expect(closed.tiers.map(({ tier, verified }) => [tier, verified])).toEqual([
      ['last-24-hours', 3],
      ['last-week', 3],
    ]);
  });

  test('what comes after the recovery is live: it keeps no episode open', async () => {
    const r = await rig({ maxConcurrency: 1 });
    await accept(r, study(9, 1));
    await drained(r);
    r.peer.reachable = false;
    await accept(r, study(1, 4));
    await until(r.clock, () => named(r, 'outage').length === 1, 'an outage');
    r.peer.reachable = true;
    await until(r.clock, () => named(r, 'recovery').length === 1, 'recovery');
    const live = study(2, 1);
    const uid = live[0]?.identity.sopInstanceUid;
    r.peer.respond = ({ sopInstanceUid }) =>
      sopInstanceUid === uid ? { kind: 'push-back', reason: '503', retryAfterMs: 1_000 } : { kind: 'stored' };
    await accept(r, live);
    await until(r.clock, () => named(r, 'closed').length === 1, 'closed');
    expect(named(r, 'closed')[0]?.detail).toMatchObject({ received: 4, verified: 4, unaccounted: 0 });
    expect((await pacs(r)).backlog.instances).toBe(1);
    r.peer.respond = () => ({ kind: 'stored' });
    await drained(r);
  });

  test('an arrival of higher rank takes the next free slot', async () => {
    const r = await rig({ maxConcurrency: 1 });
    r.peer.batch = { maxInstances: 1, maxBytes: 1 };
    let release: (() => void)[] = [];
    r.peer.gate = () => new Promise((resolve) => release.push(resolve));
    for (let index = 0; index < 6; index += 1) await accept(r, study(10 + index, 2, NOON - 400 * DAY));
    await until(r.clock, () => r.peer.requests.length === 1, 'a first request');
    const urgent = study(1, 1, NOON - HOUR);
    await accept(r, urgent);
    const next = () => {
      const waiting = release;
      release = [];
      for (const open of waiting) open();
    };
    next();
    await until(r.clock, () => r.peer.requests.length === 2, 'a second request');
    expect(r.peer.requests[1]).toEqual([urgent[0]?.identity.sopInstanceUid]);
    r.peer.gate = async () => {};
    next();
    await drained(r);
  });

  test('half dead: it answers the probe, its storage fails; nothing is quarantined for it, and it recovers', async () => {
    const r = await rig();
    await accept(r, study(9, 1));
    await drained(r);
    r.peer.respond = () => ({ kind: 'unanswered', reason: 'HTTP 500' });
    await accept(r, study(1, 30));
    await until(r.clock, () => named(r, 'outage').length === 1, 'an outage');
    r.clock.advance(2 * DAY);
    for (let turn = 0; turn < 200; turn += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      r.clock.advance(10_000);
    }
    expect(await pacs(r)).toMatchObject({ quarantined: 0, backlog: { instances: 30 } });
    r.peer.respond = () => ({ kind: 'stored' });
    await until(r.clock, () => named(r, 'closed').length === 1, 'closed');
    expect(await pacs(r)).toMatchObject({ verified: 31, quarantined: 0 });
  });

  test('storage that refuses everything for reasons of its own does not empty the backlog into quarantine', async () => {
    const r = await rig();
    await accept(r, study(9, 1));
    await drained(r);
    r.peer.respond = () => ({ kind: 'refused', reason: '0110 processing failure', mayRetry: true });
    for (let seed = 1; seed <= 20; seed += 1) await accept(r, study(seed + 100, 10));
    await until(r.clock, () => named(r, 'outage').length === 1, 'an outage');
    for (let turn = 0; turn < 200; turn += 1) {
      for (let i = 0; i < 5; i += 1) await new Promise((resolve) => setImmediate(resolve));
      r.clock.advance(10_000);
    }
    r.peer.respond = () => ({ kind: 'stored' });
    await until(r.clock, () => named(r, 'closed').length === 1, 'closed');
    const closed = named(r, 'closed')[0]?.detail as Reconciliation;
    expect(closed).toMatchObject({ unaccounted: 0, quarantined: 0 });
  });

  test('one bad instance does not prolong an outage', async () => {
    const r = await rig();
    await accept(r, study(9, 1));
    await drained(r);
    r.peer.reachable = false;
    const instances = study(1, 5);
    const bad = instances[0]?.identity.sopInstanceUid;
    await accept(r, instances);
    await until(r.clock, () => named(r, 'outage').length === 1, 'an outage');
    r.peer.respond = ({ sopInstanceUid }) =>
      sopInstanceUid === bad ? { kind: 'refused', reason: '0110', mayRetry: true } : { kind: 'stored' };
    r.peer.reachable = true;
    await until(r.clock, () => named(r, 'closed').length === 1, 'closed');
    expect(named(r, 'closed')[0]?.detail).toMatchObject({ received: 5, verified: 4, quarantined: 1, unaccounted: 0 });
  });
});

describe('several destinations', () => {
  test('one that is down holds up none of the others, and keeps its own backlog', async () => {
    const clock = new VirtualClock(NOON);
    const [dead, alive] = [new ScriptedTransport(), new ScriptedTransport()];
    dead.reachable = false;
    const spillway = await openSpillway({
      store: memoryStore(),
      destinations: [
        { id: 'dead', transport: dead },
        { id: 'alive', transport: alive },
      ],
      clock,
    });
    onTestFinished(() => close(clock, spillway));
    for (const { bytes } of study(1, 12)) await spillway.accept(bytes);
    const status = async (id: string) => {
      const { destinations } = await spillway.status();
      return destinations.find(({ destinationId }) => destinationId === id);
    };
    await until(clock, async () => (await status('alive'))?.verified === 12, 'delivered to the living one');
    expect(await status('dead')).toMatchObject({ verified: 0, backlog: { instances: 12 } });
    await spillway.retireDestination({ id: 'dead', reason: 'sold', by: 'J. Doe' });
    for (const { bytes } of study(2, 3)) expect((await spillway.accept(bytes)).destinations).toEqual(['alive']);
    await until(clock, async () => (await status('alive'))?.verified === 15, 'delivered after the retirement');
  });
});

describe('the destination’s own trouble', () => {
  test('little traffic and a PACS that refuses everything for a while: nothing is put aside', async () => {
    const r = await rig();
    await accept(r, study(9, 1));
    await drained(r);
    r.peer.respond = () => ({ kind: 'refused', reason: '0110 processing failure', mayRetry: true });
    for (let seed = 1; seed <= 10; seed += 1) {
      await accept(r, study(100 + seed, 1));
      const next = r.clock.now() + 12_000;
      await until(r.clock, () => r.clock.now() >= next, 'some time');
    }
    await until(r.clock, () => named(r, 'outage').length === 1, 'an outage');
    r.peer.respond = () => ({ kind: 'stored' });
    await drained(r);
    expect(await pacs(r)).toMatchObject({ verified: 11, quarantined: 0 });
  });

  test('the last of a backlog is refused, and nothing else comes: it is put aside, once the destination has stored', async () => {
    const r = await rig();
    await accept(r, study(9, 2));
    await drained(r);
    const [bad] = study(1, 1);
    const uid = bad?.identity.sopInstanceUid;
    r.peer.respond = ({ sopInstanceUid }) =>
      sopInstanceUid === uid ? { kind: 'refused', reason: 'HTTP 400', mayRetry: true } : { kind: 'stored' };
    await r.spillway.accept(bad?.bytes ?? '');
    await drained(r);
    expect(await pacs(r)).toMatchObject({ verified: 2, quarantined: 1 });
    expect(r.peer.requests.filter((request) => request.includes(uid ?? ''))).toHaveLength(2);
  });

  test('an instance that was deleted there is never sent again to prove anything', async () => {
    const r = await rig();
    await accept(r, study(9, 1));
    await drained(r);
    r.peer.held.clear();
    r.peer.requests.length = 0;
    r.peer.respond = () => ({ kind: 'refused', reason: 'HTTP 400', mayRetry: true });
    const [bad] = study(1, 1);
    await r.spillway.accept(bad?.bytes ?? '');
    await until(r.clock, () => r.peer.requests.length > 3, 'some tries');
    expect(new Set(r.peer.requests.flat())).toEqual(new Set([bad?.identity.sopInstanceUid]));
    expect(await pacs(r)).toMatchObject({ quarantined: 0 });
  });

  test('of several versions only the newest is sent again, so that it is not replaced', async () => {
    const r = await rig();
    const options = { rows: 8, columns: 8, sopInstanceUid: '1.2.3.4', studyInstanceUid: '1.2.3' };
    await r.spillway.accept(syntheticInstance({ ...options, seed: 1 }));
    await drained(r);
    // Larger, so that the older one would be the cheaper to send.
    const newer = await r.spillway.accept(syntheticInstance({ ...options, rows: 16, seed: 2 }));
    await drained(r);
    r.peer.requests.length = 0;
    const [bad] = study(1, 1);
    const uid = bad?.identity.sopInstanceUid;
    r.peer.respond = ({ sopInstanceUid }) =>
      sopInstanceUid === uid ? { kind: 'refused', reason: 'HTTP 400', mayRetry: true } : { kind: 'stored' };
    await r.spillway.accept(bad?.bytes ?? '');
    await until(r.clock, async () => (await pacs(r)).quarantined === 1, 'the bad one is put aside');
    expect(r.peer.requests.flat()).toEqual([uid, '1.2.3.4', uid]);
    expect(r.peer.held.get('1.2.3.4')?.digest).toBe(newer.digest);
  });

  test('one instance that is always pushed back holds up no other', async () => {
    const r = await rig();
    const instances = study(1, 40);
    const bad = instances[3]?.identity.sopInstanceUid;
    r.peer.respond = ({ sopInstanceUid }) =>
      sopInstanceUid === bad ? { kind: 'push-back', reason: 'A700' } : { kind: 'stored' };
    await accept(r, instances);
    await until(r.clock, async () => (await pacs(r)).verified === 39, 'the others delivered');
    expect(r.clock.now() - NOON).toBeLessThan(60_000);
    expect(await pacs(r)).toMatchObject({ quarantined: 0, backlog: { instances: 1 }, health: { phase: 'up' } });
  });

  test('one instance for which whole requests are pushed back is found by halving, and holds up no other', async () => {
    const r = await rig();
    r.peer.batch = { maxInstances: 20, maxBytes: 1024 * 1024 };
    r.peer.reachable = false;
    const instances = study(1, 40);
    const bad = instances[3]?.identity.sopInstanceUid ?? '';
    const send = r.peer.send.bind(r.peer);
    r.peer.send = async (outgoing, signal) =>
      outgoing.some(({ identity }) => identity.sopInstanceUid === bad)
        ? outgoing.map(() => ({ kind: 'push-back', reason: '503' }))
        : send(outgoing, signal);
    await accept(r, instances);
    r.peer.reachable = true;
    await until(r.clock, async () => (await pacs(r)).verified === 39, 'the others delivered');
    expect(await pacs(r)).toMatchObject({ quarantined: 0, backlog: { instances: 1 } });
  });

  test('a PACS that stores and says nothing: what it shows is verified, and it is not held to be down', async () => {
    const r = await rig();
    r.peer.keeps = () => true;
    r.peer.respond = () => ({ kind: 'unanswered', reason: 'HTTP 200 with an empty body' });
    for (let seed = 1; seed <= 8; seed += 1) await accept(r, study(seed, 1));
    await drained(r);
    expect(await pacs(r)).toMatchObject({ verified: 8, quarantined: 0, health: { phase: 'up' } });
    // It was not even suspected.
    expect(named(r, 'health')).toEqual([]);
    expect(r.peer.requests.flat()).toHaveLength(8);
  });

  test('a timer that fires early, and a clock that goes back, do not stop replay', async () => {
    const clock = new VirtualClock(NOON);
    const early = {
      now: () => clock.now(),
      schedule: (ms: number, call: () => void) => clock.schedule(ms > 1 ? ms - 1 : ms, call),
    };
    const peer = new ScriptedTransport();
    const spillway = await openSpillway({
      store: memoryStore(),
      destinations: [{ id: 'pacs', transport: peer }],
      clock: early,
    });
    onTestFinished(() => close(clock, spillway));
    let busy = 3;
    peer.respond = () => {
      busy -= 1;
      return busy >= 0 ? { kind: 'push-back', reason: '503', retryAfterMs: 1_000 } : { kind: 'stored' };
    };
    for (const { bytes } of study(1, 4)) await spillway.accept(bytes);
    const isDrained = async () => (await spillway.status()).destinations[0]?.backlog.instances === 0;
    await until(clock, isDrained, 'drained');
  });
});

describe('the window', () => {
  test('a study whose page is on the way is not displaced by an arrival, and keeps its lease', async () => {
    const { catalog, close: closeStore } = await memoryStore().open();
    onTestFinished(closeStore);
    await catalog.registerDestination('pacs');
    const arrivalOf = async (number: number, tier: number): Promise<Rank> => {
      const uid = `1.2.${number}`;
      const rank: Rank = { tier, urgency: 'unknown', acquiredAt: NOON, basis: 'dated', ageTier: tier, ruledTier: null };
      const identity = {
        studyInstanceUid: uid,
        seriesInstanceUid: `${uid}.1`,
        sopInstanceUid: `${uid}.1.1`,
        sopClassUid: '1.2.840.10008.5.1.4.1.1.2',
        transferSyntaxUid: '1.2.840.10008.1.2.1',
      };
      const arrivalId = `${number}`.padStart(16, '0');
      const version = {
        arrivalId,
        identity,
        digest: uid,
        bytes: 1,
        blobRef: uid,
        receivedAt: NOON,
        oddities: [],
        presence: 'kept' as const,
      };
      await catalog.accept([
        { version, attributes: {}, source: null, urgency: null, deliveries: [{ destinationId: 'pacs', rank }] },
      ]);
      return rank;
    };
    await arrivalOf(1, 2);
    const window = liveWindow(catalog, 1);
    const { dueDeliveries } = catalog;
    catalog.dueDeliveries = async (page) => {
      const result = await dueDeliveries.call(catalog, page);
      catalog.dueDeliveries = dueDeliveries;
      window.arrived('1.2.2', await arrivalOf(2, 0));
      return result;
    };
    const taken = await window.take(NOON, BOUNDS);
    await window.take(NOON, BOUNDS);
    const [delivery] = taken?.deliveries ?? [];
    const lease = taken?.study.lease ?? -1;
    const outcome = { state: 'verified', evidence: 'found', attempts: 0, reason: null, notBefore: 0, at: 0 } as const;
    expect(await catalog.settle([{ deliveryId: delivery?.id ?? -1, lease, ...outcome }])).toEqual([]);
  });
});

test('what was answered is asked for, though an arrival that was taken already is told only then', async () => {
  const { catalog, close: closeStore } = await memoryStore().open();
  onTestFinished(closeStore);
  await catalog.registerDestination('pacs');
  const rank: Rank = { tier: 0, urgency: 'unknown', acquiredAt: NOON, basis: 'dated', ageTier: 0, ruledTier: null };
  const identity = {
    studyInstanceUid: '1.1',
    seriesInstanceUid: '1.1.1',
    sopInstanceUid: '1.1.1.1',
    sopClassUid: '1.2.840.10008.5.1.4.1.1.2',
    transferSyntaxUid: '1.2.840.10008.1.2.1',
  };
  const version = { identity, digest: 'd', bytes: 1, blobRef: 'b', receivedAt: NOON, oddities: [] };
  const deliveries = [{ destinationId: 'pacs', rank }];
  const offered = { ...version, arrivalId: '1', presence: 'kept' as const };
  await catalog.accept([{ version: offered, attributes: {}, source: null, urgency: null, deliveries }]);
  const window = liveWindow(catalog, 1);
  const taken = await window.take(NOON, BOUNDS);
  const [delivery] = taken?.deliveries ?? [];
  if (taken === undefined || delivery === undefined) throw new Error('nothing was taken');
  window.arrived('1.1', rank);
  const outcome = { state: 'sent', evidence: 'answered', attempts: 0, reason: null, notBefore: 0, at: NOON } as const;
  await catalog.settle([{ deliveryId: delivery.id, lease: taken.study.lease, ...outcome }]);
  taken.study.done([delivery.id]);
  expect(await window.take(NOON, BOUNDS)).toMatchObject({ kind: 'look-up', deliveries: [{ id: delivery.id }] });
});

test('a study that an arrival displaced while others were paged is not handed out', async () => {
  const { catalog, close: closeStore } = await memoryStore().open();
  onTestFinished(closeStore);
  await catalog.registerDestination('pacs');
  let arrivals = 0;
  const offer = async (study: string, tier: number): Promise<Rank> => {
    arrivals += 1;
    const rank: Rank = { tier, urgency: 'unknown', acquiredAt: NOON, basis: 'dated', ageTier: tier, ruledTier: null };
    const arrivalId = String(arrivals).padStart(16, '0');
    const identity = {
      studyInstanceUid: study,
      seriesInstanceUid: `${study}.1`,
      sopInstanceUid: `${study}.${arrivals}`,
      sopClassUid: '1.2.840.10008.5.1.4.1.1.2',
      transferSyntaxUid: '1.2.840.10008.1.2.1',
    };
    const version = {
      arrivalId,
      identity,
      digest: study,
      bytes: 1,
      blobRef: study,
      receivedAt: NOON,
      oddities: [],
      presence: 'kept' as const,
    };
    const deliveries = [{ destinationId: 'pacs', rank }];
    await catalog.accept([{ version, attributes: {}, source: null, urgency: null, deliveries }]);
    return rank;
  };
  const first = await offer('1.1', 0);
  await offer('1.9', 2);
  const window = liveWindow(catalog, 2);
  expect((await window.take(NOON, BOUNDS))?.study.studyInstanceUid).toBe('1.1');
  window.arrived('1.1', first);
  const { dueDeliveries } = catalog;
  catalog.dueDeliveries = async (page) => {
    catalog.dueDeliveries = dueDeliveries;
    const result = await dueDeliveries.call(catalog, page);
    window.arrived('1.2', await offer('1.2', 1));
    return result;
  };
  // Its lease is about to end; the next look finds what took its place.
  expect(await window.take(NOON, BOUNDS)).toBeUndefined();
  expect((await window.take(NOON, BOUNDS))?.study.studyInstanceUid).toBe('1.2');
});

describe('restart', () => {
  test('in the outage: it is still down, nothing is announced twice, and the episode goes on', async () => {
    let r = await rig();
    await accept(r, study(9, 1));
    await drained(r);
    r.peer.reachable = false;
    await accept(r, study(1, 5));
    await until(r.clock, () => named(r, 'outage').length === 1, 'an outage');
    r = await r.reopen();
    expect(await pacs(r)).toMatchObject({ health: { phase: expect.stringMatching(/down|probing/) } });
    await accept(r, study(2, 5, NOON - 30 * DAY));
    r.peer.reachable = true;
    await until(r.clock, () => named(r, 'closed').length === 1, 'closed');
    expect(named(r, 'outage')).toEqual([]);
    expect(named(r, 'recovery')).toHaveLength(1);
    expect(named(r, 'closed')[0]?.detail).toMatchObject({ received: 10, verified: 10, unaccounted: 0 });
    expect(await Array.fromAsync(r.spillway.episodes())).toHaveLength(1);
  });

  test('a close in mid-send: what had arrived is settled by a query, not sent again', async () => {
    let r = await rig({ maxConcurrency: 1 });
    const instances = study(1, 4);
    r.peer.keeps = () => true;
    r.peer.gate = () => new Promise(() => {});
    const answered = r.peer.send.bind(r.peer);
    r.peer.send = async (outgoing, signal) => {
      const aborted = new Promise<never>((_, reject) =>
        signal.addEventListener('abort', () => reject(new Error('aborted')), { once: true }),
      );
      r.peer.gate = async () => {};
      await answered(outgoing, new AbortController().signal);
      return aborted;
    };
    await accept(r, instances);
    await until(r.clock, () => r.peer.requests.length === 1, 'a request');
    r = await r.reopen();
    r.peer.send = answered;
    await drained(r);
    const sends = r.peer.requests.flat();
    expect(new Set(sends).size).toBe(sends.length);
    expect(await pacs(r)).toMatchObject({ verified: 4, quarantined: 0 });
  });

  test('what failed before the restart and may have arrived is looked up, not sent again', async () => {
    let r = await rig();
    const { lookUp } = r.peer;
    r.peer.keeps = () => true;
    r.peer.respond = () => ({ kind: 'unanswered', reason: 'HTTP 500' });
    r.peer.lookUp = async () => null;
    await accept(r, study(1, 1));
    await until(r.clock, () => r.peer.requests.length === 1, 'sent once');
    await until(r.clock, () => r.peer.inFlight === 0, 'answered');
    r = await r.reopen();
    r.peer.lookUp = lookUp;
    r.peer.respond = () => ({ kind: 'stored' });
    await drained(r);
    expect(r.peer.requests.flat()).toHaveLength(1);
    expect(await pacs(r)).toMatchObject({ verified: 1 });
  });

  test('a destination with a backlog cannot be left out, until it is retired by name, reason and person', async () => {
    const r = await rig();
    r.peer.reachable = false;
    await accept(r, study(1, 3));
    await close(r.clock, r.spillway);
    const other = new ScriptedTransport();
    const without = () =>
      openSpillway({ store: r.store, destinations: [{ id: 'other', transport: other }], clock: r.clock });
    await expect(without()).rejects.toMatchObject({
      code: 'SPILLWAY_BACKLOG_ORPHANED',
      message: expect.stringContaining('"pacs" (3 deliveries)'),
    });
    const again = await rig({}, r);
    await expect(again.spillway.retireDestination({ id: 'pacs', reason: '', by: 'x' })).rejects.toMatchObject({
      code: 'SPILLWAY_OPTION_INVALID',
    });
    await expect(again.spillway.retireDestination({ id: 'none', reason: 'x', by: 'x' })).rejects.toMatchObject({
      code: 'SPILLWAY_NOT_FOUND',
    });
    await again.spillway.retireDestination({ id: 'pacs', reason: 'decommissioned', by: 'J. Doe' });
    await close(again.clock, again.spillway);
    const spillway = await without();
    expect(await Array.fromAsync(spillway.quarantined())).toEqual([]);
    await close(r.clock, spillway);
  });
});
