import { describe, expect, test } from 'vitest';
import { openSpillway } from '../src/spillway.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import { replayRig, smallStudy } from './support/replay-rig.ts';
import { ScriptedTransport } from './support/scripted-transport.ts';

const PAIR = [
  { id: 'pacs', maxConcurrency: 4 },
  { id: 'spare', standbyFor: 'pacs' },
] as const;

describe('a standby', () => {
  test('receives nothing while the other is well', async () => {
    const r = await replayRig(PAIR);
    await r.accept(smallStudy(1, 5));
    await r.drained();
    expect([r.peer('pacs').held.size, r.peer('spare').held.size]).toEqual([5, 0]);
  });

  test('receives what is accepted in an outage, and what was held up when it was found; the other gets all of it later', async () => {
    const r = await replayRig(PAIR);
    await r.accept(smallStudy(1, 2));
    await r.drained();
    r.peer('pacs').reachable = false;
    await r.accept(smallStudy(2, 4));
    await r.until(() => r.named('outage').length === 1, 'outage');
    await r.accept(smallStudy(3, 3));
    await r.until(() => r.peer('spare').held.size === 7, 'the standby has what the outage held up');
    r.peer('pacs').reachable = true;
    await r.drained();
    expect(r.peer('pacs').held.size).toBe(9);
    await r.accept(smallStudy(4, 2));
    await r.drained();
    expect([r.peer('pacs').held.size, r.peer('spare').held.size]).toEqual([11, 7]);
  });

  test('takes over what is open at an opening in mid-outage', async () => {
    let r = await replayRig(PAIR);
    r.peer('pacs').reachable = false;
    r.peer('spare').reachable = false;
    await r.accept(smallStudy(1, 3));
    await r.until(() => r.named('outage').some(({ destinationId }) => destinationId === 'pacs'), 'outage');
    r = await r.reopen();
    r.peer('spare').reachable = true;
    await r.until(() => r.peer('spare').held.size === 3, 'the standby has it');
  });

  test('a route that names it alone delivers to it', async () => {
    const r = await replayRig(PAIR, { route: () => ['spare'] });
    await r.accept(smallStudy(1, 2));
    await r.drained();
    expect(r.peer('spare').held.size).toBe(2);
  });

  test('has what was open where the other is given up for good; whoever waits is told, and its outage is closed', async () => {
    const r = await replayRig(PAIR);
    r.peer('pacs').reachable = false;
    r.peer('spare').reachable = false;
    await r.accept(smallStudy(1, 4));
    await r.until(() => r.named('outage').length === 2, 'both are down');
    let isDrained = false;
    const drained = r.spillway.drained().then(() => {
      isDrained = true;
    });
    r.peer('spare').reachable = true;
    await r.until(() => r.peer('spare').held.size === 4, 'the standby has them');
    expect(isDrained).toBe(false);
    await r.accept(smallStudy(2, 2));
    await r.spillway.retireDestination({ id: 'pacs', reason: 'replaced', by: 'A. Admin' });
    await r.until(() => r.peer('spare').held.size === 6, 'the standby has all');
    await r.until(() => isDrained, 'whoever waits is told');
    await drained;
    const closed = r.named('closed').find(({ episode }) => episode.destinationId === 'pacs');
    expect(closed).toMatchObject({ received: 6, discarded: 6, unaccounted: 0 });
  });

  test('receives what was open at the other when that is retired while both are well', async () => {
    const r = await replayRig(PAIR);
    await r.spillway.pause();
    await r.accept(smallStudy(1, 3));
    await r.spillway.retireDestination({ id: 'pacs', reason: 'replaced', by: 'A. Admin' });
    r.spillway.resume();
    await r.drained();
    expect([r.peer('pacs').held.size, r.peer('spare').held.size]).toEqual([0, 3]);
  });

  test.each(['nobody', 'spare'])('that stands by for "%s" is refused', async (standbyFor) => {
    const destinations = [
      { id: 'pacs', transport: new ScriptedTransport() },
      { id: 'spare', transport: new ScriptedTransport(), standbyFor },
    ];
    await expect(openSpillway({ store: memoryStore(), destinations })).rejects.toMatchObject({
      code: 'SPILLWAY_OPTION_INVALID',
    });
  });
});
