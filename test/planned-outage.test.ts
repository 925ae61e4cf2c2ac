import { describe, expect, test } from 'vitest';
import { HOUR, MINUTE, NOON, replayRig, smallStudy } from './support/replay-rig.ts';

const SAID = { destinationId: 'pacs', reason: 'database upgrade', by: 'A. Admin' };

describe('a planned outage', () => {
  test('nothing is sent and nobody asks until a person ends it; then the backlog goes', async () => {
    const r = await replayRig();
    const episode = await r.spillway.declareOutage({ ...SAID, expectedEndAt: NOON + HOUR });
    expect(episode).toMatchObject({
      cause: 'database upgrade',
      planned: true,
      expectedEndAt: NOON + HOUR,
      endedAt: null,
    });
    await r.accept(smallStudy(1, 5));
    r.clock.advance(30 * MINUTE);
    await r.until(async () => (await r.status()).health.phase === 'planned');
    expect([r.peer().requests, r.peer().probes]).toEqual([[], 0]);

    await r.spillway.endOutage({ destinationId: 'pacs', by: 'A. Admin' });
    await r.drained();
    expect(r.peer().held.size).toBe(5);
    await r.until(() => r.named('closed').length === 1, 'closed');
    expect(r.named('closed')[0]).toMatchObject({ received: 5, verified: 5, unaccounted: 0 });
    expect([r.named('outage').length, r.named('recovery').length]).toEqual([1, 1]);
  });

  test('it outlives the process', async () => {
    let r = await replayRig();
    await r.spillway.declareOutage(SAID);
    await r.accept(smallStudy(1, 3));
    r = await r.reopen();
    expect((await r.status()).health).toMatchObject({ phase: 'planned', reason: 'database upgrade' });
    r.clock.advance(HOUR);
    await r.until(async () => (await r.status()).backlog.instances === 3);
    expect(r.peer().requests).toEqual([]);
    await r.spillway.endOutage({ destinationId: 'pacs', by: 'A. Admin' });
    await r.drained();
    expect(r.peer().held.size).toBe(3);
  });

  test('that a person ended it outlives the process too: it is asked, and its backlog goes', async () => {
    let r = await replayRig();
    await r.spillway.declareOutage(SAID);
    await r.accept(smallStudy(1, 3));
    r.peer().reachable = false;
    await r.spillway.endOutage({ destinationId: 'pacs', by: 'A. Admin' });
    r = await r.reopen();
    r.peer().reachable = true;
    await r.drained();
    expect(r.peer().held.size).toBe(3);
    await r.until(() => r.named('closed').length === 1, 'closed');
    expect(r.named('closed')[0]?.episode).toMatchObject({ planned: true, planEndedAt: NOON });
  });

  test('past its expected end it is told once, also after an opening, and goes on', async () => {
    const r = await replayRig();
    await r.spillway.declareOutage({ ...SAID, expectedEndAt: NOON + HOUR });
    await r.accept(smallStudy(1, 1));
    r.clock.advance(HOUR - 10 * MINUTE);
    await r.until(() => r.named('overdue').length > 0, 'overdue');
    expect(r.clock.now()).toBeGreaterThanOrEqual(NOON + HOUR);
    r.clock.advance(5 * HOUR);
    await r.until(async () => (await r.status()).health.phase === 'planned');
    expect(r.named('overdue').length).toBe(1);
    expect(r.peer().requests).toEqual([]);
  });

  test('an outage under way becomes a planned one, in the same episode', async () => {
    const r = await replayRig();
    r.peer().reachable = false;
    await r.accept(smallStudy(1, 3));
    await r.until(() => r.named('outage').length === 1, 'outage');
    const found = r.named('outage')[0];
    const planned = await r.spillway.declareOutage(SAID);
    expect(planned).toMatchObject({
      id: found?.id,
      planned: true,
      cause: 'database upgrade',
      startedAt: found?.startedAt,
    });
    r.peer().reachable = true;
    r.clock.advance(10 * MINUTE);
    await r.until(async () => (await r.status()).health.phase === 'planned');
    expect(r.peer().held.size).toBe(0);
    await r.spillway.endOutage({ destinationId: 'pacs', by: 'A. Admin' });
    await r.drained();
    expect([r.named('outage').length, r.named('recovery').length]).toEqual([1, 1]);
  });

  test('a destination that is not there when the work should be done is down, in the same episode', async () => {
    const r = await replayRig();
    await r.spillway.declareOutage(SAID);
    await r.accept(smallStudy(1, 2));
    r.peer().reachable = false;
    await r.spillway.endOutage({ destinationId: 'pacs', by: 'A. Admin' });
    await r.until(async () => (await r.status()).health.phase === 'down', 'down');
    r.peer().reachable = true;
    await r.drained();
    expect([r.named('outage').length, r.named('recovery').length]).toEqual([1, 1]);
  });

  test('who declared and who ended it is on record', async () => {
    const r = await replayRig();
    await r.spillway.declareOutage(SAID);
    await r.spillway.endOutage({ destinationId: 'pacs', by: 'B. Builder' });
    const kinds = new Map<string, unknown>();
    for await (const { kind, detail } of r.spillway.log()) kinds.set(kind, detail);
    expect(kinds.get('episode-opened')).toMatchObject({ by: 'A. Admin' });
    expect(kinds.get('planned-outage-ended')).toMatchObject({ by: 'B. Builder' });
  });

  test.each([
    [{}, 'SPILLWAY_OPTION_INVALID'],
    [{ ...SAID, reason: ' ' }, 'SPILLWAY_OPTION_INVALID'],
    [{ ...SAID, until: NOON }, 'SPILLWAY_OPTION_INVALID'],
    [{ ...SAID, expectedEndAt: 'tomorrow' }, 'SPILLWAY_OPTION_INVALID'],
    [{ ...SAID, expectedEndAt: NOON / 1000 }, 'SPILLWAY_OPTION_INVALID'],
    [{ ...SAID, destinationId: 'another' }, 'SPILLWAY_NOT_FOUND'],
  ])('%j is refused', async (outage, code) => {
    const r = await replayRig();
    await expect(r.spillway.declareOutage(outage as typeof SAID)).rejects.toMatchObject({ code });
  });

  test('what was never declared cannot be ended', async () => {
    const r = await replayRig();
    await expect(r.spillway.endOutage({ destinationId: 'pacs', by: 'A. Admin' })).rejects.toMatchObject({
      code: 'SPILLWAY_NOT_FOUND',
    });
  });
});

describe('a pause', () => {
  test('what is in flight ends and counts, nothing else starts until it is resumed', async () => {
    const r = await replayRig([{ id: 'pacs', maxConcurrency: 1 }]);
    let release = () => {};
    r.peer().gate = () =>
      new Promise((resolve) => {
        release = resolve;
      });
    await r.accept(smallStudy(1, 9));
    await r.until(() => r.peer().inFlight === 1);
    let isIdle = false;
    const paused = r.spillway.pause({ destinationId: 'pacs' }).then(() => {
      isIdle = true;
    });
    await r.until(async () => (await r.status()).isPaused);
    expect(isIdle).toBe(false);
    r.peer().gate = async () => {};
    release();
    await paused;
    const [sent, held] = [r.peer().requests.length, r.peer().held.size];
    expect([sent, held > 0]).toEqual([1, true]);
    r.clock.advance(HOUR);
    await r.until(async () => (await r.status()).backlog.instances > 0);
    expect(r.peer().requests.length).toBe(1);
    r.spillway.resume({ destinationId: 'pacs' });
    await r.drained();
    expect(r.peer().held.size).toBe(9);
  });

  test('an outage is noticed, but no instance is tried before it is resumed', async () => {
    const r = await replayRig();
    r.peer().reachable = false;
    await r.accept(smallStudy(1, 2));
    await r.until(() => r.named('outage').length === 1, 'outage');
    await r.spillway.pause();
    r.peer().reachable = true;
    const probes = r.peer().probes;
    await r.until(() => r.peer().probes > probes, 'probed');
    r.clock.advance(10 * MINUTE);
    await r.until(async () => (await r.status()).isPaused);
    expect(r.peer().requests).toEqual([]);
    r.spillway.resume();
    await r.drained();
  });

  test('a name that nobody has is refused, rather than taken for all', async () => {
    const r = await replayRig();
    await expect(r.spillway.pause({ destinationId: 'other' })).rejects.toMatchObject({ code: 'SPILLWAY_NOT_FOUND' });
    await expect(r.spillway.pause({ destination: 'pacs' } as object)).rejects.toMatchObject({
      code: 'SPILLWAY_OPTION_INVALID',
    });
    expect((await r.status()).isPaused).toBe(false);
  });
});
