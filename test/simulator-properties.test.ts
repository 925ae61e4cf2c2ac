import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Scenario } from '../src/simulator/scenario.ts';
import { simulate } from '../src/simulator/simulate.ts';
import { randomWorld } from './support/random-worlds.ts';
import { outOfOrder } from './support/simulated-order.ts';

const RUNS = { numRuns: 60 };
const seeds = fc.integer({ min: 0, max: 1_000_000 });

/** The same, with the keys of every object the other way round. */
function reversed<T>(value: T): T;
function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((one) => reversed(one));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, one]) => [key, reversed(one)]),
  );
}

/** Instances that come in, by what ails them. */
function incoming({ world }: Scenario): { all: number; sick: number } {
  let [all, sick] = [0, 0];
  for (const { studies = 0, instances = 1, sick: ailment } of world.arrivals) {
    const count = studies * (typeof instances === 'number' ? instances : 0);
    all += count;
    if (ailment !== undefined) sick += Math.floor(count / ailment.every);
  }
  return { all, sick };
}

describe('whatever goes wrong for an hour', () => {
  test('nothing is lost, nothing is invented, and every episode balances', () => {
    fc.assert(
      fc.property(randomWorld, seeds, (scenario, seed) => {
        const { history, destinations } = simulate(scenario, { seed });
        for (const { accepted, verified, quarantined, open, lost, invented } of Object.values(destinations)) {
          expect(accepted).toBe(incoming(scenario).all);
          expect(verified + quarantined + open).toBe(accepted);
          expect({ lost, invented }).toEqual({ lost: 0, invented: 0 });
        }
        for (const event of history) {
          if (event.type === 'closed') expect(event.verified + event.quarantined).toBe(event.received);
        }
      }),
      RUNS,
    );
  });

  test('once the destination stays good the backlog ends, and only what is sick is put aside', () => {
    fc.assert(
      fc.property(randomWorld, seeds, (scenario, seed) => {
        for (const { open, verified, quarantined, outages, recoveries } of Object.values(
          simulate(scenario, { seed }).destinations,
        )) {
          // Where the target has never stored anything, a sick instance looks as if the target were.
          if (verified === 0) continue;
          expect(open).toBe(0);
          expect(quarantined).toBeGreaterThanOrEqual(incoming(scenario).sick);
          expect(recoveries).toBe(outages);
        }
      }),
      RUNS,
    );
  });

  test('no study of a less urgent tier begins while a more urgent one of its lane waits', () => {
    fc.assert(
      fc.property(randomWorld, seeds, (scenario, seed) => {
        const { history, destinations } = simulate(scenario, { seed });
        for (const id of Object.keys(destinations)) expect(outOfOrder(history, id)).toEqual([]);
      }),
      RUNS,
    );
  });

  test('attempts are bounded', () => {
    fc.assert(
      fc.property(randomWorld, seeds, (scenario, seed) => {
        for (const { accepted, verified, attempts } of Object.values(simulate(scenario, { seed }).destinations)) {
          // Besides, one instance at a time is tried in an outage; one that never ends is tried for as long.
          if (verified > 0) expect(attempts).toBeLessThanOrEqual(20 * accepted + 1_500);
        }
      }),
      RUNS,
    );
  });

  test('the same seed gives the same history, byte for byte, however the scenario is written', () => {
    fc.assert(
      fc.property(randomWorld, seeds, (scenario, seed) => {
        const once = JSON.stringify(simulate(scenario, { seed }));
        expect(JSON.stringify(simulate(reversed(scenario), { seed }))).toBe(once);
      }),
      { numRuns: 25 },
    );
  });
});
