/**
 * The port to time. Pure code takes instants as arguments; the shell takes a Clock, so that tests and the simulator
 * can drive it.
 */
export interface Clock {
  /** Milliseconds since 1970-01-01T00:00:00Z. */
  now(): number;
  /** Calls `callback` once after `delayMs` milliseconds; the returned function cancels it. */
  schedule(delayMs: number, callback: () => void): () => void;
}
