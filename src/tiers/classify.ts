import { mergeRank, type Rank, URGENCIES, type Urgency } from '../domain/rank.ts';
import { formatDuration } from '../domain/units.ts';
import { SpillwayError } from '../errors.ts';
import {
  ACQUISITION_SOURCES,
  type Acquisition,
  type AcquisitionSource,
  acquiredAt,
  type Certainty,
  type DateOddity,
  sourceTagOf,
} from './acquired-at.ts';
import { assertTimeZone } from './dicom-time.ts';
import { assertTierPolicy, defaultTierPolicy, type TierPolicy, tierAt } from './policy.ts';
import { applyRules, type CompiledPolicy, compilePolicy } from './rules.ts';
import { urgencyOf } from './urgency.ts';

/** The furthest that a Date reaches (ECMA-262). */
const MAX_INSTANT = 8.64e15;
const CERTAINTIES: readonly Certainty[] = ['exact', 'day', 'zone-unknown', 'estimated'];
const ODDITIES: readonly ClassificationOddity[] = [
  'date-malformed',
  'date-acr-nema',
  'date-in-future',
  'offset-malformed',
  'rule-failed',
];

/** What is known of an instance when its tier is judged. */
export interface Classifiable {
  /** Header values by DICOM keyword, such as `StudyDate` and `AcquisitionDateTime`, as they stand in the data set. */
  readonly attributes: Readonly<Record<string, string>>;
  /** When it arrived, ms since the epoch. */
  readonly receivedAt: number;
  /** What the caller knows of the order; it overrules header, text and rules. `unknown` is as good as none. */
  readonly urgency?: Urgency | undefined;
}

/** What a tier is judged by. */
export interface ClassifyOptions {
  /** The instant that ages count from, ms since the epoch. */
  readonly asOf: number;
  /** @default defaultTierPolicy */
  readonly policy?: TierPolicy | undefined;
  /**
   * IANA time zone of the site, such as `Europe/Vienna`, for instances without (0008,0201).
   * @default none: dates are then read towards urgent, by 14 hours
   */
  readonly timeZone?: string | undefined;
}

/** What was odd: about the dates, or `rule-failed`: a predicate of the policy threw, or answered neither true nor false. */
export type ClassificationOddity = DateOddity | 'rule-failed';

/** A tier, an urgency, and why. */
export interface Classification {
  /** The tier's id. */
  readonly tier: string;
  readonly urgency: Urgency;
  /** The instant that the age was judged by, ms since the epoch: of several instances the newest of the examination. */
  readonly acquiredAt: number;
  /** Keyword of the attribute that said so. */
  readonly source: AcquisitionSource;
  /** Its tag, such as `(0008,0022)`; null for the arrival. */
  readonly sourceTag: string | null;
  readonly certainty: Certainty;
  readonly oddities: readonly ClassificationOddity[];
  /** Why, in one sentence for a person. */
  readonly explanation: string;
  /** The same for ordering. */
  readonly rank: Rank;
}

/** One instance, judged. */
interface Judged {
  readonly rank: Rank;
  readonly acquisition: Acquisition;
  readonly urgencySource: string | null;
  readonly tierRule: string | null;
  readonly hasFailed: boolean;
}

/**
 * Says which tier a study belongs to, and how urgent it is, and why. Pure and total: whatever the headers hold, there is
 * exactly one tier, and every doubt is read towards urgent. Of a study whose instances differ the most urgent decides;
 * what was made from it later (reports, presentation states, secondary captures) makes it no fresher. Sources: PS3.5
 * section 6.2 (DA, TM, DT), PS3.3 C.12.1.1.8 (offset from UTC).
 *
 * @param study - One instance, or all that are known of a study.
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID` for a policy that is not whole, an unknown time zone, no instance, or
 * what is no instant
 */
export function classify(study: Classifiable | readonly Classifiable[], options: ClassifyOptions): Classification {
  const policy = options.policy ?? defaultTierPolicy;
  assertTierPolicy(policy);
  assertInstant('asOf', options.asOf);
  const compiled = compilePolicy(policy);
  if (options.timeZone !== undefined) assertTimeZone(options.timeZone);
  const instances: readonly Classifiable[] = Array.isArray(study) ? study : [study as Classifiable];
  const judged = instances.map((instance) => judge(instance, options, policy, compiled));
  const [first, ...others] = judged;
  if (first === undefined) {
    throw new SpillwayError('SPILLWAY_OPTION_INVALID', 'Expected at least one instance of the study, got none.');
  }
  const rank = others.reduce((merged, each) => mergeRank(merged, each.rank), first.rank);
  const { source, certainty } = datedBy(judged, rank) ?? first.acquisition;
  const isRuled = rank.tier === rank.ruledTier;
  const tierRule = firstOf(judged, ({ rank: { ruledTier }, tierRule: rule }) =>
    isRuled && ruledTier === rank.tier ? rule : null,
  );
  const orderedBy = firstOf(judged, (each) => (each.rank.urgency === rank.urgency ? each.urgencySource : null));
  const found = new Set<string>(judged.flatMap(({ acquisition }) => acquisition.oddities));
  if (judged.some(({ hasFailed }) => hasFailed)) found.add('rule-failed');
  const tier = policy.tiers[rank.tier]?.id ?? '';
  return {
    tier,
    urgency: rank.urgency,
    acquiredAt: rank.acquiredAt,
    source,
    sourceTag: sourceTagOf(source),
    certainty,
    oddities: ODDITIES.filter((oddity) => found.has(oddity)),
    explanation:
      `${tier}${tierRule === null ? '' : ` by the rule "${tierRule}"`}: ` +
      `${judged.length === 1 ? '' : `of ${judged.length} instances the newest counts, `}` +
      `${describeInstant(rank.acquiredAt, source, certainty)}, ${describeAge(options.asOf - rank.acquiredAt)}; ` +
      `urgency ${rank.urgency}${orderedBy === null ? ', since nothing states it' : ` by ${orderedBy}`}.`,
    rank,
  };
}

function judge(
  instance: Classifiable,
  { asOf, timeZone }: ClassifyOptions,
  policy: TierPolicy,
  { rules, hints }: CompiledPolicy,
): Judged {
  if (typeof instance !== 'object' || instance === null) throw invalid('an instance with its attributes', instance);
  const { attributes, receivedAt, urgency: given } = instance;
  assertInstant('receivedAt', receivedAt);
  if (typeof attributes !== 'object' || attributes === null) throw invalid('attributes by keyword', attributes);
  if (given !== undefined && !URGENCIES.includes(given))
    throw invalid(`urgency to be one of ${URGENCIES.join(', ')}`, given);
  const acquisition = acquiredAt(attributes, receivedAt, timeZone);
  const hint = given === 'unknown' ? undefined : given;
  const stated = hint === undefined ? urgencyOf(attributes, hints) : { urgency: hint, source: 'the caller' };
  const outcome = applyRules(rules, { attributes, receivedAt, urgency: stated.urgency });
  const isRuled = hint === undefined && outcome.urgency !== null;
  const byAge = tierAt(acquisition.at, asOf, policy);
  return {
    rank: {
      tier: outcome.tier ?? byAge,
      urgency: isRuled ? (outcome.urgency ?? stated.urgency) : stated.urgency,
      acquiredAt: acquisition.at,
      basis: acquisition.basis,
      ageTier: outcome.tier === null ? byAge : null,
      ruledTier: outcome.tier,
    },
    acquisition,
    urgencySource: isRuled ? `the rule "${outcome.urgencyRule}"` : stated.source,
    tierRule: outcome.tierRule,
    hasFailed: outcome.hasFailed,
  };
}

function assertInstant(name: string, at: number): void {
  if (typeof at === 'number' && Math.abs(at) <= MAX_INSTANT) return;
  throw invalid(`${name} in ms since the epoch`, String(at));
}

function invalid(expected: string, came: unknown): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    `Expected ${expected}, got ${JSON.stringify(came)?.slice(0, 80)}.`,
  );
}

/** Of those that gave the date, the one of the most trusted source, and of these the surest: whatever their order. */
function datedBy(judged: readonly Judged[], rank: Rank): Acquisition | undefined {
  const trust = ({ source, certainty }: Acquisition) =>
    ACQUISITION_SOURCES.indexOf(source) * CERTAINTIES.length + CERTAINTIES.indexOf(certainty);
  let best: Acquisition | undefined;
  for (const { acquisition, rank: own } of judged) {
    if (hasDateOf(own, rank) && (best === undefined || trust(acquisition) < trust(best))) best = acquisition;
  }
  return best;
}

/** The first text in the alphabet, so that what is told does not depend on the order of instances. */
function firstOf(judged: readonly Judged[], textOf: (each: Judged) => string | null): string | null {
  const texts = judged.map(textOf).filter((text) => text !== null);
  return texts.length === 0 ? null : texts.reduce((first, text) => (text < first ? text : first));
}

function hasDateOf(rank: Rank, merged: Rank): boolean {
  return (
    rank.acquiredAt === merged.acquiredAt &&
    rank.basis === merged.basis &&
    (rank.ageTier === null) === (merged.ageTier === null)
  );
}

function describeInstant(at: number, source: AcquisitionSource, certainty: Certainty): string {
  const instant = new Date(at).toISOString();
  if (certainty === 'estimated') return `no usable date, so the arrival (ReceivedAt) counts, ${instant}`;
  const doubt = {
    exact: '',
    day: ' (no time given, so the latest that it may be)',
    'zone-unknown': ' (time zone unknown, so the latest that it may be)',
  }[certainty];
  return `acquired ${instant} by ${source} ${sourceTagOf(source)}${doubt}`;
}

function describeAge(ageMs: number): string {
  return ageMs < 0 ? 'after the reference instant' : `${formatDuration(ageMs)} before the reference instant`;
}
