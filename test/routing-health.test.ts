import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type DestinationEffect,
  type DestinationEvent,
  type DestinationState,
  defaultDestinationPolicy,
  initialDestination,
  slots,
  stepDestination,
} from '../src/routing/destination.ts';
import { defaultHealthPolicy, type HealthPhase } from '../src/routing/health.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';

const { maxProbeIntervalMs, probeIntervalMs, refusalsToSuspect, successesToUp } = defaultHealthPolicy;
const success = { type: 'success' } as const;
const tick = { type: 'tick' } as const;
const failure = { type: 'failure', reason: 'connection refused' } as const;
const softRefusal = { type: 'soft-refusal', reason: '0110' } as const;
const probeEnded = (alive: boolean) =>
  ({ type: 'probe-ended', alive, reason: alive ? 'it answers' : 'no answer' }) as const;
const trialEnded = (alive: boolean) =>
  ({ type: 'trial-ended', alive, reason: alive ? 'it stores' : 'disk full' }) as const;

/** A destination whose events are played one after another. */
class Played {
  state: DestinationState;
  at = 1_000_000;

  constructor(phase: 'up' | 'down' | 'recovering' = 'up') {
    this.state = initialDestination(this.at, phase, 'as found');
  }

  get phase(): HealthPhase {
    return this.state.health.phase;
  }

  /** Plays events at one instant, `afterMs` after those before; returns their effects. */
  play(afterMs: number, ...events: DestinationEvent[]): DestinationEffect[] {
    this.at += afterMs;
    return events.flatMap((event) => {
      const { state, effects } = stepDestination(this.state, event, this.at, 0.5);
      this.state = state;
      return [...effects];
    });
  }

  down(): this {
    this.play(1, failure, failure, probeEnded(false));
    expect(this.phase).toBe('down');
    return this;
  }
}

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
      { type: 'outage', cause: 'no answer', startedAt: firstFailure },
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

  test('flapping: one failure while it recovers is enough to ask, and a relapse is an outage of its own', () => {
    const played = new Played().down();
    const changes: string[] = [];
    for (let round = 0; round < 4; round += 1) {
      played.play(maxProbeIntervalMs, tick);
      const effects = played.play(1, probeEnded(true), trialEnded(true), success, failure, probeEnded(false));
      changes.push(...effects.map(({ type }) => type).filter((type) => type === 'outage' || type === 'recovery'));
    }
    expect(changes).toEqual(Array.from({ length: 4 }, () => ['recovery', 'outage']).flat());
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
  /** Ends the probe or trial under way, if any. */
  | { readonly kind: 'answer'; readonly alive: boolean; readonly afterMs: number };

const afterMs = fc.oneof(fc.nat(50), fc.nat(40_000));
const event: fc.Arbitrary<DestinationEvent> = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom<DestinationEvent>(success, failure, softRefusal) },
  { weight: 2, arbitrary: fc.constant(tick) },
  fc.record({ type: fc.constant('push-back' as const), retryAfterMs: fc.option(fc.nat(90_000), { nil: undefined }) }),
);
const history: fc.Arbitrary<Input[]> = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('event' as const), event, afterMs }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('answer' as const), alive: fc.boolean(), afterMs }) },
  ),
  { maxLength: 80 },
);
const start = fc.constantFrom<'up' | 'down' | 'recovering'>('up', 'down', 'recovering');

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
    } else {
      expect(shell.hasOutage, 'outage and recovery take turns').toBe(effect.type === 'recovery');
      shell.hasOutage = effect.type === 'outage';
    }
  }
}

function answerTo(shell: Shell, alive: boolean): DestinationEvent | undefined {
  const { asking } = shell;
  shell.asking = undefined;
  return asking === undefined ? undefined : asking === 'probe' ? probeEnded(alive) : trialEnded(alive);
}

describe('whatever happens', () => {
  test('one question at a time, outages and recoveries in turn, no slots while it is held to be down, never stuck', () => {
    const { maxConcurrency } = defaultDestinationPolicy.flow;
    fc.assert(
      fc.property(start, history, fc.nat(), (phase, inputs, seed) => {
        const random = seededRandom(seed);
        const shell: Shell = { asking: undefined, wakes: [0], hasOutage: phase === 'down' };
        let at = 1_000_000;
        let state = Object.freeze(initialDestination(at, phase, ''));
        for (const input of inputs) {
          at += input.afterMs;
          const played = input.kind === 'event' ? input.event : answerTo(shell, input.alive);
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
          expect(flow.limit).toBeGreaterThanOrEqual(1);
          expect(flow.limit).toBeLessThanOrEqual(maxConcurrency);
          // Each phase has something that leads out of it.
          expect(shell.asking !== undefined).toBe(health.phase === 'suspect' || health.phase === 'probing');
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
        const shell: Shell = { asking: undefined, wakes: [], hasOutage: phase === 'down' };
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
          play(input.kind === 'event' ? input.event : answerTo(shell, input.alive));
        }
        // From here on it is good; two requests that were in flight still fail.
        play(failure);
        play(failure);
        for (let step = 0; state.health.phase !== 'up'; step += 1) {
          expect(step, `stuck in ${state.health.phase}`).toBeLessThan(200);
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
});
