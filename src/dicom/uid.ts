import { SpillwayError } from '../errors.ts';

const STANDARD_UID = /^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*$/;

/**
 * Refuses a UID that could leave its place as a name: with separators or control characters, or of nothing but dots.
 * Returns whether it also conforms to PS3.5 section 9.1; one that does not is still usable.
 */
export function assertUsableUid(keyword: string, uid: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  if (/[/\\\u0000-\u001f\u007f-\u009f]/.test(uid) || /^\.*$/.test(uid)) {
    throw new SpillwayError(
      'SPILLWAY_UID_UNSAFE',
      `Expected ${keyword} to be a UID (digits and dots, PS3.5 section 9.1), got ${JSON.stringify(uid.slice(0, 80))}. ` +
        'A UID with separators or control characters is refused, since names are made of it; correct it at its source.',
    );
  }
  return isStandardUid(uid);
}

/** Whether a UID conforms to PS3.5 section 9.1. */
export function isStandardUid(uid: string): boolean {
  return uid.length <= 64 && STANDARD_UID.test(uid);
}
