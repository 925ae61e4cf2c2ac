import type { Clock } from './domain/clock.ts';

/** Longer delays make Node fire at once. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** The real time. Its timers keep no process alive. */
export const systemClock: Clock = {
  now: () => Date.now(),
  schedule(delayMs, callback) {
    const timer = setTimeout(callback, Math.min(delayMs, MAX_DELAY_MS));
    timer.unref();
    return () => clearTimeout(timer);
  },
};
