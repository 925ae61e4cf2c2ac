import { setImmediate as turnOfTheLoop } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { SlotRunner } from '../src/replay/slot-runner.ts';
import { systemClock } from '../src/system-clock.ts';

/** Turns that begin, and are answered and recorded when they are told. */
function rig(slots: number) {
  const turns: { readonly answered: () => void; readonly recorded: () => void }[] = [];
  const runner = new SlotRunner({
    clock: systemClock,
    slots: () => slots,
    mayStart: () => true,
    work: (_, answered) =>
      new Promise<boolean>((resolve) => {
        turns.push({ answered, recorded: () => resolve(true) });
      }),
    onBlocked: () => {},
  });
  return { runner, turns };
}

describe('the slots of a destination', () => {
  it('are given to the next when a request is answered, while its outcome is being recorded', async () => {
    const { runner, turns } = rig(1);
    runner.pump(true);
    await turnOfTheLoop();
    expect(turns).toHaveLength(1);
    turns[0]?.answered();
    await turnOfTheLoop();
    expect(turns).toHaveLength(2);
    expect(runner.inFlight).toBe(1);
  });

  it('let no more pile up to be recorded than there are slots', async () => {
    const { runner, turns } = rig(2);
    runner.pump(true);
    await turnOfTheLoop();
    for (const index of [0, 1, 2, 3]) {
      turns[index]?.answered();
      await turnOfTheLoop();
    }
    expect(turns).toHaveLength(4);
    turns[0]?.recorded();
    await turnOfTheLoop();
    expect(turns).toHaveLength(5);
  });

  it('are idle only when all is recorded', async () => {
    const { runner, turns } = rig(1);
    let isIdle = false;
    runner.pump(true);
    await turnOfTheLoop();
    turns[0]?.answered();
    void runner.onIdle().then(() => {
      isIdle = true;
    });
    await turnOfTheLoop();
    expect(isIdle).toBe(false);
  });
});
