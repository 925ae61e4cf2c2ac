import assert from 'node:assert/strict';
import type { CommitmentTransaction } from '../../storage/catalog.ts';
import { at, type Check, inState, offer, rejectsWith } from './fixtures.ts';

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
