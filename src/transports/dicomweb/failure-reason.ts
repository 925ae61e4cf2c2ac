import type { SendOutcome } from '../transport.ts';

// PS3.18 Table I.2-2, PS3.7 annex C, PS3.4 Table B.2-1; B00E and B00F are Azure's own.
const MEANINGS: ReadonlyMap<number, string> = new Map([
  [0x0110, 'processing failure'],
  [0x0111, 'duplicate SOP instance'],
  [0x0112, 'SOP class not supported'],
  [0x0117, 'invalid SOP instance'],
  [0x0122, 'SOP class not supported'],
  [0x0124, 'not authorized'],
  [0x0210, 'duplicate invocation'],
  [0x0211, 'unrecognized operation'],
  [0x0212, 'mistyped argument'],
  [0x0213, 'resource limitation'],
  [0x0214, 'not authorized'],
  [0xb000, 'coercion of data elements'],
  [0xb006, 'elements discarded'],
  [0xb007, 'data set does not match SOP class'],
  [0xb00e, 'instance already stored'],
  [0xb00f, 'instance is being stored by another request'],
  [0xc122, 'transfer syntax not supported'],
]);

const RANGES: ReadonlyMap<number, string> = new Map([
  [0xa7, 'out of resources'],
  [0xa9, 'data set does not match SOP class'],
]);

const DUPLICATE = new Set([0x0111, 0xb00e]);
/** Another request is storing it now, or a clean-up after one failed: whether it will be there, only a query tells. */
const UNDECIDED = 0xb00f;
const RESOURCE_LIMITATION = 0x0213;
const PERMANENT = new Set([0x0112, 0x0117, 0x0122, 0x0124, 0x0210, 0x0211, 0x0212, 0x0214, 0xc122]);

/** A Failure Reason or Warning Reason for a person to read: `0110 processing failure`. */
export function describeReason(code: number | undefined): string {
  if (code === undefined) return 'no reason given';
  const hex = code.toString(16).toUpperCase().padStart(4, '0');
  const meaning =
    MEANINGS.get(code) ?? RANGES.get(code >>> 8) ?? (code >>> 12 === 0xc ? 'cannot understand' : undefined);
  return meaning === undefined ? hex : `${hex} ${meaning}`;
}

/**
 * What a Failure Reason (0008,1197) means for the instance that it was given for (PS3.18 Table I.2-2). That the
 * instance stands among the failures decides, not the numeric class of the reason. A reason that is not known is worth
 * one more try and never a success.
 */
export function outcomeOfFailure(code: number | undefined, retryAfterMs: number | undefined): SendOutcome {
  const reason = describeReason(code);
  if (code === undefined) return { kind: 'refused', reason, mayRetry: true };
  if (code >>> 8 === 0xa7 || code === RESOURCE_LIMITATION) return pushBack(reason, retryAfterMs);
  if (DUPLICATE.has(code)) return { kind: 'duplicate', reason };
  if (code === UNDECIDED) return { kind: 'unanswered', reason };
  return { kind: 'refused', reason, mayRetry: code >>> 8 !== 0xa9 && !PERMANENT.has(code) };
}

export function pushBack(reason: string, retryAfterMs: number | undefined): SendOutcome {
  return { kind: 'push-back', reason, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
}
