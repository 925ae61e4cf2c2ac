import { syntheticStudy } from '../../src/testing/synthetic.ts';

export const MIXED = { studies: 1_000, instancesPerStudy: 20, sidePixels: 24 };
/** One study in so many is of the last 24 hours. */
const FIRST_TIER_EVERY = 20;
/** One in so many of the last week; the others are older. */
const SECOND_TIER_EVERY = 7;
const STUDIES_AT_ONCE = 8;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** What study and acquisition date and time are in (PS3.6). */
const DATES = ['00080020', '00080030', '00080022', '00080032', '00080023', '00080033', '00080201'];

/**
 * Small instances of many studies, some side by side, those of the last 24 hours spread evenly over the arrival. Without
 * dates nobody can tell them apart: all are held to be as old as their arrival, which makes it first in, first out.
 */
export function* mixedBacklog(dated: boolean): Generator<Uint8Array> {
  const now = Date.now();
  const open: Iterator<{ readonly bytes: Uint8Array }>[] = [];
  let next = 0;
  while (next < MIXED.studies || open.length > 0) {
    while (next < MIXED.studies && open.length < STUDIES_AT_ONCE) {
      open.push(study(next, now, dated)[Symbol.iterator]());
      next += 1;
    }
    for (const instances of [...open]) {
      const { value, done } = instances.next();
      if (done === true) open.splice(open.indexOf(instances), 1);
      else yield value.bytes;
    }
  }
}

function study(index: number, now: number, dated: boolean) {
  return syntheticStudy({
    seed: 50_000 + index,
    modality: 'CT',
    rows: MIXED.sidePixels,
    columns: MIXED.sidePixels,
    instances: MIXED.instancesPerStudy,
    acquiredAt: now - ageMs(index),
    omit: dated ? [] : DATES,
  });
}

function ageMs(index: number): number {
  if (index % FIRST_TIER_EVERY === FIRST_TIER_EVERY / 2) return HOUR_MS;
  return index % SECOND_TIER_EVERY === 0 ? 3 * DAY_MS : (30 + index) * DAY_MS;
}
