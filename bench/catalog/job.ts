import type { MadeStore } from './backlog-store.ts';

/** What a child process is to do. */
export interface Job {
  readonly scenario: 'open' | 'replay' | 'operations' | 'plans';
  readonly directory: string;
  readonly made: MadeStore;
  /** `open`: it waits to be killed with requests in flight, instead of closing. */
  readonly kill?: boolean;
  /** `open`: so much later than the store was made, in days. */
  readonly daysLater?: number;
  /** `open`: by another policy than the one that the backlog is ranked by. */
  readonly otherPolicy?: boolean;
  /** `replay`: instances that the destination takes. */
  readonly deliveries?: number;
}

export interface OpenResult {
  readonly openMs: number;
  /** From the beginning of the opening until an instance is handed over, or asked for. */
  readonly firstSentMs: number;
  readonly firstAskedMs: number | null;
  readonly statusMs: readonly number[];
}

export interface ReplayResult {
  readonly replayMs: number;
  /** Bytes. */
  readonly peakRss: number;
  readonly settledRss: number;
  readonly collectedRss: number;
  readonly loopDelayMs: { readonly median: number; readonly p999: number; readonly max: number };
}

/** Milliseconds of each call, by what was called. */
export type OperationsResult = Readonly<Record<string, readonly number[]>>;

/** One SQL text: what it is planned as, and where that is no search by index alone. */
export interface StatementPlan {
  readonly sql: string;
  readonly plan: readonly string[];
  readonly calls: number;
  readonly slowestMs: number;
}
