import { describe, expect, test } from 'vitest';
import { initialDestination, slots, stepDestination } from '../src/routing/destination.ts';
import { defaultHealthPolicy } from '../src/routing/health.ts';
import { failure, Played, probeEnded, success, tick, trialEnded } from './support/played-destination.ts';

const { probeIntervalMs } = defaultHealthPolicy;

describe('requests that fail while others are stored', () => {
  const served = (played: Played, afterMs: number, tookMs: number) =>
    played.play(afterMs, { ...success, startedAt: played.at + afterMs - tookMs });
  const lost = (played: Played, afterMs: number, tookMs: number, othersInFlight = 1) =>
    played.play(afterMs, { ...failure, startedAt: played.at + afterMs - tookMs, othersInFlight });
  const { concurrency } = new Played().state.flow;

  test('one that began before the last success is no strike', () => {
    const played = new Played();
    served(played, 100, 50);
    for (let count = 0; count < 5; count += 1) {
      expect(lost(played, 10, 40)).toEqual([]);
      served(played, 1, 40);
    }
    expect(played.phase).toBe('up');
    expect(played.state.health.failures).toEqual([]);
  });

  test('but one that hung on long after it is: the peer may have died since', () => {
    const played = new Played();
    served(played, 100, 50);
    expect(lost(played, 60_000, 60_010)).toEqual([]);
    expect(lost(played, 1, 60_010)).toEqual([{ type: 'probe' }]);
  });

  test('a suspicion is settled by what is stored after all, and what is still asked decides nothing', () => {
    const played = new Played();
    lost(played, 1, 1);
    expect(lost(played, 1, 1)).toEqual([{ type: 'probe' }]);
    expect(served(played, 5, 20)).toEqual([]);
    expect(played.phase).toBe('up');
    expect(played.play(1, { ...probeEnded(false), startedAt: played.at - 5, othersInFlight: 1 })).toEqual([]);
    expect(played.phase).toBe('up');
    expect(slots(played.state, played.at)).toBe(1);
  });

  test('a question of an earlier suspicion is asked anew, not believed', () => {
    const played = new Played();
    lost(played, 1, 1);
    lost(played, 1, 1);
    const startedAt = played.at;
    served(played, 5, 20);
    lost(played, 1, 1);
    expect(lost(played, 1, 1)).toEqual([]);
    expect(played.phase).toBe('suspect');
    expect(played.play(1, { ...probeEnded(false), startedAt })).toEqual([{ type: 'probe' }]);
    expect(played.phase).toBe('suspect');
  });

  test('a question that fails meanwhile is asked again, and believed once nothing is in flight', () => {
    const played = new Played();
    lost(played, 1, 1);
    lost(played, 1, 1);
    const [wake] = played.play(1, { ...probeEnded(false), othersInFlight: 1 });
    expect(wake).toMatchObject({ type: 'wake' });
    expect(played.phase).toBe('suspect');
    expect(played.play(1, tick)).toEqual([wake]);
    // The last of them fails: it is asked at once.
    expect(lost(played, 1, 500, 1)).toEqual([]);
    expect(lost(played, 1, 500, 0)).toEqual([{ type: 'probe' }]);
    expect(played.play(1, { ...probeEnded(false), othersInFlight: 0 }).map(({ type }) => type)).toEqual([
      'outage',
      'wake',
    ]);
  });

  test.each([
    ['an answering listener whose storage fails', [probeEnded(true), trialEnded(false)]],
    ['a listener that does not answer', [probeEnded(false)]],
  ])('%s is declared down within seconds, though a request hangs', (_, answers) => {
    const played = new Played();
    lost(played, 1, 1);
    lost(played, 1, 1);
    const suspectedAt = played.at;
    for (let asked = 0; played.phase === 'suspect'; asked += 1) {
      expect(asked).toBeLessThan(40);
      for (const answer of answers) played.play(5, { ...answer, othersInFlight: 1 });
      if (played.phase === 'suspect') played.play(probeIntervalMs, tick);
    }
    expect(played.phase).toBe('down');
    expect(played.at - suspectedAt).toBeLessThan(defaultHealthPolicy.maxCrowdedMs + 2 * probeIntervalMs);
  });

  test('where requests take long it is given as long again, within bounds', () => {
    const patience = (tookMs: number) => {
      const played = new Played();
      served(played, tookMs, tookMs);
      lost(played, 1, 1);
      lost(played, 1, 1);
      const suspectedAt = played.at;
      while (played.phase === 'suspect') {
        played.play(1, { ...probeEnded(false), othersInFlight: 1 });
        if (played.phase === 'suspect') played.play(probeIntervalMs, tick);
      }
      return Math.round((played.at - suspectedAt) / 5_000) * 5;
    };
    expect([100, 20_000, 3_600_000].map(patience)).toEqual([15, 40, 150]);
  });

  test('the flow narrows where that is no chance, once for what was in flight, and seldom tries out more', () => {
    const played = new Played();
    const limited = (limit: number, storedSinceLoss: number) => {
      const flow = { ...played.state.flow, concurrency: { ...concurrency, limit, base: limit }, storedSinceLoss };
      played.state = { ...played.state, flow };
    };
    served(played, 100, 10);
    limited(8, 100);
    lost(played, 10, 30);
    expect(played.state.flow.concurrency.limit).toBe(8);
    served(played, 1, 5);
    lost(played, 1, 10);
    const narrowed = played.state.flow.concurrency;
    expect(narrowed.limit).toBe(4);
    expect(narrowed.pauseMs).toBeGreaterThan(concurrency.pauseMs);
    served(played, 1, 20);
    // Both began before it was narrowed.
    lost(played, 1, 15);
    served(played, 1, 20);
    expect(lost(played, 1, 15)).toEqual([]);
    expect(played.state.flow.concurrency.limit).toBe(4);
    expect(slots(played.state, played.at)).toBe(4);
  });
});

test('a failure at the very instant of a success is a strike: what takes no time must not go round for ever', () => {
  let state = initialDestination(1_000, 'up', 'well');
  const step = (event: Parameters<typeof stepDestination>[1]) => {
    state = stepDestination(state, event, 1_000, 0.5).state;
  };
  step({ type: 'success', startedAt: 1_000 });
  for (let times = 0; times < 2; times += 1) step({ type: 'failure', reason: 'refused', startedAt: 1_000 });
  expect(state.health.phase).toBe('suspect');
});
