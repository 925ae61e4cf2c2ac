import type { Delivery, Lane } from '../domain/delivery.ts';
import type { Rank, Urgency } from '../domain/rank.ts';
import { type BatchBounds, ReplayWindow, type ReplayWindowOptions, type WorkBatch } from './replay-window.ts';

/** A lane, and whether anything of it may be sent now; what was answered may be asked for at any time. */
export interface LaneTurn {
  readonly lane: Lane;
  readonly maySend: boolean;
}

/** A window for each lane, so that what is live finds a slot whatever waits before it in the backlog. */
export class LaneWindows {
  readonly #windows: ReadonlyMap<Lane, ReplayWindow>;

  constructor(options: Omit<ReplayWindowOptions, 'lane'>) {
    const lanes: readonly Lane[] =
      options.historyTier === undefined ? ['backlog', 'live'] : ['backlog', 'live', 'history'];
    this.#windows = new Map(lanes.map((lane) => [lane, new ReplayWindow({ ...options, lane })]));
  }

  /** The most urgent deliveries of the first of these lanes that has any which may be worked on now. */
  async take(
    lanes: readonly LaneTurn[],
    now: number,
    bounds: Omit<BatchBounds, 'maySend'>,
  ): Promise<WorkBatch | undefined> {
    for (const { lane, maySend } of lanes) {
      const work = await this.#windows.get(lane)?.take(now, { ...bounds, maySend });
      if (work !== undefined) return work;
    }
    return undefined;
  }

  /** One pending delivery for a trial; see `ReplayWindow`. The backlog has it, unless nothing was held up. */
  async takeTrial(
    now: number,
    isTried: (delivery: Delivery) => boolean,
    isFreshOnly: boolean,
  ): Promise<WorkBatch | undefined> {
    for (const window of this.#windows.values()) {
      const work = await window.takeTrial(now, isTried, isFreshOnly);
      if (work !== undefined) return work;
    }
    return undefined;
  }

  /** @param lane - Where it belongs, unless its study is held in another one already. */
  arrived(studyInstanceUid: string, rank: Rank, lane: Lane): void {
    const windows = [...this.#windows.values()];
    const holding = windows.find((window) => window.holds(studyInstanceUid));
    (holding ?? this.#windows.get(lane))?.arrived(studyInstanceUid, rank);
    // The study may wait in the catalog as one of another lane.
    if (holding === undefined) this.refresh();
  }

  refresh(): void {
    for (const window of this.#windows.values()) window.refresh();
  }

  drop(deliveryIds: ReadonlySet<number>): void {
    for (const window of this.#windows.values()) window.drop(deliveryIds);
  }

  restated(studyInstanceUid: string, urgency: Urgency): void {
    for (const window of this.#windows.values()) window.restated(studyInstanceUid, urgency);
  }

  ranked(studyInstanceUid: string, rank: Rank): void {
    for (const window of this.#windows.values()) window.ranked(studyInstanceUid, rank);
  }

  async releaseAll(): Promise<void> {
    for (const window of this.#windows.values()) await window.releaseAll();
  }
}
