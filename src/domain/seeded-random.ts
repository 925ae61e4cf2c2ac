/**
 * A reproducible source of numbers in [0, 1): the mulberry32 generator (32 bits of state, period 2^32). For tests,
 * simulations and synthetic data; not for secrets.
 *
 * @param seed - Any number; its lowest 32 bits count.
 */
export function seededRandom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}
