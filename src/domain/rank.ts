/**
 * What was ordered. `unknown` is the absence of information and ranks above a known `routine`, so that a study whose
 * order nobody can read is never the one that waits.
 */
export type Urgency = 'stat' | 'urgent' | 'unknown' | 'routine';

/** Urgencies from the most to the least urgent; the index orders studies inside a tier. */
export const URGENCIES = ['stat', 'urgent', 'unknown', 'routine'] as const satisfies readonly Urgency[];

/**
 * What an instant rests on. `dated`: a date of the examination. `secondary`: a date that may be that of a copy, a
 * report or an import; it gives way to any of the examination. `estimated`: the arrival, which gives way to both.
 */
export type DateBasis = 'dated' | 'secondary' | 'estimated';

/** Bases, those that outrank others first. */
export const DATE_BASES = ['dated', 'secondary', 'estimated'] as const satisfies readonly DateBasis[];

/** Where a study stands in the order of replay. It belongs to study × destination, never to an instance. */
export interface Rank {
  /** Index into the tier policy, 0 is the most urgent: the lower of `ageTier` and `ruledTier`. */
  readonly tier: number;
  readonly urgency: Urgency;
  /** The instant that the age is judged by, in ms since the epoch. */
  readonly acquiredAt: number;
  readonly basis: DateBasis;
  /** The tier by age; null when rules of the policy placed every instance. */
  readonly ageTier: number | null;
  /** The most urgent tier that a rule of the policy placed an instance in; null when none did. */
  readonly ruledTier: number | null;
}

/**
 * The rank of a study that had `known` and receives an instance ranked `arrived`: the most urgent of its instances
 * decides. Age is judged by the newest acquisition among the instances that no rule placed, where a stronger basis
 * overrules a weaker one; of two known urgencies the higher wins.
 * Pure, associative and commutative for ranks judged by one policy at one reference instant.
 */
export function mergeRank(known: Rank, arrived: Rank): Rank {
  const { acquiredAt, basis, ageTier } = newestDate(known, arrived);
  const ruledTier = lower(known.ruledTier, arrived.ruledTier);
  return {
    tier: lower(ageTier, ruledTier) ?? Math.min(known.tier, arrived.tier),
    urgency: mergeUrgency(known.urgency, arrived.urgency),
    acquiredAt,
    basis,
    ageTier,
    ruledTier,
  };
}

/** The rank with another tier by age, as when the instant that ages count from has moved. */
export function withAgeTier(rank: Rank, ageTier: number): Rank {
  if (rank.ageTier === null) return rank;
  return { ...rank, ageTier, tier: Math.min(ageTier, rank.ruledTier ?? ageTier) };
}

/** Orders studies: tier, then urgency, then oldest first (negative: `a` goes first). */
export function compareRank(a: Rank, b: Rank): number {
  return a.tier - b.tier || URGENCIES.indexOf(a.urgency) - URGENCIES.indexOf(b.urgency) || a.acquiredAt - b.acquiredAt;
}

/** The higher of two urgencies that are said of one order, where what cannot be read is a doubt, above routine. */
export function higherUrgency(a: Urgency, b: Urgency): Urgency {
  return URGENCIES.indexOf(a) <= URGENCIES.indexOf(b) ? a : b;
}

/** The higher of the urgencies of two instances, where a known one overrules `unknown`. */
export function mergeUrgency(a: Urgency, b: Urgency): Urgency {
  if (a === 'unknown') return b;
  if (b === 'unknown') return a;
  return higherUrgency(a, b);
}

function newestDate(a: Rank, b: Rank): Pick<Rank, 'acquiredAt' | 'basis' | 'ageTier'> {
  if ((a.ageTier === null) !== (b.ageTier === null)) return a.ageTier === null ? b : a;
  if (a.basis !== b.basis) return DATE_BASES.indexOf(a.basis) < DATE_BASES.indexOf(b.basis) ? a : b;
  return {
    acquiredAt: Math.max(a.acquiredAt, b.acquiredAt),
    basis: a.basis,
    ageTier: lower(a.ageTier, b.ageTier),
  };
}

function lower(a: number | null, b: number | null): number | null {
  if (a === null || b === null) return a ?? b;
  return Math.min(a, b);
}
