import PQueue from 'p-queue';
import type { Clock } from '../domain/clock.ts';

export interface SlotRunnerOptions {
  readonly clock: Clock;
  /** Slots at that instant, ms since the epoch; 0 while nothing may start. */
  readonly slots: (now: number) => number;
  /** Whether another request may start at that instant, where there is a slot for it. */
  readonly mayStart: (now: number) => boolean;
  /**
   * One slot's turn: takes the most urgent work there is and carries it out; false when there is none. Never rejects.
   * After `answered` only the outcome is being recorded, and the slot may be given to the next.
   */
  readonly work: (now: number, answered: () => void) => Promise<boolean>;
  /** Work may wait, but nothing may start. */
  readonly onBlocked: (now: number) => void;
}

/** Keeps the slots of a destination filled. What is queued is a slot's turn, not a delivery. */
export class SlotRunner {
  readonly #options: SlotRunnerOptions;
  readonly #queue = new PQueue({ concurrency: 1 });
  /** Turns that only record what their request came to. */
  #recording = 0;
  #mayHaveWork = true;
  /** Counts signs of work, so that one that comes while a slot looks in vain is not missed. */
  #news = 0;

  constructor(options: SlotRunnerOptions) {
    this.#options = options;
  }

  /** Requests in flight. */
  get inFlight(): number {
    return this.#queue.pending - this.#recording;
  }

  /** Fills the free slots. `news`: there may be work where there was none. */
  pump(news = false): void {
    if (news) {
      this.#news += 1;
      this.#mayHaveWork = true;
    }
    const now = this.#options.clock.now();
    const slots = this.#options.slots(now);
    this.#queue.concurrency = Math.max(1, this.#turns(slots));
    if (!this.#mayHaveWork) return;
    if (slots === 0 || !this.#options.mayStart(now)) {
      this.#options.onBlocked(now);
      return;
    }
    for (let free = this.#turns(slots) - this.#queue.pending - this.#queue.size; free > 0; free -= 1) {
      // Its slot is free again only once the queue has seen it end.
      void this.#queue
        .add(() => this.#turn())
        .then((outcome) => {
          if (outcome === 'idle') return;
          this.#mayHaveWork = true;
          this.pump(outcome === 'worked');
        });
    }
  }

  /** Resolves when nothing is in flight. */
  onIdle(): Promise<void> {
    return this.#queue.onIdle();
  }

  /** `missed` is when it found no work, but something came meanwhile. */
  async #turn(): Promise<'worked' | 'missed' | 'idle'> {
    const now = this.#options.clock.now();
    if (this.#queue.pending > this.#turns(this.#options.slots(now))) return 'idle';
    if (!this.#options.mayStart(now)) {
      this.#options.onBlocked(now);
      return 'idle';
    }
    const seen = this.#news;
    let isRecording = false;
    const answered = () => {
      if (isRecording) return;
      isRecording = true;
      this.#recording += 1;
      this.pump();
    };
    const worked = await this.#options.work(now, answered);
    if (isRecording) this.#recording -= 1;
    if (worked) return 'worked';
    this.#mayHaveWork = false;
    return this.#news === seen ? 'idle' : 'missed';
  }

  /** Turns at once: what is being recorded holds no slot, but no more of it than there are slots is let pile up. */
  #turns(slots: number): number {
    return slots + Math.min(slots, this.#recording);
  }
}
