import { milliseconds } from './quantity.ts';
import type { TargetFault } from './scenario.ts';

interface Fault {
  readonly kind: TargetFault['kind'];
  readonly fromMs: number;
  readonly toMs: number;
  readonly everyMs: number;
  readonly duringMs: number;
  readonly nth: number;
  readonly retryAfterMs: number | undefined;
  readonly sinceMs: number;
  /** What it might have befallen so far. */
  count: number;
}

/** What goes wrong at a target, and when. */
export class TargetFaults {
  readonly #faults: readonly Fault[];

  constructor(faults: readonly TargetFault[], endMs: number) {
    this.#faults = faults.map((fault) => {
      const fromMs = milliseconds(fault.from);
      const toMs = fault.to === undefined ? endMs : milliseconds(fault.to);
      const everyMs = fault.every === undefined ? Number.POSITIVE_INFINITY : milliseconds(fault.every);
      const duringMs = fault.during === undefined ? everyMs : milliseconds(fault.during);
      return {
        kind: fault.kind,
        fromMs,
        toMs,
        everyMs,
        duringMs,
        nth: fault.nth ?? 1,
        retryAfterMs: fault.retryAfter === undefined ? undefined : milliseconds(fault.retryAfter),
        sinceMs: milliseconds(fault.since ?? '0 s'),
        count: 0,
      };
    });
  }

  /** Whether a fault of this kind is in force. */
  isInForce(kind: TargetFault['kind'], at: number): boolean {
    return this.#inForce(kind, at) !== undefined;
  }

  /** Whether it is this one's turn, of those that a fault befalls by number. */
  befalls(kind: TargetFault['kind'], at: number): boolean {
    const fault = this.#inForce(kind, at);
    if (fault === undefined) return false;
    fault.count += 1;
    return fault.count % fault.nth === 0;
  }

  retryAfterMs(kind: TargetFault['kind'], at: number): number | undefined {
    return this.#inForce(kind, at)?.retryAfterMs;
  }

  /** The instants at which it dies. */
  get deaths(): readonly number[] {
    const deaths: number[] = [];
    for (const { kind, fromMs, toMs, everyMs } of this.#faults) {
      if (kind !== 'dead') continue;
      for (let at = fromMs; at < toMs; at += everyMs) deaths.push(at);
    }
    return deaths;
  }

  /** When it is put back, and since when what it stored is gone. */
  get restorations(): readonly { readonly at: number; readonly sinceMs: number }[] {
    return this.#faults
      .filter(({ kind }) => kind === 'restored')
      .map(({ fromMs, sinceMs }) => ({ at: fromMs, sinceMs }));
  }

  #inForce(kind: TargetFault['kind'], at: number): Fault | undefined {
    return this.#faults.find((fault) => {
      if (fault.kind !== kind || at < fault.fromMs || at >= fault.toMs) return false;
      return fault.everyMs === Number.POSITIVE_INFINITY || (at - fault.fromMs) % fault.everyMs < fault.duringMs;
    });
  }
}
