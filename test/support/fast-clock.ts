import type { Clock } from '../../src/domain/clock.ts';

/** A clock that runs so many times faster: pauses of half a minute before something is tried again are for hospitals. */
export function fastClock(timesFaster: number): Clock {
  const openedAt = Date.now();
  return {
    now: () => openedAt + (Date.now() - openedAt) * timesFaster,
    schedule(delayMs, callback) {
      const timer = setTimeout(callback, delayMs / timesFaster);
      return () => clearTimeout(timer);
    },
  };
}
