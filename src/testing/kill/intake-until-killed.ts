import { writeSync } from 'node:fs';
import { SpillwayError } from '../../errors.ts';
import { openSpillway, type Spillway } from '../../spillway.ts';
import type { OpenStore, Store } from '../../storage/store.ts';
import { interceptStore } from '../intercept.ts';
import { syntheticInstance } from '../synthetic.ts';
import { DESTINATION_ID, type KillOrders, ORDERS_VARIABLE, RECEIPTS_DESCRIPTOR } from './orders.ts';
import { RecordingTransport } from './received-record.ts';

/** Carries out a step of a name: the process may be killed before it or after it. */
export type KillStep = <T>(name: string, action: () => Promise<T>) => Promise<T>;

const WORKERS = 4;
/** Every so many commits there is no room, so that blobs are aborted that were placed. */
const COMMITS_TO_FULL = 5;
/** Every so many instances one comes again, so that blobs are aborted that were not. */
const INSTANCES_TO_REPEAT = 3;
const STUDIES = 5;

/**
 * The child's part of `killContract`, for a script of the adapter's author: takes instances in as fast as it can and
 * delivers them to a destination that records durably what it receives, until the process is killed. It does not return.
 * Where the script was not started by `killContract`, it fails.
 *
 * @param makeStore - Gives the store under test. It may name steps of its own with `step`, such as the calls that it
 * makes of the file system; those of its contracts are named by this function.
 *
 * @example
 * ```ts
 * // kill-child.js, which killContract starts with the `args` of the store made
 * import { fileStore } from 'spillway';
 * import { intakeUntilKilled } from 'spillway/testing';
 *
 * await intakeUntilKilled(() => fileStore({ directory: process.argv[2] }));
 * ```
 */
export async function intakeUntilKilled(makeStore: (step: KillStep) => Store): Promise<never> {
  const orders = readOrders();
  const step = stepUnder(orders);
  const store = makeStore(step);
  const transport = new RecordingTransport(orders.receivedFile, (record) => step('receive', record));
  const spillway = await openSpillway({
    store: { open: async () => sometimesFull(interceptStore(await store.open(), step)) },
    destinations: [{ id: DESTINATION_ID, transport, maxConcurrency: 2 }],
  });
  let last = orders.seed;
  const work = async (): Promise<never> => {
    for (;;) {
      last += 1;
      const seed = last;
      await takeIn(spillway, seed, step);
      if (seed % INSTANCES_TO_REPEAT === 0) await takeIn(spillway, seed, step);
    }
  };
  return Promise.race(Array.from({ length: WORKERS }, work));
}

async function takeIn(spillway: Spillway, seed: number, step: KillStep): Promise<void> {
  const bytes = syntheticInstance({ rows: 16, columns: 16, seed, studyInstanceUid: `1.2.${seed % STUDIES}` });
  try {
    const { arrivalId, digest } = await spillway.accept(bytes);
    // In one write to the pipe, so that what was said was said before the end.
    await step('acknowledge', async () => writeSync(RECEIPTS_DESCRIPTOR, `${arrivalId} ${digest}\n`));
  } catch (error) {
    if (!(error instanceof SpillwayError && error.code === 'SPILLWAY_STORE_FULL')) throw error;
  }
}

function readOrders(): KillOrders {
  const orders = process.env[ORDERS_VARIABLE];
  if (orders !== undefined) return JSON.parse(orders);
  throw new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    `Expected ${ORDERS_VARIABLE} in the environment, got none. Let killContract start this script.`,
  );
}

/** The process is over with the step that was ordered: killed by itself, at an exact point. */
function stepUnder({ at }: KillOrders): KillStep {
  let left = at?.occurrence ?? 0;
  return async (name, action) => {
    if (name === at?.step) left -= 1;
    const isIt = name === at?.step && left === 0;
    if (isIt && at.moment === 'before') process.kill(process.pid, 'SIGKILL');
    try {
      return await action();
    } finally {
      if (isIt) process.kill(process.pid, 'SIGKILL');
    }
  };
}

function sometimesFull(store: OpenStore): OpenStore {
  let commits = 0;
  return interceptStore(store, async (call, action) => {
    if (call !== 'catalog.accept') return action();
    commits += 1;
    if (commits % COMMITS_TO_FULL > 0) return action();
    throw new SpillwayError('SPILLWAY_STORE_FULL', 'Expected room for a commit, got none for this once.');
  });
}
