import { expect } from 'vitest';
import {
  type DestinationEffect,
  type DestinationEvent,
  type DestinationState,
  initialDestination,
  stepDestination,
} from '../../src/routing/destination.ts';
import type { HealthPhase } from '../../src/routing/health.ts';

export const success = { type: 'success' } as const;
export const tick = { type: 'tick' } as const;
export const failure = { type: 'failure', reason: 'connection refused' } as const;
export const softRefusal = { type: 'soft-refusal', reason: '0110' } as const;
export const probeEnded = (alive: boolean) =>
  ({ type: 'probe-ended', alive, reason: alive ? 'it answers' : 'no answer' }) as const;
export const trialEnded = (alive: boolean) =>
  ({ type: 'trial-ended', alive, reason: alive ? 'it stores' : 'disk full' }) as const;

/** A destination whose events are played one after another. */
export class Played {
  state: DestinationState;
  at = 1_000_000;

  constructor(phase: 'up' | 'down' | 'recovering' = 'up') {
    this.state = initialDestination(this.at, phase, 'as found');
  }

  get phase(): HealthPhase {
    return this.state.health.phase;
  }

  /** Plays events at one instant, `afterMs` after those before; returns their effects. */
  play(afterMs: number, ...events: DestinationEvent[]): DestinationEffect[] {
    this.at += afterMs;
    return events.flatMap((event) => {
      const { state, effects } = stepDestination(this.state, event, this.at, 0.5);
      this.state = state;
      return [...effects];
    });
  }

  down(): this {
    this.play(1, failure, failure, probeEnded(false));
    expect(this.phase).toBe('down');
    return this;
  }
}
