import type { Evidence } from '../domain/delivery.ts';
import type { BlobRoom } from '../storage/blob-store.ts';
import type { StudyRecord } from '../storage/catalog.ts';

/** How long what every destination has verified stays, and what goes first where there is no room. */
export interface RetentionOptions {
  /**
   * Studies of which something came within so many ms go after all older ones where room is short; while a destination is
   * down, only where new ones would be refused otherwise. No guarantee: only `evidence` and verification are. @default 28 days: three to four weeks are asked for after 24 to 48 hours of downtime
   */
  readonly keepMs?: number | undefined;
  /** Verified studies go after so many ms, even where there is room. @default never */
  readonly maxAgeMs?: number | undefined;
  /** What each delivery must have reached, besides what its destination's `verify` asks for. @default 'answered' */
  readonly evidence?: Evidence | undefined;
  /**
   * Which of two studies that may be evicted goes first: negative for `a`. It is given those that were received least
   * recently, 256 at a time. @default least recently received first
   */
  readonly order?: ((a: StudyRecord, b: StudyRecord) => number) | undefined;
}

/** `RetentionOptions` with every default filled in. */
export interface RetentionPolicy {
  readonly keepMs: number;
  readonly maxAgeMs: number;
  readonly evidence: Evidence;
  readonly order: ((a: StudyRecord, b: StudyRecord) => number) | null;
}

export const defaultRetentionPolicy: RetentionPolicy = {
  keepMs: 28 * 24 * 3_600_000,
  maxAgeMs: Number.POSITIVE_INFINITY,
  evidence: 'answered',
  order: null,
};

/** A step of the ladder: evict what is past the window, then what is inside it. Below them new instances are refused. */
export type Rung = 'past-window' | 'inside-window';

const HEADROOM_PART = 0.01;
const MAX_HEADROOM_BYTES = 1024 ** 3;

/** Room that is made before it is needed, so that nobody waits for it. */
export function headroomBytes({ ofBytes }: BlobRoom): number {
  return Number.isFinite(ofBytes) ? Math.min(MAX_HEADROOM_BYTES, ofBytes * HEADROOM_PART) : 0;
}

/**
 * Which steps are to be taken, in this order, until there are `goalBytes`. What is inside the window is a patient's recent
 * studies: while a destination is down they may be the only ones that can be read, and go only before a refusal.
 */
export function rungs(
  room: BlobRoom,
  want: { readonly goalBytes: number; readonly isRefusing: boolean; readonly isAnyDown: boolean },
): readonly Rung[] {
  if (room.bytes >= want.goalBytes) return [];
  return want.isRefusing || !want.isAnyDown ? ['past-window', 'inside-window'] : ['past-window'];
}
