import { expect } from 'vitest';
import { classify, type TierPolicy, type Urgency } from '../../src/tiers/index.ts';

// One row, one fact: where it is written, what it is, the header, and what is judged of it as
// "tier urgency instant source certainty oddities…". Where no other instant is given, the instance arrives and is
// judged at noon of 5 March 2026, UTC; where no policy is given it is the default one.

export type Attributes = Readonly<Record<string, string>>;

/** What a case differs in from the others. */
export interface Setting {
  readonly timeZone?: string;
  readonly receivedAt?: string;
  readonly asOf?: string;
  readonly urgency?: Urgency;
  readonly policy?: TierPolicy;
}

/** A row of the table. */
export type Case = [section: string, fact: string, header: Attributes, judged: string, setting?: Setting];

/** When instances arrive and are judged. */
export const NOON = '2026-03-05T12:00:00.000Z';
export const UTC = { TimezoneOffsetFromUTC: '+0000' };
export const VIENNA = { timeZone: 'Europe/Vienna' };

/** Checks a row. */
export function check([, , attributes, judged, setting = {}]: Case): void {
  const { receivedAt = NOON, asOf = receivedAt, urgency, policy, timeZone } = setting;
  const found = classify(
    { attributes, receivedAt: Date.parse(receivedAt), urgency },
    { asOf: Date.parse(asOf), policy, timeZone },
  );
  const { tier, source, certainty, oddities } = found;
  const instant = new Date(found.acquiredAt).toISOString();
  expect([tier, found.urgency, instant, source, certainty, ...oddities].join(' ')).toBe(judged);
}

/** A header of StudyDate and StudyTime in UTC. */
export const study = (StudyDate: string, StudyTime?: string): Attributes => ({
  StudyDate,
  ...(StudyTime === undefined ? {} : { StudyTime }),
  ...UTC,
});
