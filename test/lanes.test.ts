import { describe, expect, test } from 'vitest';
import { defaultFlowPolicy } from '../src/routing/flow.ts';
import { defaultSharePolicy } from '../src/routing/share.ts';
import {
  DAY,
  HOUR,
  MINUTE,
  NOON,
  type ReplayRig,
  type RigDestination,
  replayRig,
  smallStudy,
} from './support/replay-rig.ts';

const SLOW: RigDestination = { id: 'pacs', maxConcurrency: 1 };

/** A destination that is down with a backlog of studies of these ages, each of 8 instances. */
async function heldUp(agesMs: readonly number[], destination: RigDestination = SLOW): Promise<ReplayRig> {
  const r = await replayRig([destination]);
  r.peer().reachable = false;
  for (const [seed, age] of agesMs.entries()) await r.accept(smallStudy(seed + 1, 8, NOON - age));
  await r.until(() => r.named('outage').length === 1, 'outage');
  return r;
}

/** Where requests for each of the studies stand among all, by the index of the study's first instance. */
function requestsOf(r: ReplayRig, seed: number, instances: number): number[] {
  const uids = new Set(smallStudy(seed, instances).map(({ identity }) => identity.sopInstanceUid));
  return r.peer().requests.flatMap((sent, index) => (sent.some((uid) => uids.has(uid)) ? [index] : []));
}

describe('live traffic and backlog', () => {
  test('what arrives while a backlog drains goes between, not behind it, and not before all of it', async () => {
    const r = await heldUp(new Array<number>(20).fill(HOUR));
    // One request at a time, and none is answered before the live study is here.
    let release = () => {};
    const arrived = new Promise<void>((resolve) => {
      release = resolve;
    });
    r.peer().reachable = true;
    await r.until(() => r.named('recovery').length === 1, 'recovery');
    r.peer().gate = () => arrived;
    await r.until(() => r.peer().inFlight === 1);
    const before = r.peer().requests.length;
    await r.accept(smallStudy(100, 12, NOON - HOUR));
    release();
    await r.drained();
    const live = requestsOf(r, 100, 12).map((index) => index - before);
    expect(live.length).toBe(3);
    // Half of what is sent, request by request.
    expect(Math.max(...live)).toBeLessThanOrEqual(7);
    expect(Math.max(...live) - Math.min(...live)).toBeGreaterThan(2);
  });

  test('an episode is closed though live traffic never ends', async () => {
    const r = await heldUp([HOUR, HOUR]);
    r.peer().reachable = true;
    await r.until(() => r.named('recovery').length === 1, 'recovery');
    let seed = 200;
    await r.until(async () => {
      seed += 1;
      await r.accept(smallStudy(seed, 2));
      return r.named('closed').length === 1;
    }, 'closed');
    expect(r.named('closed')[0]).toMatchObject({ received: 16, verified: 16, unaccounted: 0 });
  });

  test('the last tier waits for all others, unless it has a part of its own', async () => {
    const ages = [...new Array<number>(10).fill(30 * DAY), ...new Array<number>(10).fill(HOUR)];
    const firstOfHistory = async (history: number) => {
      const r = await heldUp(ages, { ...SLOW, policy: { share: { ...defaultSharePolicy, history } } });
      r.peer().reachable = true;
      await r.drained();
      return Math.min(...Array.from({ length: 10 }, (_, index) => requestsOf(r, index + 1, 8)).flat());
    };
    // Two requests a study; one instance was sent before them, to see whether it stores.
    expect(await firstOfHistory(0)).toBeGreaterThanOrEqual(20);
    expect(await firstOfHistory(0.2)).toBeLessThan(12);
  });

  test('a lane that a time window closes waits for its end; the others and questions go on', async () => {
    const window = { lane: 'history', from: '07:00', to: '19:00', timeZone: 'UTC', maxConcurrency: 0 } as const;
    const policy = {
      share: { ...defaultSharePolicy, history: 0.2 },
      flow: { ...defaultFlowPolicy, maxConcurrency: 1, windows: [window] },
    };
    const r = await heldUp([30 * DAY, HOUR], { id: 'pacs', policy });
    r.peer().reachable = true;
    await r.until(() => requestsOf(r, 2, 8).length > 0 && r.peer().held.size === 8, 'what is urgent is there');
    r.clock.advance(6 * HOUR);
    await r.until(async () => (await r.status()).backlog.instances === 8);
    expect(requestsOf(r, 1, 8)).toEqual([]);
    r.clock.advance(HOUR);
    await r.drained();
    expect(r.peer().held.size).toBe(16);
  });
});

describe('evidence that stays out', () => {
  test('of one instance slows nobody down', async () => {
    const r = await replayRig([{ id: 'pacs', maxConcurrency: 4 }]);
    const [sick] = smallStudy(999, 1);
    const lookUp = r.peer().lookUp.bind(r.peer());
    r.peer().lookUp = async (asked) => {
      const found = await lookUp(asked);
      found?.delete(sick?.identity.sopInstanceUid ?? '');
      return found;
    };
    await r.spillway.accept(sick?.bytes ?? '');
    await r.until(async () => (await r.status()).verification.instances === 1, 'answered');
    r.clock.advance(2 * HOUR);
    for (let seed = 1; seed <= 12; seed += 1) await r.accept(smallStudy(seed, 8));
    await r.until(async () => (await r.status()).backlog.instances === 1, 'all others are there');
    const { concurrency, verification } = await r.status();
    expect([concurrency.limit, verification.lagMs > HOUR]).toEqual([4, true]);
  });

  test('of all is a sign that it can bear no more', async () => {
    const r = await replayRig([{ id: 'pacs', maxConcurrency: 4 }]);
    for (let seed = 1; seed <= 12; seed += 1) await r.accept(smallStudy(seed, 8));
    await r.until(async () => (await r.status()).concurrency.limit === 4, 'four at once');
    r.peer().showsHeld = false;
    for (let seed = 21; seed <= 32; seed += 1) await r.accept(smallStudy(seed, 8));
    await r.until(() => r.peer().held.size === 192, 'all are stored');
    r.clock.advance(20 * MINUTE);
    r.peer().showsHeld = true;
    await r.drained();
    await r.until(async () => (await r.status()).concurrency.limit < 4, 'it is given less');
  });
});
