import type { Clock } from '../domain/clock.ts';
import type { Delivery } from '../domain/delivery.ts';
import type { Transport } from '../transports/transport.ts';
import type { BacklogSender } from './backlog-sender.ts';

export interface StorageTrialOptions {
  readonly clock: Clock;
  readonly transport: Transport;
  readonly backlog: BacklogSender;
  /** Aborts what is in flight. */
  readonly signal: AbortSignal;
  /** Deliveries that wait no longer than this are tried too, in ms: they may be all there is to try. */
  readonly maxWaitMs: number;
  /** Whether an instance may be tried now: it is neither paused, nor planned, nor about to stop. */
  readonly mayTry: () => boolean;
  readonly onFault: (error: unknown) => void;
}

/** What came of asking a destination. */
export interface Answer {
  readonly alive: boolean;
  readonly reason: string;
}

/** Asks a destination whether it is there, and whether it stores: an answering listener proves nothing about storage. */
export class StorageTrial {
  readonly #options: StorageTrialOptions;
  /** Deliveries tried in vain in this outage, so that one bad instance does not prolong it. */
  readonly #tried = new Set<number>();

  constructor(options: StorageTrialOptions) {
    this.#options = options;
  }

  /** The next outage is another one. */
  forget(): void {
    this.#tried.clear();
  }

  /** Whether the listener answers. */
  async probe(): Promise<Answer> {
    const { transport, signal, onFault } = this.#options;
    const outcome = await transport.probe(signal).catch((error) => {
      if (!signal.aborted) onFault(error);
      return { alive: false as const, reason: 'the transport failed' };
    });
    return outcome.alive ? { alive: true, reason: 'it answers' } : outcome;
  }

  /**
   * Sends one real instance: the smallest of the most urgent study that has not failed before, so that a sick one makes no
   * outage; otherwise one that the destination holds; otherwise any. Null where it may not
   * be tried any more. Rejects when the store fails.
   */
  async trial(): Promise<Answer | null> {
    const { clock, backlog, maxWaitMs } = this.#options;
    const due = clock.now() + maxWaitMs;
    const fresh = await this.#tryOne(due, true);
    if (fresh !== null) return fresh;
    if (!this.#options.mayTry()) return null;
    const held = await backlog.worker.testify();
    if (held !== null) return held;
    const any = await this.#tryOne(due, false);
    if (any !== null || !this.#options.mayTry()) return any;
    return { alive: true, reason: 'it answers, and there is nothing to try' };
  }

  /** Null where there is none that can be read. */
  async #tryOne(due: number, isFreshOnly: boolean): Promise<Answer | null> {
    const { backlog, mayTry } = this.#options;
    const isTried = ({ id }: Delivery) => this.#tried.has(id) || backlog.worker.isTroubled(id);
    const unreadable = new Set<number>();
    while (mayTry()) {
      const candidate = await backlog.takeTrial(due, isTried, isFreshOnly);
      if (candidate === undefined) return null;
      if (!mayTry()) {
        candidate.study.giveBack(candidate.deliveries);
        return null;
      }
      for (const { id } of candidate.deliveries) this.#tried.add(id);
      const { alive, reason } = await backlog.worker.trial(candidate);
      await backlog.releaseIdle();
      if (alive !== null) return { alive, reason };
      // What cannot be read here says nothing of the destination: the next one may. One that comes again is the last.
      if (candidate.deliveries.some(({ id }) => unreadable.has(id))) return null;
      for (const { id } of candidate.deliveries) unreadable.add(id);
    }
    return null;
  }
}
