import { Heap } from './heap.ts';

interface Entry {
  readonly at: number;
  readonly sequence: number;
  callback: (() => void) | null;
}

/** Virtual time: what is to happen when. What falls on one instant happens in the order in which it was asked for. */
export class EventQueue {
  readonly #entries = new Heap<Entry>((a, b) => a.at - b.at || a.sequence - b.sequence);
  #sequence = 0;
  #now = 0;

  /** Milliseconds since the simulation's beginning. */
  get now(): number {
    return this.#now;
  }

  /** Calls back at an instant, the present at the earliest; the returned function cancels it. */
  at(instant: number, callback: () => void): () => void {
    const entry: Entry = { at: Math.max(instant, this.#now), sequence: this.#sequence, callback };
    this.#sequence += 1;
    this.#entries.push(entry);
    return () => {
      entry.callback = null;
    };
  }

  /** Lets time pass until an instant, itself included. */
  runUntil(instant: number): void {
    while (this.step(instant));
  }

  /** Lets time pass until the next thing happens, or until an instant where nothing happens before; then it is false. */
  step(instant: number): boolean {
    for (let next = this.#entries.peek(); next !== undefined && next.at <= instant; next = this.#entries.peek()) {
      this.#entries.pop();
      if (next.callback === null) continue;
      this.#now = next.at;
      next.callback();
      return true;
    }
    this.#now = Math.max(this.#now, instant);
    return false;
  }
}
