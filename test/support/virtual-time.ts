import type { Spillway } from '../../src/spillway.ts';
import type { VirtualClock } from '../../src/testing/virtual-clock.ts';

const STEP_MS = 100;
const MAX_STEPS = 20_000;
const TURNS_A_PAUSE = 20;

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
    // What takes long may wait for other threads, and for the disk.
    if (step % TURNS_A_PAUSE === TURNS_A_PAUSE - 1) await new Promise((resolve) => setTimeout(resolve, 1));
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
  const isClosed = async () => {
    await new Promise((resolve) => setTimeout(resolve, 1));
    return closed;
  };
  await until(clock, isClosed, 'closed');
  await closing;
}
