import type { InstanceIdentity } from '../../src/domain/identity.ts';
import type { Host } from '../../src/simulator/host.ts';
import { bytes, milliseconds } from '../../src/simulator/quantity.ts';
import type { TargetModel } from '../../src/simulator/scenario.ts';
import type { SentInstance, Target } from '../../src/simulator/target.ts';
import type { OutgoingInstance, ProbeOutcome, SendOutcome, Transport } from '../../src/transports/transport.ts';

/** What a transport to a simulated target needs to know of the world. */
export interface TargetTransportOptions {
  readonly model: TargetModel;
  readonly target: Target;
  readonly host: Host;
  /** What an instance is in the simulated world. */
  readonly sent: (identity: InstanceIdentity) => SentInstance;
  /** The digest that it was accepted with. */
  readonly digestOf: (identity: InstanceIdentity) => string;
  readonly onSend: (instances: readonly SentInstance[]) => void;
}

/** A transport to a simulated target, in virtual time: it gives up by its time-out, and the target goes on. */
export class TargetTransport implements Transport {
  readonly supports: Transport['supports'];
  readonly batch: Transport['batch'];
  readonly #options: TargetTransportOptions;
  readonly #timeoutMs: number;
  #inFlight = 0;
  mostInFlight = 0;

  constructor(options: TargetTransportOptions) {
    const { model } = options;
    this.#options = options;
    this.supports = { lookUp: model.canLookUp ?? true, readBack: model.canReadBack ?? true };
    this.batch = { maxInstances: model.maxInstances ?? 20, maxBytes: bytes(model.maxBytes ?? '33 MB') };
    this.#timeoutMs = milliseconds(model.timeout ?? '60 s');
  }

  async send(instances: readonly OutgoingInstance[]): Promise<readonly SendOutcome[]> {
    const { target, sent, onSend } = this.#options;
    const going = instances.map(({ identity }) => sent(identity));
    onSend(going);
    this.#inFlight += 1;
    this.mostInFlight = Math.max(this.mostInFlight, this.#inFlight);
    const lost: SendOutcome = { kind: 'ambiguous', reason: 'no answer in time' };
    const outcomes = await this.#inTime<readonly SendOutcome[]>(
      (answer) => target.send(going, answer),
      going.map(() => lost),
    );
    this.#inFlight -= 1;
    return outcomes;
  }

  probe(): Promise<ProbeOutcome> {
    const dead: ProbeOutcome = { alive: false, reason: 'no answer' };
    return this.#inTime<ProbeOutcome>(
      (answer) => this.#options.target.probe((isAlive) => answer(isAlive ? { alive: true } : dead)),
      dead,
    );
  }

  async lookUp(instances: readonly InstanceIdentity[]): Promise<ReadonlySet<string> | null> {
    const { target, sent } = this.#options;
    const uids = new Map(instances.map((identity) => [sent(identity).uid, identity.sopInstanceUid]));
    const shown = await this.#inTime<ReadonlySet<string> | null>(
      (answer) => target.lookUp([...uids.keys()], answer),
      null,
    );
    return shown === null ? null : new Set([...shown].flatMap((uid) => uids.get(uid) ?? []));
  }

  async readBack(instance: InstanceIdentity): ReturnType<Transport['readBack']> {
    const shown = await this.lookUp([instance]);
    if (shown === null) return null;
    const { transferSyntaxUid, sopInstanceUid } = instance;
    return shown.has(sopInstanceUid) ? { digest: this.#options.digestOf(instance), transferSyntaxUid } : 'absent';
  }

  async close(): Promise<void> {}

  #inTime<T>(ask: (answer: (value: T) => void) => void, otherwise: T): Promise<T> {
    const { host } = this.#options;
    return new Promise((resolve) => {
      const cancel = host.after(this.#timeoutMs, () => resolve(otherwise));
      ask(
        host.heard((value: T) => {
          cancel();
          resolve(value);
        }),
      );
    });
  }
}
