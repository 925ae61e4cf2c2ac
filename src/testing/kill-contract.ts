import assert from 'node:assert/strict';
import type { ContractOptions } from './contract.ts';
import { KILL_STEPS } from './kill/orders.ts';
import { type KillableStore, Victim } from './kill/victim.ts';
import { seededRandom } from './seeded-random.ts';

/** What `killContract` is given. */
export interface KillOptions {
  /** Registers one test with the caller's runner; a kill takes about half a second. */
  readonly test: ContractOptions['test'];
  /** The path of a script that Node runs as it is, and that calls `intakeUntilKilled`. Asked for when a test begins. */
  readonly child: () => string;
  /** A new, empty store for some twenty kills; `dispose` is called when they are over, whatever the outcome. */
  readonly makeStore: () => Promise<KillableStore>;
  /** Steps that the child's store names, besides those of its contracts. @default none */
  readonly steps?: readonly string[];
  /** Kills before and after each step, so many times. @default 5 */
  readonly rounds?: number;
  /** Kills at random moments. @default 20 */
  readonly randomKills?: number;
  /** Stores that are killed at once. @default 2 */
  readonly lanes?: number;
  /** Draws which occurrence of a step it is, and the random moments. @default 1 */
  readonly seed?: number;
  /** Told in a line what was done. @default nobody */
  readonly report?: (line: string) => void;
}

interface KillPoint {
  readonly step: string;
  readonly moment: 'before' | 'after';
  readonly occurrence: number;
}

/** Counts of instances: acknowledged to the sender, received by the destination, and received once more than needed. */
interface Tally {
  readonly acknowledged: number;
  readonly received: number;
  readonly again: number;
}

const KILLS_OF_A_STORE = 20;
const MAX_OCCURRENCE = 12;
/** Steps that a life has once. */
// A study that goes on arriving is leased once: who takes in faster than the destination takes asks for few leases.
const ONCE: ReadonlySet<string> = new Set(['blobs.recover', 'catalog.leaseStudies']);

/**
 * `kill -9`, for a durable `Store`: a process that takes instances in and delivers them is killed before and after each
 * step, and at random moments. After each kill the store must open without help and hold every acknowledged instance,
 * equal, with its delivery; no delivery may be `sent` or `verified` that its destination has not received. At last all is
 * delivered. The steps of every store are calls of its contracts (`blobs.create`, `writer.write`, `writer.place`,
 * `catalog.accept`, `catalog.settle`, …), `receive` and `acknowledge`.
 *
 * @example
 * ```ts
 * import { test } from 'node:test';
 * import { mkdtemp, rm } from 'node:fs/promises';
 * import { fileStore } from 'spillway';
 * import { killContract } from 'spillway/testing';
 *
 * killContract({
 *   test,
 *   child: () => 'kill-child.js',
 *   makeStore: async () => {
 *     const directory = await mkdtemp('/tmp/kill-');
 *     return {
 *       store: fileStore({ directory }),
 *       args: [directory],
 *       dispose: () => rm(directory, { recursive: true }),
 *     };
 *   },
 * });
 * ```
 */
export function killContract(options: KillOptions): void {
  const { test, steps = [], rounds = 5, randomKills = 20, seed = 1, report } = options;
  const points = (random: () => number): KillPoint[] =>
    Array.from({ length: rounds }, () => [...KILL_STEPS, ...steps])
      .flat()
      .flatMap((step) =>
        (['before', 'after'] as const).map((moment) => {
          const occurrence = ONCE.has(step) ? 1 : 1 + Math.floor(random() * MAX_OCCURRENCE);
          return { step, moment, occurrence };
        }),
      );

  test('kill -9 before and after each step: what was acknowledged is kept, and no state is ahead of the truth', async () => {
    const left = points(seededRandom(seed));
    const kills = left.length;
    const run = (victim: Victim, { step, occurrence, moment }: KillPoint) => victim.killAt(step, occurrence, moment);
    const tally = await killAll(options, left, run);
    report?.(`kill -9 at named steps: ${kills} kills, ${inWords(tally)}`);
    // Otherwise it has shown nothing.
    assert.ok(tally.acknowledged > kills / 2, `only ${inWords(tally)}`);
  });

  test('kill -9 at random moments: what was acknowledged is kept, and no state is ahead of the truth', async () => {
    const random = seededRandom(seed);
    const left = Array.from({ length: randomKills }, () => ({
      receipts: 1 + Math.floor(random() * 40),
      delayMs: random() * 10,
    }));
    const tally = await killAll(options, left, (victim, { receipts, delayMs }) => victim.killAfter(receipts, delayMs));
    report?.(`kill -9 at random moments: ${randomKills} kills, ${inWords(tally)}`);
    assert.ok(tally.acknowledged >= randomKills, `only ${inWords(tally)}`);
  });
}

function inWords({ acknowledged, received, again }: Tally): string {
  return `${acknowledged} instances acknowledged, ${received} received, ${again} of them once more`;
}

/** Carries all kills out, on several stores at once, a new one for every so many, so that what is looked at stays small. */
async function killAll<Kill>(
  { makeStore, child, lanes = 2 }: KillOptions,
  left: Kill[],
  run: (victim: Victim, kill: Kill) => Promise<void>,
): Promise<Tally> {
  let [acknowledged, received, again] = [0, 0, 0];
  const share = Math.min(KILLS_OF_A_STORE, Math.ceil(left.length / lanes));
  const lane = async () => {
    while (left.length > 0) {
      const victim = new Victim(await makeStore(), child());
      try {
        for (const kill of left.splice(0, share)) await run(victim, kill);
        await victim.deliverAll();
        acknowledged += victim.acknowledged;
        received += victim.received.all;
        again += victim.received.again;
      } catch (error) {
        // The other lanes end with the kill that they are at.
        left.length = 0;
        throw error;
      } finally {
        await victim.dispose();
      }
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: lanes }, lane));
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  return { acknowledged, received, again };
}
