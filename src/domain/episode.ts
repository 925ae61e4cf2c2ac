/** One outage of one destination, as the catalog keeps it. Instants are ms since the epoch. */
export interface EpisodeRecord {
  readonly id: number;
  readonly destinationId: string;
  /** Why the destination was held to be down; for a planned one, the reason that was given. */
  readonly cause: string;
  /** A person declared it, or took it over. */
  readonly planned: boolean;
  /** When a planned one is expected to end; null when nobody said. */
  readonly expectedEndAt: number | null;
  /** When a person said that a planned one is over, so that the destination is asked; null before, and without a plan. */
  readonly planEndedAt: number | null;
  /** First failure of those that led to the outage. */
  readonly startedAt: number;
  /** When it was declared. */
  readonly detectedAt: number;
  /** When the destination stored again; null while it is down. */
  readonly endedAt: number | null;
  /** When everything of the set had been sent. */
  readonly drainedAt: number | null;
  /** When everything of the set was verified, quarantined or discarded. */
  readonly closedAt: number | null;
  /** Deliveries that were pending or unverified when it began. */
  readonly pendingAtStart: number;
}

/** What became of one tier of an episode's set. Studies stand in their present tier. */
export interface EpisodeTierCounts extends EpisodeCounts {
  readonly tier: number;
  readonly studies: number;
  /** Bytes of all of the set. */
  readonly bytes: number;
  /**
   * When the first and the last of its studies had all of their deliveries of the set final, ms since the epoch; null
   * where none has (first), or not all have (last).
   */
  readonly firstStudyAt: number | null;
  readonly lastStudyAt: number | null;
}

/**
 * What became of an episode's set: the deliveries pending at its start and those accepted until recovery.
 * `received` is counted where deliveries come in, the others where they end: the two meet only if nothing vanished.
 */
export interface EpisodeCounts {
  readonly received: number;
  readonly verified: number;
  readonly quarantined: number;
  readonly discarded: number;
  /** Not yet final: pending or sent. */
  readonly outstanding: number;
  /** Of `outstanding`, those not yet sent. */
  readonly pending: number;
}
