import { URGENCIES, type Urgency } from '../domain/rank.ts';
import { formatDuration } from '../domain/units.ts';
import { SpillwayError } from '../errors.ts';
import type { RuleCondition, Tier, TierPolicy, TierRule } from './policy.ts';
import { endOf } from './tier-end.ts';

const POLICY_KEYS = ['tiers', 'rules', 'textHints'];
const TIER_KEYS = ['id', 'maxAgeMs', 'minAgeMs'];
const RULE_KEYS = ['id', 'when', 'tier', 'urgency'];
const TEXT_CONDITIONS = ['modality', 'bodyPart', 'station', 'department'] as const;
const CONDITION_KEYS = [...TEXT_CONDITIONS, 'urgency', 'matches'];

/**
 * Refuses a policy that is not whole. Types say the same, but policies come from configuration files too.
 *
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID`
 */
export function checkPolicy(policy: TierPolicy): void {
  if (!isRecord(policy)) throw invalid('a policy', 'an object with tiers', policy);
  checkKeys('a policy', policy, POLICY_KEYS);
  checkTiers(policy.tiers);
  const { rules = [], textHints } = policy;
  if (!Array.isArray(rules)) throw invalid('rules', 'an array', rules);
  const tierIds = policy.tiers.map(({ id }) => id);
  const ids = new Set<string>();
  for (const rule of rules as readonly TierRule[]) {
    checkRule(rule, tierIds);
    if (ids.has(rule.id)) throw invalid('rules', 'ids that differ', rule.id);
    ids.add(rule.id);
  }
  if (textHints !== undefined) checkTextHints(textHints);
}

function checkTiers(tiers: unknown): void {
  if (!Array.isArray(tiers) || tiers.length === 0) throw invalid('tiers', 'at least one tier', tiers);
  const ids = new Set<string>();
  let before: Tier | undefined;
  for (const tier of tiers as readonly Tier[]) {
    if (!isRecord(tier)) throw invalid('a tier', 'an object with id and maxAgeMs', tier);
    checkKeys('a tier', tier, TIER_KEYS);
    const { id } = tier;
    if (typeof id !== 'string' || id === '') throw invalid('a tier', 'an id', id);
    if (ids.has(id)) throw invalid('tiers', 'ids that differ', id);
    ids.add(id);
    checkRange(tier, before);
    before = tier;
  }
  if (before !== undefined && endOf(before) !== Number.POSITIVE_INFINITY) {
    const end = formatDuration(endOf(before));
    throw gap(
      `studies older than ${end}, where "${before.id}" ends, have no tier. Give the last one maxAgeMs Infinity`,
    );
  }
}

/** A tier begins where the one before it ends: above is a gap, below an overlap. */
function checkRange(tier: Tier, before: Tier | undefined): void {
  const end = before === undefined ? 0 : endOf(before);
  const { id, maxAgeMs, minAgeMs } = tier;
  const [from, to] = [minAgeMs ?? end, endOf(tier)];
  if (typeof to !== 'number' || Number.isNaN(to) || typeof from !== 'number' || Number.isNaN(from)) {
    throw policyError(`tier "${id}" to have ages in ms, got maxAgeMs ${maxAgeMs}, minAgeMs ${minAgeMs}`);
  }
  const neighbour = before === undefined ? 'the newest study' : `"${before.id}"`;
  if (from > end) {
    throw gap(`studies between ${agesOf(end, from)} old, between ${neighbour} and "${id}"`);
  }
  if (from < end) {
    throw overlap(`"${id}" begins at ${formatDuration(from)}, but ${neighbour} ends at ${formatDuration(end)}`);
  }
  if (!(to > end)) {
    throw overlap(`"${id}" ends at ${formatDuration(to)}, but ${neighbour} ends at ${formatDuration(end)} already`);
  }
}

/** Two ages that differ, also where that is too little to show. */
function agesOf(end: number, from: number): string {
  const [a, b] = [formatDuration(end), formatDuration(from)];
  return a === b ? `${end} ms and ${from} ms` : `${a} and ${b}`;
}

function checkRule(rule: TierRule, tierIds: readonly string[]): void {
  if (!isRecord(rule)) throw invalid('a rule', 'an object with id and when', rule);
  const { id, when, tier, urgency } = rule;
  if (typeof id !== 'string' || id === '') throw invalid('a rule', 'an id', id);
  const name = `rule "${id}"`;
  checkKeys(name, rule, RULE_KEYS);
  if (tier === undefined && urgency === undefined) throw invalid(name, 'a tier or an urgency to give', rule);
  if (tier !== undefined && !tierIds.includes(tier)) throw invalid(name, `a tier of ${tierIds.join(', ')}`, tier);
  if (urgency !== undefined && !isUrgency(urgency))
    throw invalid(name, `an urgency of ${URGENCIES.join(', ')}`, urgency);
  checkCondition(name, when);
}

function checkCondition(name: string, when: RuleCondition): void {
  if (!isRecord(when)) throw invalid(name, 'a condition under when', when);
  checkKeys(name, when, CONDITION_KEYS);
  const given = CONDITION_KEYS.filter((key) => when[key as keyof RuleCondition] !== undefined);
  if (given.length === 0) throw invalid(name, `at least one condition of ${CONDITION_KEYS.join(', ')}`, when);
  for (const key of TEXT_CONDITIONS) {
    if (when[key] !== undefined && !isListOf(when[key], isText))
      throw invalid(name, `${key} as text or texts`, when[key]);
  }
  if (when.urgency !== undefined && !isListOf(when.urgency, isUrgency)) {
    throw invalid(name, `urgency of ${URGENCIES.join(', ')}`, when.urgency);
  }
  if (when.matches !== undefined && typeof when.matches !== 'function') {
    throw invalid(name, 'matches as a function', when.matches);
  }
}

function checkTextHints(hints: unknown): void {
  if (!isRecord(hints)) throw invalid('textHints', 'an object', hints);
  checkKeys('textHints', hints, ['stat', 'urgent']);
  for (const [key, words] of Object.entries(hints)) {
    if (words === undefined) continue;
    if (!Array.isArray(words) || !words.every(isText)) throw invalid(`textHints.${key}`, 'a list of words', words);
  }
}

function checkKeys(name: string, value: object, known: readonly string[]): void {
  const unknown = Object.keys(value).find((key) => !known.includes(key));
  if (unknown !== undefined) throw invalid(name, `nothing but ${known.join(', ')}`, unknown);
}

function isListOf(value: unknown, isOne: (one: unknown) => boolean): boolean {
  return Array.isArray(value) ? value.length > 0 && value.every(isOne) : isOne(value);
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.trim() !== '';
}

function isUrgency(value: unknown): value is Urgency {
  return (URGENCIES as readonly unknown[]).includes(value);
}

function isRecord(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function gap(text: string): SpillwayError {
  return policyError(`tiers without a gap, got one: ${text}`);
}

function overlap(text: string): SpillwayError {
  return policyError(`tiers that do not overlap, most urgent first: ${text}`);
}

function invalid(name: string, expected: string, came: unknown): SpillwayError {
  const text = typeof came === 'function' ? 'a function' : JSON.stringify(came);
  return policyError(`${name} to have ${expected}, got ${text?.slice(0, 120)}`);
}

function policyError(text: string): SpillwayError {
  return new SpillwayError('SPILLWAY_OPTION_INVALID', `Expected ${text}. Correct the tier policy.`);
}
