import assert from 'node:assert/strict';
import type { CommitmentTransaction } from '../../storage/catalog.ts';
import { arrival, at, type Check, idsOf, inState, offer, rejectsWith, settleAs } from './fixtures.ts';

function transaction(number: number, given: Partial<CommitmentTransaction> = {}): CommitmentTransaction {
  return { transactionUid: `2.25.${number}`, destinationId: 'pacs', requestedAt: 100, deliveryIds: [number], ...given };
}

export function commitmentChecks(check: Check): void {
  check('keeps requests for commitment until they are answered', async ({ catalog, reopen }) => {
    await catalog.accept([offer(1), offer(2)]);
    const deliveryIds = (await inState(catalog, 'pending')).map(({ id }) => id);
    const all = [
      transaction(1, { requestedAt: 300, deliveryIds }),
      transaction(2, { requestedAt: 100, destinationId: 'archive' }),
      transaction(3, { requestedAt: 200, deliveryIds: [] }),
    ];
    for (const each of all) await catalog.openCommitment(each);
    const byAge = [at(all, 1), at(all, 2), at(all, 0)];
    assert.deepEqual(await catalog.commitments({ limit: 10 }), byAge);
    assert.deepEqual(await catalog.commitments({ limit: 2 }), byAge.slice(0, 2));
    assert.deepEqual(await catalog.commitments({ destinationId: 'pacs', limit: 10 }), byAge.slice(1));
    assert.deepEqual(await catalog.commitments({ destinationId: 'pacs', limit: 1 }), byAge.slice(1, 2));
    assert.deepEqual(await catalog.commitments({ transactionUid: '2.25.1', limit: 10 }), [all[0]]);
    assert.deepEqual(await catalog.commitments({ transactionUid: '2.25.9', limit: 10 }), []);
    const again = await reopen();
    assert.deepEqual(await again.commitments({ limit: 10 }), byAge);
    await again.closeCommitment('2.25.3');
    await again.closeCommitment('2.25.3');
    await again.closeCommitment('2.25.9');
    assert.deepEqual(await again.commitments({ limit: 10 }), [all[1], all[0]]);
    assert.deepEqual(await again.commitments({ destinationId: 'archive', limit: 10 }), [all[1]]);
  });

  check('what was asked before a delivery is owed anew counts no more', async ({ catalog, reopen }) => {
    await catalog.accept([1, 2, 3].map((number) => offer(number, { study: '1.1' })));
    const ids = idsOf(await inState(catalog, 'pending'));
    const [lost, refused, other] = [at(ids, 0), at(ids, 1), at(ids, 2)];
    await settleAs(catalog, [arrival(2)], 'quarantined');
    await settleAs(catalog, [arrival(1)], 'verified');
    await catalog.openCommitment(transaction(1, { deliveryIds: [other, lost] }));
    await catalog.openCommitment(transaction(2, { deliveryIds: ids }));
    await catalog.openCommitment(transaction(3, { deliveryIds: ids, destinationId: 'archive' }));
    const asked = async (from: typeof catalog) =>
      (await from.commitments({ limit: 9 })).map((each) => each.deliveryIds);
    await catalog.returnToBacklog({ destinationId: 'pacs', deliveryIds: [lost], reason: 'not found', at: 90 });
    assert.deepEqual((await asked(catalog)).slice(0, 2), [[other], [refused, other]]);
    await catalog.redrive({ destinationId: 'pacs', deliveryIds: [refused], by: 'A. Person', at: 91 });
    const again = await reopen();
    assert.deepEqual((await asked(again)).slice(0, 2), [[other], [other]]);
    const report = { destinationId: 'pacs', deliveryIds: ids, evidence: 'committed', settles: true, at: 92 } as const;
    assert.deepEqual(await again.raiseEvidence({ ...report, transactionUid: '2.25.2' }), [other]);
    await again.openCommitment(transaction(4, { deliveryIds: [lost] }));
    assert.deepEqual(await again.raiseEvidence({ ...report, transactionUid: '2.25.9' }), [], 'nobody asked');
    assert.deepEqual(await again.raiseEvidence({ ...report, transactionUid: '2.25.4' }), [lost]);
  });

  check('takes a transaction UID once', async ({ catalog }) => {
    await catalog.openCommitment(transaction(1));
    await rejectsWith('SPILLWAY_STORE_FAILED', catalog.openCommitment(transaction(1, { destinationId: 'archive' })));
    assert.deepEqual(await catalog.commitments({ limit: 10 }), [transaction(1)]);
    await rejectsWith('SPILLWAY_NOT_FOUND', catalog.openCommitment(transaction(2, { destinationId: 'elsewhere' })));
    await rejectsWith('SPILLWAY_NOT_FOUND', catalog.commitments({ destinationId: 'elsewhere', limit: 1 }));
    await catalog.closeCommitment('2.25.1');
    await catalog.openCommitment(transaction(1));
    assert.equal((await catalog.commitments({ limit: 10 })).length, 1);
  });
}
