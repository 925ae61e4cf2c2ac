import type { CommitmentReport, CommitmentRequest } from '../../src/transports/transport.ts';
import { ScriptedTransport } from './scripted-transport.ts';

/** A scripted peer that commits itself to what it holds, when it is told to report. */
export class CommittingTransport extends ScriptedTransport {
  override supports = { lookUp: true, readBack: true, commitment: true };
  readonly transactions: CommitmentRequest[] = [];
  /** Whether it takes requests. */
  takesRequests = true;
  /** Reports at once, in the call. */
  reportsAtOnce = false;
  #listener: (report: CommitmentReport) => void = () => {};

  async requestCommitment(request: CommitmentRequest): Promise<'requested' | null> {
    if (!this.reachable || !this.takesRequests) return null;
    this.transactions.push(request);
    if (this.reportsAtOnce) this.report(request.transactionUid);
    return 'requested';
  }

  onCommitmentReport(listener: (report: CommitmentReport) => void): void {
    this.#listener = listener;
  }

  /** Of what a transaction asks about, what it holds is committed, unless `isRefused`. */
  report(transactionUid: string, isRefused: (sopInstanceUid: string) => boolean = () => false): void {
    const request = this.transactions.find((transaction) => transaction.transactionUid === transactionUid);
    const uids = (request?.instances ?? []).map(({ sopInstanceUid }) => sopInstanceUid);
    const failed = uids.filter((uid) => !this.held.has(uid) || isRefused(uid));
    this.tell({
      transactionUid,
      committed: uids.filter((uid) => !failed.includes(uid)),
      failed: failed.map((sopInstanceUid) => ({ sopInstanceUid, reason: '0112 no such object instance' })),
    });
  }

  tell(report: CommitmentReport): void {
    this.#listener(report);
  }
}
