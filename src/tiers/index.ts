/**
 * Which tier a study belongs to, how urgent it is, and why. Pure: no clock, no randomness, no Node.
 *
 * @example
 * ```ts
 * import { classify } from 'spillway/tiers';
 *
 * const asOf = Date.parse('2026-03-02T09:00:00Z');
 * const { tier, explanation } = classify(
 *   { attributes: { StudyDate: '20260302', StudyTime: '0815', TimezoneOffsetFromUTC: '+0000' }, receivedAt: asOf },
 *   { asOf },
 * );
 * ```
 * @module
 */
export type { DateBasis, Rank, Urgency } from '../domain/rank.ts';
export type { AcquisitionSource, Certainty, DateOddity } from './acquired-at.ts';
export {
  type Classifiable,
  type Classification,
  type ClassificationOddity,
  type ClassifyOptions,
  classify,
} from './classify.ts';
export { type Hl7Priority, urgencyFromFhir, urgencyFromHl7 } from './order-codes.ts';
export {
  defaultTierPolicy,
  type RuleCondition,
  type RuleSubject,
  type Tier,
  type TierPolicy,
  type TierRule,
} from './policy.ts';
export type { TextHints } from './text-hints.ts';
