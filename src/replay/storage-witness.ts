import type { Delivery } from '../domain/delivery.ts';
import { SpillwayError } from '../errors.ts';
import type { DestinationSender, SendResult } from './destination-sender.ts';
import type { Withholding } from './withholding.ts';

/**
 * An instance that the destination has stored, to be sent once more where it must be known whether storage is well. It
 * changes nothing there: it goes only while the destination holds it exactly so, and never after a newer version.
 */
export class StorageWitness {
  readonly #sender: DestinationSender;
  readonly #signal: AbortSignal;
  readonly #withholding: Withholding;
  /** The smallest that was stored. */
  #delivery: Delivery | undefined;
  /** SOP Instance UIDs that are being sent, with how many requests. */
  readonly #sending = new Map<string, number>();
  /** While it is read back and sent, its SOP Instance UID is sent by nobody else. */
  #asking: { readonly sopInstanceUid: string; readonly done: Promise<unknown> } | undefined;

  constructor(sender: DestinationSender, signal: AbortSignal, withholding: Withholding) {
    this.#sender = sender;
    this.#signal = signal;
    this.#withholding = withholding;
  }

  /** These were given up: they are not sent any more. */
  forget(deliveryIds: ReadonlySet<number>): void {
    if (this.#delivery !== undefined && deliveryIds.has(this.#delivery.id)) this.#delivery = undefined;
  }

  /** Waits where one of these would overtake the witness under the same UID; the result is to be called when they are through. */
  async enter(deliveries: readonly Delivery[]): Promise<(stored: readonly Delivery[]) => void> {
    const uids = deliveries.map(({ identity }) => identity.sopInstanceUid);
    if (this.#asking !== undefined && uids.includes(this.#asking.sopInstanceUid)) await this.#asking.done;
    for (const uid of uids) this.#sending.set(uid, (this.#sending.get(uid) ?? 0) + 1);
    return (stored) => {
      for (const uid of uids) {
        const left = (this.#sending.get(uid) ?? 1) - 1;
        if (left === 0) this.#sending.delete(uid);
        else this.#sending.set(uid, left);
      }
      // Whatever became of them, another version under its UID may stand there now.
      if (this.#delivery !== undefined && uids.includes(this.#delivery.identity.sopInstanceUid)) {
        this.#delivery = undefined;
      }
      for (const delivery of stored) {
        if (this.#delivery === undefined || delivery.bytes <= this.#delivery.bytes) this.#delivery = delivery;
      }
    };
  }

  /** Reads it back and sends it again; null when there is none to send, or it could not be asked for. */
  async testify(): Promise<SendResult | null> {
    const witness = this.#delivery;
    if (witness === undefined || !this.#sender.transport.supports.readBack || this.#asking !== undefined) return null;
    const { sopInstanceUid } = witness.identity;
    if (this.#sending.has(sopInstanceUid)) return null;
    const testimony = this.#sendAgain(witness);
    this.#asking = { sopInstanceUid, done: testimony.catch(() => {}) };
    try {
      return await testimony;
    } catch (error) {
      if (!(error instanceof SpillwayError && error.code === 'SPILLWAY_NOT_FOUND')) throw error;
      // It was verified, and may have made room since.
      this.#delivery = undefined;
      return null;
    } finally {
      this.#asking = undefined;
    }
  }

  async #sendAgain(witness: Delivery): Promise<SendResult | null> {
    // What was deleted there stays deleted, and what another version has replaced stays replaced.
    const held = await this.#sender.transport.readBack(witness.identity, this.#signal);
    if (held === null || held === 'absent' || held.digest !== witness.digest) return null;
    if (held.transferSyntaxUid !== witness.identity.transferSyntaxUid) return null;
    if (this.#delivery !== witness || this.#withholding.has(witness.id)) return null;
    this.#withholding.begin([witness]);
    try {
      const [result] = await this.#sender.send([witness], this.#signal);
      if (result?.outcome.kind === 'unreadable') this.#delivery = undefined;
      return result ?? null;
    } finally {
      this.#withholding.end([witness]);
    }
  }
}
