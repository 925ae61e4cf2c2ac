import { describe, expect, test } from 'vitest';
import { type Lapse, ProcessWatch } from '../src/replay/process-watch.ts';
import { defaultFlowPolicy } from '../src/routing/flow.ts';
import { VirtualClock } from '../src/testing/virtual-clock.ts';
import { HOUR, MINUTE, NOON, replayRig, smallStudy } from './support/replay-rig.ts';

function watched() {
  const clock = new VirtualClock(NOON);
  const lapses: Lapse[] = [];
  const watch = new ProcessWatch(clock, (lapse) => lapses.push(lapse));
  watch.start();
  return { clock, lapses, watch };
}

describe('the process itself', () => {
  test('time that passes as it should is no lapse', () => {
    const { clock, lapses } = watched();
    clock.advance(HOUR);
    expect(lapses).toEqual([]);
  });

  test('a stall is told once, before anything else is judged by time', () => {
    const { clock, lapses, watch } = watched();
    clock.advance(1_000);
    clock.jump(90_000);
    watch.check();
    expect(lapses).toEqual([{ type: 'stall', from: NOON, to: NOON + 91_000 }]);
    watch.check();
    clock.advance(MINUTE);
    expect(lapses.length).toBe(1);
  });

  test('a stall that nobody asked about is told by the beat', () => {
    const { clock, lapses } = watched();
    clock.stall(90_000);
    expect(lapses).toEqual([{ type: 'stall', from: NOON, to: NOON + 90_000 }]);
  });

  test('a clock that is put back is told, with how far', () => {
    const { clock, lapses } = watched();
    clock.advance(4_000);
    clock.jump(-HOUR);
    clock.advance(MINUTE);
    expect(lapses).toEqual([{ type: 'clock-back', byMs: HOUR - 2_000 }]);
  });

  test('requests that fail since the process stood still make no outage', async () => {
    const r = await replayRig([{ id: 'pacs', maxConcurrency: 4 }]);
    await r.accept(smallStudy(9, 8));
    await r.drained();
    let fail = () => {};
    const over = new Promise<void>((_, reject) => {
      fail = () => reject(new Error('timed out'));
    });
    r.peer().gate = () => over;
    r.peer().respond = () => ({ kind: 'stored' });
    await Promise.all([1, 2, 3, 4].map((seed) => r.accept(smallStudy(seed, 4))));
    await r.until(() => r.peer().inFlight > 1);
    r.peer().gate = async () => {};
    r.clock.stall(5 * MINUTE);
    fail();
    await r.drained();
    expect(r.named('outage')).toEqual([]);
    expect(r.named('health').map(({ to }) => to)).not.toContain('suspect');
  });

  test('what waits for another try does not wait longer because the clock went back', async () => {
    const r = await replayRig();
    const [bad, ...good] = smallStudy(1, 4);
    let isBad = true;
    r.peer().respond = ({ sopInstanceUid }) =>
      isBad && sopInstanceUid === bad?.identity.sopInstanceUid
        ? { kind: 'refused', reason: '0110', mayRetry: true }
        : { kind: 'stored' };
    await r.accept(good);
    await r.drained();
    await r.spillway.accept(bad?.bytes ?? '');
    await r.until(() => r.peer().requests.length === 2, 'tried once');
    isBad = false;
    r.clock.jump(-24 * HOUR);
    // The beat notices; then it waits no longer than anything ever does.
    await r.until(() => r.clock.now() > NOON - 24 * HOUR + MINUTE);
    r.clock.advance(HOUR);
    await r.drained();
    expect(r.clock.now()).toBeLessThan(NOON - 22 * HOUR);
  });

  test('no more bytes a second than allowed', async () => {
    const instances = smallStudy(1, 40);
    const total = instances.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
    const policy = { flow: { ...defaultFlowPolicy, maxBytesPerSecond: total / 30 } };
    const r = await replayRig([{ id: 'pacs', policy }]);
    await r.accept(instances);
    await r.drained();
    // A second's worth at once, and a request that is paid for afterwards.
    expect(r.clock.now() - NOON).toBeGreaterThan(20_000);
  });
});
