import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { readAndDigest } from '../../src/dicom/data-set-digest.ts';
import type { InstanceIdentity } from '../../src/domain/identity.ts';
import type { OutgoingInstance, SendOutcome, Transport } from '../../src/transports/transport.ts';

/**
 * A peer that notes in a file what it holds, before it answers: it survives the process that sends to it, and what is
 * said of it can be held against it.
 */
export class FilePeer implements Transport {
  readonly supports = { lookUp: true, readBack: false };
  readonly batch = { maxInstances: 4, maxBytes: 1024 * 1024 };
  readonly #file: string;
  /** Digests by SOP Instance UID. */
  readonly held: Map<string, string>;

  constructor(file: string) {
    this.#file = file;
    const lines = existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(0, -1) : [];
    this.held = new Map(lines.map((line) => line.split(' ') as [string, string]));
  }

  async send(instances: readonly OutgoingInstance[]): Promise<readonly SendOutcome[]> {
    const outcomes: SendOutcome[] = [];
    for (const { identity, open } of instances) {
      const { digest } = await readAndDigest(open());
      appendFileSync(this.#file, `${identity.sopInstanceUid} ${digest}\n`);
      this.held.set(identity.sopInstanceUid, digest);
      outcomes.push({ kind: 'stored' });
    }
    return outcomes;
  }

  async probe() {
    return { alive: true } as const;
  }

  async lookUp(instances: readonly InstanceIdentity[]) {
    return new Set(instances.map(({ sopInstanceUid }) => sopInstanceUid).filter((uid) => this.held.has(uid)));
  }

  async readBack() {
    return null;
  }

  async close() {}
}
