import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type DestinationEffect,
  type DestinationEvent,
  defaultDestinationPolicy,
  initialDestination,
  slots,
  stepDestination,
} from '../src/routing/destination.ts';
import { defaultHealthPolicy } from '../src/routing/health.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';

import { failure, Played, probeEnded, softRefusal, success, tick, trialEnded } from './support/played-destination.ts';

const { maxProbeIntervalMs, probeIntervalMs, refusalsToSuspect, successesToUp } = defaultHealthPolicy;

describe('the course of an outage', () => {
  test('up, suspect, down, probing, recovering, up', () => {
    const played = new Played();
    expect(played.play(0, failure)).toEqual([]);
    const firstFailure = played.at;
    expect(played.play(10, failure)).toEqual([{ type: 'probe' }]);
    expect(played.phase).toBe('suspect');
    expect(slots(played.state, played.at)).toBe(0);

    const declared = played.play(10, probeEnded(false));
    expect(played.phase).toBe('down');
    expect(declared).toEqual([
      { type: 'outage', cause: 'no answer', startedAt: firstFailure, planned: false, expectedEndAt: null },
      { type: 'wake', at: played.state.health.nextProbeAt },
    ]);

    expect(played.play(1, tick)).toEqual([{ type: 'wake', at: played.state.health.nextProbeAt }]);
    expect(played.play(probeIntervalMs, tick)).toEqual([{ type: 'probe' }]);
    expect(played.phase).toBe('probing');
    expect(played.play(10, probeEnded(true))).toEqual([{ type: 'trial' }]);
    expect(played.phase).toBe('probing');
    expect(played.play(10, trialEnded(true))).toContainEqual({ type: 'recovery' });
    expect(played.phase).toBe('recovering');
    expect(slots(played.state, played.at)).toBe(1);

    for (let count = 1; count < successesToUp; count += 1) played.play(10, success);
    expect(played.phase).toBe('recovering');
    expect(played.play(10, success)).toEqual([]);
    expect(played.phase).toBe('up');
  });

  test.each([
    ['one failure alone', [failure]],
    ['a failure on each side of a success', [failure, success, failure]],
    ['push-back, however often', Array.from({ length: 50 }, () => ({ type: 'push-back' }) as const)],
    [
      'soft refusals with a success in between',
      [...Array.from({ length: 4 }, () => softRefusal), success, softRefusal],
    ],
  ])('%s asks nothing', (_, events: readonly DestinationEvent[]) => {
    const played = new Played();
    const asked = events.flatMap((event) => played.play(10, event)).filter(({ type }) => type !== 'wake');
    expect(asked).toEqual([]);
    expect(played.phase).toBe('up');
  });

  test('failures in a row count however far apart: a peer that never answers is heard of at each time-out only', () => {
    const played = new Played();
    expect(played.play(0, failure)).toEqual([]);
    expect(played.play(3_600_000, failure)).toEqual([{ type: 'probe' }]);
  });

  test('a clock that goes back does not put off the next probe', () => {
    const played = new Played('down');
    played.play(0, tick, probeEnded(false));
    played.play(-24 * 3_600_000);
    expect(played.play(0, tick)).toEqual([{ type: 'probe' }]);
  });

  test('suspected in vain: up again, without an outage', () => {
    const played = new Played();
    expect(played.play(0, failure, failure, probeEnded(true), trialEnded(true))).toEqual([
      { type: 'probe' },
      { type: 'trial' },
    ]);
    expect(played.phase).toBe('up');
  });

  test('half dead: the listener answers, storage does not', () => {
    const played = new Played();
    const effects = played.play(0, failure, failure, probeEnded(true), trialEnded(false));
    expect(effects.map(({ type }) => type)).toEqual(['probe', 'trial', 'outage', 'wake']);
    for (let round = 0; round < 5; round += 1) {
      const again = played.play(maxProbeIntervalMs, tick, probeEnded(true), trialEnded(false));
      expect(again.map(({ type }) => type)).toEqual(['probe', 'trial', 'wake']);
      expect(played.phase).toBe('down');
    }
  });

  test('soft refusals in a row are asked about; storage that stores is believed', () => {
    const played = new Played();
    const refusals = Array.from({ length: refusalsToSuspect }, () => softRefusal);
    expect(played.play(0, ...refusals)).toEqual([{ type: 'probe' }]);
    expect(played.play(1, probeEnded(true), trialEnded(true))).toEqual([{ type: 'trial' }]);
    expect(played.phase).toBe('up');
    // They are counted anew.
    expect(played.play(1, softRefusal)).toEqual([]);
  });

  test('an outage is declared once, whatever else fails, and begins with the first failure that led to it', () => {
    const played = new Played();
    played.play(0, failure);
    const firstFailure = played.at;
    played.play(5, failure);
    // Requests that were in flight end one after another, while the probe waits for its timeout.
    for (let late = 0; late < 8; late += 1) expect(played.play(5_000, failure)).toEqual([]);
    const [outage] = played.play(1, probeEnded(false));
    expect(outage).toMatchObject({ type: 'outage', startedAt: firstFailure });
    for (let round = 0; round < 20; round += 1) {
      const effects = played.play(maxProbeIntervalMs, failure, softRefusal, tick, failure, probeEnded(false));
      expect(effects.map(({ type }) => type)).toEqual(['probe', 'wake']);
    }
  });

  test('one failure while it recovers is enough to ask, and a relapse is an outage of its own', () => {
    const played = new Played().down();
    played.play(maxProbeIntervalMs, tick);
    const effects = played.play(1, probeEnded(true), trialEnded(true), success, failure, probeEnded(false));
    expect(effects.map(({ type }) => type).filter((type) => type !== 'wake')).toEqual([
      'trial',
      'recovery',
      'probe',
      'outage',
    ]);
  });

  test('a restart in an outage: it is asked at once, and no second outage is declared', () => {
    const played = new Played('down');
    expect(slots(played.state, played.at)).toBe(0);
    expect(played.play(0, tick)).toEqual([{ type: 'probe' }]);
    expect(played.play(5, probeEnded(false)).map(({ type }) => type)).toEqual(['wake']);
    const effects = played.play(maxProbeIntervalMs, tick, probeEnded(true), trialEnded(true));
    expect(effects.filter(({ type }) => type === 'recovery' || type === 'outage')).toEqual([{ type: 'recovery' }]);
  });

  test('a recovery with nothing to send ends by itself after a calm while', () => {
    const played = new Played('recovering');
    const [wake] = played.play(0, tick);
    played.play(defaultHealthPolicy.calmToUpMs - 1, tick);
    expect(played.phase).toBe('recovering');
    played.play(1, tick);
    expect([played.phase, wake]).toEqual(['up', { type: 'wake', at: played.at }]);
  });

  test('a restart in a recovery: it is loaded slowly, and a failure declares a new outage', () => {
    const played = new Played('recovering');
    expect(played.play(0, tick).map(({ type }) => type)).toEqual(['wake']);
    expect(slots(played.state, played.at)).toBe(1);
    const effects = played.play(1, failure, probeEnded(false));
    expect(effects.map(({ type }) => type)).toEqual(['probe', 'outage', 'wake']);
  });

  test('pauses between probes grow, and stay within the policy', () => {
    for (const random of [0, 0.5, 0.999_999]) {
      let state = new Played().down().state;
      const pauses: number[] = [];
      for (let round = 0; round < 40; round += 1) {
        const at = state.health.nextProbeAt;
        state = stepDestination(state, tick, at, random).state;
        state = stepDestination(state, probeEnded(false), at, random).state;
        pauses.push(state.health.nextProbeAt - at);
      }
      expect(pauses).toEqual([...pauses].sort((a, b) => a - b));
      expect(pauses[0]).toBeGreaterThanOrEqual(probeIntervalMs / 2);
      expect(pauses.at(-1)).toBeLessThanOrEqual(maxProbeIntervalMs);
      expect(pauses.at(-1)).toBeGreaterThanOrEqual(maxProbeIntervalMs / 2);
    }
  });
});

type Input =
  | { readonly kind: 'event'; readonly event: DestinationEvent; readonly afterMs: number }
  /** Ends the probe or trial under way, if any, while so many requests are in flight. */
  | { readonly kind: 'answer'; readonly alive: boolean; readonly others: number; readonly afterMs: number };

const afterMs = fc.oneof(fc.nat(50), fc.nat(40_000));
/** Requests that began within the last minute, or nobody knows when. */
const began = fc.option(
  fc.nat(60_000).map((agoMs) => ({ startedAt: 1_000_000 + agoMs })),
  { nil: {} },
);
const event: fc.Arbitrary<DestinationEvent> = fc.oneof(
  { weight: 2, arbitrary: began.map((times) => ({ ...success, ...times })) },
  {
    weight: 3,
    arbitrary: fc.record({ times: began, othersInFlight: fc.nat(2) }).map(({ times, othersInFlight }) => ({
      ...failure,
      ...times,
      othersInFlight,
    })),
  },
  { weight: 3, arbitrary: fc.constantFrom<DestinationEvent>(success, failure, softRefusal) },
  { weight: 2, arbitrary: fc.constant(tick) },
  fc.constantFrom<DestinationEvent>(
    { type: 'declare-outage', reason: 'upgrade', expectedEndAt: null },
    { type: 'declare-outage', reason: 'upgrade', expectedEndAt: 1_100_000 },
    { type: 'end-outage' },
    { type: 'end-outage' },
    { type: 'stall', from: 1_000_000, to: 1_200_000 },
    { ...failure, startedAt: 1_100_000 },
    { type: 'lag', lagMs: 1_000_000 },
  ),
  fc.record({ type: fc.constant('push-back' as const), retryAfterMs: fc.option(fc.nat(90_000), { nil: undefined }) }),
);
const history: fc.Arbitrary<Input[]> = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('event' as const), event, afterMs }) },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant('answer' as const), alive: fc.boolean(), others: fc.nat(2), afterMs }),
    },
  ),
  { maxLength: 80 },
);
const start = fc.constantFrom<'up' | 'down' | 'recovering' | 'planned'>('up', 'down', 'recovering', 'planned');

/** What a shell keeps: the one question under way, the wakes that it was asked for, the outage that is open. */
interface Shell {
  asking: 'probe' | 'trial' | undefined;
  wakes: number[];
  hasOutage: boolean;
}

function carryOut(shell: Shell, effects: readonly DestinationEffect[]): void {
  for (const effect of effects) {
    if (effect.type === 'probe' || effect.type === 'trial') {
      expect(shell.asking, 'one question at a time').toBeUndefined();
      shell.asking = effect.type;
    } else if (effect.type === 'wake') {
      shell.wakes.push(effect.at);
    } else if (effect.type !== 'overdue') {
      expect(shell.hasOutage, 'outage and recovery take turns').toBe(effect.type === 'recovery');
      shell.hasOutage = effect.type === 'outage';
    }
  }
}

function answerTo(shell: Shell, alive: boolean, othersInFlight = 0): DestinationEvent | undefined {
  const { asking } = shell;
  shell.asking = undefined;
  if (asking === undefined) return undefined;
  return { ...(asking === 'probe' ? probeEnded(alive) : trialEnded(alive)), othersInFlight };
}

describe('whatever happens', () => {
  test('one question at a time, outages and recoveries in turn, no slots while it is held to be down, never stuck', () => {
    const { maxConcurrency } = defaultDestinationPolicy.flow;
    fc.assert(
      fc.property(start, history, fc.nat(), (phase, inputs, seed) => {
        const random = seededRandom(seed);
        const shell: Shell = { asking: undefined, wakes: [0], hasOutage: phase === 'down' || phase === 'planned' };
        let at = 1_000_000;
        let state = Object.freeze(initialDestination(at, phase, ''));
        for (const input of inputs) {
          at += input.afterMs;
          const played = input.kind === 'event' ? input.event : answerTo(shell, input.alive, input.others);
          if (played === undefined) continue;
          const draw = random();
          const step = stepDestination(state, played, at, draw);
          expect(stepDestination(structuredClone(state), played, at, draw)).toEqual(step);
          state = step.state;
          carryOut(shell, step.effects);

          const { health, flow } = state;
          const mayStart = health.phase === 'up' || health.phase === 'recovering';
          const free = slots(state, at);
          if (!mayStart || at < flow.pausedUntil) expect(free).toBe(0);
          else expect(free).toBeGreaterThanOrEqual(1);
          expect(free).toBeLessThanOrEqual(maxConcurrency);
          // Each phase has something that leads out of it.
          expect(shell.asking ?? null).toBe(health.asking);
          if (health.phase === 'probing') expect(health.asking).not.toBeNull();
          if (health.phase === 'suspect' && health.asking === null) expect(shell.wakes).toContain(health.nextProbeAt);
          // A suspicion may be settled before it is answered.
          if (health.phase === 'down' || health.phase === 'recovering') expect(health.asking).toBeNull();
          if (health.phase === 'planned') {
            expect(step.effects.map(({ type }) => type)).not.toContain('probe');
            expect(step.effects.map(({ type }) => type)).not.toContain('trial');
          }
          if (health.phase === 'down' && health.failedProbes > 0) expect(shell.wakes).toContain(health.nextProbeAt);
          if (at < flow.pausedUntil) expect(shell.wakes).toContain(flow.pausedUntil);
        }
      }),
      { numRuns: 2_000 },
    );
  });

  test('a destination that stays good from some moment on is up in the end', () => {
    fc.assert(
      fc.property(start, history, fc.nat(), (phase, inputs, seed) => {
        const shell: Shell = { asking: undefined, wakes: [], hasOutage: phase === 'down' || phase === 'planned' };
        const random = seededRandom(seed);
        let at = 1_000_000;
        let state = initialDestination(at, phase, '');
        const play = (played: DestinationEvent | undefined) => {
          if (played === undefined) return;
          const step = stepDestination(state, played, at, random());
          state = step.state;
          carryOut(shell, step.effects);
        };
        play(tick);
        for (const input of inputs) {
          at += input.afterMs;
          play(input.kind === 'event' ? input.event : answerTo(shell, input.alive, input.others));
        }
        // From here on it is good; two requests that were in flight still fail.
        play(failure);
        play(failure);
        // Whoever declared an outage ends it.
        play({ type: 'end-outage' });
        for (let step = 0; state.health.phase !== 'up'; step += 1) {
          expect(step, `stuck in ${state.health.phase}`).toBeLessThan(400);
          if (shell.asking !== undefined) {
            at += 10;
            play(answerTo(shell, true));
          } else if (slots(state, at) > 0) {
            at += 10;
            play(success);
          } else {
            // Nothing can be done but to wait for what it asked to be woken for.
            const next = Math.min(...shell.wakes);
            expect(next).toBeLessThan(Number.POSITIVE_INFINITY);
            shell.wakes = shell.wakes.filter((wake) => wake > next);
            at = Math.max(at, next);
            play(tick);
          }
        }
        expect(shell.hasOutage).toBe(false);
      }),
      { numRuns: 2_000 },
    );
  });

  test('one that is dead from some moment on is declared down soon, whatever else is in flight', () => {
    const { failuresToSuspect, maxCrowdedMs } = defaultHealthPolicy;
    fc.assert(
      fc.property(start, history, fc.nat(), fc.integer({ min: 1, max: 200 }), (phase, inputs, seed, everyMs) => {
        const shell: Shell = { asking: undefined, wakes: [], hasOutage: phase === 'down' || phase === 'planned' };
        const random = seededRandom(seed);
        let at = 1_000_000;
        let state = initialDestination(at, phase, '');
        const play = (played: DestinationEvent | undefined) => {
          if (played === undefined) return;
          const step = stepDestination(state, played, at, random());
          state = step.state;
          carryOut(shell, step.effects);
        };
        play(tick);
        for (const input of inputs) {
          at += input.afterMs;
          play(input.kind === 'event' ? input.event : answerTo(shell, input.alive, input.others));
        }
        // Requests that hang stay in flight; new ones fail at once, as does every question.
        const diedAt = at;
        const { tookMs, stalledUntil } = state.health;
        at = Math.max(at, stalledUntil) + 1;
        const isDown = () => ['down', 'probing', 'planned'].includes(state.health.phase);
        for (let count = 0; !isDown(); count += 1) {
          expect(count, `stuck in ${state.health.phase}`).toBeLessThan(1_000);
          at += everyMs;
          if (shell.asking !== undefined) play(answerTo(shell, false, 1));
          else if (slots(state, at) > 0) play({ ...failure, startedAt: at - 1, othersInFlight: 1 });
          else {
            const next = Math.min(...shell.wakes);
            expect(next).toBeLessThan(Number.POSITIVE_INFINITY);
            shell.wakes = shell.wakes.filter((wake) => wake > next);
            at = Math.max(at, next);
            play(tick);
          }
        }
        const pausedMs = Math.max(0, state.flow.pausedUntil - diedAt);
        const patienceMs = Math.min(10 * maxCrowdedMs, Math.max(maxCrowdedMs, 2 * tookMs)) + probeIntervalMs;
        const askedMs = (failuresToSuspect + 6) * everyMs;
        expect(at - Math.max(diedAt, stalledUntil)).toBeLessThanOrEqual(pausedMs + patienceMs + askedMs);
      }),
      { numRuns: 2_000 },
    );
  });
});
