import { type DeliveryState, EVIDENCE, type Evidence, type VerifyLevel } from '../domain/delivery.ts';
import type { RetryBudgetPolicy } from './budget.ts';

/** The knobs of retry. Pauses have full jitter above the first one, so that what failed together does not come together. */
export interface RetryPolicy extends RetryBudgetPolicy {
  /**
   * First pause before an instance that failed by itself is tried again, in ms; it doubles each time.
   * @default 30,000: a lock or a full queue at the PACS has passed by then
   */
  readonly retryMs: number;
  /** Greatest pause, in ms. @default 600,000: what waits longest must not wait for hours after the cause is gone */
  readonly maxRetryMs: number;
  /**
   * Refusals that may pass, against the evidence that the destination stores others, before it is put aside.
   * @default 1: some SCPs answer 0110 or Cxxx for errors of their own
   */
  readonly maxRefusals: number;
  /**
   * Lost connections and empty answers, against the same evidence, before it is put aside.
   * @default 3: a network loses connections by itself
   */
  readonly maxUnanswered: number;
  /** Times that its bytes cannot be read here, though they are there, before it is put aside. @default 30: some hours */
  readonly maxUnreadable: number;
  /**
   * Pause before what may have arrived over a connection that was lost is looked up, in ms; with jitter up to half as long again.
   * @default 2,000: a PACS answers a query sooner than it has stored what came just before, and would be sent it twice
   */
  readonly lookUpAfterLossMs: number;
  /** First pause before a look-up without evidence is repeated, in ms. @default 15,000: indexes lag behind storage */
  readonly lookUpMs: number;
  /** Greatest such pause, in ms. @default 3,600,000 */
  readonly maxLookUpMs: number;
  /**
   * How long a report of storage commitment may take before it is asked for anew, in ms; one that comes later counts too.
   * @default 3,600,000: many archives report once they have written to the second medium
   */
  readonly reportMs: number;
  /**
   * The look-up after which, still not found, the instance is sent once more, and only once.
   * @default 6: some ten minutes after the first
   */
  readonly resendAtLookUp: number;
  /** Evidence that stays out for so long after the answer puts a delivery aside, in ms. @default 86,400,000: a day */
  readonly evidenceTimeoutMs: number;
  /**
   * But not before so many questions: the destination may have been down for all that time.
   * @default 5
   */
  readonly minLookUps: number;
  /**
   * Questions put to the destination per second at the most; one by query is about up to 256 instances of a study.
   * @default 20: what proves must not slow down what is sent
   */
  readonly maxLookUpsPerSecond: number;
  /** Retrievals of another version before it is believed. @default 4: the new one may still be on its way in */
  readonly maxDifferent: number;
}

export const defaultRetryPolicy: RetryPolicy = {
  retryMs: 30_000,
  maxRetryMs: 600_000,
  maxRefusals: 1,
  maxUnanswered: 3,
  maxUnreadable: 30,
  lookUpAfterLossMs: 2_000,
  lookUpMs: 15_000,
  maxLookUpMs: 3_600_000,
  reportMs: 3_600_000,
  resendAtLookUp: 6,
  evidenceTimeoutMs: 86_400_000,
  minLookUps: 5,
  maxLookUpsPerSecond: 20,
  maxDifferent: 4,
  retriesPerSend: 0.1,
  retriesPerMinute: 30,
  maxSavedRetries: 20,
};

/** What the decision needs to know of a delivery. */
export interface DeliveryView {
  /** Refusals, empty answers and look-ups so far. */
  readonly attempts: number;
  readonly furtherVersion: boolean;
  /** When the destination first said success, ms since the epoch; null where it has not. */
  readonly answeredAt: number | null;
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
  /** It can be asked for storage commitment. */
  readonly canCommit: boolean;
}

/**
 * What becomes of a delivery: `settle` it in the catalog, or `requeue` it at no cost to itself, after `delayMs`, with a
 * look-up before the next send where it may have arrived; in smaller company, or alone, where it may be what spoils the
 * request.
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
  | {
      readonly do: 'requeue';
      readonly lookUpFirst: boolean;
      readonly company: 'any' | 'fewer' | 'alone';
      readonly delayMs: number;
      readonly reason: string;
    };

/** The kinds of outcome that a send has; what each means stands at `SendOutcome`. */
export type OutcomeView =
  | { readonly kind: 'stored' }
  | { readonly kind: 'duplicate' | 'unreachable' | 'ambiguous' | 'unanswered'; readonly reason: string }
  | { readonly kind: 'push-back'; readonly reason: string; readonly retryAfterMs?: number | undefined }
  | { readonly kind: 'refused'; readonly reason: string; readonly mayRetry: boolean }
  /** Its bytes could not be read here; `isLost`: nor will they be another time. */
  | { readonly kind: 'unreadable'; readonly reason: string; readonly isLost: boolean };

/** The evidence that settles a delivery: a query proves a UID, not a version, so further versions need `compared`. */
export function neededEvidence(
  delivery: Pick<DeliveryView, 'furtherVersion'>,
  view: Pick<EvidenceView, 'verify'>,
): VerifyLevel {
  return delivery.furtherVersion ? 'compared' : view.verify;
}

/**
 * Decides what a send's outcome means for one delivery. Nothing is put aside for what may be the destination's own
 * trouble: a refusal that may pass counts only once the destination has stored something else in between. Push-back
 * and outages never cost the delivery anything.
 *
 * @param random - In [0, 1), for jitter.
 */
export function afterSend(
  delivery: DeliveryView & { readonly trouble: TroubleView },
  outcome: OutcomeView,
  view: EvidenceView,
  request: RequestView,
  random: number,
  policy: RetryPolicy = defaultRetryPolicy,
): Decision {
  const { attempts, trouble } = delivery;
  const later = (counted: number, failures: number, reason: string) => {
    const delayMs = pauseOf(policy.retryMs, failures, policy.maxRetryMs, random);
    return settle('pending', 'accepted', attempts + counted, reason, delayMs);
  };
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
      if (canBeAsked(neededEvidence(delivery, view), view)) return settle('sent', 'accepted', attempts, outcome.reason);
      return settle('quarantined', 'accepted', attempts, `${outcome.reason}; destination may hold another version`);
    case 'refused':
      if (!outcome.mayRetry || trouble.whileOthersStored >= policy.maxRefusals) {
        return settle('quarantined', 'accepted', attempts + 1, outcome.reason);
      }
      return later(1, trouble.failures, outcome.reason);
    case 'unreadable':
      if (outcome.isLost || attempts + 1 >= policy.maxUnreadable) {
        return settle('quarantined', 'accepted', attempts, outcome.reason);
      }
      return later(1, attempts + 1, outcome.reason);
    case 'unreachable':
      return requeue('any', outcome.reason);
    case 'push-back':
      // Asked of this instance only, it must not hold up the others.
      if (request.othersStored || trouble.whileOthersStored > 0) return later(0, trouble.failures, outcome.reason);
      return requeue('fewer', outcome.reason);
    case 'ambiguous':
    case 'unanswered':
      if (!request.alone) return askedFirst('alone', outcome, view, random, policy);
      if (trouble.whileOthersStored >= policy.maxUnanswered) {
        return settle('quarantined', 'accepted', attempts + 1, `never answered: ${outcome.reason}`);
      }
      if (outcome.kind === 'unanswered' || trouble.whileOthersStored > 0) {
        return later(1, trouble.failures, outcome.reason);
      }
      return askedFirst('alone', outcome, view, random, policy);
  }
}

/**
 * Decides what becomes of the one delivery by which a destination was tried, and found not to store: that is not held
 * against it.
 *
 * @param random - In [0, 1), for jitter.
 */
export function afterVainTrial(
  outcome: OutcomeView,
  view: EvidenceView,
  random: number,
  policy: RetryPolicy = defaultRetryPolicy,
): Decision {
  const reason = 'reason' in outcome ? outcome.reason : '';
  return outcome.kind === 'refused' ? requeue('any', reason) : askedFirst('any', outcome, view, random, policy);
}

type Company = Extract<Decision, { do: 'requeue' }>['company'];

function requeue(company: Company, reason: string): Decision {
  return { do: 'requeue', lookUpFirst: false, company, delayMs: 0, reason };
}

/** What went out whole before its connection was lost may still be on its way into the destination's index. */
function askedFirst(
  company: Company,
  outcome: OutcomeView,
  view: EvidenceView,
  random: number,
  policy: RetryPolicy,
): Decision {
  const isLost = outcome.kind === 'ambiguous' && (view.canLookUp || view.canReadBack);
  const delayMs = isLost ? Math.round(policy.lookUpAfterLossMs * (1 + random / 2)) : 0;
  return { do: 'requeue', lookUpFirst: true, company, delayMs, reason: 'reason' in outcome ? outcome.reason : '' };
}

function canBeAsked(needed: VerifyLevel, view: EvidenceView): boolean {
  if (needed === 'compared') return view.canReadBack;
  return needed === 'committed' ? view.canCommit : view.canLookUp;
}

/**
 * What a question about one delivery came to: `found` by a query, `committed` by a report of storage commitment, `equal`
 * or `different` by retrieving it, `absent`, `awaited` when the destination is still to report, or `unknown` when it could
 * not be asked.
 */
export type LookUpResult = 'found' | 'committed' | 'equal' | 'different' | 'absent' | 'awaited' | 'unknown';

/**
 * Decides what a question's answer means for a delivery that was answered and waits for evidence.
 *
 * @param random - In [0, 1), for jitter.
 */
export function afterLookUp(
  delivery: DeliveryView & { readonly evidence: Evidence },
  result: LookUpResult,
  view: EvidenceView,
  at: number,
  random: number,
  policy: RetryPolicy = defaultRetryPolicy,
): Decision {
  const attempts = delivery.attempts + 1;
  const again = (counted: number, evidence: Evidence, reason: string) =>
    settle('sent', evidence, counted, reason, lookUpPauseOf(counted, random, policy));
  // The one resend comes at a certain count, so only what was not found leads there.
  const uncounted = Math.max(delivery.attempts, Math.min(attempts, policy.resendAtLookUp - 1));
  const isLate = delivery.answeredAt !== null && at - delivery.answeredAt >= policy.evidenceTimeoutMs;
  const isOverdue = isLate && attempts >= Math.min(policy.minLookUps, policy.resendAtLookUp);
  switch (result) {
    case 'equal':
      return settle('verified', 'compared', delivery.attempts, null);
    case 'found':
    case 'committed': {
      // Both prove a UID, not a version.
      if (delivery.furtherVersion) {
        return settle('quarantined', delivery.evidence, attempts, 'destination may hold another version');
      }
      const evidence = stronger(delivery.evidence, result);
      const needed = neededEvidence(delivery, view);
      if (!isStronger(needed, evidence)) return settle('verified', evidence, delivery.attempts, null);
      if (isOverdue) {
        return settle('quarantined', evidence, attempts, `destination shows it, but it was never ${needed}`);
      }
      return again(uncounted, evidence, `${evidence}, not yet ${needed}`);
    }
    case 'different':
      if (attempts < policy.maxDifferent)
        return again(attempts, delivery.evidence, 'destination still shows another version');
      return settle('quarantined', delivery.evidence, attempts, 'destination holds another version under this UID');
    case 'absent':
      // First of all: a PACS that crashed may have lost what it had answered for.
      if (attempts === policy.resendAtLookUp) {
        const delayMs = pauseOf(policy.lookUpMs, 0, policy.maxLookUpMs, random);
        return settle('pending', 'accepted', attempts, 'answered, but not found: sent again', delayMs);
      }
      if (isOverdue && attempts > policy.resendAtLookUp) {
        const reason = 'destination said success, but shows nothing under this UID';
        return settle('quarantined', delivery.evidence, attempts, reason);
      }
      return again(attempts, delivery.evidence, 'answered, but not found yet');
    case 'awaited':
      if (isOverdue) {
        return settle('quarantined', delivery.evidence, uncounted, 'destination never reported a storage commitment');
      }
      return settle('sent', delivery.evidence, uncounted, 'storage commitment not reported yet', policy.reportMs);
    case 'unknown':
      if (isOverdue) {
        const reason = 'destination cannot be asked whether it holds this instance';
        return settle('quarantined', delivery.evidence, attempts, reason);
      }
      return again(uncounted, delivery.evidence, 'destination could not be asked yet');
  }
}

function isStronger(one: Evidence, other: Evidence): boolean {
  return EVIDENCE.indexOf(one) > EVIDENCE.indexOf(other);
}

function stronger(one: Evidence, other: Evidence): Evidence {
  return isStronger(one, other) ? one : other;
}

/**
 * Between the first pause and one that doubles with every time, up to a bound. Never less than the first: a delivery
 * that the next failure puts aside has been given that time at least.
 */
function pauseOf(firstMs: number, times: number, maxMs: number, random: number): number {
  const ceilingMs = Math.min(maxMs, firstMs * 2 ** Math.min(Math.max(0, times), 30));
  return Math.round(firstMs + Math.max(0, ceilingMs - firstMs) * random);
}

/** Jitter on its upper half alone: the look-ups before the one that sends again are the grace that an index is given. */
function lookUpPauseOf(attempts: number, random: number, { lookUpMs, maxLookUpMs }: RetryPolicy): number {
  const halfMs = Math.min(maxLookUpMs, lookUpMs * 2 ** Math.min(attempts, 30)) / 2;
  return Math.round(Math.max(lookUpMs, halfMs + halfMs * random));
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
