import type { DeliveryState, Evidence, VerifyLevel } from '../domain/delivery.ts';

/** The knobs of retry, each with the reason for its default. */
export interface RetryPolicy {
  /** Pause before the one retry of a refusal whose status allows it: long enough for a full disk queue to empty. */
  readonly refusedRetryMs: number;
  /** Answers that said nothing of an instance before it is put aside. */
  readonly maxUnanswered: number;
  /** Connections lost over one instance alone, outside an outage, that count as such an answer each from then on. */
  readonly maxLostAnswers: number;
  /** Pause before a look-up that found nothing is repeated; indexes lag behind storage. */
  readonly lookUpGraceMs: number;
  /** Look-ups without evidence, resends among them, before a delivery is put aside. */
  readonly maxLookUps: number;
}

export const defaultRetryPolicy: RetryPolicy = {
  refusedRetryMs: 30_000,
  maxUnanswered: 5,
  maxLostAnswers: 3,
  lookUpGraceMs: 15_000,
  maxLookUps: 8,
};

/** What the decision needs to know of a delivery. */
export interface DeliveryView {
  readonly attempts: number;
  readonly furtherVersion: boolean;
  /** Connections lost over it since the last outage; an outage explains those before it. @default 0 */
  readonly lostAnswers?: number;
}

/** What the destination lets be asked, and what is asked of it. */
export interface EvidenceView {
  readonly verify: VerifyLevel;
  readonly canLookUp: boolean;
  readonly canReadBack: boolean;
}

/**
 * What becomes of a delivery: `settle` it in the catalog, or `requeue` it at no cost to itself, with a look-up before
 * the next send where it may have arrived, alone where it may be what spoils the others.
 */
export type Decision =
  | {
      readonly do: 'settle';
      readonly state: DeliveryState;
      readonly evidence: Evidence;
      readonly attempts: number;
      readonly reason: string | null;
      readonly delayMs: number;
    }
  | { readonly do: 'requeue'; readonly lookUpFirst: boolean; readonly alone: boolean };

/** The kinds of outcome that a send has; what each means stands at `SendOutcome`. */
export type OutcomeView =
  | { readonly kind: 'stored' }
  | { readonly kind: 'duplicate' | 'push-back' | 'unreachable' | 'ambiguous' | 'unanswered'; readonly reason: string }
  | { readonly kind: 'refused'; readonly reason: string; readonly mayRetry: boolean };

/** The evidence that settles a delivery: a query proves a UID, not a version, so further versions need `compared`. */
export function neededEvidence(delivery: DeliveryView, view: EvidenceView): VerifyLevel {
  return delivery.furtherVersion ? 'compared' : view.verify;
}

/**
 * Decides what a send's outcome means for one delivery. Push-back and outages never cost the delivery anything.
 *
 * @param alone - It was the only instance of its request.
 */
export function afterSend(
  delivery: DeliveryView,
  outcome: OutcomeView,
  view: EvidenceView,
  alone: boolean,
  policy: RetryPolicy = defaultRetryPolicy,
): Decision {
  const attempts = delivery.attempts;
  switch (outcome.kind) {
    case 'stored': {
      const needed = neededEvidence(delivery, view);
      if (needed === 'answered') return settle('verified', 'answered', attempts, null);
      if (needed === 'compared' && !view.canReadBack) {
        return settle('quarantined', 'answered', attempts, 'destination may hold another version');
      }
      return settle('sent', 'answered', attempts, null);
    }
    case 'duplicate':
      // It has something under this UID. Whether that is this version, only a question tells.
      if (neededEvidence(delivery, view) === 'compared' ? view.canReadBack : view.canLookUp) {
        return settle('sent', 'accepted', attempts, outcome.reason);
      }
      return settle('quarantined', 'accepted', attempts, `${outcome.reason}; destination may hold another version`);
    case 'refused':
      if (!outcome.mayRetry || attempts >= 1) return settle('quarantined', 'accepted', attempts + 1, outcome.reason);
      return settle('pending', 'accepted', attempts + 1, outcome.reason, policy.refusedRetryMs);
    case 'push-back':
    case 'unreachable':
      return { do: 'requeue', lookUpFirst: false, alone: false };
    case 'ambiguous':
      // One instance that brings every connection down must not be tried for ever before all others.
      if (!alone || (delivery.lostAnswers ?? 0) < policy.maxLostAnswers) {
        return { do: 'requeue', lookUpFirst: true, alone: true };
      }
      return unanswered(attempts, outcome.reason, policy);
    case 'unanswered':
      return alone ? unanswered(attempts, outcome.reason, policy) : { do: 'requeue', lookUpFirst: true, alone: true };
  }
}

function unanswered(attempts: number, reason: string, policy: RetryPolicy): Decision {
  if (attempts + 1 >= policy.maxUnanswered) {
    return settle('quarantined', 'accepted', attempts + 1, `never answered: ${reason}`);
  }
  return settle('pending', 'accepted', attempts + 1, reason, policy.refusedRetryMs);
}

/**
 * What a question about one delivery came to: `found` by a query, `equal` or `different` by retrieving it, `absent`,
 * or `unknown` when it could not be asked.
 */
export type LookUpResult = 'found' | 'equal' | 'different' | 'absent' | 'unknown';

/** Decides what a question's answer means for a delivery that was answered and waits for evidence. */
export function afterLookUp(
  delivery: DeliveryView & { readonly evidence: Evidence },
  result: LookUpResult,
  policy: RetryPolicy = defaultRetryPolicy,
): Decision {
  const attempts = delivery.attempts + 1;
  switch (result) {
    case 'equal':
      return settle('verified', 'compared', delivery.attempts, null);
    case 'found':
      // A query proves a UID: whose data set stands under it, it does not tell.
      if (delivery.furtherVersion) {
        return settle('quarantined', delivery.evidence, attempts, 'destination may hold another version');
      }
      return settle('verified', 'found', delivery.attempts, null);
    case 'different':
      return settle('quarantined', delivery.evidence, attempts, 'destination holds another version under this UID');
    case 'absent':
    case 'unknown':
      if (attempts >= policy.maxLookUps) {
        const reason =
          result === 'absent'
            ? 'destination said success, but shows nothing under this UID'
            : 'destination cannot be asked whether it holds this instance';
        return settle('quarantined', delivery.evidence, attempts, reason);
      }
      // An odd attempt asks again; an even one sends again, since the destination says that it is not there. Either
      // waits out a grace: refusals count as attempts too, so that the first question may well be an even one.
      return result === 'absent' && attempts % 2 === 0
        ? settle('pending', 'accepted', attempts, 'answered, but not found: sent again', policy.lookUpGraceMs)
        : settle('sent', delivery.evidence, attempts, `evidence is out: ${result}`, policy.lookUpGraceMs * attempts);
  }
}

function settle(
  state: DeliveryState,
  evidence: Evidence,
  attempts: number,
  reason: string | null,
  delayMs = 0,
): Decision {
  return { do: 'settle', state, evidence, attempts, reason, delayMs };
}
