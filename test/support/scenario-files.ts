import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { type DestinationPolicy, defaultDestinationPolicy } from '../../src/routing/destination.ts';
import type { SimulationResult } from '../../src/simulator/result.ts';
import type { PolicyKnobs, Scenario, TargetModel, World } from '../../src/simulator/scenario.ts';
import { simulate } from '../../src/simulator/simulate.ts';
import { disappointments, type Expectation, lastVerifiedAt } from './scenario-expectations.ts';

/** A scenario in a file, with what is expected of it. */
export interface ScenarioFile extends Scenario {
  readonly expectations: readonly Expectation[];
  /** What of every target, or of its policy, would disappoint at least the expectation of this name. */
  readonly without?: Change & { readonly fails: string };
}

/** Another policy, other targets, another world. */
interface Change {
  readonly policy?: PolicyKnobs;
  readonly target?: Partial<TargetModel>;
  readonly world?: Partial<World>;
}

const FOLDER = path.resolve(import.meta.dirname, '../scenarios');
const FIXED = [1, 2, 4, 8];

export function scenarioFiles(): readonly ScenarioFile[] {
  return readdirSync(FOLDER)
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map((name) => JSON.parse(readFileSync(path.join(FOLDER, name), 'utf8')));
}

/** Lets it go by, and says what was not as expected. */
export function play(file: ScenarioFile, seed: number, change: Change = {}): readonly string[] {
  const { name, why } = file;
  const world = changed(file.world, change);
  const result = simulate({ name, why, world }, { seed });
  return disappointments(file.expectations, { result, bestFixedAt: () => bestFixedAt(file, seed) });
}

function changed(before: World, { policy: knobs = {}, target = {}, world: other }: Change): World {
  const world = { ...before, ...other };
  const targets = Object.entries(world.targets).map(([id, model]) => {
    const policy = {
      health: { ...model.policy?.health, ...knobs.health },
      flow: { ...model.policy?.flow, ...knobs.flow },
      share: { ...model.policy?.share, ...knobs.share },
      retry: { ...model.policy?.retry, ...knobs.retry },
    };
    return [id, { ...model, ...target, policy }] as const;
  });
  return { ...world, targets: Object.fromEntries(targets) };
}

function bestFixedAt({ name, why, world }: ScenarioFile, seed: number): number {
  return Math.min(
    ...FIXED.map((maxConcurrency) => {
      const policy: Partial<DestinationPolicy> = { flow: fixed(maxConcurrency) };
      const result: SimulationResult = simulate({ name, why, world }, { seed, policy });
      return lastVerifiedAt(result);
    }),
  );
}

/** A flow that keeps so many requests in flight, whatever it sees. */
function fixed(maxConcurrency: number): DestinationPolicy['flow'] {
  return { ...defaultDestinationPolicy.flow, maxConcurrency };
}
