import { SpillwayError } from '../errors.ts';

const HOUR_MS = 3_600_000;

/** One tier: studies up to an age. */
export interface Tier {
  /** Names the tier in receipts, status and events. */
  readonly id: string;
  /** Greatest age of a study in this tier, in ms, itself included; `Infinity` for the last tier. */
  readonly maxAgeMs: number;
}

/** Tiers by age, most urgent first. */
export interface TierPolicy {
  readonly tiers: readonly Tier[];
}

/** The last 24 hours first, the last week next, history last (Radiology Today 10(16), 2009, p. 6). */
export const defaultTierPolicy: TierPolicy = {
  tiers: [
    { id: 'last-24-hours', maxAgeMs: 24 * HOUR_MS },
    { id: 'last-week', maxAgeMs: 7 * 24 * HOUR_MS },
    { id: 'historical', maxAgeMs: Number.POSITIVE_INFINITY },
  ],
};

/**
 * Checks that every age belongs to exactly one tier.
 *
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID`, naming the gap
 */
export function assertTierPolicy(policy: TierPolicy): void {
  const { tiers } = policy;
  if (!Array.isArray(tiers) || tiers.length === 0) throw invalid('at least one tier', 'none');
  const ids = new Set<string>();
  let youngest = 0;
  for (const { id, maxAgeMs } of tiers as readonly Tier[]) {
    if (typeof id !== 'string' || id === '') throw invalid('every tier to have an id', JSON.stringify(id));
    if (ids.has(id)) throw invalid('ids that differ', `"${id}" twice`);
    ids.add(id);
    if (!(maxAgeMs > youngest)) {
      throw invalid(`"${id}" to end at an age above ${youngest} ms, where the tier before it ends`, `${maxAgeMs}`);
    }
    youngest = maxAgeMs;
  }
  if (youngest !== Number.POSITIVE_INFINITY) {
    throw invalid('the last tier to have maxAgeMs Infinity', `a gap: studies older than ${youngest} ms have no tier`);
  }
}

/**
 * The tier (as an index) of a study acquired at `acquiredAt`, judged at `asOf`. What was acquired after `asOf` is of
 * the first tier.
 */
export function tierAt(acquiredAt: number, asOf: number, policy: TierPolicy): number {
  const age = asOf - acquiredAt;
  return policy.tiers.findIndex((tier) => age <= tier.maxAgeMs);
}

function invalid(expected: string, came: string): SpillwayError {
  return new SpillwayError('SPILLWAY_OPTION_INVALID', `Expected tiers with ${expected}, got ${came}.`);
}
