import { describe, expect, test } from 'vitest';
import { type DestinationEvent, initialDestination, slots, stepDestination } from '../src/routing/destination.ts';
import { defaultHealthPolicy } from '../src/routing/health.ts';
import { failure, Played, probeEnded, softRefusal, success, tick, trialEnded } from './support/played-destination.ts';

const { maxProbeIntervalMs } = defaultHealthPolicy;

describe('flapping is held', () => {
  /** Answers all questions well until it has recovered; how long that took, and how many trials. */
  function recover(played: Played): { readonly ms: number; readonly trials: number } {
    const from = played.at;
    let trials = 0;
    while (played.phase !== 'recovering') {
      const waitMs = Math.max(0, played.state.health.nextProbeAt - played.at);
      const effects = played.play(waitMs, tick, probeEnded(true), trialEnded(true));
      trials += effects.filter(({ type }) => type === 'trial').length;
      expect(trials).toBeLessThan(500);
    }
    return { ms: played.at - from, trials };
  }

  const relapse = (played: Played) => played.play(10, success, failure, probeEnded(false));

  test('each relapse holds the next recovery for twice as long, within a bound, with few trials', () => {
    const played = new Played().down();
    expect(recover(played).trials).toBe(1);
    const holds: number[] = [];
    for (let round = 0; round < 8; round += 1) {
      relapse(played);
      const { ms, trials } = recover(played);
      holds.push(ms);
      expect(trials).toBeLessThan(25);
    }
    const { flapHoldMs, maxFlapHoldMs } = defaultHealthPolicy;
    holds.forEach((ms, index) => {
      const holdMs = Math.min(maxFlapHoldMs, flapHoldMs * 2 ** index);
      expect(ms).toBeGreaterThanOrEqual(holdMs);
      expect(ms).toBeLessThanOrEqual(holdMs + 2 * maxProbeIntervalMs);
    });
  });

  test('a destination that flaps every minute for a day makes few outages', () => {
    const played = new Played();
    let outages = 0;
    let at = 0;
    // Good for 30 s of each minute.
    const isGood = () => at % 60_000 < 30_000;
    for (; at < 86_400_000; ) {
      const { health } = played.state;
      const stepMs = health.phase === 'down' ? Math.max(1, health.nextProbeAt - played.at) : 500;
      at += stepMs;
      const ended = (kind: (alive: boolean) => DestinationEvent) => kind(isGood());
      const first = played.play(stepMs, health.phase === 'down' ? tick : isGood() ? success : failure);
      let effects = first;
      while (effects.length > 0) {
        outages += effects.filter(({ type }) => type === 'outage').length;
        const question = effects.find(({ type }) => type === 'probe' || type === 'trial');
        if (question === undefined) break;
        effects = played.play(0, ended(question.type === 'probe' ? probeEnded : trialEnded));
      }
    }
    expect(outages).toBeGreaterThan(0);
    expect(outages).toBeLessThan(15);
  });

  test('a failure while it is held begins the hold anew', () => {
    const played = new Played().down();
    recover(played);
    relapse(played);
    const wait = () => Math.max(0, played.state.health.nextProbeAt - played.at);
    played.play(wait(), tick, probeEnded(true), trialEnded(true));
    expect(played.state.health.goodSince).toBe(played.at);
    played.play(wait(), tick, probeEnded(false));
    expect(played.state.health.goodSince).toBeNull();
    expect(recover(played).ms).toBeGreaterThanOrEqual(defaultHealthPolicy.flapHoldMs);
  });

  test('what has been good for long does not flap', () => {
    const played = new Played().down();
    recover(played);
    played.play(defaultHealthPolicy.flapWindowMs, success);
    relapse(played);
    expect(recover(played).trials).toBe(1);
  });

  test('a person who takes it in hand ends the count', () => {
    const played = new Played().down();
    recover(played);
    relapse(played);
    played.play(1, { type: 'declare-outage', reason: 'repair', expectedEndAt: null }, { type: 'end-outage' });
    expect(played.play(1, probeEnded(true), trialEnded(true))).toContainEqual({ type: 'recovery' });
  });
});

describe('a planned outage', () => {
  const declare = (expectedEndAt: number | null = null, reason = 'upgrade') =>
    ({ type: 'declare-outage', reason, expectedEndAt }) as const;
  const end = { type: 'end-outage' } as const;

  test('nothing is sent and nothing asked until a person ends it; then it is asked at once', () => {
    const played = new Played();
    expect(played.play(0, declare())).toEqual([
      { type: 'outage', cause: 'upgrade', startedAt: played.at, planned: true, expectedEndAt: null },
    ]);
    for (let round = 0; round < 5; round += 1) {
      expect(played.play(3_600_000, tick, failure, failure, success, softRefusal)).toEqual([]);
      expect(played.phase).toBe('planned');
      expect(slots(played.state, played.at)).toBe(0);
    }
    expect(played.play(1, end)).toEqual([{ type: 'probe' }]);
    expect(played.play(1, probeEnded(true), trialEnded(true)).map(({ type }) => type)).toEqual([
      'trial',
      'recovery',
      'wake',
    ]);
  });

  test('past its expected end it stays planned, and that is said once', () => {
    const played = new Played();
    const expectedEndAt = played.at + 3_600_000;
    expect(played.play(0, declare(expectedEndAt))).toContainEqual({ type: 'wake', at: expectedEndAt });
    expect(played.play(60_000, tick)).toEqual([{ type: 'wake', at: expectedEndAt }]);
    expect(played.play(3_540_000, tick)).toEqual([{ type: 'overdue' }]);
    expect(played.play(3_540_000, tick, tick)).toEqual([]);
    expect(played.phase).toBe('planned');
    // What is announced anew can be overdue anew.
    expect(played.play(1, declare(played.at + 10))).toEqual([{ type: 'wake', at: played.at + 9 }]);
    expect(played.play(9, tick)).toEqual([{ type: 'overdue' }]);
  });

  test('an expected end is said by a person: it does not move with the clock', () => {
    const played = new Played();
    const expectedEndAt = played.at + 3_600_000;
    played.play(0, declare(expectedEndAt));
    played.play(-600_000, { type: 'clock-back', byMs: 600_000 });
    expect(played.play(0, tick)).toEqual([{ type: 'wake', at: expectedEndAt }]);
  });

  test.each(['down', 'probing'] as const)('it takes over an outage under way (%s) without a second one', (phase) => {
    const played = new Played().down();
    const { since } = played.state.health;
    if (phase === 'probing') played.play(maxProbeIntervalMs, tick);
    expect(played.phase).toBe(phase);
    expect(played.play(5, declare())).toEqual([]);
    expect(played.state.health).toMatchObject({ phase: 'planned', since, reason: 'upgrade' });
    // It was not over when the person said so: no second outage either.
    const asked = played.play(5, end);
    expect(asked).toEqual(phase === 'probing' ? [] : [{ type: 'probe' }]);
    expect(played.play(5, probeEnded(false)).map(({ type }) => type)).toEqual(['wake']);
    expect(played.phase).toBe('down');
  });

  test('a question that was out when it was declared is not asked a second time', () => {
    const played = new Played();
    played.play(0, failure, failure);
    expect(played.play(1, declare()).map(({ type }) => type)).toEqual(['outage']);
    expect(played.play(1, end)).toEqual([]);
    expect(played.play(1, probeEnded(true))).toEqual([{ type: 'trial' }]);

    const late = new Played();
    late.play(0, failure, failure, declare());
    expect(late.play(1, probeEnded(false))).toEqual([]);
    expect(late.phase).toBe('planned');
    expect(late.play(1, end)).toEqual([{ type: 'probe' }]);
  });

  test('a restart in a planned outage', () => {
    const at = 1_000_000;
    const state = initialDestination(at, 'planned', 'upgrade', undefined, at + 10);
    expect(slots(state, at)).toBe(0);
    expect(stepDestination(state, tick, at, 0.5).effects).toEqual([{ type: 'wake', at: at + 10 }]);
    expect(stepDestination(state, end, at, 0.5).effects).toEqual([{ type: 'probe' }]);
  });

  test('a person who says that an outage is over has it asked at once; of one that is up that says nothing', () => {
    expect(new Played().down().play(1, end)).toEqual([{ type: 'probe' }]);
    expect(new Played().play(1, end)).toEqual([]);
  });
});

describe('time in which this process did not run', () => {
  const stall = (from: number, to: number) => ({ type: 'stall', from, to }) as const;

  test('requests that began before its end are no strike, those after it are', () => {
    const played = new Played();
    const startedAt = played.at;
    played.play(60_000, stall(startedAt + 1, played.at + 60_000));
    expect(played.play(0, { ...failure, startedAt }, { ...failure, startedAt })).toEqual([]);
    expect(played.phase).toBe('up');
    const later = { ...failure, startedAt: played.at };
    expect(played.play(1, later, later)).toEqual([{ type: 'probe' }]);
  });

  test('where all of them are so, some count all the same', () => {
    const played = new Played();
    const effects = Array.from({ length: defaultHealthPolicy.maxExcused + 2 }).flatMap(() => {
      const startedAt = played.at;
      played.play(60_000, stall(startedAt, played.at + 60_000));
      return played.play(0, { ...failure, startedAt });
    });
    expect(effects).toEqual([{ type: 'probe' }]);
  });

  test('a probe that was out meanwhile is asked again, not believed, but not for ever', () => {
    const played = new Played();
    played.play(0, failure, failure);
    for (let round = 0; round < defaultHealthPolicy.maxExcused; round += 1) {
      const startedAt = played.at;
      played.play(30_000, stall(startedAt, played.at + 30_000));
      expect(played.play(0, { ...probeEnded(false), startedAt })).toEqual([{ type: 'probe' }]);
      expect(played.phase).toBe('suspect');
    }
    const startedAt = played.at;
    played.play(30_000, stall(startedAt, played.at + 30_000));
    expect(played.play(0, { ...probeEnded(false), startedAt }).map(({ type }) => type)).toEqual(['outage', 'wake']);
  });

  test('a clock that goes back moves every instant', () => {
    const played = new Played().down();
    const { nextProbeAt, since } = played.state.health;
    played.play(-3_600_000, { type: 'clock-back', byMs: 3_600_000 });
    expect(played.state.health).toMatchObject({ nextProbeAt: nextProbeAt - 3_600_000, since: since - 3_600_000 });
    expect(played.play(0, tick)).toEqual([{ type: 'wake', at: nextProbeAt - 3_600_000 }]);
  });
});
