import type { AbortableOptions } from '../domain/abort.ts';
import type { Clock } from '../domain/clock.ts';
import type { Delivery } from '../domain/delivery.ts';
import { SpillwayError } from '../errors.ts';
import { Pacer, pause } from '../pacer.ts';
import type { Catalog } from '../storage/catalog.ts';
import type { DestinationSender } from './destination-sender.ts';
import { askStillHeld, canBeAsked, isLoss, MAX_QUESTION, questionsOf } from './still-held.ts';

const PAGE_SIZE = 500;
/** A page may be somewhat longer than asked for. */
const MAX_RETURNED_AT_ONCE = 1_000;
const DEFAULT_PER_SECOND = 50;
/** Questions in a row that a destination leaves unanswered, though its listener answers, before it is let be. */
const MAX_UNANSWERED = 50;
/** Times that a listener may be silent, and how long is waited before it is asked again: half a minute in all. */
const MAX_SILENT = 5;
const SILENT_PAUSE_MS = 2_000;

/** How `reverify` asks. */
export interface ReverifyOptions extends AbortableOptions {
  /** The id of the destination. */
  readonly destination: string;
  /** What was verified there from this instant on, ms since the epoch. */
  readonly since: number;
  /**
   * What was verified there before this instant, ms since the epoch: `reachedBackTo` of a report goes on from there.
   * @default now
   */
  readonly until?: number | undefined;
  /** Instances asked about in a second, at the most. @default 50 */
  readonly maxPerSecond?: number | undefined;
  /** Told after each page of some 500 instances. */
  readonly onProgress?: ((report: ReverifyReport) => void) | undefined;
}

/** What asking again has shown, in instances. */
export interface ReverifyReport {
  readonly destinationId: string;
  /** Asked about: the sum of `present`, `missing`, `different` and `unknown`. */
  readonly checked: number;
  readonly present: number;
  /** The destination shows nothing under this UID. */
  readonly missing: number;
  /** It holds something else under this UID than was confirmed, such as an earlier version. */
  readonly different: number;
  /** It could not be asked. Nothing follows from that: these stay verified. */
  readonly unknown: number;
  /** Of those missing and different: owed again, and sent in the order of their rank. */
  readonly returned: number;
  /** Not asked about, since their bytes have made room here and could not be sent again. */
  readonly evicted: number;
  /** Not asked about, since their bytes are missing here, and not for having made room: they could not be sent again. */
  readonly unavailable: number;
  /** False when it ended early, since the destination was down or did not answer. */
  readonly isComplete: boolean;
  /** All that was verified from this instant on has been asked about, ms since the epoch. */
  readonly reachedBackTo: number;
}

export interface ReverifierOptions {
  readonly catalog: Catalog;
  readonly destinationId: string;
  readonly sender: DestinationSender;
  readonly clock: Clock;
  /** Whether it is down, or said to be: it is not asked then, since what is being restored may show anything. */
  readonly isDown: () => boolean;
  /** Ends what is under way: the destination is no longer sent to. */
  readonly signal: AbortSignal;
  /** Deliveries are owed again. */
  readonly onReturned: () => void;
  readonly onFault: (error: unknown) => void;
}

/** Asks one destination again about what it was verified to hold; what it has lost returns to the backlog. */
export class Reverifier {
  readonly #options: ReverifierOptions;
  #running: Promise<unknown> | undefined;

  constructor(options: ReverifierOptions) {
    this.#options = options;
  }

  async run(options: ReverifyOptions): Promise<ReverifyReport> {
    const { destinationId, sender, signal } = this.#options;
    if (!canBeAsked(sender)) {
      throw new SpillwayError(
        'SPILLWAY_OPTION_INVALID',
        `Expected a destination that can be asked what it holds, got "${destinationId}", whose transport neither looks ` +
          'up nor reads back. Give it a transport that supports one of them, such as QIDO-RS or C-FIND.',
      );
    }
    if (this.#running !== undefined) {
      throw new SpillwayError(
        'SPILLWAY_BUSY',
        `Expected one reverify of "${destinationId}" at a time, got another. Wait for the first one, or abort it.`,
      );
    }
    const signals = options.signal === undefined ? [signal] : [signal, options.signal];
    const running = new Walk(this.#options, options, AbortSignal.any(signals)).run();
    this.#running = running;
    try {
      const report = await running;
      const { catalog, clock } = this.#options;
      await catalog.appendLog({ at: clock.now(), kind: 'reverified', detail: { since: options.since, ...report } });
      return report;
    } catch (error) {
      throw this.#whenEnded(error, options.signal);
    } finally {
      this.#running = undefined;
    }
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    await this.#running?.catch(() => {});
  }

  #whenEnded(error: unknown, given: AbortSignal | undefined): unknown {
    if (given?.aborted) {
      const message = 'Verifying again was aborted by its signal. What it found before stays as it is.';
      return new SpillwayError('SPILLWAY_ABORTED', message, { cause: given.reason });
    }
    if (!this.#options.signal.aborted) return error;
    const { destinationId } = this.#options;
    return new SpillwayError('SPILLWAY_CLOSED', `"${destinationId}" was closed while it was verified again.`);
  }
}

/** One walk, newest first. */
class Walk {
  readonly #options: ReverifierOptions;
  readonly #given: ReverifyOptions;
  readonly #signal: AbortSignal;
  readonly #pacer: Pacer;
  readonly #maxQuestion: number;
  readonly #counts = { present: 0, missing: 0, different: 0, unknown: 0, returned: 0, evicted: 0, unavailable: 0 };
  #reachedBackTo: number;
  #unanswered = 0;
  #silent = 0;

  constructor(options: ReverifierOptions, given: ReverifyOptions, signal: AbortSignal) {
    this.#options = options;
    this.#given = given;
    this.#signal = signal;
    const perSecond = given.maxPerSecond ?? DEFAULT_PER_SECOND;
    this.#pacer = new Pacer(options.clock, perSecond, signal);
    this.#maxQuestion = Math.min(MAX_QUESTION, perSecond);
    this.#reachedBackTo = given.until ?? options.clock.now();
  }

  async run(): Promise<ReverifyReport> {
    const { catalog, destinationId } = this.#options;
    const { since } = this.#given;
    // What a clock that went back had settled later than now belongs to it too.
    const until = this.#given.until ?? Number.POSITIVE_INFINITY;
    for (let before: number | undefined; ; ) {
      this.#signal.throwIfAborted();
      const page = await catalog.recentlyVerified({
        destinationId,
        since,
        limit: PAGE_SIZE,
        ...(before !== undefined && { before }),
      });
      this.#counts.evicted += page.evicted;
      this.#counts.unavailable += page.unavailable;
      const asked = page.deliveries.filter(({ settledAt }) => settledAt === null || settledAt < until);
      const isAnswered = await this.#ask(asked);
      if (!isAnswered) return this.#report(false);
      const isComplete = page.next === null;
      const last = asked.at(-1)?.settledAt ?? null;
      if (isComplete) this.#reachedBackTo = since;
      // Others of the same millisecond may stand on the next page.
      else if (last !== null) this.#reachedBackTo = last + 1;
      this.#tellProgress(isComplete);
      if (page.next === null) return this.#report(true);
      before = page.next;
    }
  }

  /** Asks about a page, and has what is lost owed again; false when the destination does not answer. */
  async #ask(deliveries: readonly Delivery[]): Promise<boolean> {
    const lost = { missing: [] as number[], different: [] as number[] };
    let goesOn = true;
    try {
      for (const question of questionsOf(deliveries, this.#maxQuestion)) {
        goesOn = !this.#options.isDown();
        if (!goesOn) break;
        const { held, answered } = await this.#askUntilAnswered(question);
        for (const [id, answer] of held) {
          this.#counts[answer] += 1;
          if (isLoss(answer)) lost[answer].push(id);
        }
        this.#unanswered = answered ? 0 : this.#unanswered + 1;
        goesOn = this.#silent < MAX_SILENT && this.#unanswered < MAX_UNANSWERED;
        if (!goesOn) break;
        await this.#pacer.spend(question.length);
        this.#signal.throwIfAborted();
      }
    } finally {
      // What it is known not to hold is owed again, also when the rest cannot be asked about any more.
      await this.#return(lost.missing, 'verified before, and no longer there');
      await this.#return(lost.different, 'verified before, and another version is there now');
    }
    return goesOn;
  }

  /** A listener that is silent for a moment must not cost a page its answers. */
  async #askUntilAnswered(question: readonly Delivery[]) {
    const { sender, clock } = this.#options;
    for (;;) {
      const asked = await askStillHeld(sender, question, this.#signal);
      if (asked.answered || (await sender.transport.probe(this.#signal)).alive) {
        this.#silent = 0;
        return asked;
      }
      this.#silent += 1;
      if (this.#silent >= MAX_SILENT) return asked;
      await pause(clock, SILENT_PAUSE_MS * 2 ** (this.#silent - 1), this.#signal);
      this.#signal.throwIfAborted();
    }
  }

  async #return(deliveryIds: readonly number[], reason: string): Promise<void> {
    const { catalog, destinationId, clock, onReturned } = this.#options;
    for (let start = 0; start < deliveryIds.length; start += MAX_RETURNED_AT_ONCE) {
      const some = deliveryIds.slice(start, start + MAX_RETURNED_AT_ONCE);
      const returned = await catalog.returnToBacklog({ destinationId, deliveryIds: some, reason, at: clock.now() });
      this.#counts.returned += returned.length;
      if (returned.length > 0) onReturned();
    }
  }

  #report(isComplete: boolean): ReverifyReport {
    const { present, missing, different, unknown, returned, evicted, unavailable } = this.#counts;
    return {
      destinationId: this.#options.destinationId,
      checked: present + missing + different + unknown,
      ...{ present, missing, different, unknown, returned, evicted, unavailable, isComplete },
      reachedBackTo: this.#reachedBackTo,
    };
  }

  #tellProgress(isComplete: boolean): void {
    try {
      this.#given.onProgress?.(this.#report(isComplete));
    } catch (error) {
      this.#options.onFault(error);
    }
  }
}
