import type { Delivery, VerifyLevel } from '../domain/delivery.ts';
import { messageOf } from '../errors.ts';
import { type LookUpResult, neededEvidence } from '../routing/retry.ts';
import type { BlobStore } from '../storage/blob-store.ts';
import type { SendOutcome, Transport } from '../transports/transport.ts';

/** Carries sends and questions out over a transport, and says what they came to. It decides nothing. */
export class DestinationSender {
  readonly transport: Transport;
  readonly verify: VerifyLevel;
  readonly #blobs: BlobStore;

  constructor(transport: Transport, verify: VerifyLevel, blobs: BlobStore) {
    this.transport = transport;
    this.verify = verify;
    this.#blobs = blobs;
  }

  /**
   * One outcome for each delivery. `local` marks those whose bytes could not be read here: that says nothing about the
   * destination.
   */
  async send(
    deliveries: readonly Delivery[],
    signal: AbortSignal,
  ): Promise<readonly { readonly outcome: SendOutcome; readonly local: boolean }[]> {
    const unreadable = new Map<number, string>();
    const outcomes = await this.transport.send(
      deliveries.map((delivery) => ({
        identity: delivery.identity,
        bytes: delivery.bytes,
        open: () =>
          watched(this.#blobs.read(delivery.blobRef), (error) => unreadable.set(delivery.id, messageOf(error))),
      })),
      signal,
    );
    return deliveries.map((delivery, index) => {
      const reason = unreadable.get(delivery.id);
      if (reason !== undefined) {
        return { outcome: { kind: 'refused', reason: `cannot be read here: ${reason}`, mayRetry: true }, local: true };
      }
      const outcome = outcomes[index] ?? { kind: 'ambiguous', reason: 'the transport gave no outcome' };
      return { outcome, local: false };
    });
  }

  /** Asks the destination about deliveries of one study, by what each of them needs. */
  async ask(deliveries: readonly Delivery[], signal: AbortSignal): Promise<ReadonlyMap<number, LookUpResult>> {
    const results = new Map<number, LookUpResult>();
    const byQuery = deliveries.filter((delivery) => neededEvidence(delivery, this.#view()) !== 'compared');
    if (byQuery.length > 0) {
      const identities = byQuery.map((delivery) => delivery.identity);
      const found = this.transport.supports.lookUp ? await this.transport.lookUp(identities, signal) : null;
      for (const { id, identity } of byQuery) {
        results.set(id, found === null ? 'unknown' : found.has(identity.sopInstanceUid) ? 'found' : 'absent');
      }
    }
    for (const delivery of deliveries) {
      if (!results.has(delivery.id)) results.set(delivery.id, await this.#compare(delivery, signal));
    }
    return results;
  }

  #view() {
    const { lookUp, readBack } = this.transport.supports;
    return { verify: this.verify, canLookUp: lookUp, canReadBack: readBack };
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
