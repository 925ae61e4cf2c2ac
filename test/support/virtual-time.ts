import type { Spillway } from '../../src/spillway.ts';
import type { VirtualClock } from '../../src/testing/virtual-clock.ts';

const STEP_MS = 100;
const MAX_STEPS = 20_000;

/** Lets virtual time pass, and real input and output happen, until the condition holds. */
export async function until(
  clock: VirtualClock,
  condition: () => boolean | Promise<boolean>,
  what: string = condition.toString(),
  stepMs = STEP_MS,
): Promise<void> {
  for (let step = 0; step < MAX_STEPS; step += 1) {
    if (await condition()) return;
    // Real work goes first: several turns of the event loop for each step of the clock.
    for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    clock.advance(stepMs);
  }
  throw new Error(`It never came about in ${(stepMs * MAX_STEPS) / 1000} virtual seconds: ${what}`);
}

/** Closes; its time-out is one of virtual time. */
export async function close(clock: VirtualClock, spillway: Spillway): Promise<void> {
  let closed = false;
  const closing = spillway.close().finally(() => {
    closed = true;
  });
  await until(clock, () => closed, 'closed');
  await closing;
}
