import type { DeliveryState, Evidence, VerifyLevel } from '../domain/delivery.ts';

/** The knobs of retry, each with the reason for its default. */
export interface RetryPolicy {
  /** First and greatest pause before an instance that failed by itself is tried again; it doubles each time. */
  readonly retryMs: number;
  readonly maxRetryMs: number;
  /** Refusals that may pass, against the evidence that the destination stores others, before it is put aside. */
  readonly maxRefusals: number;
  /** Lost connections and empty answers, against the same evidence, before it is put aside. */
  readonly maxUnanswered: number;
  /** Times that its bytes cannot be read here, though they are there, before it is put aside: some hours. */
  readonly maxUnreadable: number;
  /** First and greatest pause before a look-up without evidence is repeated: indexes lag behind storage. */
  readonly lookUpMs: number;
  readonly maxLookUpMs: number;
  /** The look-up after which, still not found, the instance is sent once more: a quarter of an hour after the first. */
  readonly resendAtLookUp: number;
  /** Look-ups without evidence before a delivery is put aside: about a day. */
  readonly maxLookUps: number;
  /** Retrievals of another version before it is believed: the new one may still be on its way in. */
  readonly maxDifferent: number;
}

export const defaultRetryPolicy: RetryPolicy = {
  retryMs: 30_000,
  maxRetryMs: 600_000,
  maxRefusals: 1,
  maxUnanswered: 3,
  maxUnreadable: 30,
  lookUpMs: 15_000,
  maxLookUpMs: 3_600_000,
  resendAtLookUp: 6,
  maxLookUps: 30,
  maxDifferent: 4,
};

/** What the decision needs to know of a delivery. */
export interface DeliveryView {
  /** Refusals, empty answers and look-ups so far. */
  readonly attempts: number;
  readonly furtherVersion: boolean;
}

/** How a delivery has failed by itself so far, this time included. */
export interface TroubleView {
  readonly failures: number;
  /** Failures before which the destination had stored something else since the failure before: its own fault it is. */
  readonly whileOthersStored: number;
}

/** How a delivery was sent. */
export interface RequestView {
  /** It was the only instance of its request. */
  readonly alone: boolean;
  /** The destination stored others of the same request. */
  readonly othersStored: boolean;
}

/** What the destination lets be asked, and what is asked of it. */
export interface EvidenceView {
  readonly verify: VerifyLevel;
  readonly canLookUp: boolean;
  readonly canReadBack: boolean;
}

/**
 * What becomes of a delivery: `settle` it in the catalog, or `requeue` it at no cost to itself, with a look-up before
 * the next send where it may have arrived; in smaller company, or alone, where it may be what spoils the request.
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
  | { readonly do: 'requeue'; readonly lookUpFirst: boolean; readonly company: 'any' | 'fewer' | 'alone' };

/** The kinds of outcome that a send has; what each means stands at `SendOutcome`. */
export type OutcomeView =
  | { readonly kind: 'stored' }
  | { readonly kind: 'duplicate' | 'push-back' | 'unreachable' | 'ambiguous' | 'unanswered'; readonly reason: string }
  | { readonly kind: 'refused'; readonly reason: string; readonly mayRetry: boolean }
  /** Its bytes could not be read here; `isLost`: nor will they be another time. */
  | { readonly kind: 'unreadable'; readonly reason: string; readonly isLost: boolean };

/** The evidence that settles a delivery: a query proves a UID, not a version, so further versions need `compared`. */
export function neededEvidence(delivery: DeliveryView, view: EvidenceView): VerifyLevel {
  return delivery.furtherVersion ? 'compared' : view.verify;
}

/**
 * Decides what a send's outcome means for one delivery. Nothing is put aside for what may be the destination's own
 * trouble: a refusal that may pass counts only once the destination has stored something else in between. Push-back
 * and outages never cost the delivery anything.
 */
export function afterSend(
  delivery: DeliveryView & { readonly trouble: TroubleView },
  outcome: OutcomeView,
  view: EvidenceView,
  request: RequestView,
  policy: RetryPolicy = defaultRetryPolicy,
): Decision {
  const { attempts, trouble } = delivery;
  const later = (counted: number, reason: string) =>
    settle(
      'pending',
      'accepted',
      attempts + counted,
      reason,
      grown(policy.retryMs, trouble.failures, policy.maxRetryMs),
    );
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
      if (!outcome.mayRetry || trouble.whileOthersStored >= policy.maxRefusals) {
        return settle('quarantined', 'accepted', attempts + 1, outcome.reason);
      }
      return later(1, outcome.reason);
    case 'unreadable':
      if (outcome.isLost || attempts + 1 >= policy.maxUnreadable) {
        return settle('quarantined', 'accepted', attempts, outcome.reason);
      }
      return settle(
        'pending',
        'accepted',
        attempts + 1,
        outcome.reason,
        grown(policy.retryMs, attempts + 1, policy.maxRetryMs),
      );
    case 'unreachable':
      return { do: 'requeue', lookUpFirst: false, company: 'any' };
    case 'push-back':
      // Asked of this instance only, it must not hold up the others.
      if (request.othersStored || trouble.whileOthersStored > 0) return later(0, outcome.reason);
      return { do: 'requeue', lookUpFirst: false, company: 'fewer' };
    case 'ambiguous':
    case 'unanswered':
      if (!request.alone) return { do: 'requeue', lookUpFirst: true, company: 'alone' };
      if (trouble.whileOthersStored >= policy.maxUnanswered) {
        return settle('quarantined', 'accepted', attempts + 1, `never answered: ${outcome.reason}`);
      }
      if (outcome.kind === 'unanswered' || trouble.whileOthersStored > 0) return later(1, outcome.reason);
      return { do: 'requeue', lookUpFirst: true, company: 'alone' };
  }
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
  const again = (reason: string) =>
    settle('sent', delivery.evidence, attempts, reason, grown(policy.lookUpMs, attempts, policy.maxLookUpMs));
  switch (result) {
    case 'equal':
      return settle('verified', 'compared', delivery.attempts, null);
    case 'found':
      // A query proves a UID, not a version.
      if (delivery.furtherVersion) {
        return settle('quarantined', delivery.evidence, attempts, 'destination may hold another version');
      }
      return settle('verified', 'found', delivery.attempts, null);
    case 'different':
      if (attempts < policy.maxDifferent) return again('destination still shows another version');
      return settle('quarantined', delivery.evidence, attempts, 'destination holds another version under this UID');
    case 'absent':
      if (attempts >= policy.maxLookUps) {
        const reason = 'destination said success, but shows nothing under this UID';
        return settle('quarantined', delivery.evidence, attempts, reason);
      }
      if (attempts === policy.resendAtLookUp) {
        return settle('pending', 'accepted', attempts, 'answered, but not found: sent again', policy.lookUpMs);
      }
      return again('answered, but not found yet');
    case 'unknown':
      if (attempts >= policy.maxLookUps) {
        const reason = 'destination cannot be asked whether it holds this instance';
        return settle('quarantined', delivery.evidence, attempts, reason);
      }
      return again('destination could not be asked yet');
  }
}

/** Doubles with every time, up to a bound. */
function grown(firstMs: number, times: number, maxMs: number): number {
  return Math.min(maxMs, firstMs * 2 ** Math.min(Math.max(0, times - 1), 30));
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
