import type { Clock } from '../domain/clock.ts';
import type { Delivery } from '../domain/delivery.ts';
import type { LookUpResult } from '../routing/retry.ts';
import type { Catalog, CommitmentTransaction } from '../storage/catalog.ts';
import type { CommitmentReport, Transport } from '../transports/transport.ts';
import { deliveriesOf } from './decisions.ts';

/** A report counts as long as its request is on record: some archives answer the week after. */
const KEEP_TRANSACTION_MS = 14 * 24 * 3_600_000;
const MAX_FORGOTTEN_AT_ONCE = 100;
/** Reports that wait; one beyond is dropped, and asked for anew when it is overdue. */
const MAX_WAITING_REPORTS = 1_000;
/** Failures that are remembered until their deliveries are due; of those beyond, the destination is asked anew. */
const MAX_FAILURES = 10_000;
const MAX_RAISED_AT_ONCE = 1_000;
/** Of one report; no request names as many. */
const MAX_REPORTED = 10_000;
/** What can still become verified. */
const NOT_VERIFIED = ['sent', 'pending', 'quarantined'] as const;

export interface CommitmentDeskOptions {
  readonly catalog: Catalog;
  readonly destinationId: string;
  readonly transport: Transport;
  readonly clock: Clock;
  /** Deliveries became verified by a report; resolves when nothing more of them is begun. */
  readonly onVerified: (deliveries: readonly Delivery[]) => Promise<void>;
  readonly onFault: (error: unknown) => void;
}

/** Asks one destination for storage commitment (PS3.4 annex J), and matches its reports, whenever they come. */
export class CommitmentDesk {
  readonly #options: CommitmentDeskOptions;
  /** Deliveries for which the last report takes no responsibility. */
  readonly #failed = new Set<number>();
  #handling: Promise<void> = Promise.resolve();
  #waiting = 0;
  #isUnknownLogged = false;

  constructor(options: CommitmentDeskOptions) {
    this.#options = options;
    options.transport.onCommitmentReport?.((report) => this.#receive(report));
  }

  /**
   * Asks about deliveries of one study, all in one transaction that is on record before. `awaited`: it is to report.
   * `absent`: a report said meanwhile that it takes no responsibility. `unknown`: it could not be asked.
   */
  async request(deliveries: readonly Delivery[], signal: AbortSignal): Promise<ReadonlyMap<number, LookUpResult>> {
    const { catalog, destinationId, transport, clock } = this.#options;
    const failed = deliveries.filter(({ id }) => this.#failed.delete(id));
    const results = new Map<number, LookUpResult>(failed.map(({ id }) => [id, 'absent']));
    const asked = deliveries.filter(({ id }) => !results.has(id));
    if (asked.length === 0) return results;
    await this.#forgetOld();
    const transactionUid = newTransactionUid();
    const deliveryIds = asked.map(({ id }) => id);
    await catalog.openCommitment({ transactionUid, destinationId, requestedAt: clock.now(), deliveryIds });
    const instances = asked.map(({ identity }) => identity);
    const answer = await transport.requestCommitment?.({ transactionUid, instances }, signal);
    const isRequested = answer === 'requested';
    if (!isRequested) await catalog.closeCommitment(transactionUid);
    for (const id of deliveryIds) results.set(id, isRequested ? 'awaited' : 'unknown');
    return results;
  }

  /** Resolves when the reports that have come are on record. */
  async idle(): Promise<void> {
    await this.#handling;
  }

  #receive(report: CommitmentReport): void {
    if (this.#waiting >= MAX_WAITING_REPORTS) return;
    this.#waiting += 1;
    this.#handling = this.#handling
      .then(() => this.#handle(report))
      .catch((error) => this.#options.onFault(error))
      .finally(() => {
        this.#waiting -= 1;
      });
  }

  async #handle({ transactionUid, committed, failed }: CommitmentReport): Promise<void> {
    const { catalog, destinationId } = this.#options;
    const [transaction] = await catalog.commitments({ transactionUid, limit: 1 });
    if (transaction?.destinationId !== destinationId) {
      await this.#logUnknown(transactionUid);
      return;
    }
    const refused = new Set(failed.slice(0, MAX_REPORTED).map(({ sopInstanceUid }) => sopInstanceUid));
    // What it lists as both it does not answer for.
    await this.#raise(transaction, new Set(committed.slice(0, MAX_REPORTED).filter((uid) => !refused.has(uid))));
    for (const sopInstanceUid of refused) {
      const delivery = await this.#find(transaction, sopInstanceUid, ['sent']);
      if (delivery !== undefined && this.#failed.size < MAX_FAILURES) this.#failed.add(delivery.id);
    }
    await catalog.closeCommitment(transactionUid);
  }

  async #raise(transaction: CommitmentTransaction, sopInstanceUids: ReadonlySet<string>): Promise<void> {
    const committed: Delivery[] = [];
    for (const sopInstanceUid of sopInstanceUids) {
      const delivery = await this.#find(transaction, sopInstanceUid, NOT_VERIFIED);
      if (delivery !== undefined) committed.push(delivery);
    }
    for (let start = 0; start < committed.length; start += MAX_RAISED_AT_ONCE) {
      await this.#raiseAll(transaction, committed.slice(start, start + MAX_RAISED_AT_ONCE));
    }
  }

  /** A commitment is to a UID, not to a version: the catalog leaves out what that does not prove. */
  async #raiseAll({ transactionUid }: CommitmentTransaction, deliveries: readonly Delivery[]): Promise<void> {
    const { catalog, destinationId, clock, onVerified } = this.#options;
    const deliveryIds = deliveries.map(({ id }) => id);
    const raise = { destinationId, deliveryIds, evidence: 'committed', settles: true, transactionUid } as const;
    const ended = new Set(await catalog.raiseEvidence({ ...raise, at: clock.now() }));
    for (const id of ended) this.#failed.delete(id);
    if (ended.size > 0) await onVerified(deliveries.filter(({ id }) => ended.has(id)));
  }

  /** The one of a transaction's deliveries that a report means, if it is in one of these states. */
  async #find(
    { destinationId, deliveryIds }: CommitmentTransaction,
    sopInstanceUid: string,
    states: readonly Delivery['state'][],
  ): Promise<Delivery | undefined> {
    for (const state of states) {
      for await (const page of deliveriesOf(this.#options.catalog, destinationId, state, { sopInstanceUid })) {
        const delivery = page.find(({ id }) => deliveryIds.includes(id));
        if (delivery !== undefined) return delivery;
      }
    }
    return undefined;
  }

  /** Nobody answers for those any more, and they must not pile up. */
  async #forgetOld(): Promise<void> {
    const { catalog, destinationId, clock } = this.#options;
    const before = clock.now() - KEEP_TRANSACTION_MS;
    const oldest = await catalog.commitments({ destinationId, limit: MAX_FORGOTTEN_AT_ONCE });
    for (const { transactionUid, requestedAt } of oldest) {
      if (requestedAt >= before) break;
      await catalog.closeCommitment(transactionUid);
    }
  }

  /** Once: a peer that was configured for another system may send any number of them. */
  async #logUnknown(transactionUid: string): Promise<void> {
    if (this.#isUnknownLogged) return;
    this.#isUnknownLogged = true;
    const { catalog, destinationId, clock } = this.#options;
    const detail = { destinationId, transactionUid: transactionUid.slice(0, 64) };
    await catalog.appendLog({ at: clock.now(), kind: 'commitment-report-unknown', detail });
  }
}

/** A UID that is nobody else's: a UUID as one number under 2.25 (PS3.5 annex B.2). */
function newTransactionUid(): string {
  return `2.25.${BigInt(`0x${crypto.randomUUID().replaceAll('-', '')}`)}`;
}
