import type { Delivery } from '../domain/delivery.ts';
import type { Catalog } from '../storage/catalog.ts';
import { csvLine } from './csv.ts';

const PAGE_SIZE = 500;
const STATES = ['pending', 'sent', 'quarantined', 'discarded'] as const;

/** Deliveries of an episode's set that are not verified, state by state. One that moves meanwhile may come twice. */
export async function* notVerifiedOf(catalog: Catalog, episodeId: number): AsyncGenerator<Delivery> {
  for (const state of STATES) {
    for (let afterId: number | null = 0; afterId !== null; ) {
      const page: Awaited<ReturnType<Catalog['episodeDeliveries']>> = await catalog.episodeDeliveries({
        episodeId,
        state,
        afterId,
        limit: PAGE_SIZE,
      });
      yield* page.deliveries;
      afterId = page.next;
    }
  }
}

/** Deliveries as lines of CSV (RFC 4180), a header first: UIDs, states and reasons, nothing of patients. */
export async function* deliveriesCsv(deliveries: AsyncIterable<Delivery>): AsyncGenerator<string> {
  yield csvLine([
    ...['destination', 'state', 'evidence', 'attempts', 'study_instance_uid', 'series_instance_uid'],
    ...['sop_instance_uid', 'sop_class_uid', 'transfer_syntax_uid', 'digest', 'bytes', 'arrival_id', 'reason'],
  ]);
  for await (const { identity, ...delivery } of deliveries) {
    yield csvLine([
      ...[delivery.destinationId, delivery.state, delivery.evidence, delivery.attempts],
      ...[identity.studyInstanceUid, identity.seriesInstanceUid, identity.sopInstanceUid, identity.sopClassUid],
      ...[identity.transferSyntaxUid, delivery.digest, delivery.bytes, delivery.arrivalId, delivery.reason],
    ]);
  }
}
