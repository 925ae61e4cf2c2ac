import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { fileStore } from '../src/storage/file-store.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import { syntheticInstance } from '../src/testing/synthetic.ts';
import { CommittingTransport } from './support/committing-transport.ts';
import { DAY, HOUR, MINUTE, type ReplayRig, replayRig, smallStudy } from './support/replay-rig.ts';
import { ScriptedTransport } from './support/scripted-transport.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const STORES = [
  ['in memory', async () => memoryStore()],
  ['in files', async () => fileStore({ directory: join(await temporaryDirectory(), 'store') })],
] as const;

async function committing(store = memoryStore(), evidenceTimeoutMs = DAY) {
  const peer = new CommittingTransport();
  const destination = {
    id: 'pacs',
    transport: peer,
    verify: 'committed',
    maxConcurrency: 4,
    evidenceTimeoutMs,
  } as const;
  return { peer, rig: await replayRig([destination], { store }) };
}

const verified = (rig: ReplayRig) => rig.named('delivery').filter(({ state }) => state === 'verified');
const uidOf = (peer: CommittingTransport, index = 0) => peer.transactions[index]?.transactionUid ?? '';

async function logged(rig: ReplayRig, kind: string) {
  const entries = await Array.fromAsync(rig.spillway.log());
  return entries.filter((entry) => entry.kind === kind);
}

describe('storage commitment', () => {
  test.each(STORES)('what a report takes responsibility for is verified, by `committed` (%s)', async (_, store) => {
    const { rig, peer } = await committing(await store());
    await rig.accept(smallStudy(1, 5));
    await rig.until(() => peer.transactions.flatMap(({ instances }) => instances).length === 5, 'requested');
    expect(await rig.status()).toMatchObject({ verified: 0, backlog: { instances: 5 } });
    for (const { transactionUid } of peer.transactions) {
      expect(transactionUid).toMatch(/^2\.25\.(0|[1-9]\d*)$/);
      expect(transactionUid.length).toBeLessThanOrEqual(64);
      peer.report(transactionUid);
    }
    await rig.drained();
    expect(await rig.status()).toMatchObject({ verified: 5, quarantined: 0 });
    expect(verified(rig)).toHaveLength(5);
    expect(verified(rig).every(({ evidence }) => evidence === 'committed')).toBe(true);
    expect(rig.named('fault')).toEqual([]);
  });

  test.each(STORES)('a report may come to a later process (%s)', async (_, store) => {
    const { rig, peer } = await committing(await store());
    await rig.accept(smallStudy(1, 3));
    await rig.until(() => peer.transactions.flatMap(({ instances }) => instances).length === 3, 'requested');
    const requests = peer.transactions.length;
    const later = await rig.reopen();
    for (let index = 0; index < requests; index += 1) peer.report(uidOf(peer, index));
    await later.drained();
    expect(await later.status()).toMatchObject({ verified: 3 });
    expect(peer.requests.flat()).toHaveLength(3);
  });

  test('a report that comes before the request returns counts', async () => {
    const { rig, peer } = await committing();
    peer.reportsAtOnce = true;
    await rig.accept(smallStudy(1, 3));
    await rig.drained();
    expect(await rig.status()).toMatchObject({ verified: 3 });
  });

  test('no report within the hour: it is asked anew, in another transaction; the first report counts all the same', async () => {
    const { rig, peer } = await committing();
    await rig.accept(smallStudy(1, 1));
    await rig.until(() => peer.transactions.length === 1, 'requested');
    const at = rig.clock.now();
    await rig.until(() => peer.transactions.length === 2, 'requested anew', 10_000);
    expect(rig.clock.now() - at).toBeGreaterThanOrEqual(HOUR - 1_000);
    expect(uidOf(peer, 1)).not.toBe(uidOf(peer, 0));
    peer.report(uidOf(peer, 0));
    await rig.drained();
    expect(await rig.status()).toMatchObject({ verified: 1 });
  });

  test('what is never reported is put aside after a day, and verified by a report that comes later still', async () => {
    const { rig, peer } = await committing();
    await rig.accept(smallStudy(1, 1));
    await rig.until(() => peer.transactions.length === 1, 'requested');
    await rig.until(() => rig.named('quarantine').length > 0, 'put aside', MINUTE);
    expect(rig.named('quarantine')).toMatchObject([{ reason: 'destination never reported a storage commitment' }]);
    expect(peer.transactions.length).toBeLessThan(30);
    peer.report(uidOf(peer, 3));
    await rig.until(async () => (await rig.status()).verified === 1, 'verified late');
    expect(await rig.status()).toMatchObject({ verified: 1, quarantined: 0 });
  });

  test('what a report refuses is sent once more, and then put aside', async () => {
    const { rig, peer } = await committing();
    const [kept, refused] = smallStudy(1, 2);
    await rig.accept([kept, refused].flatMap((each) => each ?? []));
    await rig.until(() => peer.requests.flat().length === 2, 'sent');
    const bad = peer.requests.flat()[1] ?? '';
    let reported = 0;
    const reportAll = () => {
      for (; reported < peer.transactions.length; reported += 1)
        peer.report(uidOf(peer, reported), (uid) => uid === bad);
      return rig.named('quarantine').length > 0;
    };
    await rig.until(reportAll, 'put aside', MINUTE);
    expect(rig.named('quarantine')).toMatchObject([{ identity: { sopInstanceUid: bad } }]);
    expect(peer.requests.flat().filter((uid) => uid === bad)).toHaveLength(2);
    expect(await rig.status()).toMatchObject({ verified: 1, quarantined: 1 });
  });

  test('what is refused after hours without a report is sent once more too', async () => {
    const { rig, peer } = await committing();
    await rig.accept(smallStudy(1, 1));
    await rig.until(() => peer.transactions.length === 9, 'asked for hours', MINUTE);
    peer.report(uidOf(peer, 8), () => true);
    await rig.until(() => peer.requests.length === 2, 'sent again', MINUTE);
    await rig.until(() => peer.transactions.length === 10, 'asked again', MINUTE);
    peer.report(uidOf(peer, 9));
    await rig.drained();
    expect(await rig.status()).toMatchObject({ verified: 1 });
  });

  test('a commitment is to a UID: a further version is compared', async () => {
    const { rig, peer } = await committing();
    peer.reportsAtOnce = true;
    const version = (seed: number) => ({
      bytes: syntheticInstance({ sopInstanceUid: '1.2.3.4', rows: 8, columns: 8, seed }),
    });
    await rig.accept([version(1)]);
    await rig.drained();
    await rig.accept([version(2)]);
    await rig.drained();
    expect(verified(rig).map(({ evidence }) => evidence)).toEqual(['committed', 'compared']);
  });

  test('a report of a transaction that nobody asked for is ignored, and logged once', async () => {
    const { rig, peer } = await committing();
    await rig.accept(smallStudy(1, 2));
    await rig.until(() => peer.transactions.flatMap(({ instances }) => instances).length === 2, 'requested');
    const committed = peer.requests.flat();
    for (const end of [1, 2, 3]) peer.tell({ transactionUid: `2.25.${end}`, committed, failed: [] });
    await rig.until(async () => (await logged(rig, 'commitment-report-unknown')).length > 0, 'logged');
    expect(await logged(rig, 'commitment-report-unknown')).toHaveLength(1);
    expect(await rig.status()).toMatchObject({ verified: 0 });
  });

  test('a report counts only for what its transaction asked about, and not for what it also refuses', async () => {
    const { rig, peer } = await committing();
    await rig.accept(smallStudy(1, 1));
    await rig.until(() => peer.transactions.length === 1, 'requested');
    const [first] = peer.requests.flat();
    await rig.accept(smallStudy(2, 1));
    await rig.until(() => peer.transactions.length === 2, 'requested');
    const failed = [{ sopInstanceUid: first ?? '', reason: '0110' }];
    peer.tell({ transactionUid: uidOf(peer, 0), committed: peer.requests.flat(), failed });
    await rig.until(async () => {
      peer.tell({ transactionUid: '2.25.1', committed: [], failed: [] });
      return (await logged(rig, 'commitment-report-unknown')).length > 0;
    }, 'handled');
    expect(await rig.status()).toMatchObject({ verified: 0 });
  });

  test('one that takes no requests is asked again, and is not called delivered', async () => {
    const { rig, peer } = await committing();
    peer.takesRequests = false;
    await rig.accept(smallStudy(1, 1));
    await rig.until(async () => (await rig.status()).verification.instances === 1, 'answered');
    peer.takesRequests = true;
    await rig.until(() => peer.transactions.length > 0, 'requested');
    peer.report(uidOf(peer));
    await rig.drained();
  });

  test('a report that takes hours slows nothing down', async () => {
    const { rig } = await committing();
    for (let study = 1; study <= 12; study += 1) {
      await rig.accept(smallStudy(study, 8));
      await rig.pass(15 * MINUTE);
    }
    const { concurrency, verification } = await rig.status();
    expect(verification.lagMs).toBeGreaterThan(2 * HOUR);
    expect(concurrency.limit).toBe(4);
  });

  test('is refused at opening where the transport cannot ask for it', async () => {
    const transport = new ScriptedTransport();
    await expect(replayRig([{ id: 'pacs', transport, verify: 'committed' }])).rejects.toMatchObject({
      code: 'SPILLWAY_OPTION_INVALID',
    });
  });
});
