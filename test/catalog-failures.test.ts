import { describe, expect, test } from 'vitest';
import { SpillwayError } from '../src/errors.ts';
import type { Catalog } from '../src/storage/catalog.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import type { Store } from '../src/storage/store.ts';
import { MINUTE, replayRig, smallStudy } from './support/replay-rig.ts';

/** A store whose catalog fails a call when it is told to, as on a full disk. */
function failing() {
  const store = memoryStore();
  let armed: string | undefined;
  let failures = 0;
  const failingStore: Store = {
    async open() {
      const opened = await store.open();
      const catalog = new Proxy(opened.catalog, {
        get(target, name) {
          const value: unknown = Reflect.get(target, name);
          if (typeof value !== 'function') return value;
          return async (...parameters: readonly unknown[]) => {
            if (armed === name) {
              armed = undefined;
              failures += 1;
              throw new SpillwayError('SPILLWAY_STORE_FULL', 'Expected room, got none.');
            }
            return Reflect.apply(value, target, parameters);
          };
        },
      });
      return { ...opened, catalog };
    },
  };
  return {
    store: failingStore,
    arm: (name: keyof Catalog) => {
      armed = name;
    },
    failures: () => failures,
  };
}

const CALLS = [
  'leaseStudies',
  'releaseStudies',
  'dueDeliveries',
  'settle',
  'nextDueAt',
  'rankedStudies',
  'markEpisode',
  'episodeRemains',
  'countEpisode',
] as const satisfies readonly (keyof Catalog)[];

describe('a call of the catalog that fails once', () => {
  test.each(CALLS)('`%s` when a destination comes back: all arrive, and everything is told once', async (call) => {
    const { store, arm, failures } = failing();
    const r = await replayRig([{ id: 'pacs', maxConcurrency: 2 }], { store });
    r.peer().reachable = false;
    for (let seed = 1; seed <= 3; seed += 1) await r.accept(smallStudy(seed, 5));
    await r.until(() => r.named('outage').length === 1, 'outage');
    arm(call);
    r.peer().reachable = true;
    await r.until(() => r.named('closed').length === 1, 'closed');
    expect(failures()).toBe(1);
    expect(r.peer().held.size).toBe(15);
    expect(
      ['outage', 'recovery', 'drained', 'closed'].map((name) => r.events.filter((e) => e.name === name).length),
    ).toEqual([1, 1, 1, 1]);
    expect(r.named('closed')[0]).toMatchObject({ received: 15, verified: 15, unaccounted: 0 });
  });

  test.each(['leaseStudies', 'releaseStudies', 'dueDeliveries', 'settle', 'nextDueAt'] as const)(
    '`%s` without any outage: all arrive',
    async (call) => {
      const { store, arm, failures } = failing();
      const r = await replayRig([{ id: 'pacs', maxConcurrency: 2 }], { store });
      await r.accept(smallStudy(1, 3));
      arm(call);
      for (let seed = 2; seed <= 4; seed += 1) await r.accept(smallStudy(seed, 5));
      r.clock.advance(MINUTE);
      await r.drained();
      expect([failures(), r.peer().held.size]).toEqual([1, 18]);
    },
  );
});
