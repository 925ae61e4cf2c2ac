import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SpillwayError } from '../src/errors.ts';
import { EventQueue } from '../src/simulator/event-queue.ts';
import { Host } from '../src/simulator/host.ts';
import { streamOf } from '../src/simulator/random.ts';
import type { Scenario, TargetModel } from '../src/simulator/scenario.ts';
import { simulate } from '../src/simulator/simulate.ts';
import { Target, type TargetOutcome } from '../src/simulator/target.ts';

const DAY_MS = 86_400_000;
const instance = (uid: string, bytes = 1e6) => ({ uid, bytes, sick: null });

function targetOf(model: TargetModel) {
  const queue = new EventQueue();
  const target = new Target({ noise: 0, ...model }, queue, streamOf(1, 'target'), DAY_MS);
  const answers: { at: number; kinds: string }[] = [];
  const send = (...uids: string[]) =>
    target.send(
      uids.map((uid) => instance(uid)),
      (outcomes: readonly TargetOutcome[]) => {
        answers.push({ at: Math.round(queue.now), kinds: outcomes.map(({ kind }) => kind).join(' ') });
      },
    );
  return { queue, target, answers, send };
}

describe('virtual time', () => {
  test('what falls on one instant happens in the order in which it was asked for, everything else in order of time', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 20 })), (instants) => {
        const queue = new EventQueue();
        const seen: [number, number][] = [];
        instants.forEach((at, index) => {
          queue.at(at, () => seen.push([queue.now, index]));
        });
        queue.runUntil(100);
        const expected = instants.map((at, index) => [at, index] as [number, number]);
        expect(seen).toEqual(expected.sort((a, b) => a[0] - b[0] || a[1] - b[1]));
        expect(queue.now).toBe(100);
      }),
    );
  });

  test('what is cancelled does not happen, and nothing happens before the present', () => {
    const queue = new EventQueue();
    const seen: number[] = [];
    queue.at(5, () => seen.push(5))();
    queue.at(10, () => queue.at(3, () => seen.push(queue.now)));
    queue.runUntil(20);
    expect(seen).toEqual([10]);
  });

  test('after a stall timers fire before what came from outside, and the stall is told first', () => {
    const queue = new EventQueue();
    const host = new Host(queue, 1_000);
    const seen: string[] = [];
    host.onStalled = (from, to) => seen.push(`stalled ${from} ${to}`);
    host.after(50, () => seen.push('timer'));
    const answer = host.heard(() => seen.push('answer'));
    queue.at(10, () => host.stall(100));
    queue.at(20, answer);
    queue.runUntil(200);
    expect(seen).toEqual(['stalled 1010 1110', 'timer', 'answer']);
  });

  test('of another life of the process nothing is heard', () => {
    const queue = new EventQueue();
    const host = new Host(queue, 0);
    const seen: string[] = [];
    host.after(50, () => seen.push('timer'));
    const answer = host.heard(() => seen.push('answer'));
    queue.at(10, () => host.kill());
    queue.at(20, answer);
    queue.runUntil(100);
    expect(seen).toEqual([]);
  });
});

describe('a target', () => {
  test('serves so many at once, each for its fixed time and by its size', () => {
    const { queue, answers, send } = targetOf({
      servers: 2,
      perRequest: '10 ms',
      perInstance: '20 ms',
      perMegabyte: '30 ms',
    });
    send('a');
    send('b');
    send('c', 'd');
    queue.runUntil(1_000);
    expect(answers).toEqual([
      { at: 60, kinds: 'stored' },
      { at: 60, kinds: 'stored' },
      { at: 170, kinds: 'stored stored' },
    ]);
  });

  test('that stalls on each object is idle meanwhile: more in flight take no longer', () => {
    const { queue, answers, send } = targetOf({
      servers: 1,
      perRequest: '0 ms',
      perInstance: '1 ms',
      perMegabyte: '0 ms',
      stall: '50 ms',
    });
    for (const uid of ['a', 'b', 'c', 'd']) send(uid);
    queue.runUntil(1_000);
    expect(answers.map(({ at }) => at)).toEqual([51, 52, 53, 54]);
  });

  test('that is dead refuses, and breaks off what was under way without storing it', () => {
    const { queue, target, answers, send } = targetOf({
      perInstance: '100 ms',
      faults: [{ kind: 'dead', from: '50 ms', to: '1 s' }],
    });
    send('a');
    queue.runUntil(60);
    send('b');
    queue.runUntil(2_000);
    expect(answers.map(({ kinds }) => kinds)).toEqual(['ambiguous', 'unreachable']);
    expect(target.held.size).toBe(0);
  });

  test('asks for less beyond its limit of requests, those that were given up included', () => {
    const { queue, answers, send } = targetOf({ maxRequests: 1 });
    send('a');
    send('b');
    queue.runUntil(1_000);
    expect(answers.map(({ kinds }) => kinds)).toEqual(['push-back', 'stored']);
  });

  test('with a slow index shows what it holds later; put back, it holds it no more', () => {
    const { queue, target, send } = targetOf({
      index: { perInstance: '100 ms', lag: '1 s' },
      faults: [{ kind: 'restored', from: '5 s', since: '0 s' }],
    });
    const shown: number[] = [];
    send('a', 'b');
    for (const at of [900, 1_200, 1_400, 6_000]) {
      queue.at(at, () => target.lookUp(['a', 'b'], (found) => shown.push(found?.size ?? -1)));
    }
    queue.runUntil(10_000);
    expect(shown).toEqual([0, 1, 2, 0]);
  });

  test.each([
    ['loses-answers', 'ambiguous', 1],
    ['loses-instances', 'stored', 0],
    ['storage-dead', 'refused', 0],
    ['unavailable', 'push-back', 0],
    ['rejects', 'push-back', 0],
  ] as const)('%s: %s, and %i is there', (kind, outcome, held) => {
    const { queue, target, answers, send } = targetOf({ faults: [{ kind, from: '0 s' }] });
    send('a');
    queue.runUntil(1_000);
    expect(answers.map(({ kinds }) => kinds)).toEqual([outcome]);
    expect(target.held.size).toBe(held);
  });

  test('that hangs answers nothing, not even a probe', () => {
    const { queue, target, answers, send } = targetOf({ faults: [{ kind: 'hangs', from: '0 s' }] });
    send('a');
    target.probe(() => answers.push({ at: 0, kinds: 'probe' }));
    queue.runUntil(1_000);
    expect(answers).toEqual([]);
  });

  test('a fault that comes and goes is there for its part of each time', () => {
    const { queue, answers, send } = targetOf({
      faults: [{ kind: 'unavailable', from: '10 s', to: '100 s', every: '20 s', during: '5 s' }],
    });
    for (const at of [1_000, 12_000, 18_000, 31_000, 37_000, 91_000, 111_000]) queue.at(at, () => send(`i${at}`));
    queue.runUntil(200_000);
    const stored = answers.map(({ kinds }) => kinds === 'stored');
    expect(stored).toEqual([true, false, true, false, true, false, true]);
  });
});

describe('a scenario', () => {
  const world = { lasts: '1 h', arrivals: [{ label: 'a', studies: 1 }], targets: { pacs: {} } };
  const scenario: Scenario = { name: 'n', why: 'w', world };

  test.each([
    ['a misspelt key', { ...scenario, world: { ...world, gatway: [] } }, /gatway/],
    ['a time without its unit', { ...scenario, world: { ...world, lasts: '60' } }, /a time such as/],
    [
      'a fault of no kind',
      { ...scenario, world: { ...world, targets: { pacs: { faults: [{ kind: 'x', from: '0 s' }] } } } },
      /kind/,
    ],
    [
      'a destination that is not there',
      { ...scenario, world: { ...world, arrivals: [{ label: 'a', destinations: ['b'] }] } },
      /"b"/,
    ],
    ['labels twice', { ...scenario, world: { ...world, arrivals: [{ label: 'a' }, { label: 'a' }] } }, /labels/],
    ['no targets', { ...scenario, world: { lasts: '1 h', arrivals: [] } }, /targets/],
    [
      'a knob out of range',
      { ...scenario, world: { ...world, targets: { pacs: { policy: { flow: { maxConcurrency: 0 } } } } } },
      /maxConcurrency/,
    ],
    [
      'a jump that lasts',
      { ...scenario, world: { ...world, gateway: [{ kind: 'clock-jumps', at: '0 s', lasts: '1 s' }] } },
      /kind/,
    ],
  ])('with %s is refused', (_, wrong, message) => {
    let error: unknown;
    try {
      simulate(wrong as Scenario, { seed: 1 });
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(SpillwayError);
    expect(error).toMatchObject({ code: 'SPILLWAY_OPTION_INVALID' });
    expect((error as Error).message).toMatch(message);
  });

  test('another seed gives another history of the same world', () => {
    const random: Scenario = { ...scenario, world: { ...world, arrivals: [{ label: 'a', perHour: 100 }] } };
    const [one, other] = [1, 2].map((seed) => JSON.stringify(simulate(random, { seed }).history));
    expect(one).not.toBe(other);
  });

  test('what is known of a part of the world does not change with another part', () => {
    const add = { ...world, targets: { pacs: {}, other: {} }, arrivals: [{ label: 'a', perHour: 100 }] };
    const alone = { ...add, targets: { pacs: {} } };
    const ofPacs = (one: Scenario['world']) =>
      simulate({ ...scenario, world: one }, { seed: 1 }).history.filter(
        (event) => 'destination' in event && event.destination === 'pacs',
      );
    expect(ofPacs(add)).toEqual(ofPacs(alone));
  });
});
