import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Receipt } from '../src/domain/receipt.ts';
import type { SpillwayEvents } from '../src/events.ts';
import { openSpillway, type Spillway } from '../src/spillway.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { syntheticInstance, syntheticStudy } from '../src/testing/synthetic.ts';
import { VirtualClock } from '../src/testing/virtual-clock.ts';
import type { ProbeOutcome, SendOutcome, Transport } from '../src/transports/transport.ts';
import { ScriptedTransport } from './support/scripted-transport.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const NOON = Date.parse('2026-03-02T12:00:00Z');
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const STEP_MS = 100;
const MAX_STEPS = 10_000;
const QUIET_TURNS = 50;
const REQUESTS = 4;
const BATCH = 2;
const IN_FLIGHT = REQUESTS * BATCH;

type Told = { readonly name: keyof SpillwayEvents; readonly detail: unknown };

const silence = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));

/** A transport of a process that may be killed: from then on nothing that it asks is answered. */
function mortal(
  peer: ScriptedTransport,
  probeOf: () => Gateway['probe'],
): { readonly transport: Transport; readonly kill: () => void } {
  let isDead = false;
  const unlessDead = async <T>(signal: AbortSignal, ask: () => Promise<T>): Promise<T> => {
    if (isDead) return silence(signal);
    const answer = await ask();
    return isDead ? silence(signal) : answer;
  };
  return {
    transport: {
      supports: peer.supports,
      batch: peer.batch,
      send: (instances, signal) => unlessDead(signal, () => peer.send(instances, signal)),
      probe: (signal) => unlessDead(signal, () => probeOf()?.(signal) ?? peer.probe()),
      lookUp: (instances, signal) => unlessDead(signal, () => peer.lookUp(instances)),
      readBack: (instance, signal) => unlessDead(signal, () => peer.readBack(instance)),
      close: async () => {},
    },
    kill: () => {
      isDead = true;
    },
  };
}

/** A gateway on a file store, with a peer that outlives it. */
class Gateway {
  readonly clock = new VirtualClock(NOON);
  readonly peer = new ScriptedTransport();
  readonly receipts: Receipt[] = [];
  readonly told: Told[] = [];
  #directory = '';
  #spillway: Spillway | undefined;
  /** Answers probes instead of the peer. */
  probe: ((signal: AbortSignal) => Promise<ProbeOutcome>) | undefined;
  /** The process that runs is answered nothing more; and is heard no more. */
  #silence = () => {};
  #forget = () => {};

  static async open(): Promise<Gateway> {
    const gateway = new Gateway();
    gateway.peer.batch = { maxInstances: BATCH, maxBytes: 1024 * 1024 };
    gateway.#directory = join(await temporaryDirectory(), 'buffer');
    await gateway.open();
    return gateway;
  }

  get spillway(): Spillway {
    if (this.#spillway === undefined) throw new Error('It is closed.');
    return this.#spillway;
  }

  async open(): Promise<void> {
    const { transport, kill } = mortal(this.peer, () => this.probe);
    let isAlive = true;
    this.#silence = kill;
    this.#forget = () => {
      isAlive = false;
    };
    const spillway = await openSpillway({
      store: fileStore({ directory: this.#directory, minFreeBytes: 0 }),
      destinations: [{ id: 'pacs', transport, maxConcurrency: REQUESTS }],
      clock: this.clock,
      closeTimeoutMs: 0,
    });
    const names = ['outage', 'recovery', 'delivery', 'quarantine', 'drained', 'closed', 'fault'] as const;
    for (const name of names) {
      spillway.on(name, (detail) => {
        if (isAlive) this.told.push({ name, detail });
      });
    }
    this.#spillway = spillway;
    onTestFinished(() => this.#end(spillway));
  }

  /**
   * Opens it anew: closed properly, or as after a kill: on what was on the disk at that moment, while the process that was
   * killed is heard no more.
   */
  async restart(how: 'closed' | 'killed'): Promise<void> {
    const { spillway } = this;
    if (how === 'killed') {
      const directory = join(await temporaryDirectory(), 'buffer');
      // What it does when it hears no more is on the disk before that is copied, and was told.
      this.#silence();
      for (let turn = 0; turn < QUIET_TURNS; turn += 1) await new Promise((resolve) => setTimeout(resolve, 1));
      await cp(this.#directory, directory, { recursive: true });
      this.#forget();
      this.#directory = directory;
    } else {
      await this.#end(spillway);
    }
    await this.open();
  }

  async accept(seed: number, instances: number, ageMs = HOUR): Promise<readonly Receipt[]> {
    const study = syntheticStudy({ seed, instances, rows: 8, columns: 8, acquiredAt: NOON - ageMs });
    const receipts = await Promise.all([...study].map(({ bytes }) => this.spillway.accept(bytes)));
    this.receipts.push(...receipts);
    return receipts;
  }

  async status() {
    const [status] = (await this.spillway.status()).destinations;
    if (status === undefined) throw new Error('There is no destination.');
    return status;
  }

  named<Name extends keyof SpillwayEvents>(name: Name): readonly SpillwayEvents[Name][] {
    return this.told.flatMap((event) => (event.name === name ? [event.detail as SpillwayEvents[Name]] : []));
  }

  /** Lets virtual time pass, and real work in other threads happen, until the condition holds. */
  async until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    for (let step = 0; step < MAX_STEPS; step += 1) {
      if (await condition()) return;
      await new Promise((resolve) => setTimeout(resolve, 1));
      this.clock.advance(STEP_MS);
    }
    throw new Error(`It never came about: ${what}. ${JSON.stringify(await this.status())}`);
  }

  /** The peer has exactly what was accepted; each is verified, and so many at the most were sent twice. */
  async expectDelivered(mostTwice = 0): Promise<void> {
    await this.until('nothing is left', async () => (await this.status()).backlog.instances === 0);
    expect(await this.status()).toMatchObject({ verified: this.receipts.length, quarantined: 0 });
    expect([...this.peer.held.values()].map(({ digest }) => digest).sort()).toEqual(
      this.receipts.map(({ digest }) => digest).sort(),
    );
    const sent = this.peer.requests.flat();
    expect(sent.length - this.receipts.length).toBeLessThanOrEqual(mostTwice);
    expect(this.named('fault')).toEqual([]);
  }

  /** One episode, closed once, that held up so many. */
  async expectOneEpisode(received: number): Promise<void> {
    await this.until('it is closed', () => this.named('closed').length > 0);
    expect(['outage', 'recovery', 'drained', 'closed'].map((name) => this.named(name as 'outage').length)).toEqual([
      1, 1, 1, 1,
    ]);
    expect(this.named('closed')[0]).toMatchObject({
      received,
      verified: received,
      quarantined: 0,
      outstanding: 0,
      unaccounted: 0,
    });
    expect(await Array.fromAsync(this.spillway.episodes())).toHaveLength(1);
  }

  async #end(spillway: Spillway): Promise<void> {
    let closed = false;
    const closing = spillway.close().finally(() => {
      closed = true;
    });
    await this.until('closed', () => closed);
    await closing;
  }
}

describe.each(['closed', 'killed'] as const)('a gateway that is %s and opened again', (how) => {
  test('while an outage is undetected: it is found out again, and told once', async () => {
    const gateway = await Gateway.open();
    await gateway.accept(1, 4);
    await gateway.expectDelivered();
    gateway.peer.reachable = false;
    // One failure is none yet: a connection may be lost.
    let failures = 0;
    const { send } = gateway.peer;
    gateway.peer.send = async (...request) => {
      failures += 1;
      return send.apply(gateway.peer, request);
    };
    gateway.probe = silence;
    await gateway.accept(2, 3);
    await gateway.until('it has failed', () => failures > 0);
    expect(gateway.named('outage')).toEqual([]);
    await gateway.restart(how);
    gateway.peer.send = send;
    gateway.probe = undefined;
    await gateway.accept(3, 3, 30 * DAY);
    await gateway.until('an outage', () => gateway.named('outage').length > 0);
    gateway.peer.reachable = true;
    await gateway.expectDelivered();
    await gateway.expectOneEpisode(6);
  });

  test('while its peer recovers: no second outage, and the episode holds what it held', async () => {
    const gateway = await Gateway.open();
    gateway.peer.reachable = false;
    for (let seed = 1; seed <= 6; seed += 1) await gateway.accept(seed, 5, seed * 2 * DAY);
    await gateway.until('an outage', () => gateway.named('outage').length > 0);
    gateway.peer.reachable = true;
    await gateway.until('it recovers', () => gateway.named('recovery').length > 0 && gateway.peer.held.size > 2);
    expect(gateway.peer.held.size).toBeLessThan(30);
    await gateway.restart(how);
    expect((await gateway.status()).health.phase).toBe('recovering');
    // Live: no part of the episode.
    await gateway.accept(7, 3);
    await gateway.expectDelivered(IN_FLIGHT);
    await gateway.expectOneEpisode(30);
  });

  test('when all is sent and waits for evidence: it is drained once, asked for, and nothing is sent again', async () => {
    const gateway = await Gateway.open();
    gateway.peer.reachable = false;
    await gateway.accept(1, 5);
    await gateway.accept(2, 5, 3 * DAY);
    await gateway.until('an outage', () => gateway.named('outage').length > 0);
    gateway.peer.showsHeld = false;
    gateway.peer.reachable = true;
    await gateway.until('it is drained', () => gateway.named('drained').length > 0);
    const asked = gateway.peer.lookUps;
    await gateway.until('it is asked in vain', () => gateway.peer.lookUps > asked);
    await gateway.restart(how);
    expect(await gateway.status()).toMatchObject({ verified: 0, backlog: { instances: 10 } });
    const before = gateway.peer.lookUps;
    await gateway.until('it is asked again', () => gateway.peer.lookUps > before);
    expect(gateway.named('closed')).toEqual([]);
    gateway.peer.showsHeld = true;
    await gateway.expectDelivered();
    await gateway.expectOneEpisode(10);
  });

  test('with requests in flight of which some have arrived: those are found, the rest is sent', async () => {
    const gateway = await Gateway.open();
    const { peer } = gateway;
    await gateway.accept(1, 20);
    await gateway.expectDelivered();
    // From now on nothing is answered; every other request has arrived.
    const requestsBefore = peer.requests.length;
    let held = new Promise<void>(() => {});
    let nth = 0;
    const { send } = peer;
    peer.send = async (instances, signal) => {
      nth += 1;
      if (nth % 2 === 0) await send.call(peer, instances, new AbortController().signal);
      else peer.requests.push(instances.map(({ identity }) => identity.sopInstanceUid));
      return new Promise<never>((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
        void held.then(() => reject(new Error('gone')));
      });
    };
    for (let seed = 2; seed <= 6; seed += 1) await gateway.accept(seed, 4, seed * DAY);
    await gateway.until('several are in flight', () => peer.requests.length >= requestsBefore + 2);
    const lost = peer.requests
      .slice(requestsBefore)
      .filter((_, index) => index % 2 === 0)
      .flat();
    await gateway.restart(how);
    held = Promise.resolve();
    peer.send = send;
    await gateway.expectDelivered(lost.length);
    // What had arrived went once.
    const sent = peer.requests.flat();
    for (const uid of new Set(sent)) {
      expect(sent.filter((other) => other === uid).length).toBe(lost.includes(uid) ? 2 : 1);
    }
    expect(gateway.named('outage')).toEqual([]);
  });

  test('while its credentials are refused: one outage that says so, and they are taken up when they are mended', async () => {
    const gateway = await Gateway.open();
    const { peer } = gateway;
    const reason = 'HTTP 401: check the credentials given in `headers`';
    const refused: SendOutcome = { kind: 'unreachable', reason };
    let isMended = false;
    const { send } = peer;
    peer.send = async (instances, signal) =>
      isMended ? send.call(peer, instances, signal) : instances.map(() => refused);
    gateway.probe = async () => (isMended ? { alive: true } : { alive: false, reason });
    await gateway.accept(1, 4);
    await gateway.accept(2, 4, 30 * DAY);
    await gateway.until('an outage', () => gateway.named('outage').length > 0);
    expect(gateway.named('outage')).toMatchObject([{ cause: reason }]);
    await gateway.restart(how);
    await gateway.until('it is asked again', async () => (await gateway.status()).health.reason === reason);
    isMended = true;
    await gateway.expectDelivered();
    await gateway.expectOneEpisode(8);
  });

  test.each([true, false])(
    'with one SOP Instance UID in two studies of different tiers; the peer replaces: %s',
    async (replaces) => {
      const gateway = await Gateway.open();
      const { peer } = gateway;
      peer.replaces = replaces;
      peer.reachable = false;
      const one = { rows: 8, columns: 8, sopInstanceUid: '2.25.77', timezoneOffset: '+0000' };
      const old = syntheticInstance({ ...one, seed: 1, studyDate: '20240131' });
      const fresh = syntheticInstance({ ...one, seed: 2, studyDate: '20260302', studyTime: '110000' });
      const receipts = [await gateway.spillway.accept(old), await gateway.spillway.accept(fresh)];
      await gateway.accept(9, 5, 100 * DAY);
      expect(receipts.map(({ tier }) => tier)).toEqual(['historical', 'last-24-hours']);
      await gateway.until('an outage', () => gateway.named('outage').length > 0);
      await gateway.restart(how);
      peer.reachable = true;
      await gateway.until('nothing is left', async () => (await gateway.status()).backlog.instances === 0);
      await gateway.until('it is closed', () => gateway.named('closed').length > 0);
      expect(gateway.named('closed')[0]).toMatchObject({ received: 7, unaccounted: 0, outstanding: 0 });

      // In the order of arrival, as the peer would have had them without an outage; a query proves a UID, no version.
      const quarantined = await Array.fromAsync(gateway.spillway.quarantined());
      const verified = gateway.named('delivery').filter(({ state }) => state === 'verified');
      expect(verified.length + quarantined.length).toBe(7);
      const [first, second] = receipts;
      expect(peer.held.get('2.25.77')?.digest).toBe((replaces ? second : first)?.digest);
      expect(quarantined.map(({ arrivalId }) => arrivalId)).toEqual(replaces ? [] : [second?.arrivalId]);
      const evidence = verified.find(({ arrivalId }) => arrivalId === second?.arrivalId)?.evidence;
      expect(evidence).toBe(replaces ? 'compared' : undefined);
      expect(gateway.named('fault')).toEqual([]);
    },
  );
});
