import type { Rank, Urgency } from '../domain/rank.ts';
import { formatDuration } from '../domain/units.ts';
import { type AcquisitionSource, acquiredAt, type Certainty, type DateOddity } from './acquired-at.ts';
import { assertTierPolicy, defaultTierPolicy, type TierPolicy, tierAt } from './policy.ts';
import { urgencyOf } from './urgency.ts';

/** What is known of an instance (or of a study by one of its instances) when its tier is judged. */
export interface Classifiable {
  /** Header values by DICOM keyword, such as `StudyDate` and `AcquisitionDateTime`, as they stand in the data set. */
  readonly attributes: Readonly<Record<string, string>>;
  /** When it arrived, ms since the epoch. */
  readonly receivedAt: number;
}

/** What a tier is judged by. */
export interface ClassifyOptions {
  /** The instant that ages count from, ms since the epoch. */
  readonly asOf: number;
  /** @default defaultTierPolicy */
  readonly policy?: TierPolicy | undefined;
  /**
   * IANA time zone of the site, such as `Europe/Vienna`, for instances without (0008,0201).
   * @default none: dates are then read towards urgent by the whole range of offsets
   */
  readonly timeZone?: string | undefined;
  /** What the caller knows of the order; it overrules the header. */
  readonly urgency?: Urgency | undefined;
}

/** A tier, an urgency, and why. */
export interface Classification {
  /** The tier's id. */
  readonly tier: string;
  readonly urgency: Urgency;
  /** The instant that the tier was judged by, ms since the epoch. */
  readonly acquiredAt: number;
  readonly source: AcquisitionSource;
  readonly certainty: Certainty;
  readonly oddities: readonly DateOddity[];
  /** Why, in one sentence for a person. */
  readonly explanation: string;
  /** The same for ordering. */
  readonly rank: Rank;
}

/**
 * Says which tier an instance belongs to, and why. Pure and total: whatever the header holds, there is exactly one
 * tier, and every doubt is read towards urgent. Sources: PS3.5 section 6.2 (DA, TM,
 * DT), PS3.3 C.12.1.1.8 (offset from UTC).
 *
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID` for tiers that leave an age without a tier, or an unknown time zone
 */
export function classify(study: Classifiable, options: ClassifyOptions): Classification {
  const policy = options.policy ?? defaultTierPolicy;
  assertTierPolicy(policy);
  const acquisition = acquiredAt(study.attributes, study.receivedAt, options.timeZone);
  const tier = tierAt(acquisition.at, options.asOf, policy);
  const stated = urgencyOf(study.attributes);
  const urgency = options.urgency ?? stated.urgency;
  const urgencySource = options.urgency === undefined ? stated.source : 'the caller';
  const tierId = policy.tiers[tier]?.id ?? '';
  return {
    tier: tierId,
    urgency,
    acquiredAt: acquisition.at,
    source: acquisition.source,
    certainty: acquisition.certainty,
    oddities: acquisition.oddities,
    explanation:
      `${tierId}: ${describeInstant(acquisition.at, acquisition.source, acquisition.certainty)}, ` +
      `${describeAge(options.asOf - acquisition.at)}; urgency ${urgency}` +
      `${urgencySource === null ? ', since nothing states it' : ` by ${urgencySource}`}.`,
    rank: { tier, urgency, acquiredAt: acquisition.at, estimated: acquisition.source === 'ReceivedAt' },
  };
}

function describeInstant(at: number, source: AcquisitionSource, certainty: Certainty): string {
  const instant = new Date(at).toISOString();
  if (certainty === 'estimated') return `no usable date, so the arrival counts (${instant})`;
  const doubt = {
    exact: '',
    day: ' (no time given, so the end of the day counts)',
    'zone-unknown': ' (time zone unknown, so the latest possible instant counts)',
  }[certainty];
  return `acquired ${instant} by ${source}${doubt}`;
}

function describeAge(ageMs: number): string {
  return ageMs < 0 ? 'after the reference instant' : `${formatDuration(ageMs)} before the reference instant`;
}
