import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { TcpProxy } from '../src/testing/tcp-proxy.ts';
import { missingOrthanc, startOrthanc } from './support/orthanc.ts';
import { type AcceptedInstance, expectHeld } from './support/orthanc-holds.ts';
import { PeerRig } from './support/peer-rig.ts';
import { needPeer } from './support/skip.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const DAY = 24 * 3_600_000;

describe('Orthanc (skipped where it is not installed)', { timeout: 120_000 }, () => {
  test('is killed three times in mid-replay: all arrive, and each kill is one outage at the most', async (context) => {
    needPeer(context, missingOrthanc());
    const orthanc = await startOrthanc({ directory: join(await temporaryDirectory(), 'orthanc') });
    const gateway = await PeerRig.open(orthanc.dicomWebUrl, {
      durable: true,
      idleTimeoutMs: 10_000,
      maxConcurrency: 3,
    });
    await orthanc.stop();
    const studies = 12;
    for (let seed = 1; seed <= studies; seed += 1) await gateway.accept(seed, 25, { ageMs: (seed - 0.5) * 3 * DAY });
    await gateway.phase('down', 'probing');

    const kills = 3;
    for (let kill = 0; kill < kills; kill += 1) {
      const { verified } = await gateway.status();
      await orthanc.start();
      await gateway.until('replay is under way', async () => (await gateway.status()).verified >= verified + 40);
      await orthanc.stop('SIGKILL');
      expect((await gateway.status()).backlog.instances).toBeGreaterThan(0);
      await gateway.phase('down', 'probing');
    }
    await orthanc.start();
    await gateway.verified();
    await gateway.until('all are closed', () => gateway.told('closed').length === gateway.told('outage').length);

    expect(gateway.told('outage').length).toBe(1 + kills);
    for (const closed of gateway.told('closed')) expect(closed).toMatchObject({ unaccounted: 0, outstanding: 0 });
    await expectHeld(orthanc, asHeld(gateway));
    const deliveries = gateway.receipts.length;
    console.log(`Orthanc killed ${kills} times: ${gateway.attempts} attempts for ${deliveries} deliveries`);
    // A kill costs what was in flight at it, and a trial after it.
    expect(gateway.attempts - deliveries).toBeLessThanOrEqual(kills * (3 * 4 + 1));
    expect(gateway.told('fault')).toEqual([]);
  });

  test('is behind a bad line: connections lost at any point, a cable pulled and put back: all arrive, each verified once', async (context) => {
    needPeer(context, missingOrthanc());
    const orthanc = await startOrthanc({ directory: join(await temporaryDirectory(), 'orthanc') });
    const proxy = await TcpProxy.start({ target: { port: Number(new URL(orthanc.url).port) } });
    onTestFinished(() => proxy.close());
    await proxy.refuse();
    const url = `http://127.0.0.1:${proxy.port}${new URL(orthanc.dicomWebUrl).pathname}`;
    const gateway = await PeerRig.open(url, {
      durable: true,
      idleTimeoutMs: 1_500,
      connectTimeoutMs: 1_500,
      maxConcurrency: 3,
    });
    for (let seed = 1; seed <= 12; seed += 1) {
      await gateway.accept(seed, 30, { ageMs: (seed - 0.5) * 3 * DAY, pixelBytes: 10_000 });
    }
    await gateway.phase('down', 'probing');
    await proxy.restore();
    const more = async (by: number) => {
      const { verified } = await gateway.status();
      await gateway.until('replay goes on', async () => (await gateway.status()).verified >= verified + by);
    };
    for (const how of ['cut', 'reset', 'half-open', 'cut', 'reset'] as const) {
      await more(10);
      await proxy.cutAfterBytes(15_000, how);
      await more(10);
      await proxy.cutAtAnswer(how);
    }
    await more(10);
    proxy.halfOpen();
    await gateway.phase('down', 'probing');
    expect((await gateway.status()).backlog.instances).toBeGreaterThan(0);
    await proxy.restore();
    await gateway.verified();
    await expectHeld(orthanc, asHeld(gateway));
    const deliveries = gateway.receipts.length;
    console.log(`Orthanc behind a bad line: ${gateway.attempts} attempts for ${deliveries} deliveries`);
    expect(gateway.blindResends).toEqual([]);
    expect(gateway.told('fault')).toEqual([]);
  });
});

function asHeld({ receipts }: PeerRig): readonly AcceptedInstance[] {
  return receipts.map(({ identity, digest }) => ({ sopInstanceUid: identity.sopInstanceUid, digest }));
}
