import type { Delivery, DeliveryFilter } from '../domain/delivery.ts';

/** Whether a delivery, of a version received at an instant (ms since the epoch), is among those that a filter asks for. */
export function isOfFilter(filter: DeliveryFilter, delivery: Delivery, receivedAt: number): boolean {
  const { destinationId, studyInstanceUid, sopInstanceUid, sopClassUid, reason, receivedFrom, receivedBefore } = filter;
  const { identity } = delivery;
  return (
    (destinationId === undefined || delivery.destinationId === destinationId) &&
    (studyInstanceUid === undefined || identity.studyInstanceUid === studyInstanceUid) &&
    (sopInstanceUid === undefined || identity.sopInstanceUid === sopInstanceUid) &&
    (sopClassUid === undefined || identity.sopClassUid === sopClassUid) &&
    (reason === undefined || (delivery.reason ?? '').toLowerCase().includes(reason.toLowerCase())) &&
    (receivedFrom === undefined || receivedAt >= receivedFrom) &&
    (receivedBefore === undefined || receivedAt < receivedBefore)
  );
}
