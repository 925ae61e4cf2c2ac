import assert from 'node:assert/strict';
import { readAndDigest } from '../../dicom/data-set-digest.ts';
import type { Delivery, DeliveryState, VersionRecord } from '../../domain/delivery.ts';
import type { OpenStore, Store } from '../../storage/store.ts';
import { DESTINATION_ID } from './orders.ts';
import { readReceived } from './received-record.ts';

const PAGE_SIZE = 1_000;
const STATES: readonly DeliveryState[] = ['pending', 'sent', 'verified', 'quarantined', 'discarded'];

/** What must hold of a store whose process was killed. */
export interface Truth {
  /** What was acknowledged: digests by arrival id. */
  readonly acknowledged: ReadonlyMap<string, string>;
  readonly receivedFile: string;
}

/**
 * The store opens without help and holds what was acknowledged, and nothing half done; every instance that it knows can be
 * read and is equal, and has its delivery; no delivery's state is ahead of what the destination has received.
 *
 * @returns the versions that the store knows
 */
export async function examine(store: Store, truth: Truth): Promise<readonly VersionRecord[]> {
  const opened = await store.open();
  try {
    await opened.blobs.recover((arrivalId) => opened.catalog.hasArrival(arrivalId));
    const versions = await versionsOf(opened);
    const known = new Set(versions.map(({ arrivalId }) => arrivalId));
    for (const arrivalId of truth.acknowledged.keys()) {
      assert.ok(known.has(arrivalId), `${arrivalId} was acknowledged, and is not in the catalog`);
    }
    for (const { arrivalId, digest, blobRef } of versions) {
      const found = await readAndDigest(opened.blobs.read(blobRef));
      assert.equal(found.digest, digest, `${arrivalId} has the bytes that its row says`);
      assert.equal(truth.acknowledged.get(arrivalId) ?? digest, digest, `${arrivalId} is what was acknowledged`);
    }
    await examineDeliveries(opened, versions, truth);
    return versions;
  } finally {
    await opened.close();
  }
}

async function examineDeliveries(
  { catalog }: OpenStore,
  versions: readonly VersionRecord[],
  { receivedFile }: Truth,
): Promise<void> {
  const destination = (await catalog.destinations()).find(({ destinationId }) => destinationId === DESTINATION_ID);
  // The process was killed before it had made its destination known.
  if (destination === undefined) return assert.equal(versions.length, 0, 'nothing was accepted for no destination');
  const received = new Set(
    readReceived(receivedFile).map(({ sopInstanceUid, digest }) => `${sopInstanceUid} ${digest}`),
  );
  const delivered = new Map<string, number>();
  for (const state of STATES) {
    const deliveries = await deliveriesIn(catalog, state);
    assert.equal(deliveries.length, destination[state], `the count of ${state} deliveries`);
    for (const { arrivalId, identity, digest, reason } of deliveries) {
      delivered.set(arrivalId, (delivered.get(arrivalId) ?? 0) + 1);
      const wasReceived = received.has(`${identity.sopInstanceUid} ${digest}`);
      if (state === 'sent' || state === 'verified') assert.ok(wasReceived, `${arrivalId} is ${state}, never received`);
      // The destination refuses nothing, and nobody gave anything up.
      if (state === 'quarantined' || state === 'discarded') assert.fail(`${arrivalId} is ${state}: ${reason}`);
    }
  }
  for (const { arrivalId } of versions) assert.equal(delivered.get(arrivalId), 1, `${arrivalId} has one delivery`);
  assert.equal(delivered.size, versions.length, 'every delivery has its version');
}

/** Everything that the store holds was received, and is on record as such. */
export function assertDelivered(versions: readonly VersionRecord[], receivedFile: string): void {
  const received = new Set(readReceived(receivedFile).map(({ digest }) => digest));
  for (const { arrivalId, digest } of versions) assert.ok(received.has(digest), `${arrivalId} was never received`);
}

async function versionsOf({ catalog }: OpenStore): Promise<readonly VersionRecord[]> {
  const versions: VersionRecord[] = [];
  for (;;) {
    const last = versions.at(-1);
    const page = await catalog.versions({ ...(last && { afterArrivalId: last.arrivalId }), limit: PAGE_SIZE });
    versions.push(...page);
    if (page.length < PAGE_SIZE) return versions;
  }
}

async function deliveriesIn(catalog: OpenStore['catalog'], state: DeliveryState): Promise<readonly Delivery[]> {
  const deliveries: Delivery[] = [];
  for (let afterId = 0; ; ) {
    const page = await catalog.deliveries({ destinationId: DESTINATION_ID, state, afterId, limit: PAGE_SIZE });
    deliveries.push(...page.deliveries);
    if (page.next === null) return deliveries;
    afterId = page.next;
  }
}
