import type { Urgency } from '../domain/rank.ts';
import { checkPolicy } from './policy-check.ts';
import type { TextHints } from './text-hints.ts';
import { endOf } from './tier-end.ts';

const HOUR_MS = 3_600_000;

/** One tier: studies up to an age. */
export interface Tier {
  /** Names the tier in receipts, status and events. */
  readonly id: string;
  /**
   * Greatest age of a study in this tier, in ms, itself included; `Infinity` for the last tier.
   * @default Infinity, which JSON cannot say
   */
  readonly maxAgeMs?: number | undefined;
  /**
   * The age that the tier begins above, in ms, for policies that state both ends.
   * @default where the tier before it ends
   */
  readonly minAgeMs?: number | undefined;
}

/** What a rule's predicate is given. */
export interface RuleSubject {
  /** Header values by DICOM keyword. */
  readonly attributes: Readonly<Record<string, string>>;
  /** When it arrived, ms since the epoch. */
  readonly receivedAt: number;
  /** As the caller or the header states it. */
  readonly urgency: Urgency;
}

/**
 * What an instance must be for a rule to apply: all that is given must hold. Values are compared without regard to
 * padding and case; of a list any will do. Age is no condition, so that a rule says the same as long as a study waits.
 */
export interface RuleCondition {
  /** Modality (0008,0060). */
  readonly modality?: string | readonly string[] | undefined;
  /** The urgency that the caller, the header or a text hint states. */
  readonly urgency?: Urgency | readonly Urgency[] | undefined;
  /** BodyPartExamined (0018,0015). */
  readonly bodyPart?: string | readonly string[] | undefined;
  /** StationName (0008,1010). */
  readonly station?: string | readonly string[] | undefined;
  /** InstitutionalDepartmentName (0008,1040). */
  readonly department?: string | readonly string[] | undefined;
  /**
   * Anything else. Pure: it is asked again when the backlog is ranked anew. One that throws, or answers anything but true
   * or false, does not apply, and is told of as the oddity `rule-failed`.
   */
  readonly matches?: ((instance: RuleSubject) => boolean) | undefined;
}

/** What a site wants otherwise than age and order say. */
export interface TierRule {
  /** Names the rule in explanations. */
  readonly id: string;
  readonly when: RuleCondition;
  /** Id of the tier that it puts an instance in, whatever its age. The first rule that applies and has one decides. */
  readonly tier?: string | undefined;
  /** The urgency that it gives, unless the caller stated one. The first rule that applies and has one decides. */
  readonly urgency?: Urgency | undefined;
}

/** By what studies are ranked. Data, but for `matches`; must not be changed once it is used. */
export interface TierPolicy {
  /** Tiers by age, most urgent first. */
  readonly tiers: readonly Tier[];
  /** @default none */
  readonly rules?: readonly TierRule[] | undefined;
  /** @default none: text is not searched */
  readonly textHints?: TextHints | undefined;
}

/** The last 24 hours first, the last week next, history last (Radiology Today 10(16), 2009, p. 6). */
export const defaultTierPolicy: TierPolicy = {
  tiers: [
    { id: 'last-24-hours', maxAgeMs: 24 * HOUR_MS },
    { id: 'last-week', maxAgeMs: 7 * 24 * HOUR_MS },
    { id: 'historical', maxAgeMs: Number.POSITIVE_INFINITY },
  ],
};

// Policies are used for every instance, and checked once.
const checked = new WeakSet<TierPolicy>();

/**
 * Checks that every age belongs to exactly one tier, and that rules and hints are what they should be.
 *
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID`, naming the gap, the overlap, or the rule
 */
export function assertTierPolicy(policy: TierPolicy): void {
  if (checked.has(policy)) return;
  checkPolicy(policy);
  checked.add(policy);
}

/**
 * The tier by age (as an index) of a study acquired at `acquiredAt`, judged at `asOf`. What was acquired after `asOf` is
 * of the first tier.
 */
export function tierAt(acquiredAt: number, asOf: number, policy: TierPolicy): number {
  const age = asOf - acquiredAt;
  return policy.tiers.findIndex((tier) => age <= endOf(tier));
}

/** Counts changes of `classify` itself, after which the same policy may judge otherwise. */
const CLASSIFIER_VERSION = 1;

/** A text that differs where two policies, or two time zones, may judge differently; predicates count by their source. */
export function policyFingerprint(policy: TierPolicy, timeZone: string | undefined): string {
  return JSON.stringify([CLASSIFIER_VERSION, policy, timeZone ?? null], (_, value: unknown) => {
    if (typeof value === 'function') return String(value);
    return typeof value === 'number' ? String(value) : value;
  });
}
