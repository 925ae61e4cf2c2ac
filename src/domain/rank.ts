/**
 * What was ordered. `unknown` is the absence of information and ranks above a known `routine`, so that a study whose
 * order nobody can read is never the one that waits.
 */
export type Urgency = 'stat' | 'urgent' | 'unknown' | 'routine';

/** Urgencies from the most to the least urgent; the index orders studies inside a tier. */
export const URGENCIES = ['stat', 'urgent', 'unknown', 'routine'] as const satisfies readonly Urgency[];

/** Where a study stands in the order of replay. It belongs to study × destination, never to an instance. */
export interface Rank {
  /** Index into the tier policy, 0 is the most urgent. */
  readonly tier: number;
  readonly urgency: Urgency;
  /** The instant that the tier was judged by, in ms since the epoch. */
  readonly acquiredAt: number;
  /** True when nothing but the time of arrival was known. Such an instant gives way to any dated one. */
  readonly estimated: boolean;
}

/**
 * The rank of a study that had `known` and receives an instance ranked `arrived`: the newest acquisition decides,
 * an estimated instant never overrules a dated one, and of two known urgencies the higher wins.
 * Pure, associative for ranks judged at the same reference instant.
 */
export function mergeRank(known: Rank, arrived: Rank): Rank {
  const urgency = mergeUrgency(known.urgency, arrived.urgency);
  if (known.estimated !== arrived.estimated) return { ...(known.estimated ? arrived : known), urgency };
  return {
    tier: Math.min(known.tier, arrived.tier),
    urgency,
    acquiredAt: Math.max(known.acquiredAt, arrived.acquiredAt),
    estimated: known.estimated,
  };
}

function mergeUrgency(a: Urgency, b: Urgency): Urgency {
  if (a === 'unknown') return b;
  if (b === 'unknown') return a;
  return URGENCIES.indexOf(a) <= URGENCIES.indexOf(b) ? a : b;
}

/** Orders studies: tier, then urgency, then oldest first (negative: `a` goes first). */
export function compareRank(a: Rank, b: Rank): number {
  return a.tier - b.tier || URGENCIES.indexOf(a.urgency) - URGENCIES.indexOf(b.urgency) || a.acquiredAt - b.acquiredAt;
}
