import type { Delivery, VerifyLevel } from '../domain/delivery.ts';
import { messageOf, SpillwayError } from '../errors.ts';
import { type EvidenceView, type LookUpResult, neededEvidence } from '../routing/retry.ts';
import type { SendOutcome, Transport } from '../transports/transport.ts';

/** The stored file of a delivery; fails rather than give bytes that are not those that came. */
export type ReadDelivery = (delivery: Delivery) => AsyncIterable<Uint8Array>;

/**
 * What became of one delivery. `unreadable`: its bytes could not be read here, which says nothing about the destination;
 * `isLost`: they are gone, or not what they were, and will not be read another time.
 */
export interface SendResult {
  readonly outcome: SendOutcome | { readonly kind: 'unreadable'; readonly reason: string; readonly isLost: boolean };
}

/** Carries sends and questions out over a transport, and says what they came to. It decides nothing. */
export class DestinationSender {
  readonly transport: Transport;
  readonly verify: VerifyLevel;
  readonly #read: ReadDelivery;

  constructor(transport: Transport, verify: VerifyLevel, read: ReadDelivery) {
    this.transport = transport;
    this.verify = verify;
    this.#read = read;
  }

  /** One outcome for each delivery. */
  async send(deliveries: readonly Delivery[], signal: AbortSignal): Promise<readonly SendResult[]> {
    const unreadable = new Map<number, unknown>();
    const outcomes = await this.transport.send(
      deliveries.map((delivery) => ({
        identity: delivery.identity,
        bytes: delivery.bytes,
        open: () => watched(this.#read(delivery), (error) => unreadable.set(delivery.id, error)),
      })),
      signal,
    );
    return deliveries.map((delivery, index) => {
      const error = unreadable.get(delivery.id);
      if (error !== undefined) {
        const reason = `cannot be read here: ${messageOf(error)}`;
        return { outcome: { kind: 'unreadable', reason, isLost: isLost(error) } };
      }
      return { outcome: outcomes[index] ?? { kind: 'ambiguous', reason: 'the transport gave no outcome' } };
    });
  }

  /** Asks the destination about deliveries of one study, by what each of them needs. */
  async ask(deliveries: readonly Delivery[], signal: AbortSignal): Promise<ReadonlyMap<number, LookUpResult>> {
    const results = new Map<number, LookUpResult>();
    const byQuery = deliveries.filter((delivery) => this.#isAskedByQuery(delivery));
    if (byQuery.length > 0) {
      const identities = byQuery.map((delivery) => delivery.identity);
      const found = await this.transport.lookUp(identities, signal);
      for (const { id, identity } of byQuery) {
        results.set(id, found === null ? 'unknown' : found.has(identity.sopInstanceUid) ? 'found' : 'absent');
      }
    }
    for (const delivery of deliveries) {
      if (!results.has(delivery.id)) results.set(delivery.id, await this.#compare(delivery, signal));
    }
    return results;
  }

  /** Where nothing can be looked up, it is retrieved. */
  #isAskedByQuery(delivery: Delivery): boolean {
    return this.transport.supports.lookUp && neededEvidence(delivery, this.view) !== 'compared';
  }

  get view(): EvidenceView {
    const { lookUp, readBack, commitment = false } = this.transport.supports;
    return { verify: this.verify, canLookUp: lookUp, canReadBack: readBack, canCommit: commitment };
  }

  async #compare(delivery: Delivery, signal: AbortSignal): Promise<LookUpResult> {
    if (!this.transport.supports.readBack) return 'unknown';
    const held = await this.transport.readBack(delivery.identity, signal);
    if (held === null) return 'unknown';
    if (held === 'absent') return 'absent';
    const { transferSyntaxUid } = delivery.identity;
    return held.digest === delivery.digest && held.transferSyntaxUid === transferSyntaxUid ? 'equal' : 'different';
  }
}

function isLost(error: unknown): boolean {
  return error instanceof SpillwayError && ['SPILLWAY_NOT_FOUND', 'SPILLWAY_STORE_DAMAGED'].includes(error.code);
}

async function* watched(
  chunks: AsyncIterable<Uint8Array>,
  onError: (error: unknown) => void,
): AsyncGenerator<Uint8Array> {
  try {
    yield* chunks;
  } catch (error) {
    onError(error);
    throw error;
  }
}
