import { higherUrgency, type Urgency } from '../domain/rank.ts';
import { SpillwayError } from '../errors.ts';

const CODES: ReadonlyMap<string, Urgency> = new Map([
  // DICOM (0040,1003), (0040,1009), (0032,000C).
  ['STAT', 'stat'],
  ['HIGH', 'urgent'],
  ['ROUTINE', 'routine'],
  ['MEDIUM', 'routine'],
  ['MED', 'routine'],
  ['LOW', 'routine'],
  // HL7 v2 tables 0485 (extended priority codes) and 0027 (priority).
  ['S', 'stat'],
  ['A', 'urgent'],
  ['R', 'routine'],
  ['P', 'urgent'], // before an operation, which waits
  ['C', 'urgent'], // somebody waits for the call
  ['T', 'urgent'], // timing critical
  // FHIR request-priority; ASAP is HL7's word for A as well.
  ['URGENT', 'urgent'],
  ['ASAP', 'urgent'],
]);
/** Timing critical within so many seconds, minutes, hours, days, weeks, months (HL7 table 0485). */
const TIMED = /^T([SMHDWL])\d*$/;
const TIMED_UNITS: Readonly<Record<string, Urgency>> = {
  S: 'stat',
  M: 'stat',
  H: 'urgent',
  D: 'routine',
  W: 'routine',
  L: 'routine',
};

/** The urgency that a code of DICOM, HL7 v2 or FHIR states, in any case of letters; `unknown` where it states none. */
export function urgencyOfCode(code: string): Urgency {
  const text = code.trim().toUpperCase();
  const unit = TIMED.exec(text)?.[1];
  return CODES.get(text) ?? (unit === undefined ? undefined : TIMED_UNITS[unit]) ?? 'unknown';
}

/** Of a workitem: HIGH is equivalent to STAT, LOW is routine, and MEDIUM lies between (PS3.3 C.30.2). */
export function urgencyOfStepPriority(code: string): Urgency {
  const text = code.trim().toUpperCase();
  if (text === 'HIGH') return 'stat';
  return text === 'MEDIUM' ? 'urgent' : urgencyOfCode(text);
}

/** A field of an HL7 v2 order that says how urgent it is. */
export interface Hl7Priority {
  /** ORC-7 and OBR-27 are of type TQ, with the priority in component 6; TQ1-9 is of type CWE, with it in component 1. */
  readonly field: 'ORC-7' | 'OBR-27' | 'TQ1-9';
  /** The field as it stands in the message, such as `^^^^^S` or `A^ASAP^HL70485`; repetitions are separated by `~`. */
  readonly value: string | null | undefined;
}

const COMPONENTS: Readonly<Record<Hl7Priority['field'], number>> = { 'ORC-7': 5, 'OBR-27': 5, 'TQ1-9': 0 };

/**
 * The urgency that an HL7 v2 order states (tables 0485 and 0027): S and TS, TM stat; A, P, C, T and TH urgent; R and TD,
 * TW, TL routine. PRN, which names no time, any other code, and none at all are `unknown`, which ranks above routine:
 * HL7's own default is R, but an interface that leaves the field empty has said nothing. Of repetitions the most urgent
 * counts, one that cannot be read as `unknown`.
 *
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID` for another field
 */
export function urgencyFromHl7({ field, value }: Hl7Priority): Urgency {
  const component = COMPONENTS[field];
  if (!Object.hasOwn(COMPONENTS, field)) {
    throw new SpillwayError(
      'SPILLWAY_OPTION_INVALID',
      `Expected field to be one of ${Object.keys(COMPONENTS).join(', ')}, got ${JSON.stringify(field)}.`,
    );
  }
  if (typeof value !== 'string') return 'unknown';
  const codes = value.split('~').map((repetition) => {
    const components = repetition.split('^');
    // Some interfaces send the code alone.
    const code = components.length === 1 ? components[0] : components[component];
    return code?.split('&')[0]?.trim() ?? '';
  });
  // An empty repetition says nothing; one that cannot be read is a doubt.
  const [first, ...others] = codes.filter((code) => code !== '').map(urgencyOfCode);
  return others.reduce(higherUrgency, first ?? 'unknown');
}

/** The urgency of a FHIR `request-priority` code: stat; asap and urgent are urgent; routine. Anything else is unknown. */
export function urgencyFromFhir(code: string | null | undefined): Urgency {
  if (typeof code !== 'string') return 'unknown';
  const text = code.trim().toLowerCase();
  return ['routine', 'urgent', 'asap', 'stat'].includes(text) ? urgencyOfCode(text) : 'unknown';
}
