import { readAndDigest } from '../../src/dicom/data-set-digest.ts';
import type { InstanceIdentity } from '../../src/domain/identity.ts';
import type { OutgoingInstance, SendOutcome, Transport } from '../../src/transports/transport.ts';

const UNREACHABLE: SendOutcome = { kind: 'unreachable', reason: 'connection refused' };

/** A peer in memory that does as it is told; for what a real one cannot be made to do at will. */
export class ScriptedTransport implements Transport {
  supports = { lookUp: true, readBack: true };
  batch = { maxInstances: 4, maxBytes: 1024 * 1024 };
  reachable = true;
  /** What it makes of an instance; what is not `stored` is not kept, unless `keeps` says so. */
  respond: (identity: InstanceIdentity, bytes: number) => SendOutcome = () => ({ kind: 'stored' });
  /** Kept though the answer says otherwise, as when an answer is lost. */
  keeps: (identity: InstanceIdentity) => boolean = () => false;
  /** Whether a second data set under a UID takes the place of the first. */
  replaces = true;
  /** Whether a query shows what is held. */
  showsHeld = true;
  readonly held = new Map<string, { digest: string; transferSyntaxUid: string }>();
  /** Every request: the SOP Instance UIDs in it. */
  readonly requests: string[][] = [];
  lookUps = 0;
  probes = 0;
  inFlight = 0;
  mostInFlight = 0;
  /** Resolves before a request is answered. */
  gate: () => Promise<void> = async () => {};

  async send(instances: readonly OutgoingInstance[], signal: AbortSignal): Promise<readonly SendOutcome[]> {
    if (!this.reachable) return instances.map(() => UNREACHABLE);
    this.requests.push(instances.map(({ identity }) => identity.sopInstanceUid));
    this.inFlight += 1;
    this.mostInFlight = Math.max(this.mostInFlight, this.inFlight);
    try {
      await this.gate();
      signal.throwIfAborted();
      const outcomes: SendOutcome[] = [];
      for (const { identity, bytes, open } of instances) {
        const outcome = this.respond(identity, bytes);
        const { digest } = await readAndDigest(open());
        if (outcome.kind === 'stored' || this.keeps(identity)) this.#keep(identity, digest);
        outcomes.push(outcome);
      }
      return outcomes;
    } finally {
      this.inFlight -= 1;
    }
  }

  async probe() {
    this.probes += 1;
    return this.reachable ? ({ alive: true } as const) : ({ alive: false, reason: 'connection refused' } as const);
  }

  async lookUp(instances: readonly InstanceIdentity[]): Promise<Set<string> | null> {
    if (!this.reachable) return null;
    this.lookUps += 1;
    const uids = instances.map(({ sopInstanceUid }) => sopInstanceUid);
    return new Set(uids.filter((uid) => this.showsHeld && this.held.has(uid)));
  }

  async readBack(instance: InstanceIdentity) {
    if (!this.reachable) return null;
    return this.held.get(instance.sopInstanceUid) ?? ('absent' as const);
  }

  async close() {}

  #keep({ sopInstanceUid, transferSyntaxUid }: InstanceIdentity, digest: string): void {
    if (this.held.has(sopInstanceUid) && !this.replaces) return;
    this.held.set(sopInstanceUid, { digest, transferSyntaxUid });
  }
}
