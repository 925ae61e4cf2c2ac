import { EventEmitter } from 'eventemitter3';
import type { SpillwayEvents } from './events.ts';

type Listener<Name extends keyof SpillwayEvents> = (detail: SpillwayEvents[Name]) => void;

/** Emits events to listeners that may throw or reject without breaking anything: that is reported as `fault`. */
export class GuardedEmitter {
  readonly #emitter = new EventEmitter();
  /** Listeners as they are called. */
  readonly #guarded = new WeakMap<object, (...details: unknown[]) => void>();
  #isReporting = false;

  on<Name extends keyof SpillwayEvents>(name: Name, listener: Listener<Name>): void {
    let guarded = this.#guarded.get(listener);
    if (guarded === undefined) {
      guarded = (detail) => {
        try {
          // A listener may be async, whatever its type says; one that rejects must not end the process.
          const result: unknown = listener(detail as SpillwayEvents[Name]);
          if (result instanceof Promise) result.catch((error) => this.#report(error));
        } catch (error) {
          this.#report(error);
        }
      };
      this.#guarded.set(listener, guarded);
    }
    this.#emitter.on(name, guarded);
  }

  off<Name extends keyof SpillwayEvents>(name: Name, listener: Listener<Name>): void {
    const guarded = this.#guarded.get(listener);
    if (guarded !== undefined) this.#emitter.off(name, guarded);
  }

  emit(name: keyof SpillwayEvents, detail: SpillwayEvents[keyof SpillwayEvents]): void {
    this.#emitter.emit(name, detail);
  }

  removeAllListeners(): void {
    this.#emitter.removeAllListeners();
  }

  /** Once, since the listener for faults may throw as well. */
  #report(error: unknown): void {
    if (this.#isReporting) return;
    this.#isReporting = true;
    this.emit('fault', { error });
    this.#isReporting = false;
  }
}
