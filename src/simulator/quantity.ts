import { SpillwayError } from '../errors.ts';

/** A time as data files say it: `'250 ms'`, `'90 s'`, `'10 min'`, `'4 h'`, `'7 d'`. */
export type Duration = string;

/** A size as data files say it, in powers of 1000: `'526 kB'`, `'1.9 GB'`. */
export type Size = string;

const TIMES: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1_000],
  ['min', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);
const SIZES: ReadonlyMap<string, number> = new Map([
  ['B', 1],
  ['kB', 1e3],
  ['MB', 1e6],
  ['GB', 1e9],
]);

/**
 * In milliseconds.
 *
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID`
 */
export function milliseconds(text: Duration): number {
  return amount(text, TIMES, 'a time');
}

/**
 * In bytes.
 *
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID`
 */
export function bytes(text: Size): number {
  return amount(text, SIZES, 'a size');
}

function amount(text: unknown, units: ReadonlyMap<string, number>, what: string): number {
  const [, number, unit] = /^(-?\d+(?:\.\d+)?) ([A-Za-z]+)$/.exec(String(text)) ?? [];
  const factor = units.get(unit ?? '');
  if (number !== undefined && factor !== undefined) return Number(number) * factor;
  throw new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    `Expected ${what} such as '10 ${[...units.keys()][1]}' (${[...units.keys()].join(', ')}), got ${JSON.stringify(text)}.`,
  );
}
