import { EVIDENCE, type Evidence, isOfUid } from '../../domain/delivery.ts';
import type { Catalog } from '../catalog.ts';
import { isHere, rankedStudy } from './memory-acceptance.ts';
import { deliveryOf, destinationEntry, destinationInUse } from './memory-records.ts';
import type { DeliveryEntry, MemoryTables } from './memory-tables.ts';

type Argument<Method extends keyof Omit<Catalog, 'durable'>> = Parameters<Catalog[Method]>[0];
type Answer<Method extends keyof Omit<Catalog, 'durable'>> = Awaited<ReturnType<Catalog[Method]>>;

export function redrive(tables: MemoryTables, { destinationId, deliveryIds, by, at }: Argument<'redrive'>) {
  destinationInUse(tables, destinationId);
  const found = entriesOf(tables, destinationId, deliveryIds).filter(
    ({ state, version }) => state === 'quarantined' && isHere(version),
  );
  const [redriven, superseded]: [number[], number[]] = [[], []];
  // The last version first: where it is tried again, the earlier ones may be as well.
  for (const delivery of found.reverse()) {
    const { id, reason, version } = delivery;
    const isLeft = isSuperseded(delivery);
    (isLeft ? superseded : redriven).unshift(id);
    if (isLeft) continue;
    tables.reopen(delivery, false);
    tables.holdings.append(at, 'redriven', { destinationId, arrivalId: version.arrivalId, reason, by });
  }
  tables.holdings.disregardRequests(redriven);
  return { redriven, superseded };
}

export function discard(
  tables: MemoryTables,
  { destinationId, deliveryIds, reason, by, at }: Argument<'discard'>,
): Answer<'discard'> {
  const found = entriesOf(tables, destinationId, deliveryIds).filter(
    ({ state }) => state !== 'verified' && state !== 'discarded',
  );
  for (const delivery of found) {
    tables.setState(delivery, 'discarded');
    delivery.reason = reason;
    if (delivery.settledSeq === null) {
      tables.finish(delivery, at);
      tables.refreshDue(delivery.study);
    }
    tables.holdings.append(at, 'discarded', { destinationId, arrivalId: delivery.version.arrivalId, reason, by });
  }
  return found.map(idOf);
}

export function returnToBacklog(
  tables: MemoryTables,
  { destinationId, deliveryIds, reason, at }: Argument<'returnToBacklog'>,
): Answer<'returnToBacklog'> {
  destinationInUse(tables, destinationId);
  const returned: number[] = [];
  // The last version first: where it is owed again, the earlier ones may be as well.
  for (const delivery of entriesOf(tables, destinationId, deliveryIds).reverse()) {
    const { state, version, evidence } = delivery;
    if (state !== 'verified' || !isHere(version) || isSuperseded(delivery)) continue;
    tables.reopen(delivery, true);
    tables.holdings.append(at, 'returned', { destinationId, arrivalId: version.arrivalId, evidence, reason });
    returned.unshift(delivery.id);
  }
  tables.holdings.disregardRequests(returned);
  return returned;
}

export function raiseEvidence(
  tables: MemoryTables,
  { destinationId, deliveryIds, evidence, settles, transactionUid, at }: Argument<'raiseEvidence'>,
): Answer<'raiseEvidence'> {
  const verified: number[] = [];
  const asked =
    transactionUid === undefined ? null : (tables.holdings.commitments.get(transactionUid)?.deliveryIds ?? []);
  for (const delivery of entriesOf(tables, destinationId, deliveryIds)) {
    if (delivery.state === 'discarded' || (asked !== null && !asked.includes(delivery.id))) continue;
    const hasOther = siblingsOf(delivery).some(({ version, isHeld }) => version !== delivery.version && !isHeld);
    if (isOfUid(evidence) && (delivery.isFurther || hasOther)) continue;
    delivery.evidence = higherOf(delivery.evidence, evidence);
    if (!settles || delivery.state === 'verified') continue;
    verified.push(delivery.id);
    delivery.reason = null;
    if (delivery.state === 'quarantined') {
      tables.settleAnew(delivery, 'verified', at);
      const detail = { destinationId, arrivalId: delivery.version.arrivalId, evidence: delivery.evidence };
      tables.holdings.append(at, 'verified-late', detail);
    } else {
      tables.setState(delivery, 'verified');
      tables.finish(delivery, at);
      tables.refreshDue(delivery.study);
    }
  }
  return verified;
}

export function recentlyVerified(tables: MemoryTables, page: Argument<'recentlyVerified'>): Answer<'recentlyVerified'> {
  const { before = Number.POSITIVE_INFINITY, since = 0, limit } = page;
  const destination = destinationEntry(tables, page.destinationId);
  const found = destination.deliveries
    .filter(({ settledSeq, settledAt }) => settledSeq !== null && settledSeq < before && (settledAt ?? since) >= since)
    .sort((a, b) => (b.settledSeq ?? 0) - (a.settledSeq ?? 0));
  const deliveries: DeliveryEntry[] = [];
  let [evicted, unavailable] = [0, 0];
  let next: number | null = null;
  for (const delivery of found) {
    if (deliveries.length >= limit) return { deliveries: deliveries.map(deliveryOf), evicted, unavailable, next };
    next = delivery.settledSeq;
    if (delivery.state !== 'verified' || isSuperseded(delivery)) continue;
    if (isHere(delivery.version)) deliveries.push(delivery);
    else if (delivery.version.presence === 'missing') unavailable += 1;
    else evicted += 1;
  }
  return { deliveries: deliveries.map(deliveryOf), evicted, unavailable, next: null };
}

export function copyOpenDeliveries(
  tables: MemoryTables,
  { from, to, afterId, limit }: Argument<'copyOpenDeliveries'>,
): Answer<'copyOpenDeliveries'> {
  const source = destinationEntry(tables, from);
  const standby = destinationInUse(tables, to);
  const open = source.deliveries.filter(({ id, settledSeq }) => id > afterId && settledSeq === null).slice(0, limit);
  let copied = 0;
  for (const { id, version, isFurther, study } of open) {
    if (standby.arrivals.has(version.arrivalId)) continue;
    const { sopInstanceUid, studyInstanceUid } = version.identity;
    const known = source.byInstance.get(sopInstanceUid) ?? [];
    const isEarlier = (other: DeliveryEntry) =>
      known.some((delivery) => delivery.version === other.version && delivery.id < id);
    // The other one was offered a later version already, and not as a copy of an earlier delivery.
    const offered = standby.byInstance.get(sopInstanceUid) ?? [];
    if (offered.some((other) => other.id > id && !isEarlier(other))) continue;
    const owed = rankedStudy(standby, studyInstanceUid, study.rank);
    tables.addDelivery(standby, version, isFurther, owed);
    copied += 1;
  }
  return { copied, next: open.length < limit ? null : (open.at(-1)?.id ?? null) };
}

export function oldestAnswerAt(tables: MemoryTables, destinationId: string): number | null {
  return destinationEntry(tables, destinationId).deliveries.find(({ state }) => state === 'sent')?.answeredAt ?? null;
}

/** Deliveries to a destination by id, each once. */
function entriesOf(tables: MemoryTables, destinationId: string, ids: readonly number[]): DeliveryEntry[] {
  const destination = destinationEntry(tables, destinationId);
  return [...new Set(ids)]
    .sort((a, b) => a - b)
    .flatMap((id) => tables.deliveries.get(id) ?? [])
    .filter((delivery) => delivery.destination === destination);
}

/** Whether a later version under its SOP Instance UID is there already, which it would put back. */
function isSuperseded(delivery: DeliveryEntry): boolean {
  return siblingsOf(delivery).some(
    ({ id, state, evidence }) =>
      id > delivery.id && (state === 'sent' || state === 'verified' || evidence !== 'accepted'),
  );
}

function siblingsOf({ destination, version }: DeliveryEntry): readonly DeliveryEntry[] {
  return destination.byInstance.get(version.identity.sopInstanceUid) ?? [];
}

function higherOf(a: Evidence, b: Evidence): Evidence {
  return EVIDENCE.indexOf(a) >= EVIDENCE.indexOf(b) ? a : b;
}

function idOf({ id }: DeliveryEntry): number {
  return id;
}
