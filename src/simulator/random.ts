import { seededRandom } from '../domain/seeded-random.ts';

/** Numbers in [0, 1). */
export type Random = () => number;

/**
 * A stream of its own for each part of a world, so that what one part draws does not change what another one does.
 *
 * @param name - Names the part; the same seed and name give the same stream.
 */
export function streamOf(seed: number, name: string): Random {
  let hash = 0x811c9dc5 ^ seed;
  for (let index = 0; index < name.length; index += 1) {
    hash = Math.imul(hash ^ name.charCodeAt(index), 0x01000193);
  }
  return seededRandom(hash);
}

/** Exponentially distributed with this mean: the time between arrivals that know nothing of each other. */
export function exponential(random: Random, mean: number): number {
  return -mean * Math.log(1 - random());
}

/** A whole number from `low` to `high`, both included. */
export function between(random: Random, [low, high]: readonly [number, number]): number {
  return low + Math.floor(random() * (high - low + 1));
}
