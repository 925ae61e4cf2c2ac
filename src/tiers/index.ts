/**
 * Which tier a study belongs to, and why. Pure: no clock, no randomness, no Node.
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
export type { Rank, Urgency } from '../domain/rank.ts';
export type { AcquisitionSource, Certainty, DateOddity } from './acquired-at.ts';
export { type Classifiable, type Classification, type ClassifyOptions, classify } from './classify.ts';
export { defaultTierPolicy, type Tier, type TierPolicy } from './policy.ts';
