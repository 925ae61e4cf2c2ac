import type { DestinationEvent } from './destination.ts';
import type { OutcomeView } from './retry.ts';

/** What a request's outcomes say about the destination, if anything; how long it took is for the caller to add. */
export function eventOfSend(results: readonly { readonly outcome: OutcomeView }[]): DestinationEvent | undefined {
  const outcomes = results.flatMap(({ outcome }) => (outcome.kind === 'unreadable' ? [] : [outcome]));
  // A definite answer about an instance proves that storage is alive, also when it is a refusal, and whatever it asks
  // of another one.
  if (outcomes.some(isDefinite)) return { type: 'success' };
  const pushBacks = outcomes.filter((outcome) => outcome.kind === 'push-back');
  if (pushBacks.length > 0) {
    const named = pushBacks.map((outcome) => outcome.retryAfterMs ?? 0);
    return { type: 'push-back', retryAfterMs: Math.max(...named) || undefined };
  }
  // A request that broke off because bytes could not be read here is not the destination's failure.
  if (outcomes.length < results.length) return undefined;
  const refused = outcomes.find((outcome) => outcome.kind === 'refused');
  if (refused !== undefined) return { type: 'soft-refusal', reason: refused.reason };
  const [first] = outcomes;
  return { type: 'failure', reason: first !== undefined && 'reason' in first ? first.reason : 'no answer' };
}

/** Whether a trial shows that storage is alive. A refusal that may lie in the destination itself never does. */
export function isTrialAlive(outcome: OutcomeView): boolean {
  return isDefinite(outcome) || outcome.kind === 'push-back';
}

function isDefinite(outcome: OutcomeView): boolean {
  return outcome.kind === 'stored' || outcome.kind === 'duplicate' || (outcome.kind === 'refused' && !outcome.mayRetry);
}
