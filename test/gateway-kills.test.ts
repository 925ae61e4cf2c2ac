import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { formatReconciliation } from '../src/replay/reconciliation.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';
import { bundledChild } from './support/bundled-child.ts';
import { GatewayProcess } from './support/gateway-process.ts';
import { missingOrthanc, startOrthanc } from './support/orthanc.ts';
import { arrivalOrder, expectHeld } from './support/orthanc-holds.ts';
import type { ChildStudy } from './support/replay-child.ts';
import { needPeer } from './support/skip.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const SEED = 20_260_302;
const HOUR = 3_600_000;
const AGES = [400 * 24 * HOUR, 3 * 24 * HOUR, HOUR];
const TIERS = ['last-24-hours', 'last-week', 'historical'];
const IN_FLIGHT = 3 * 4;

const child = bundledChild('replay-child');

/** Least urgent first, so that no order of arrival passes for one by tier. */
function studies(count: number, instances: number): readonly ChildStudy[] {
  return Array.from({ length: count }, (_, index) => ({
    seed: index + 1,
    instances,
    ageMs: (AGES[Math.floor((index * AGES.length) / count)] ?? 0) + index * 60_000,
  }));
}

async function rig() {
  const directory = await temporaryDirectory();
  const orthanc = await startOrthanc({ directory: join(directory, 'orthanc') });
  const gateway = new GatewayProcess(child(), join(directory, 'buffer'), orthanc.dicomWebUrl);
  return { orthanc, gateway };
}

function expectBalanced({ closed, accepted }: GatewayProcess): void {
  const [reconciliation, ...more] = closed;
  if (reconciliation === undefined || more.length > 0) throw new Error(`${closed.length} reconciliations`);
  expect(reconciliation, formatReconciliation(reconciliation)).toMatchObject({
    received: accepted.length,
    verified: accepted.length,
    quarantined: 0,
    discarded: 0,
    outstanding: 0,
    unaccounted: 0,
  });
}

describe('a gateway before Orthanc (skipped where that is not installed)', { timeout: 180_000 }, () => {
  test('is killed at 50 moments of a replay: nothing is lost, nothing invented, what is doubled does no harm', async (context) => {
    needPeer(context, missingOrthanc());
    const { orthanc, gateway } = await rig();
    await orthanc.stop();
    const given = studies(30, 30);
    // The last of them is acknowledged, and an outage on record.
    expect(await gateway.run({ words: ['accepted'], count: 900 }, given)).toBe('killed');
    await orthanc.start();

    const random = seededRandom(SEED);
    const pick = (most: number) => 1 + Math.floor(random() * most);
    let kills = 0;
    for (; kills < 50; kills += 1) {
      const words = [
        ['sending'],
        ['answered'],
        ['asking'],
        ['sent'],
        ['verified'],
        ['sending', 'answered', 'sent', 'verified'],
      ];
      const of = words[Math.floor(random() * words.length)] ?? [];
      const count = pick(of.includes('sent') || of.includes('verified') ? 16 : 4);
      if ((await gateway.run({ words: of, count })) === 'drained') break;
    }
    expect(kills).toBe(50);
    expect(await gateway.run()).toBe('drained');

    expect(gateway.status).toMatchObject({ verified: 900, quarantined: 0, discarded: 0, backlog: { instances: 0 } });
    await expectHeld(orthanc, gateway.accepted);
    expectBalanced(gateway);
    expect(gateway.faults).toEqual([]);
    expect(gateway.outages).toBe(1);
    console.log(`gateway killed 50 times: ${gateway.attempts} attempts for 900 deliveries`);
    // What was in flight is looked up first: a kill costs less than a request of four.
    expect(gateway.attempts - 900).toBeLessThanOrEqual(50 * 3);
  });

  test('takes in a backlog while Orthanc is down, and is killed in mid-drain: all by itself, in the order of tiers', async (context) => {
    needPeer(context, missingOrthanc());
    const { orthanc, gateway } = await rig();
    await orthanc.stop();
    const given = studies(24, 25);
    const running = gateway.run({ words: ['verified'], count: 300 }, given);
    await expect.poll(() => gateway.outages, { timeout: 60_000 }).toBe(1);
    await expect.poll(() => gateway.accepted.length, { timeout: 60_000 }).toBe(600);
    await orthanc.start();
    expect(await running).toBe('killed');
    expect(await gateway.run()).toBe('drained');

    await expectHeld(orthanc, gateway.accepted);
    expectBalanced(gateway);
    expect(gateway.outages).toBe(1);
    expect(gateway.faults).toEqual([]);
    expect(new Set(gateway.verified)).toEqual(new Set(gateway.accepted.map(({ arrivalId }) => arrivalId)));
    console.log(`gateway killed in mid-drain: ${gateway.attempts} attempts for 600 deliveries`);
    expect(gateway.attempts).toBeLessThanOrEqual(1.1 * 600);

    // By Orthanc's own record; requests in flight may overtake one another.
    const tierOf = new Map(gateway.accepted.map(({ sopInstanceUid, tier }) => [sopInstanceUid, TIERS.indexOf(tier)]));
    const order = (await arrivalOrder(orthanc)).map((uid) => tierOf.get(uid) ?? -1);
    expect([...new Set(order)].sort()).toEqual([0, 1, 2]);
    const overtaken = order.map((tier, index) => order.slice(index + 1).filter((later) => later < tier).length);
    expect(Math.max(...overtaken), `tiers as they came: ${order.join('')}`).toBeLessThanOrEqual(IN_FLIGHT);
  });
});
