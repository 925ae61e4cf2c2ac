import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseRetryAfter, type StowAnswer, stowOutcomes } from '../src/transports/dicomweb/stow-outcomes.ts';
import type { SendOutcome } from '../src/transports/transport.ts';

const NOW = Date.UTC(2026, 0, 5, 12, 0, 0);

interface Lists {
  readonly stored?: readonly (readonly [uid: string, warning?: number | string])[];
  readonly failed?: readonly (readonly [uid: string, reason?: number | string])[];
  readonly other?: readonly (number | undefined)[];
}

/** A Store Instances Response Module (PS3.18 annex I) as DICOM JSON. */
function payload({ stored = [], failed = [], other = [] }: Lists): unknown {
  const item = (uid: string, tag: string, reason: number | string | undefined) => ({
    '00081155': { vr: 'UI', Value: [uid] },
    ...(reason === undefined ? {} : { [tag]: { vr: 'US', Value: [reason] } }),
  });
  return {
    '00081190': { vr: 'UR' },
    '00081198': { vr: 'SQ', Value: failed.map(([uid, reason]) => item(uid, '00081197', reason)) },
    '00081199': { vr: 'SQ', Value: stored.map(([uid, reason]) => item(uid, '00081196', reason)) },
    '0008119A': { vr: 'SQ', Value: other.map((reason) => ({ '00081197': { vr: 'US', Value: [reason] } })) },
  };
}

function outcomesOf(status: number, lists: Lists | undefined, uids: readonly string[], retryAfter?: string) {
  const answer: StowAnswer = { status, retryAfter, payload: lists === undefined ? undefined : payload(lists) };
  return stowOutcomes(answer, uids, NOW);
}

/** Kind, and for a refusal whether it may be retried. */
function short(outcome: SendOutcome): string {
  return outcome.kind === 'refused' ? `refused ${outcome.mayRetry ? 'retry' : 'for good'}` : outcome.kind;
}

// Each row: where PS3.18 (section 10.5.3, annex I) or the servers' own documents say so, the status, the payload, the instances sent, what is expected of each.
type Row = readonly [why: string, status: number, lists: Lists | undefined, expected: Readonly<Record<string, string>>];

const REASONS: readonly Row[] = [
  ['4.3: A7xx retry with backoff', 409, { failed: [['a', 0xa700]] }, { a: 'push-back' }],
  ['4.3: A7xx, end of its range', 409, { failed: [['a', 43007]] }, { a: 'push-back' }],
  ['4.3: the value before A7xx is not known', 409, { failed: [['a', 42751]] }, { a: 'refused retry' }],
  ['4.3: the value after A7xx is not known', 409, { failed: [['a', 43008]] }, { a: 'refused retry' }],
  ['4.3: 0213 resource limitation', 409, { failed: [['a', 0x0213]] }, { a: 'push-back' }],
  ['0.1: 0111 is taken as duplicate', 409, { failed: [['a', 273]] }, { a: 'duplicate' }],
  ['0.1: 45070, Azure', 409, { failed: [['a', 45070]] }, { a: 'duplicate' }],
  ['0.1: 45071, being created by another', 409, { failed: [['a', 45071]] }, { a: 'unanswered' }],
  ['4.3: A9xx permanent', 409, { failed: [['a', 0xa900]] }, { a: 'refused for good' }],
  ['4.3: A9xx, end of its range', 409, { failed: [['a', 43519]] }, { a: 'refused for good' }],
  ['4.3: Cxxx one delayed retry', 409, { failed: [['a', 0xc000]] }, { a: 'refused retry' }],
  ['4.3: Cxxx, end of its range', 409, { failed: [['a', 53247]] }, { a: 'refused retry' }],
  ['0.2: C122 transfer syntax', 409, { failed: [['a', 49442]] }, { a: 'refused for good' }],
  ['0.2: 0122 SOP class', 409, { failed: [['a', 290]] }, { a: 'refused for good' }],
  ['0.7: 0112 SOP class', 409, { failed: [['a', 0x0112]] }, { a: 'refused for good' }],
  ['0.7: 0124 not authorized', 409, { failed: [['a', 0x0124]] }, { a: 'refused for good' }],
  ['0.7: 0214 not authorized', 409, { failed: [['a', 0x0214]] }, { a: 'refused for good' }],
  ['4.3: 0117 invalid instance', 409, { failed: [['a', 0x0117]] }, { a: 'refused for good' }],
  ['4.3: 0210', 409, { failed: [['a', 0x0210]] }, { a: 'refused for good' }],
  ['4.3: 0211', 409, { failed: [['a', 0x0211]] }, { a: 'refused for good' }],
  ['4.3: 0212', 409, { failed: [['a', 0x0212]] }, { a: 'refused for good' }],
  ['4.3: 0110 processing failure', 409, { failed: [['a', 272]] }, { a: 'refused retry' }],
  ['4.3: 0000 among the failures is no success', 200, { failed: [['a', 0]] }, { a: 'refused retry' }],
  ['4.3: a warning code among the failures is no success', 202, { failed: [['a', 0xb000]] }, { a: 'refused retry' }],
  ['4.3: unknown', 409, { failed: [['a', 12345]] }, { a: 'refused retry' }],
  ['4.3: a failure without reason', 409, { failed: [['a']] }, { a: 'refused retry' }],
  ['a reason as text', 409, { failed: [['a', '42752']] }, { a: 'push-back' }],
];

const MEMBERSHIP: readonly Row[] = [
  ['4.3: all stored', 200, { stored: [['a'], ['b']] }, { a: 'stored', b: 'stored' }],
  [
    '0.4: all stored with warnings is 202',
    202,
    {
      stored: [
        ['a', 45056],
        ['b', 45062],
      ],
    },
    { a: 'stored', b: 'stored' },
  ],
  ['0.4: some', 202, { stored: [['a']], failed: [['b', 0xa900]] }, { a: 'stored', b: 'refused for good' }],
  [
    '0.4: 409 hides what can be retried',
    409,
    {
      failed: [
        ['a', 0xa700],
        ['b', 0xc122],
      ],
    },
    { a: 'push-back', b: 'refused for good' },
  ],
  ['4.3: in neither list', 200, { stored: [['a']] }, { a: 'stored', b: 'unanswered' }],
  ['4.3: in neither list, 409', 409, { failed: [['a', 272]] }, { a: 'refused retry', b: 'unanswered' }],
  ['in both lists it has failed', 202, { stored: [['a']], failed: [['a', 0xa900]] }, { a: 'refused for good' }],
  ['named twice', 200, { stored: [['a'], ['a']] }, { a: 'stored' }],
  ['UIDs that were not sent', 200, { stored: [['x']], failed: [['y', 272]] }, { a: 'unanswered' }],
  ['a failure that names nobody', 202, { stored: [['a']], other: [0xc000] }, { a: 'stored', b: 'unanswered' }],
  ['… and there is but one whom it can mean', 409, { other: [0xa900] }, { a: 'refused for good' }],
  ['… and there is but one, for lack of room', 400, { other: [0xa701] }, { a: 'push-back' }],
  ['… but the status says that it was stored', 200, { other: [0xa900] }, { a: 'unanswered' }],
  ['stored, says the payload of a 409', 409, { stored: [['a']] }, { a: 'stored' }],
  [
    'a 500 contradicts what it lists',
    500,
    { stored: [['a']], failed: [['b', 0xa700]] },
    { a: 'unanswered', b: 'push-back' },
  ],
  ['503 names one, pushes the other back', 503, { failed: [['a', 0xa900]] }, { a: 'refused for good', b: 'push-back' }],
];

const STATUSES: readonly Row[] = [
  ['0.4: 200 alone proves nothing', 200, undefined, { a: 'unanswered' }],
  ['0.4: 202 alone proves nothing', 202, undefined, { a: 'unanswered', b: 'unanswered' }],
  ['0.4: an empty payload proves nothing', 200, {}, { a: 'unanswered' }],
  ['204', 204, undefined, { a: 'unanswered' }],
  ['4.3: 400, one', 400, undefined, { a: 'refused retry' }],
  ['4.3: 400, several', 400, undefined, { a: 'unanswered', b: 'unanswered' }],
  ['4.3: 409, one', 409, undefined, { a: 'refused retry' }],
  ['4.3: 409, several', 409, undefined, { a: 'unanswered', b: 'unanswered' }],
  ['4.3: 413, one', 413, undefined, { a: 'refused for good' }],
  ['4.3: 413, several: split', 413, undefined, { a: 'unanswered', b: 'unanswered' }],
  ['4.3: 415, one', 415, undefined, { a: 'refused for good' }],
  ['4.3: 415, several', 415, undefined, { a: 'unanswered', b: 'unanswered' }],
  ['4.3: 501, one', 501, undefined, { a: 'refused for good' }],
  ['4.3: 501, several', 501, undefined, { a: 'unanswered', b: 'unanswered' }],
  ['422, one', 422, undefined, { a: 'refused retry' }],
  ['4.3: 500', 500, undefined, { a: 'unanswered' }],
  ['500, several', 500, undefined, { a: 'unanswered', b: 'unanswered' }],
  ['505', 505, undefined, { a: 'unanswered' }],
  ['4.3: 503', 503, undefined, { a: 'push-back', b: 'push-back' }],
  ['4.3: 429', 429, undefined, { a: 'push-back' }],
  ['4.3: 507', 507, undefined, { a: 'push-back' }],
  ['4.3: 408', 408, undefined, { a: 'ambiguous' }],
  ['4.3: 424, Azure', 424, undefined, { a: 'ambiguous' }],
  ['4.3: 425', 425, undefined, { a: 'ambiguous' }],
  ['4.3: 502', 502, undefined, { a: 'ambiguous', b: 'ambiguous' }],
  ['4.3: 504', 504, undefined, { a: 'ambiguous' }],
  ['4.3: 401', 401, undefined, { a: 'unreachable' }],
  ['4.3: 403', 403, undefined, { a: 'unreachable', b: 'unreachable' }],
  ['404', 404, undefined, { a: 'unreachable' }],
  ['405', 405, undefined, { a: 'unreachable' }],
  ['302', 302, undefined, { a: 'unreachable' }],
];

describe('outcomes of a Store request', () => {
  test.each([...REASONS, ...MEMBERSHIP, ...STATUSES])('%s (HTTP %i)', (_why, status, lists, expected) => {
    const uids = Object.keys(expected);
    expect(outcomesOf(status, lists, uids).map(short)).toEqual(Object.values(expected));
  });

  test('reasons are readable, and say what to check', () => {
    const uids = ['a', 'b', 'c', 'd', 'e'];
    const failed = [
      ['a', 272],
      ['b', 0xa712],
      ['c', 0xc122],
      ['d', 0xc0ff],
      ['e', 4711],
    ] as const;
    expect(outcomesOf(409, { failed }, uids)).toMatchObject([
      { reason: '0110 processing failure' },
      { reason: 'A712 out of resources' },
      { reason: 'C122 transfer syntax not supported' },
      { reason: 'C0FF cannot understand' },
      { reason: '1267' },
    ]);
    expect(outcomesOf(202, { stored: [['a', 45056]] }, ['a'])).toEqual([
      { kind: 'stored', warning: 'B000 coercion of data elements' },
    ]);
    expect(outcomesOf(413, undefined, ['a'])).toMatchObject([{ reason: expect.stringContaining('larger than') }]);
    expect(outcomesOf(401, undefined, ['a'])).toMatchObject([{ reason: expect.stringContaining('credentials') }]);
    expect(outcomesOf(404, undefined, ['a'])).toMatchObject([{ reason: expect.stringContaining('`url`') }]);
    expect(outcomesOf(202, { stored: [['a']], other: [0xc000, 0xc000] }, ['a', 'b'])[1]).toMatchObject({
      reason: expect.stringMatching(/HTTP 202 .*C000 cannot understand$/),
    });
  });

  test('the payload may come in an array', () => {
    const answer = { status: 200, payload: [payload({ stored: [['a']] })] };
    expect(stowOutcomes(answer, ['a'], NOW)).toEqual([{ kind: 'stored' }]);
  });

  test('a push-back carries how long to wait, also for a single instance of many', () => {
    expect(outcomesOf(503, undefined, ['a'], '120')).toEqual([
      { kind: 'push-back', reason: 'HTTP 503', retryAfterMs: 120_000 },
    ]);
    expect(outcomesOf(202, { stored: [['a']], failed: [['b', 0xa700]] }, ['a', 'b'], '7')).toEqual([
      { kind: 'stored' },
      { kind: 'push-back', reason: 'A700 out of resources', retryAfterMs: 7000 },
    ]);
    expect(outcomesOf(503, undefined, ['a'])).toEqual([{ kind: 'push-back', reason: 'HTTP 503' }]);
  });

  test('whatever a peer sends, there is one outcome for each instance, and `stored` only for those that it lists', () => {
    const code = fc.oneof(fc.nat(65535), fc.constant(undefined), fc.string(), fc.object());
    const uid = fc.constantFrom('a', 'b', 'c', 'x', 7, null);
    const list = fc.array(
      fc.record({ '00081155': fc.record({ Value: fc.array(uid) }), '00081197': fc.record({ Value: fc.array(code) }) }),
    );
    const sequence = fc.oneof(fc.record({ Value: list }), fc.anything());
    const body = fc.oneof(
      fc.anything(),
      fc.record({ '00081198': sequence, '00081199': sequence, '0008119A': sequence }, { requiredKeys: [] }),
    );
    fc.assert(
      fc.property(fc.integer({ min: 200, max: 599 }), body, (status, anyPayload) => {
        const outcomes = stowOutcomes({ status, payload: anyPayload }, ['a', 'b', 'c'], NOW);
        expect(outcomes).toHaveLength(3);
        for (const [index, outcome] of outcomes.entries()) {
          if (outcome.kind === 'stored') expect(JSON.stringify(anyPayload)).toContain(`"${['a', 'b', 'c'][index]}"`);
        }
      }),
    );
  });
});

test.each([
  ['0', 0],
  ['120', 120_000],
  [' 5 ', 5000],
  ['Mon, 05 Jan 2026 12:00:30 GMT', 30_000],
  ['Monday, 05-Jan-26 12:01:00 GMT', 60_000],
  ['Mon, 05 Jan 2026 11:00:00 GMT', 0],
  ['soon', undefined],
  ['-5', undefined],
  ['1.5', undefined],
  ['2026-01-05', undefined],
  ['', undefined],
  [undefined, undefined],
])('Retry-After %j is %j ms', (value, expected) => {
  expect(parseRetryAfter(value, NOW)).toBe(expected);
});
