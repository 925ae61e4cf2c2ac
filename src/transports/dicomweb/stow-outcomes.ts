import { type DicomJson, numberOf, sequenceOf, stringsOf, TAGS } from '../../dicom/dicom-json.ts';
import type { SendOutcome } from '../transport.ts';
import { describeReason, outcomeOfFailure, pushBack } from './failure-reason.ts';

/** What a Store request was answered (PS3.18 section 10.5.3). */
export interface StowAnswer {
  readonly status: number;
  /** The Retry-After header as it came. */
  readonly retryAfter?: string | undefined;
  /** The payload as parsed JSON; undefined when there was none that could be read. */
  readonly payload: unknown;
}

const PUSH_BACK = new Set([429, 503, 507]);
/** What a gateway says that lost the PACS in mid-request, or a server that gave up waiting. */
const LOST = new Set([408, 424, 425, 502, 504]);
const WHAT_TO_CHECK: ReadonlyMap<number, string> = new Map([
  [401, 'check the credentials given in `headers`'],
  [403, 'check that these credentials may store'],
  [404, 'check the DICOMweb root in `url`'],
  [405, 'check the DICOMweb root in `url`; nothing can be stored there'],
  [406, 'check the DICOMweb root in `url`; it cannot answer in application/dicom+json'],
  [407, 'check the proxy in between'],
  [410, 'check the DICOMweb root in `url`'],
]);
const PERMANENT_FOR_ONE: ReadonlyMap<number, string> = new Map([
  [413, 'larger than the destination takes'],
  [415, 'media type or transfer syntax not supported'],
  [501, 'SOP class not supported'],
]);

/**
 * One outcome for each instance sent, in order. The payload decides wherever it names an instance, since one status
 * stands for many instances (202: some were stored; 409: none was, for reasons that may differ; PS3.18 Table
 * 10.5.3-1); where several instances were sent and it does not, they are `unanswered`, never stored on hope.
 *
 * - An instance in both lists has failed. UIDs that were not sent are ignored.
 * - A 5xx that lists an instance as stored contradicts itself: `unanswered`.
 * - A failure that names no instance (Other Failures Sequence) is the reason of those that nothing else was said of;
 *   it is the answer itself when a single instance was sent and the status says that nothing was stored.
 */
export function stowOutcomes(
  answer: StowAnswer,
  sopInstanceUids: readonly string[],
  now: number,
): readonly SendOutcome[] {
  const retryAfterMs = parseRetryAfter(answer.retryAfter, now);
  // Some servers wrap the data set in an array, as a query would.
  const payload: unknown = Array.isArray(answer.payload) ? answer.payload[0] : answer.payload;
  const failed = byInstance(sequenceOf(payload, TAGS.failedSopSequence));
  const stored = byInstance(sequenceOf(payload, TAGS.referencedSopSequence));
  const others = sequenceOf(payload, TAGS.otherFailuresSequence).map((item) => numberOf(item, TAGS.failureReason));

  return sopInstanceUids.map((uid) => {
    const failure = failed.get(uid);
    if (failure !== undefined) return outcomeOfFailure(numberOf(failure, TAGS.failureReason), retryAfterMs);
    const success = stored.get(uid);
    if (success !== undefined) return outcomeOfReference(success, answer.status);
    const isSingle = sopInstanceUids.length === 1;
    if (isSingle && others.length > 0 && (answer.status === 400 || answer.status === 409)) {
      return outcomeOfFailure(others[0], retryAfterMs);
    }
    return outcomeOfStatus(answer.status, isSingle, retryAfterMs, others);
  });
}

function byInstance(items: readonly DicomJson[]): ReadonlyMap<string, DicomJson> {
  const instances = new Map<string, DicomJson>();
  for (const item of items) {
    const uid = stringsOf(item, TAGS.referencedSopInstanceUid)[0];
    if (uid !== undefined && !instances.has(uid)) instances.set(uid, item);
  }
  return instances;
}

function outcomeOfReference(item: DicomJson, status: number): SendOutcome {
  if (status >= 500) {
    return { kind: 'unanswered', reason: `HTTP ${status}, though its payload lists the instance as stored` };
  }
  const warning = numberOf(item, TAGS.warningReason);
  return warning === undefined ? { kind: 'stored' } : { kind: 'stored', warning: describeReason(warning) };
}

/** For an instance that the payload does not name. */
function outcomeOfStatus(
  status: number,
  isSingle: boolean,
  retryAfterMs: number | undefined,
  others: readonly (number | undefined)[],
): SendOutcome {
  const http = `HTTP ${status}`;
  if (PUSH_BACK.has(status)) return pushBack(http, retryAfterMs);
  if (LOST.has(status)) return { kind: 'ambiguous', reason: http };
  const check = WHAT_TO_CHECK.get(status);
  if (check !== undefined) return { kind: 'unreachable', reason: `${http}: ${check}` };
  if (status >= 300 && status < 400) {
    return { kind: 'unreachable', reason: `${http}: check the DICOMweb root in \`url\`; it is redirected` };
  }
  const unanswered = `${http} with nothing said of this instance${describeOthers(others)}`;
  if (!isSingle) return { kind: 'unanswered', reason: unanswered };
  const permanent = PERMANENT_FOR_ONE.get(status);
  if (permanent !== undefined) return { kind: 'refused', reason: `${http} ${permanent}`, mayRetry: false };
  if (status >= 400 && status < 500) return { kind: 'refused', reason: http, mayRetry: true };
  return { kind: 'unanswered', reason: unanswered };
}

function describeOthers(others: readonly (number | undefined)[]): string {
  if (others.length === 0) return '';
  return `; failures that name no instance: ${[...new Set(others.map(describeReason))].join(', ')}`;
}

/** Retry-After in milliseconds from `now`: seconds or an HTTP date (RFC 9110 section 10.2.3); undefined if neither. */
export function parseRetryAfter(value: string | undefined, now: number): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  // Date.parse takes much more than HTTP dates, and what names no zone as local time.
  if (!/^[A-Z][a-z]{2,8}, .* GMT$/.test(text)) return undefined;
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}
