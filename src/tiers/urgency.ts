import type { Urgency } from '../domain/rank.ts';
import { unpadded } from './unpadded.ts';

// Requested Procedure Priority (0040,1003), Reporting Priority (0040,1009), Study Priority ID (0032,000C, retired).
const KEYWORDS = ['RequestedProcedurePriority', 'ReportingPriority', 'StudyPriorityID'] as const;

const VALUES: ReadonlyMap<string, Urgency> = new Map([
  ['STAT', 'stat'],
  ['HIGH', 'urgent'],
  ['ROUTINE', 'routine'],
  ['MEDIUM', 'routine'],
  ['MED', 'routine'],
  ['LOW', 'routine'],
]);

/** The urgency that a header's order attributes state, with the keyword that did; they are mostly absent there. */
export function urgencyOf(attributes: Readonly<Record<string, string>>): {
  readonly urgency: Urgency;
  readonly source: string | null;
} {
  for (const keyword of KEYWORDS) {
    const urgency = VALUES.get(unpadded(attributes, keyword)?.toUpperCase() ?? '');
    if (urgency !== undefined) return { urgency, source: keyword };
  }
  return { urgency: 'unknown', source: null };
}
