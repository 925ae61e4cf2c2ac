import { closeSync, fsyncSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';
import { readAndDigest } from '../../dicom/data-set-digest.ts';
import type { InstanceIdentity } from '../../domain/identity.ts';
import type { OutgoingInstance, SendOutcome, Transport } from '../../transports/transport.ts';

/** One instance, one time. */
interface Received {
  readonly sopInstanceUid: string;
  readonly digest: string;
}

/** What the file says was received, oldest first; a line that was being written does not count. */
export function readReceived(file: string): readonly Received[] {
  const text = readFileSync(file, 'utf8');
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
  return lines.slice(0, -1).map((line) => {
    const [sopInstanceUid = '', digest = ''] = line.split(' ');
    return { sopInstanceUid, digest };
  });
}

/**
 * A destination that says `stored` only once the instance is on record in a file that was synced; it shows what is on
 * record. So the file is the truth that the states of deliveries are held against.
 */
export class RecordingTransport implements Transport {
  readonly supports = { lookUp: true, readBack: false };
  readonly batch = { maxInstances: 3, maxBytes: 1024 * 1024 };
  readonly #file: number;
  readonly #held: Set<string>;
  readonly #receive: <T>(record: () => Promise<T>) => Promise<T>;

  /** @param receive - Comes between an instance and its record. */
  constructor(path: string, receive: <T>(record: () => Promise<T>) => Promise<T> = (record) => record()) {
    this.#receive = receive;
    this.#file = openSync(path, 'a+');
    const text = readFileSync(path, 'utf8');
    truncateSync(path, Buffer.byteLength(text.slice(0, text.lastIndexOf('\n') + 1)));
    this.#held = new Set(readReceived(path).map(({ sopInstanceUid }) => sopInstanceUid));
  }

  async send(instances: readonly OutgoingInstance[]): Promise<readonly SendOutcome[]> {
    const outcomes: SendOutcome[] = [];
    for (const { identity, open } of instances) {
      const { digest } = await readAndDigest(open());
      await this.#receive(async () => {
        writeSync(this.#file, `${identity.sopInstanceUid} ${digest}\n`);
        fsyncSync(this.#file);
      });
      this.#held.add(identity.sopInstanceUid);
      outcomes.push({ kind: 'stored' });
    }
    return outcomes;
  }

  async probe() {
    return { alive: true } as const;
  }

  async lookUp(instances: readonly InstanceIdentity[]): Promise<ReadonlySet<string>> {
    return new Set(instances.map(({ sopInstanceUid }) => sopInstanceUid).filter((uid) => this.#held.has(uid)));
  }

  async readBack() {
    return null;
  }

  async close(): Promise<void> {
    closeSync(this.#file);
  }
}
