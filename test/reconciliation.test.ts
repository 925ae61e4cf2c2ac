import { describe, expect, test } from 'vitest';
import type { Delivery } from '../src/domain/delivery.ts';
import { csvLine } from '../src/replay/csv.ts';
import { deliveriesCsv } from '../src/replay/not-verified.ts';
import { formatReconciliation, type Reconciliation, reconciliationCsv } from '../src/replay/reconciliation.ts';
import { DAY, HOUR, NOON, type ReplayRig, replayRig, smallStudy } from './support/replay-rig.ts';

/** RFC 4180, as a reader has it. */
function parseCsv(text: string): readonly (readonly string[])[] {
  const rows: string[][] = [[]];
  const cells = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/gy;
  let end = 0;
  for (let match = cells.exec(text); match !== null; match = cells.exec(text)) {
    end = cells.lastIndex;
    rows.at(-1)?.push(match[1]?.replaceAll('""', '"') ?? match[2] ?? '');
    if (match[3] === '\r\n' && end < text.length) rows.push([]);
  }
  expect(end, 'all of it is CSV').toBe(text.length);
  return rows;
}

/** By the header. */
function records(text: string): readonly Readonly<Record<string, string | undefined>>[] {
  const [header = [], ...rows] = parseCsv(text);
  for (const row of rows) expect(row).toHaveLength(header.length);
  return rows.map((row) => Object.fromEntries(header.map((name, index) => [name, row[index]])));
}

const ODD = 'last "24" hours, or so\r\n= ünder';

/** An outage over three studies of two tiers, of which one instance is refused and one is given up. */
async function episode(): Promise<{ rig: ReplayRig; closed: Reconciliation }> {
  const rig = await replayRig(undefined, {
    tiers: {
      tiers: [
        { id: ODD, maxAgeMs: DAY },
        { id: 'old', maxAgeMs: Number.POSITIVE_INFINITY },
      ],
    },
  });
  rig.peer().reachable = false;
  await rig.accept(smallStudy(1, 4));
  await rig.until(() => rig.named('outage').length === 1, 'down');
  await rig.accept([...smallStudy(2, 3), ...smallStudy(3, 2, NOON - 30 * DAY)]);
  const given = smallStudy(4, 1);
  await rig.accept(given);
  let bad: string | undefined;
  rig.peer().respond = ({ sopInstanceUid }) => {
    bad ??= sopInstanceUid;
    return sopInstanceUid === bad ? { kind: 'refused', reason: 'A900, "bad"', mayRetry: false } : { kind: 'stored' };
  };
  const [delivery] = await Array.fromAsync(rig.spillway.notVerified(1)).then((all) => all.slice(-1));
  await rig.spillway.discard({
    state: 'open',
    arrivalIds: [delivery?.arrivalId ?? ''],
    reason: 'a test',
    by: 'A. Person',
  });
  rig.peer().reachable = true;
  await rig.until(() => rig.named('closed').length === 1, 'closed');
  const [closed] = rig.named('closed');
  if (closed === undefined) throw new Error('it was not closed');
  return { rig, closed };
}

describe('at the end of an episode', () => {
  test('the balance has sizes and times, whole and by tier', async () => {
    const { rig, closed } = await episode();
    expect(closed).toMatchObject({ studies: 4, received: 10, verified: 8, quarantined: 1, discarded: 1 });
    expect(closed).toMatchObject({ outstanding: 0, unaccounted: 0 });
    expect(closed.tiers.map(({ tier, studies, received }) => [tier, studies, received])).toEqual([
      [ODD, 3, 8],
      ['old', 1, 2],
    ]);
    expect(closed.bytes).toBe(closed.tiers.reduce((sum, { bytes }) => sum + bytes, 0));
    expect(closed.bytes).toBeGreaterThan(10 * 100);
    for (const { firstStudyMs, lastStudyMs, ...row } of closed.tiers) {
      expect(row.received).toBe(row.verified + row.quarantined + row.discarded);
      expect(firstStudyMs).toBeGreaterThanOrEqual(0);
      expect(lastStudyMs).toBeGreaterThanOrEqual(firstStudyMs ?? Number.POSITIVE_INFINITY);
      expect(lastStudyMs).toBeLessThan(HOUR);
    }
    expect(await rig.spillway.reconciliation(1)).toEqual(closed);
  });

  test('what is not verified is named, with its reason', async () => {
    const { rig } = await episode();
    const left = await Array.fromAsync(rig.spillway.notVerified(1));
    expect(left.map(({ state, reason }) => [state, reason])).toEqual([
      ['quarantined', 'A900, "bad"'],
      ['discarded', 'a test'],
    ]);
    const rows = records((await Array.fromAsync(deliveriesCsv(rig.spillway.notVerified(1)))).join(''));
    expect(rows).toMatchObject(
      left.map(({ identity, reason, state }) => ({ state, reason, sop_instance_uid: identity.sopInstanceUid })),
    );
    await expect(Array.fromAsync(rig.spillway.notVerified(7))).rejects.toMatchObject({ code: 'SPILLWAY_NOT_FOUND' });
  });

  test('while it goes on, what is outstanding is named too', async () => {
    const rig = await replayRig();
    rig.peer().reachable = false;
    await rig.accept(smallStudy(1, 3));
    await rig.until(() => rig.named('outage').length === 1, 'down');
    expect((await Array.fromAsync(rig.spillway.notVerified(1))).map(({ state }) => state)).toEqual(
      Array.from({ length: 3 }, () => 'pending'),
    );
    const reconciliation = await rig.spillway.reconciliation(1);
    expect(reconciliation).toMatchObject({ received: 3, outstanding: 3, unaccounted: 0 });
    expect(reconciliation.tiers).toMatchObject([{ firstStudyMs: null, lastStudyMs: null }]);
    expect(formatReconciliation(reconciliation)).toContain('not yet');
  });
});

const SOME: Reconciliation = {
  episode: {
    ...{
      id: 3,
      destinationId: 'pacs, "north"',
      cause: 'connection refused',
      planned: true,
      expectedEndAt: null,
      planEndedAt: null,
    },
    ...{ startedAt: NOON, detectedAt: NOON + 5_000, endedAt: NOON + HOUR, drainedAt: NOON + 2 * HOUR, closedAt: null },
    pendingAtStart: 4,
  },
  ...{ studies: 3, bytes: 3 * 1024 ** 2, received: 9, verified: 5, quarantined: 2, discarded: 1, outstanding: 1 },
  ...{ pending: 0, unaccounted: 0 },
  tiers: [
    {
      ...{ tier: ODD, studies: 2, bytes: 2 * 1024 ** 2, received: 6, verified: 5, quarantined: 1, discarded: 0 },
      ...{ outstanding: 0, pending: 0, firstStudyMs: 1_500, lastStudyMs: 90_000 },
    },
    {
      ...{ tier: '', studies: 1, bytes: 1024 ** 2, received: 3, verified: 0, quarantined: 1, discarded: 1 },
      ...{ outstanding: 1, pending: 0, firstStudyMs: null, lastStudyMs: null },
    },
  ],
};

describe('as CSV (RFC 4180)', () => {
  test('a line for each tier, however it is named, and one of the whole', () => {
    const rows = records(reconciliationCsv(SOME));
    expect(rows.map(({ scope, tier, received, unaccounted }) => [scope, tier, received, unaccounted])).toEqual([
      ['tier', ODD, '6', ''],
      ['tier', '', '3', ''],
      ['all', '', '9', '0'],
    ]);
    expect(rows[0]).toMatchObject({
      ...{ destination: 'pacs, "north"', episode: '3', studies: '2', bytes: '2097152', verified: '5' },
      ...{ first_study_s: '1.5', last_study_s: '90', ended_at: '2026-03-02T13:00:00.000Z', closed_at: '' },
    });
    expect(rows[1]).toMatchObject({ first_study_s: '', last_study_s: '' });
  });

  test('cells are quoted where they must be', () => {
    expect(csvLine(['a', 'b,c', 'd"e', 'f\ng', null, 0, ' h'])).toBe('a,"b,c","d""e","f\ng",,0," h"\r\n');
  });

  test('deliveries have a header also when there are none', async () => {
    const none = async function* (): AsyncGenerator<Delivery> {};
    const text = (await Array.fromAsync(deliveriesCsv(none()))).join('');
    expect(parseCsv(text)[0]).toContain('sop_instance_uid');
    expect(records(text)).toEqual([]);
  });
});

test('as text, it says what each tier came to, and when', () => {
  const text = formatReconciliation({
    ...SOME,
    tiers: SOME.tiers.map((row, index) => ({ ...row, tier: `t${index}` })),
  });
  expect(text).toContain('episode 3, planned');
  expect(text).toMatch(/^t0 +2 +2\.0 MiB +6 +5 +1 +0 +0 +\+1\.5 s +\+1 min 30 s$/m);
  expect(text).toMatch(/^t1 +1 +1\.0 MiB +3 +0 +1 +1 +1 +not yet +not yet$/m);
  expect(text).toMatch(/^all +3 +3\.0 MiB +9 +5 +2 +1 +1$/m);
  expect(text).toContain('received 9 = verified 5 + quarantined 2 + discarded 1 + outstanding 1');
  expect(text).not.toMatch(/ $/m);
  expect(formatReconciliation({ ...SOME, unaccounted: 1 })).toContain('IT DOES NOT BALANCE');
});
