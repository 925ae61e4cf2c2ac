import type { Socket } from 'node:net';

/** Bytes of one direction that are read and not yet passed on, at the most; then no more are read. */
const MAX_UNDER_WAY = 1024 * 1024;
/** Long chunks are paced in pieces of so many bytes, so that a slow line is slow evenly. */
const PIECE_BYTES = 16 * 1024;
/** A line that was idle, or a timer that was late, is owed no more than this, in ms. */
const MAX_CREDIT_MS = 20;

/** What all lanes wait on: a change of settings, an end, or time. */
export class Changes {
  readonly #waiting = new Set<() => void>();

  /** Wakes all who wait. */
  notify(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Until the next change, or for `ms`. */
  wait(ms = Number.POSITIVE_INFINITY): Promise<void> {
    return new Promise((resolve) => {
      const timer = Number.isFinite(ms) ? setTimeout(() => wake(), ms) : undefined;
      const wake = () => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      this.#waiting.add(wake);
    });
  }
}

/** How a lane passes bytes on; asked anew for each piece. */
export interface LaneRules {
  readonly delayMs: () => number;
  readonly bytesPerSecond: () => number;
  readonly isStalled: () => boolean;
  /** After how many of these bytes something is to happen, and what; undefined: nothing, they all pass. */
  readonly limit: (bytes: number) => { readonly after: number; readonly happen: () => void } | undefined;
}

/** One direction of a connection: reads no faster than it may pass on. */
export class Lane {
  passed = 0;
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #rules: LaneRules;
  readonly #changes: Changes;
  readonly #queue: { readonly bytes: Uint8Array; readonly at: number }[] = [];
  #queuedBytes = 0;
  #isRead = false;
  #isOver = false;
  /** When the line is free again, on the clock of `performance.now()`. */
  #freeAt = 0;

  constructor(from: Socket, to: Socket, rules: LaneRules, changes: Changes) {
    this.#from = from;
    this.#to = to;
    this.#rules = rules;
    this.#changes = changes;
  }

  /** Until the end was passed on, or the socket to read from is gone. Errors of sockets are their owner's. */
  async run(): Promise<void> {
    await Promise.all([this.#read().catch(() => this.stop()), this.#write()]);
  }

  /** Passes nothing more: what comes vanishes. */
  stop(): void {
    this.#isOver = true;
    this.#queue.length = 0;
    this.#changes.notify();
  }

  async #read(): Promise<void> {
    for await (const chunk of this.#from.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      if (this.#isOver) continue;
      for (let at = 0; at < chunk.length; at += PIECE_BYTES) this.#push(chunk.subarray(at, at + PIECE_BYTES));
      while (this.#queuedBytes >= MAX_UNDER_WAY && !this.#isOver) await this.#changes.wait();
      while (this.#rules.isStalled() && !this.#isOver) await this.#changes.wait();
    }
    this.#isRead = true;
    this.#changes.notify();
  }

  #push(bytes: Uint8Array): void {
    this.#queue.push({ bytes, at: performance.now() });
    this.#queuedBytes += bytes.byteLength;
    this.#changes.notify();
  }

  async #write(): Promise<void> {
    while (!this.#isOver) {
      const [head] = this.#queue;
      if (head === undefined) {
        if (this.#isRead) break;
        await this.#changes.wait();
        continue;
      }
      const early = Math.max(head.at + this.#rules.delayMs(), this.#freeAt) - performance.now();
      if (early > 0 || this.#rules.isStalled()) {
        await this.#changes.wait(this.#rules.isStalled() ? undefined : early);
        continue;
      }
      this.#queue.shift();
      this.#queuedBytes -= head.bytes.byteLength;
      this.#changes.notify();
      await this.#pass(head.bytes);
    }
    if (!this.#isOver) this.#to.end();
  }

  async #pass(bytes: Uint8Array): Promise<void> {
    const limit = this.#rules.limit(bytes.byteLength);
    const allowed = limit?.after ?? bytes.byteLength;
    const lasts = (allowed / this.#rules.bytesPerSecond()) * 1000;
    this.#freeAt = Math.max(this.#freeAt, performance.now() - MAX_CREDIT_MS) + lasts;
    this.passed += allowed;
    if (allowed > 0) await this.#hand(bytes.subarray(0, allowed));
    limit?.happen();
  }

  /** Until the system has taken them. */
  #hand(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      if (this.#to.destroyed || this.#to.writableEnded) return resolve();
      this.#to.write(bytes, () => resolve());
    });
  }
}
