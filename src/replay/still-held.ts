import type { Delivery } from '../domain/delivery.ts';
import { neededEvidence } from '../routing/retry.ts';
import type { DestinationSender } from './destination-sender.ts';

/**
 * Whether a destination still holds what it was verified to hold. `unknown`: it could not be asked, which proves nothing
 * either way. `missing`: it says that it has nothing under this UID; `different`: it has something else.
 */
export type StillHeld = 'present' | 'missing' | 'different' | 'unknown';

/** Instances named in one question. */
export const MAX_QUESTION = 100;

/** What a destination lets be asked, if anything. */
export function canBeAsked({ transport }: DestinationSender): boolean {
  return transport.supports.lookUp || transport.supports.readBack;
}

/** Deliveries as questions: of one study each, and of at most `maxInstances`; in their order otherwise. */
export function questionsOf(deliveries: readonly Delivery[], maxInstances: number): readonly (readonly Delivery[])[] {
  const questions: Delivery[][] = [];
  for (const ofStudy of Map.groupBy(deliveries, ({ identity }) => identity.studyInstanceUid).values()) {
    for (let start = 0; start < ofStudy.length; start += maxInstances) {
      questions.push(ofStudy.slice(start, start + maxInstances));
    }
  }
  return questions;
}

/**
 * Asks about deliveries of one study. By query, where that is enough: it shows a UID, not a version, so that what was
 * compared once is compared again. `answered` is false when the destination said nothing at all.
 */
export async function askStillHeld(
  sender: DestinationSender,
  deliveries: readonly Delivery[],
  signal: AbortSignal,
): Promise<{ readonly held: ReadonlyMap<number, StillHeld>; readonly answered: boolean }> {
  const results = await sender.ask(deliveries, signal);
  const held = new Map<number, StillHeld>();
  let isAsked = false;
  for (const delivery of deliveries) {
    const result = results.get(delivery.id) ?? 'unknown';
    const isCompared = neededEvidence(delivery, sender.view) === 'compared';
    if (!isCompared || sender.transport.supports.readBack) isAsked = true;
    held.set(delivery.id, HELD[result]);
  }
  const answers = [...held.values()];
  // A service that is not up yet may be without anything, or have its proxy say so: then it is not well either.
  if (answers.some(isLoss) && !(await sender.transport.probe(signal)).alive) {
    return { held: new Map(deliveries.map(({ id }) => [id, 'unknown'])), answered: false };
  }
  return { held, answered: !isAsked || answers.some((answer) => answer !== 'unknown') };
}

export function isLoss(answer: StillHeld | undefined): answer is 'missing' | 'different' {
  return answer === 'missing' || answer === 'different';
}

const HELD = {
  found: 'present',
  committed: 'present',
  equal: 'present',
  absent: 'missing',
  different: 'different',
  awaited: 'unknown',
  unknown: 'unknown',
} as const;
