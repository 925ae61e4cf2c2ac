import { type DestinationPolicy, defaultDestinationPolicy } from '../routing/destination.ts';
import { assertDestinationPolicy } from '../routing/policy-check.ts';
import { defaultTierPolicy } from '../tiers/policy.ts';
import { type Arrival, arrivalsOf } from './arrivals.ts';
import { Engine } from './engine.ts';
import { EventQueue } from './event-queue.ts';
import { Host } from './host.ts';
import { milliseconds } from './quantity.ts';
import { streamOf } from './random.ts';
import { DestinationMeter, Recorder } from './recorder.ts';
import type { SimulationResult } from './result.ts';
import type { GatewayFault, OperatorAct, PolicyKnobs, Scenario, TargetModel, World } from './scenario.ts';
import { assertScenario } from './scenario-check.ts';
import { Target } from './target.ts';

export interface SimulationOptions {
  /** Decides all that is left to chance. */
  readonly seed: number;
  /** Replaces values of the policy of every destination, after the scenario's own knobs. @default none */
  readonly policy?: Partial<DestinationPolicy>;
}

const DEFAULT_START = '2026-03-02T06:00:00Z';
const SAMPLES = 240;

/**
 * Lets a world go by in virtual time, with the decisions of `routing/` and `tiers/` that a gateway takes.
 *
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID` when the scenario is not what it should be
 */
export function simulate(scenario: Scenario, options: SimulationOptions): SimulationResult {
  assertScenario(scenario);
  return new Simulation(scenario.world, options).run();
}

interface Destination {
  readonly model: TargetModel;
  readonly engine: Engine;
  readonly target: Target;
  readonly meter: DestinationMeter;
}

class Simulation {
  readonly #world: World;
  readonly #seed: number;
  readonly #queue = new EventQueue();
  readonly #recorder = new Recorder(this.#queue);
  readonly #host: Host;
  readonly #endMs: number;
  /** By id, in the order of ids. */
  readonly #destinations: ReadonlyMap<string, Destination>;
  /** Instances that their senders keep until the gateway takes them. */
  #outside: Arrival[] = [];
  /** Faults of a kind under way: they may overlap. */
  readonly #underWay = { stalls: 0, killed: 0, 'disk-full': 0 };

  constructor(world: World, { seed, policy }: SimulationOptions) {
    this.#world = world;
    this.#seed = seed;
    this.#endMs = milliseconds(world.lasts);
    this.#host = new Host(this.#queue, Date.parse(world.startAt ?? DEFAULT_START));
    const ids = Object.keys(world.targets).sort();
    this.#destinations = new Map(ids.map((id) => [id, this.#destination(id, policy ?? {})]));
    const engines = [...this.#destinations.values()].map(({ engine }) => engine);
    this.#host.onStalled = (from, to) => {
      for (const engine of engines) engine.stalled(from, to);
    };
    this.#host.onClockBack = (byMs) => {
      for (const engine of engines) engine.clockBack(byMs);
    };
  }

  run(): SimulationResult {
    for (const arrival of arrivalsOf(this.#world, this.#seed)) {
      this.#queue.at(arrival.at, () => this.#offer(arrival));
    }
    for (const fault of this.#world.gateway ?? []) {
      this.#queue.at(milliseconds(fault.at), () => this.#befall(fault));
    }
    for (const act of this.#world.operator ?? []) this.#queue.at(milliseconds(act.at), () => this.#act(act));
    for (let sample = 0; sample <= SAMPLES; sample += 1) {
      this.#queue.runUntil((this.#endMs * sample) / SAMPLES);
      for (const { engine } of this.#destinations.values()) engine.sample();
    }
    return this.#result();
  }

  #destination(id: string, policy: Partial<DestinationPolicy>): Destination {
    const model = this.#world.targets[id] as TargetModel;
    const target = new Target(model, this.#queue, streamOf(this.#seed, `target ${id}`), this.#endMs);
    const meter = new DestinationMeter(defaultTierPolicy.tiers.length);
    const engine = new Engine({
      ...{ id, model, target, meter },
      policy: policyOf(model.policy ?? {}, policy),
      tiers: defaultTierPolicy,
      host: this.#host,
      random: streamOf(this.#seed, `engine ${id}`),
      recorder: this.#recorder,
      elapsed: () => this.#queue.now,
      canRecord: () => !this.#isFull,
      onOutage: () => this.#standIn(id),
    });
    return { model, engine, target, meter };
  }

  get #isFull(): boolean {
    return this.#underWay['disk-full'] > 0;
  }

  /** An instance is at the door. */
  #offer(arrival: Arrival): void {
    const { stalls, killed } = this.#underWay;
    // What is not acknowledged its sender offers again.
    if (stalls > 0 || killed > 0 || this.#isFull) this.#outside.push(arrival);
    else this.#accept(arrival);
  }

  #accept(arrival: Arrival): void {
    for (const [id, { model, engine }] of this.#destinations) {
      const { standbyFor } = model;
      const isNamed = arrival.destinations?.includes(id) ?? true;
      const isNeeded = standbyFor === undefined || this.#destinations.get(standbyFor)?.engine.isDown === true;
      if (isNamed && isNeeded) engine.accept(arrival);
    }
  }

  /** What is pending where an outage began goes to its standby too. */
  #standIn(downId: string): void {
    const down = this.#destinations.get(downId);
    for (const { model, engine } of this.#destinations.values()) {
      if (model.standbyFor !== downId || down === undefined) continue;
      for (const delivery of down.engine.backlog.open) engine.copy(delivery);
    }
  }

  #befall(fault: GatewayFault): void {
    const { kind } = fault;
    this.#recorder.note({ type: 'gateway', what: kind });
    if (kind === 'clock-jumps') {
      this.#host.jump(milliseconds(fault.by));
      return;
    }
    const lastsMs = milliseconds(fault.lasts);
    this.#underWay[kind] += 1;
    if (kind === 'stalls') this.#host.stall(lastsMs);
    if (kind === 'killed') this.#host.kill();
    this.#queue.at(this.#queue.now + lastsMs, () => this.#isOver(kind));
  }

  #isOver(kind: 'stalls' | 'disk-full' | 'killed'): void {
    this.#recorder.note({ type: 'gateway', what: `${kind} no more` });
    this.#underWay[kind] -= 1;
    if (kind === 'killed' && this.#underWay.killed === 0) {
      for (const { engine } of this.#destinations.values()) engine.restart();
    }
    const waiting = this.#outside;
    this.#outside = [];
    for (const arrival of waiting) this.#offer(arrival);
  }

  #act(act: OperatorAct): void {
    const engine = this.#destinations.get(act.destination)?.engine;
    if (act.kind === 'ends-outage') engine?.endOutage();
    else {
      const expectedEndAt =
        act.expectedEnd === undefined ? null : this.#host.now - this.#queue.now + milliseconds(act.expectedEnd);
      engine?.declareOutage(act.reason, expectedEndAt);
    }
  }

  #result(): SimulationResult {
    const entries = [...this.#destinations];
    return {
      history: this.#recorder.history,
      series: Object.fromEntries(entries.map(([id, { meter }]) => [id, meter.samples])),
      destinations: Object.fromEntries(
        entries.map(([id, { meter, engine, target }]) => [id, meter.figures(engine.backlog, target)]),
      ),
    };
  }
}

/** The default policy with these knobs, and then these values. */
export function policyOf(knobs: PolicyKnobs, replaced: Partial<DestinationPolicy>): DestinationPolicy {
  const { health, flow, share, retry } = defaultDestinationPolicy;
  const policy = {
    health: { ...health, ...knobs.health },
    flow: { ...flow, ...knobs.flow },
    share: { ...share, ...knobs.share },
    retry: { ...retry, ...knobs.retry },
    ...replaced,
  };
  assertDestinationPolicy(policy);
  return policy;
}
