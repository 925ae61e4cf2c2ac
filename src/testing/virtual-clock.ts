import type { Clock } from '../domain/clock.ts';

interface Timer {
  at: number;
  readonly callback: () => void;
}

/** A clock that stands still until it is told to go on, for tests of whatever takes a `Clock`. */
export class VirtualClock implements Clock {
  #now: number;
  #timers: Timer[] = [];

  /** @param startAt - ms since the epoch. */
  constructor(startAt: number) {
    this.#now = startAt;
  }

  now(): number {
    return this.#now;
  }

  schedule(delayMs: number, callback: () => void): () => void {
    const timer = { at: this.#now + Math.max(0, delayMs), callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** The clock is put right by somebody, forward or back; whoever waits, waits as long as ever. */
  jump(ms: number): void {
    this.#now += ms;
    for (const timer of this.#timers) timer.at += ms;
  }

  /** Time passes in which this process does not run: what fell due meanwhile is called afterwards, all at once. */
  stall(ms: number): void {
    this.#now += ms;
    this.advance(0);
  }

  /** Lets time pass; what falls due is called in its order, each at its own instant. */
  advance(ms: number): void {
    const until = this.#now + ms;
    for (;;) {
      const [next] = this.#timers.filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#now = Math.max(this.#now, next.at);
      next.callback();
    }
    this.#now = until;
  }
}
