import { higherUrgency, type Urgency } from '../domain/rank.ts';
import { urgencyOfCode, urgencyOfStepPriority } from './order-codes.ts';
import type { TextHintPatterns } from './text-hints.ts';
import { unpadded } from './unpadded.ts';

/** An urgency and what states it. */
export interface StatedUrgency {
  readonly urgency: Urgency;
  /** For a person, such as `RequestedProcedurePriority (0040,1003)`; null when nothing does. */
  readonly source: string | null;
}

// They are mostly absent from image headers. (0032,000C) is retired.
const CODED = [
  ['RequestedProcedurePriority', '(0040,1003)', urgencyOfCode],
  ['ReportingPriority', '(0040,1009)', urgencyOfCode],
  ['StudyPriorityID', '(0032,000C)', urgencyOfCode],
  ['ScheduledProcedureStepPriority', '(0074,1200)', urgencyOfStepPriority],
] as const;

/** The keywords of what text hints are looked for in. */
const DESCRIBED = [
  'StudyDescription',
  'RequestedProcedureDescription',
  'SeriesDescription',
  'ProtocolName',
  'ReasonForTheRequestedProcedure',
] as const;

/**
 * The urgency that a header states: by its codes, of which the highest counts, or else by hints in its text. A code that
 * cannot be read is a doubt, which no routine beside it overrules.
 */
export function urgencyOf(attributes: Readonly<Record<string, string>>, hints?: TextHintPatterns): StatedUrgency {
  let stated: StatedUrgency | undefined;
  for (const [keyword, tag, read] of CODED) {
    const value = unpadded(attributes, keyword);
    if (value === undefined) continue;
    for (const code of value.split('\\')) {
      const urgency = read(code);
      if (stated === undefined || higherUrgency(urgency, stated.urgency) !== stated.urgency) {
        stated = { urgency, source: `${urgency === 'unknown' ? 'an unreadable ' : ''}${keyword} ${tag}` };
      }
    }
  }
  if (stated !== undefined && stated.urgency !== 'unknown') return stated;
  for (const [urgency, pattern] of hints ?? []) {
    const keyword = DESCRIBED.find((name) => pattern.test(unpadded(attributes, name)?.normalize('NFC') ?? ''));
    if (keyword !== undefined) return { urgency, source: `a word in ${keyword}` };
  }
  return stated ?? { urgency: 'unknown', source: null };
}
