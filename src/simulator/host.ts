import type { EventQueue } from './event-queue.ts';

/**
 * The process that the gateway runs in, with its clock. While it stalls nothing of it runs; afterwards its timers fire
 * first, then what came from outside is heard, as in Node.
 */
export class Host {
  readonly #queue: EventQueue;
  #offset: number;
  /** Calls for another life of the process are for nobody. */
  #life = 0;
  /** Stalls under way: they may overlap. */
  #stalled = 0;
  #stalledFrom = 0;
  #timers: (() => void)[] = [];
  #heard: (() => void)[] = [];
  /** Counts the times that it did not run, or its clock was put. */
  stalls = 0;
  /** Called with the clock's instants between which it did not run, before anything else runs. */
  onStalled: (from: number, to: number) => void = () => {};
  /** Called when its clock was found to have gone back. */
  onClockBack: (byMs: number) => void = () => {};

  /** @param startAt - Its clock at the beginning, ms since the epoch. */
  constructor(queue: EventQueue, startAt: number) {
    this.#queue = queue;
    this.#offset = startAt;
  }

  /** By its own clock, ms since the epoch. */
  get now(): number {
    return this.#queue.now + this.#offset;
  }

  /** Calls back after a time, however its clock is put meanwhile. */
  after(delayMs: number, callback: () => void): () => void {
    let isCancelled = false;
    const life = this.#life;
    const fire = () => {
      if (!isCancelled && life === this.#life) callback();
    };
    const cancel = this.#queue.at(this.#queue.now + Math.max(0, delayMs), () => {
      if (this.isStalled) this.#timers.push(fire);
      else fire();
    });
    return () => {
      isCancelled = true;
      cancel();
    };
  }

  /** Wraps what is called from outside, so that it is heard when the process runs, and only in this life. */
  heard<A extends readonly unknown[]>(callback: (...news: A) => void): (...news: A) => void {
    const life = this.#life;
    return (...news) => {
      const hear = () => {
        if (life === this.#life) callback(...news);
      };
      if (this.isStalled) this.#heard.push(hear);
      else hear();
    };
  }

  get isStalled(): boolean {
    return this.#stalled > 0;
  }

  stall(lastsMs: number): void {
    if (this.#stalled === 0) this.#stalledFrom = this.now;
    this.#stalled += 1;
    this.#queue.at(this.#queue.now + lastsMs, () => {
      this.#stalled -= 1;
      if (this.isStalled) return;
      const waiting = [...this.#timers, ...this.#heard];
      this.#timers = [];
      this.#heard = [];
      this.stalls += 1;
      this.onStalled(this.#stalledFrom, this.now);
      for (const callback of waiting) callback();
    });
  }

  jump(byMs: number): void {
    const from = this.now;
    this.#offset += byMs;
    this.stalls += 1;
    // A clock that went forward looks to the process as if it had not run meanwhile.
    if (byMs > 0) this.onStalled(from, this.now);
    else this.onClockBack(-byMs);
  }

  /** Ends this life; what it waited for is not waited for any more. */
  kill(): void {
    this.#life += 1;
    this.#timers = [];
    this.#heard = [];
  }
}
