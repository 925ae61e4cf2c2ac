import type { Urgency } from '../domain/rank.ts';
import type { RuleSubject, TierPolicy, TierRule } from './policy.ts';
import { compileTextHints, type TextHintPatterns } from './text-hints.ts';
import { unpadded } from './unpadded.ts';

/** A policy as it is worked with. */
export interface CompiledPolicy {
  readonly rules: readonly CompiledRule[];
  readonly hints: TextHintPatterns | undefined;
}

interface CompiledRule {
  readonly rule: TierRule;
  /** Index of its tier; null when it gives none. */
  readonly tier: number | null;
  /** Of the header values by keyword, in upper case, those that will do. */
  readonly values: readonly (readonly [keyword: string, allowed: ReadonlySet<string>])[];
  readonly urgencies: ReadonlySet<Urgency> | undefined;
}

/** What the rules of a policy say of an instance. */
export interface RuleOutcome {
  /** Index of the tier; null when no rule gives one. */
  readonly tier: number | null;
  readonly tierRule: string | null;
  readonly urgency: Urgency | null;
  readonly urgencyRule: string | null;
  /** A predicate threw, or answered neither true nor false. */
  readonly hasFailed: boolean;
}

const NO_OUTCOME: RuleOutcome = { tier: null, tierRule: null, urgency: null, urgencyRule: null, hasFailed: false };
const KEYWORDS = {
  modality: 'Modality',
  bodyPart: 'BodyPartExamined',
  station: 'StationName',
  department: 'InstitutionalDepartmentName',
} as const;

const compiled = new WeakMap<TierPolicy, CompiledPolicy>();

/** @param policy - One that was checked. */
export function compilePolicy(policy: TierPolicy): CompiledPolicy {
  let known = compiled.get(policy);
  if (known === undefined) {
    known = {
      rules: (policy.rules ?? []).map((rule) => compileRule(rule, policy)),
      hints: policy.textHints === undefined ? undefined : compileTextHints(policy.textHints),
    };
    compiled.set(policy, known);
  }
  return known;
}

export function applyRules(rules: readonly CompiledRule[], instance: RuleSubject): RuleOutcome {
  let outcome = NO_OUTCOME;
  for (const compiledRule of rules) {
    const { rule, tier } = compiledRule;
    const isWanted =
      (outcome.tier === null && tier !== null) || (outcome.urgency === null && rule.urgency !== undefined);
    if (!isWanted) continue;
    const applies = doesApply(compiledRule, instance);
    if (applies === undefined) outcome = { ...outcome, hasFailed: true };
    if (applies !== true) continue;
    if (outcome.tier === null && tier !== null) outcome = { ...outcome, tier, tierRule: rule.id };
    if (outcome.urgency === null && rule.urgency !== undefined) {
      outcome = { ...outcome, urgency: rule.urgency, urgencyRule: rule.id };
    }
  }
  return outcome;
}

/** Undefined where its predicate failed. */
function doesApply({ rule, values, urgencies }: CompiledRule, instance: RuleSubject): boolean | undefined {
  for (const [keyword, allowed] of values) {
    if (!allowed.has(unpadded(instance.attributes, keyword)?.trim().toUpperCase() ?? '')) return false;
  }
  if (urgencies !== undefined && !urgencies.has(instance.urgency)) return false;
  const { matches } = rule.when;
  if (matches === undefined) return true;
  try {
    const answer: unknown = matches(instance);
    if (typeof answer === 'boolean') return answer;
    // An async predicate is of no use here; its rejection must not end the process.
    if (answer instanceof Promise) answer.catch(() => {});
    return undefined;
  } catch {
    return undefined;
  }
}

function compileRule(rule: TierRule, policy: TierPolicy): CompiledRule {
  const { when } = rule;
  const names = Object.keys(KEYWORDS) as (keyof typeof KEYWORDS)[];
  return {
    rule,
    tier: rule.tier === undefined ? null : policy.tiers.findIndex(({ id }) => id === rule.tier),
    values: names.flatMap((name) => {
      const wanted = when[name];
      if (wanted === undefined) return [];
      return [[KEYWORDS[name], new Set(listOf(wanted).map((value) => value.trim().toUpperCase()))] as const];
    }),
    urgencies: when.urgency === undefined ? undefined : new Set(listOf<Urgency>(when.urgency)),
  };
}

function listOf<T extends string>(value: T | readonly T[]): readonly T[] {
  return typeof value === 'string' ? [value] : value;
}
