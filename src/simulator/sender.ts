import type { Host } from './host.ts';
import { milliseconds } from './quantity.ts';
import type { TargetModel } from './scenario.ts';
import type { SentInstance, Target, TargetOutcome } from './target.ts';
import { heard, type Task } from './task.ts';

/** The way from the gateway to a target: what is not answered in time is given up here, and goes on there. */
export class Sender {
  readonly canLookUp: boolean;
  readonly canReadBack: boolean;
  readonly #target: Target;
  readonly #host: Host;
  readonly #timeoutMs: number;

  constructor(model: TargetModel, target: Target, host: Host) {
    this.canLookUp = model.canLookUp ?? true;
    this.canReadBack = model.canReadBack ?? true;
    this.#target = target;
    this.#host = host;
    this.#timeoutMs = milliseconds(model.timeout ?? '60 s');
  }

  *send(instances: readonly SentInstance[]): Task<readonly TargetOutcome[]> {
    const lost = { kind: 'ambiguous', reason: 'no answer in time' } as const;
    return yield* this.#inTime<readonly TargetOutcome[]>(
      (answer) => this.#target.send(instances, answer),
      instances.map(() => lost),
    );
  }

  *probe(): Task<boolean> {
    return yield* this.#inTime((answer) => this.#target.probe(answer), false);
  }

  /** Which of these a query shows; null when it could not be asked. */
  *lookUp(uids: readonly string[]): Task<ReadonlySet<string> | null> {
    if (!this.canLookUp) return null;
    return yield* this.#inTime<ReadonlySet<string> | null>((answer) => this.#target.lookUp(uids, answer), null);
  }

  *#inTime<T>(ask: (answer: (value: T) => void) => void, otherwise: T): Task<T> {
    return yield* heard<T>((answer) => {
      let isOver = false;
      const end = (value: T) => {
        if (isOver) return;
        isOver = true;
        cancel();
        answer(value);
      };
      const cancel = this.#host.after(this.#timeoutMs, () => end(otherwise));
      ask(this.#host.heard(end));
    });
  }
}
