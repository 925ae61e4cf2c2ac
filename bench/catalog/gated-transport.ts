import type { OutgoingInstance, SendOutcome, Transport } from '../../src/transports/transport.ts';

const STORED: SendOutcome = { kind: 'stored' };

/**
 * A peer in the same process that stores a number of instances at once and lets the rest wait until it is told, and
 * remembers of them only what it has not been asked for: what the process needs is spillway's own.
 */
export class GatedTransport implements Transport {
  readonly supports = { lookUp: true, readBack: false };
  readonly batch = { maxInstances: 16, maxBytes: 4 * 1024 * 1024 };
  /** Resolves with the instant (`performance.now()`) at which the first instance was handed over. */
  readonly firstSent: Promise<number>;
  /** Likewise for the first question. */
  firstAskedAt: number | undefined;
  stored = 0;
  bytes = 0;
  readonly #unasked = new Set<string>();
  #left: number;
  #sent: (at: number) => void = () => {};
  readonly #opened = Promise.withResolvers<void>();

  constructor(quota: number) {
    this.#left = quota;
    this.firstSent = new Promise((resolve) => {
      this.#sent = resolve;
    });
  }

  /** Answers what waits. */
  open(): void {
    this.#opened.resolve();
  }

  async send(instances: readonly OutgoingInstance[]): Promise<readonly SendOutcome[]> {
    this.#sent(performance.now());
    if (this.#left <= 0) await this.#opened.promise;
    this.#left -= instances.length;
    for (const instance of instances) {
      for await (const chunk of instance.open()) this.bytes += chunk.byteLength;
      this.#unasked.add(instance.identity.sopInstanceUid);
    }
    this.stored += instances.length;
    return instances.map(() => STORED);
  }

  async probe() {
    return { alive: true } as const;
  }

  async lookUp(instances: readonly { readonly sopInstanceUid: string }[]) {
    this.firstAskedAt ??= performance.now();
    return new Set(instances.map(({ sopInstanceUid }) => sopInstanceUid).filter((uid) => this.#unasked.delete(uid)));
  }

  async readBack() {
    return null;
  }

  async close() {}
}
