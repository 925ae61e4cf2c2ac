import { type DicomJson, TAGS } from '../dicom/dicom-json.ts';
import type { InstanceIdentity } from '../domain/identity.ts';
import { SpillwayError, type SpillwayErrorCode } from '../errors.ts';

/** Failure Reasons (0008,1197) that are answered, of PS3.18 Table I.2-2. */
export const FAILURE = {
  processing: 0x0110,
  outOfResources: 0xa700,
  doesNotMatch: 0xa900,
  cannotUnderstand: 0xc000,
} as const;

/** What became of one part; a failure without identity is one of bytes that name no instance. */
export type PartResult =
  | { readonly kind: 'stored'; readonly identity: InstanceIdentity }
  | {
      readonly kind: 'failed';
      readonly identity: InstanceIdentity | undefined;
      readonly reason: number;
      readonly code?: SpillwayErrorCode;
    };

/** Seconds after which a sender that was told to wait may come again. */
const RETRY_AFTER_SECONDS = 60;

const REASONS: Readonly<Record<SpillwayErrorCode, number>> = {
  SPILLWAY_NOT_DICOM: FAILURE.cannotUnderstand,
  SPILLWAY_IDENTITY_MISSING: FAILURE.cannotUnderstand,
  SPILLWAY_UID_UNSAFE: FAILURE.cannotUnderstand,
  SPILLWAY_TOO_LARGE: FAILURE.cannotUnderstand,
  // Out of resources is what senders wait and try again after, without giving the instance up.
  SPILLWAY_STORE_FULL: FAILURE.outOfResources,
  SPILLWAY_STORE_FAILED: FAILURE.outOfResources,
  SPILLWAY_STORE_DAMAGED: FAILURE.outOfResources,
  SPILLWAY_STORE_LOCKED: FAILURE.outOfResources,
  SPILLWAY_CLOSED: FAILURE.outOfResources,
  SPILLWAY_ABORTED: FAILURE.outOfResources,
  SPILLWAY_BUSY: FAILURE.outOfResources,
  SPILLWAY_INCOMPLETE: FAILURE.processing,
  SPILLWAY_OPTION_INVALID: FAILURE.processing,
  SPILLWAY_ROUTE_INVALID: FAILURE.processing,
  SPILLWAY_STORE_FORMAT: FAILURE.processing,
  SPILLWAY_DIRECTORY_FAILED: FAILURE.processing,
  SPILLWAY_BACKLOG_ORPHANED: FAILURE.processing,
  SPILLWAY_NOT_FOUND: FAILURE.processing,
};

export function failureOf(error: unknown, identity: InstanceIdentity | undefined): PartResult {
  if (!(error instanceof SpillwayError)) return { kind: 'failed', identity, reason: FAILURE.processing };
  return { kind: 'failed', identity, reason: REASONS[error.code] ?? FAILURE.processing, code: error.code };
}

/**
 * The answer to a Store request (PS3.18 section 10.5.3 and annex I): 200 all stored, 202 some, 409 none; 507 and 503
 * when none was for lack of room or because the store cannot take any now; `broken` when none was and the body was not whole.
 */
export function storeResponse(results: readonly PartResult[], broken?: 400 | 408): Response {
  const stored = results.filter((result) => result.kind === 'stored');
  const failed = results.filter((result) => result.kind === 'failed');
  const named = failed.flatMap(({ identity, reason }) => (identity === undefined ? [] : [{ identity, reason }]));
  const unnamed = failed.filter((failure) => failure.identity === undefined);
  const payload: DicomJson = {
    [TAGS.retrieveUrl]: { vr: 'UR' },
    ...sequence(
      TAGS.failedSopSequence,
      named.map(({ identity, reason }) => ({ ...reference(identity), ...failureReason(reason) })),
    ),
    ...sequence(
      TAGS.referencedSopSequence,
      stored.map(({ identity }) => ({ ...reference(identity), [TAGS.retrieveUrl]: { vr: 'UR' } })),
    ),
    ...sequence(
      TAGS.otherFailuresSequence,
      unnamed.map(({ reason }) => failureReason(reason)),
    ),
  };
  const headers = new Headers({ 'content-type': 'application/dicom+json' });
  if (failed.some(({ reason }) => reason === FAILURE.outOfResources)) {
    headers.set('retry-after', String(RETRY_AFTER_SECONDS));
  }
  return new Response(JSON.stringify(payload), { status: statusOf(stored.length, failed, broken), headers });
}

function statusOf(
  stored: number,
  failed: readonly (PartResult & { kind: 'failed' })[],
  broken: 400 | 408 | undefined,
): number {
  if (stored > 0) return failed.length === 0 ? 200 : 202;
  if (broken !== undefined) return broken;
  if (!failed.every(({ reason }) => reason === FAILURE.outOfResources)) return 409;
  return failed.some(({ code }) => code === 'SPILLWAY_STORE_FULL') ? 507 : 503;
}

function sequence(tag: string, items: readonly DicomJson[]): DicomJson {
  return items.length === 0 ? {} : { [tag]: { vr: 'SQ', Value: items } };
}

function reference(identity: InstanceIdentity): DicomJson {
  return {
    [TAGS.referencedSopClassUid]: { vr: 'UI', Value: [identity.sopClassUid] },
    [TAGS.referencedSopInstanceUid]: { vr: 'UI', Value: [identity.sopInstanceUid] },
  };
}

function failureReason(reason: number): DicomJson {
  return { [TAGS.failureReason]: { vr: 'US', Value: [reason] } };
}
