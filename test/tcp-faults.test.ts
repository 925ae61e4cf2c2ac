import { describe, expect, onTestFinished, test } from 'vitest';
import { TcpProxy } from '../src/testing/tcp-proxy.ts';
import { ownPacs, PeerRig } from './support/peer-rig.ts';

/** In which a request is given up; where a busy machine may take as long, what is sent twice for it is not counted. */
const SHORT = { idleTimeoutMs: 500, connectTimeoutMs: 500 };

async function rig(options: Parameters<typeof PeerRig.open>[1] = {}) {
  const pacs = await ownPacs();
  const proxy = await TcpProxy.start({ target: { port: pacs.port } });
  onTestFinished(() => proxy.close());
  const gateway = await PeerRig.open(`http://127.0.0.1:${proxy.port}`, options);
  return { pacs, proxy, gateway };
}

describe('a cable is pulled (half-open TCP)', () => {
  test('in mid-request: it ends by the idle time-out, is declared, and recovers by itself', async () => {
    const { pacs, proxy, gateway } = await rig(SHORT);
    await gateway.accept(1, 6);
    await gateway.verified();

    // Three requests' worth: the first stays in the cable, the others lead nowhere.
    const pulled = proxy.cutAfterBytes(2_000, 'half-open').then(() => proxy.halfOpen());
    await gateway.accept(2, 12);
    await pulled;
    await gateway.phase('down', 'probing');
    expect(gateway.told('outage')).toMatchObject([{ cause: expect.stringMatching(/no byte moved|no connection/) }]);
    const before = proxy.accepted;
    await gateway.until('it goes on asking', () => proxy.accepted >= before + 3);
    expect(await gateway.status()).toMatchObject({ verified: 6, backlog: { instances: 12 } });

    await proxy.restore();
    await gateway.verified();
    await gateway.until('it is closed', () => gateway.told('closed').length === 1);
    expect(gateway.told('closed')[0]).toMatchObject({ unaccounted: 0, outstanding: 0, verified: 12 });
    expect(gateway.told('outage')).toHaveLength(1);
    expect(gateway.told('recovery')).toHaveLength(1);
    gateway.expectStored(await pacs.journal());
  });

  test('after the last byte: what was stored there is found by a query, and counted once', async () => {
    const { pacs, proxy, gateway } = await rig({ ...SHORT, idleTimeoutMs: 1_000 });
    const pulled = proxy.cutAtAnswer('half-open').then(() => proxy.halfOpen());
    const receipts = await gateway.accept(1, 4);
    await pulled;
    expect((await pacs.journal()).length).toBeGreaterThan(0);
    await gateway.phase('down', 'probing');
    expect(await gateway.status()).toMatchObject({ verified: 0, backlog: { instances: 4 } });
    await proxy.restore();
    await gateway.verified();
    expect(gateway.expectStored(await pacs.journal())).toBe(0);
    expect(await pacs.journal()).toHaveLength(receipts.length);
  });

  test('with several requests in flight, and connections that stand idle', async () => {
    const { pacs, proxy, gateway } = await rig({ ...SHORT, maxConcurrency: 4, maxInstancesPerRequest: 1 });
    await gateway.accept(1, 30);
    await gateway.verified();
    pacs.faults.latencyMs = 20;
    for (let seed = 2; seed < 12; seed += 1) await gateway.accept(seed, 4);
    await gateway.until('several are in flight', async () => (await gateway.status()).concurrency.inFlight > 1);
    proxy.halfOpen();
    await gateway.phase('down', 'probing');
    await proxy.restore();
    await gateway.verified();
    gateway.expectStored(await pacs.journal());
    expect(gateway.told('outage')).toHaveLength(1);
  });
});

describe('connections that were kept are dead (a firewall has forgotten them, a peer was restarted)', () => {
  test.each([
    ['and nobody is told', 'half-open'],
    ['and end as the next request comes', 'closed'],
  ] as const)('%s: the next request may fail, no outage is declared', async (_, how) => {
    const { pacs, proxy, gateway } = await rig({ ...SHORT, maxConcurrency: 4, maxInstancesPerRequest: 1 });
    pacs.faults.latencyMs = 5;
    for (let seed = 1; seed <= 8; seed += 1) await gateway.accept(seed, 4);
    await gateway.verified();
    expect(proxy.connections).toBeGreaterThan(2);
    if (how === 'half-open') proxy.halfOpen();
    else await proxy.refuse();
    await proxy.restore();
    for (let seed = 11; seed <= 14; seed += 1) {
      if (how === 'closed') proxy.reset();
      await gateway.accept(seed, 4);
      await gateway.verified();
    }
    gateway.expectStored(await pacs.journal());
    expect(gateway.told('outage')).toEqual([]);
  });
});

describe('a connection is lost', () => {
  test.each(['cut', 'reset'] as const)('after the last byte, by %s: looked up, not sent twice', async (how) => {
    const { pacs, proxy, gateway } = await rig();
    for (let seed = 1; seed <= 8; seed += 1) {
      const lost = proxy.cutAtAnswer(how);
      await gateway.accept(seed, 3);
      await lost;
      await gateway.verified();
    }
    expect(gateway.expectStored(await pacs.journal())).toBe(0);
    expect(gateway.told('outage')).toEqual([]);
  });

  test.each(['cut', 'reset'] as const)('in mid-body, by %s, wherever it may be', async (how) => {
    const { pacs, proxy, gateway } = await rig();
    const positions = [0, 1, 400, 1_000, 2_500, 4_000, 10_000, 40_000];
    for (const [index, position] of positions.entries()) {
      const lost = proxy.cutAfterBytes(position, how);
      await gateway.accept(index + 1, 4, { pixelBytes: 16_000 });
      await lost;
      await gateway.verified();
    }
    // What came whole before the loss is doubled at the most, where it is asked for before it is stored.
    expect(gateway.expectStored(await pacs.journal())).toBeLessThanOrEqual(2);
    expect(gateway.told('outage')).toEqual([]);
  });

  test('again and again, all at once: in the end everything is there', async () => {
    const { pacs, proxy, gateway } = await rig({ maxConcurrency: 4 });
    pacs.faults.latencyMs = 2;
    for (let seed = 1; seed <= 10; seed += 1) await gateway.accept(seed, 10);
    let inFlight = 0;
    for (let turn = 0; turn < 12; turn += 1) {
      const { verified } = await gateway.status();
      await gateway.until('some more is there', async () => {
        const { verified: now, backlog } = await gateway.status();
        return now > verified || backlog.instances === 0;
      });
      inFlight += proxy.connections;
      if (turn % 2 === 0) proxy.reset();
      else proxy.cut();
    }
    await gateway.verified();
    expect(gateway.expectStored(await pacs.journal())).toBeLessThan(inFlight * 4);
  });
});

describe('a peer that is there, and slow', () => {
  test('it reads nothing for a while: that ends by the idle time-out, and what arrives late does no harm', async () => {
    const { pacs, proxy, gateway } = await rig(SHORT);
    await gateway.accept(1, 2);
    await gateway.verified();
    proxy.set({ stallReads: true });
    await gateway.accept(2, 6, { pixelBytes: 4_000_000 });
    await gateway.phase('down', 'probing');
    expect(gateway.told('outage')).toMatchObject([{ cause: expect.stringContaining('no byte moved') }]);
    const connections = proxy.accepted;
    proxy.set({ stallReads: false });
    await gateway.verified();
    // What had been given up is still under way, and may arrive after it was asked for: once for each connection.
    expect(gateway.expectStored(await pacs.journal())).toBeLessThanOrEqual(connections * 4);
  });

  test('a thin, long line: as long as bytes move, it is no fault', async () => {
    const { pacs, proxy, gateway } = await rig({
      maxConcurrency: 1,
      idleTimeoutMs: 1_000,
      maxBytesPerRequest: 64 << 20,
    });
    // One request takes more than twice the idle time-out; what the system's buffers hold, much less.
    proxy.set({ bytesPerSecond: 16_000_000, delayMs: 20 });
    await gateway.accept(1, 1, { pixelBytes: 36_000_000 });
    await gateway.verified();
    expect(gateway.expectStored(await pacs.journal())).toBe(0);
    expect(gateway.told('outage')).toEqual([]);
    expect(gateway.told('health')).toEqual([]);
  });

  test('its process is gone, its host is there: refused connections, one outage, and back', async () => {
    const { pacs, proxy, gateway } = await rig();
    await gateway.accept(1, 4);
    await gateway.verified();
    await proxy.refuse();
    proxy.reset();
    for (let seed = 2; seed <= 5; seed += 1) await gateway.accept(seed, 5);
    await gateway.phase('down', 'probing');
    expect(gateway.told('outage')).toMatchObject([{ cause: expect.stringContaining('ECONNREFUSED') }]);
    await proxy.restore();
    await gateway.verified();
    expect(gateway.expectStored(await pacs.journal())).toBe(0);
    expect(gateway.told('outage')).toHaveLength(1);
  });

  test('it takes one connection at a time: the rest is reset, and all arrives', async () => {
    const { pacs, proxy, gateway } = await rig({ maxConcurrency: 4, maxInstancesPerRequest: 1 });
    pacs.faults.latencyMs = 2;
    proxy.set({ maxConnections: 1 });
    for (let seed = 1; seed <= 10; seed += 1) await gateway.accept(seed, 6);
    await gateway.verified();
    expect(gateway.expectStored(await pacs.journal())).toBe(0);
  });
});
