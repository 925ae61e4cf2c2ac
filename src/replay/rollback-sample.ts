import type { Clock } from '../domain/clock.ts';
import type { Delivery } from '../domain/delivery.ts';
import type { EpisodeRecord } from '../domain/episode.ts';
import { pause } from '../pacer.ts';
import type { Catalog } from '../storage/catalog.ts';
import type { DestinationSender } from './destination-sender.ts';
import type { RollbackSuspicion } from './events.ts';
import { askStillHeld, canBeAsked, isLoss, questionsOf, type StillHeld } from './still-held.ts';

/** Half of them what was verified last, which a restored backup loses first; half spread over the time before. */
const SAMPLE_SIZE = 20;
const WEEK_MS = 7 * 24 * 3_600_000;
/** Bounds what is looked at to find them. */
const PAGE_SIZE = 256;
const MAX_PAGES = 16;
const MAX_QUESTION = 10;
/** An index may lag behind a start: what is missing must be so twice. Questions come 30 s, 1, 2, 4 … min after the last. */
const TIMES_LOST = 2;
const MAX_ROUNDS = 8;
const FIRST_PAUSE_MS = 30_000;

export interface RollbackSamplerOptions {
  readonly catalog: Catalog;
  readonly destinationId: string;
  readonly sender: DestinationSender;
  readonly clock: Clock;
  /** Whether it is down again: it is not asked then. */
  readonly isDown: () => boolean;
  /** Ends what is under way. */
  readonly signal: AbortSignal;
  readonly onSuspected: (suspicion: RollbackSuspicion) => void;
  /** Deliveries are owed again. */
  readonly onReturned: () => void;
  readonly onFault: (error: unknown) => void;
}

/**
 * Asks a destination, after an outage of it, about some of what it had confirmed before: it may have come back from last
 * night's backup.
 */
export class RollbackSampler {
  readonly #options: RollbackSamplerOptions;
  /** Ends the sample of the outage before. */
  #current = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(options: RollbackSamplerOptions) {
    this.#options = options;
  }

  /** Goes on in the background; a later outage's sample takes the place of an earlier one's that is not done. */
  sampleAfterOutage(episode: EpisodeRecord): void {
    const { sender, onFault } = this.#options;
    if (!canBeAsked(sender)) return;
    this.#current.abort();
    this.#current = new AbortController();
    const signal = AbortSignal.any([this.#options.signal, this.#current.signal]);
    this.#running = this.#running
      .then(() => this.#sample(episode, signal))
      .catch((error) => {
        if (!signal.aborted) onFault(error);
      });
  }

  /** Resolves when nothing is under way; what is may be ended by its signal. */
  async idle(): Promise<void> {
    await this.#running;
  }

  async #sample(episode: EpisodeRecord, signal: AbortSignal): Promise<void> {
    const sample = await this.#choose(episode, signal);
    const answers = await this.#ask(sample, signal);
    signal.throwIfAborted();
    const lost = sample.filter(({ id }) => isLoss(answers.get(id)));
    if (lost.length > 0) await this.#suspect(episode, sample, lost, answers);
    const unknown = sample.filter(({ id }) => answers.get(id) === 'unknown').length;
    if (unknown === 0) return;
    const { catalog, destinationId, clock } = this.#options;
    const detail = { destinationId, episodeId: episode.id, sampled: sample.length, unknown };
    await catalog.appendLog({ at: clock.now(), kind: 'rollback-sample-unanswered', detail });
  }

  /** What was verified before the outage began, newest first. */
  async #choose(episode: EpisodeRecord, signal: AbortSignal): Promise<readonly Delivery[]> {
    const { catalog, destinationId } = this.#options;
    const candidates: Delivery[] = [];
    let before: number | undefined;
    for (let page = 0; page < MAX_PAGES; page += 1) {
      signal.throwIfAborted();
      const { deliveries, next } = await catalog.recentlyVerified({
        destinationId,
        since: episode.startedAt - WEEK_MS,
        limit: PAGE_SIZE,
        ...(before !== undefined && { before }),
      });
      candidates.push(...deliveries.filter(({ settledAt }) => settledAt !== null && settledAt < episode.startedAt));
      if (next === null) break;
      before = next;
    }
    return spread(candidates, SAMPLE_SIZE);
  }

  /** Until each was answered, the lost ones twice; those that never are stay `unknown`. */
  async #ask(sample: readonly Delivery[], signal: AbortSignal): Promise<ReadonlyMap<number, StillHeld>> {
    const { sender, clock, isDown } = this.#options;
    const answers = new Map<number, StillHeld>(sample.map(({ id }) => [id, 'unknown']));
    const timesLost = new Map<number, number>();
    let left = sample;
    for (let round = 0; round < MAX_ROUNDS && left.length > 0; round += 1) {
      if (round > 0) await pause(clock, FIRST_PAUSE_MS * 2 ** (round - 1), signal);
      signal.throwIfAborted();
      if (isDown()) continue;
      const again: Delivery[] = [];
      for (const question of questionsOf(left, MAX_QUESTION)) {
        const { held } = await askStillHeld(sender, question, signal);
        for (const delivery of question) {
          const answer = held.get(delivery.id) ?? 'unknown';
          if (answer === 'unknown') {
            again.push(delivery);
          } else if (answer === 'present') {
            answers.set(delivery.id, answer);
          } else {
            const times = (timesLost.get(delivery.id) ?? 0) + 1;
            timesLost.set(delivery.id, times);
            if (times >= TIMES_LOST) answers.set(delivery.id, answer);
            else again.push(delivery);
          }
        }
      }
      left = again;
    }
    return answers;
  }

  async #suspect(
    episode: EpisodeRecord,
    sample: readonly Delivery[],
    lost: readonly Delivery[],
    answers: ReadonlyMap<number, StillHeld>,
  ): Promise<void> {
    const { catalog, destinationId, clock, onSuspected, onReturned } = this.#options;
    const at = clock.now();
    const since = suggestedSince(sample, lost, answers);
    const counts = { destinationId, episodeId: episode.id, sampled: sample.length };
    const detail = { ...counts, missing: lost.length, since };
    await catalog.appendLog({ at, kind: 'rollback-suspected', detail });
    const returned = await catalog.returnToBacklog({
      destinationId,
      deliveryIds: lost.map(({ id }) => id),
      reason: 'verified before the outage, and not there after it',
      at,
    });
    onSuspected({ ...counts, missing: lost.map(({ identity }) => identity), since });
    if (returned.length > 0) onReturned();
  }
}

/** The first half as they come, the rest at equal distances among those that follow. */
export function spread<T>(items: readonly T[], size: number): readonly T[] {
  if (items.length <= size) return items;
  const first = items.slice(0, Math.ceil(size / 2));
  const rest = items.slice(first.length);
  const wanted = size - first.length;
  // The last one is among them: it is the oldest.
  return [
    ...first,
    ...Array.from({ length: wanted }, (_, at) => rest[Math.ceil(((at + 1) * rest.length) / wanted) - 1] as T),
  ];
}

/** From where on to ask again: after all that is lost, something older is still there; a week before it otherwise. */
function suggestedSince(
  sample: readonly Delivery[],
  lost: readonly Delivery[],
  answers: ReadonlyMap<number, StillHeld>,
): number {
  const oldestLost = Math.min(...lost.map(settledAt));
  const before = sample.filter((each) => answers.get(each.id) === 'present' && settledAt(each) < oldestLost);
  return before.length > 0 ? Math.max(...before.map(settledAt)) : oldestLost - WEEK_MS;
}

function settledAt(delivery: Delivery): number {
  return delivery.settledAt ?? 0;
}
