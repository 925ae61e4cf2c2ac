import type { Catalog } from '../catalog.ts';
import { EpisodeTally, type StudyTally } from '../episode-tally.ts';
import type { Connection } from './connection.ts';
import { storedEpisode } from './episode-operations.ts';

/** Rows that one call looks at: fewer than what a commit of a large batch takes. */
const ROWS_A_PART = 4_000;

/** A part of an episode's set, by the ids of its deliveries. */
export interface EpisodePart {
  readonly episodeId: number;
  /** Null for the first part. */
  readonly range: { readonly afterId: number; readonly upToId: number } | null;
}

/** What is in a part, and the next. */
export interface CountedPart {
  readonly pendingAtStart: number;
  readonly received: number;
  readonly studies: readonly StudyTally[];
  readonly next: EpisodePart | null;
}

const END_OF_PART = `SELECT max(id) AS last, count(*) AS rows FROM (
  SELECT id FROM deliveries WHERE id > ? AND id <= ? ORDER BY id LIMIT ?)`;

// The set: accepted by its end, and not final at its start. CROSS JOIN fixes the order: by id, each row once.
export const COUNT_PART = `SELECT d.work_id AS key, w.tier, sum(d.bytes) AS bytes, max(d.settled_at) AS settledAt,
    sum(d.id > ?) AS received, sum(d.state = 'verified') AS verified, sum(d.state = 'quarantined') AS quarantined,
    sum(d.state = 'discarded') AS discarded, sum(d.state = 'pending') AS pending, sum(d.state = 'sent') AS sent
  FROM deliveries d NOT INDEXED CROSS JOIN work w ON w.work_id = d.work_id
  WHERE d.id > ? AND d.id <= ? AND d.destination_key = ? AND (d.settled_seq IS NULL OR d.settled_seq > ?)
    AND (d.id > ? OR NOT EXISTS (SELECT 1 FROM former_settlements f
      WHERE f.delivery_id = d.id AND f.settled_seq <= ? AND f.until_seq > ?))
  GROUP BY d.work_id`;

/** Counts in parts: each row is looked at once, whatever becomes of it meanwhile. */
export function countEpisodePart(connection: Connection, { episodeId, range }: EpisodePart): CountedPart {
  const episode = storedEpisode(connection, episodeId);
  const { start_seq: start, destination_key: key, pending_at_start: pendingAtStart } = episode;
  const { afterId, upToId } = range ?? { afterId: episode.first_id - 1, upToId: episode.end_seq ?? latest(connection) };
  const end = connection.get<{ last: number | null; rows: number }>(END_OF_PART, afterId, upToId, ROWS_A_PART);
  const last = end?.last ?? upToId;
  const rows = connection.all<StudyTally & { received: number } & Record<string, number | null>>(
    COUNT_PART,
    start,
    afterId,
    last,
    key,
    start,
    start,
    start,
    start,
  );
  return {
    pendingAtStart,
    received: rows.reduce((sum, row) => sum + row.received, 0),
    studies: rows.map(({ received: _, ...study }) => study),
    next: (end?.rows ?? 0) < ROWS_A_PART ? null : { episodeId, range: { afterId: last, upToId } },
  };
}

/** Counts an episode part by part, so that other calls go on in between. */
export async function countEpisode(
  countPart: (part: EpisodePart) => CountedPart | Promise<CountedPart>,
  episodeId: number,
): ReturnType<Catalog['countEpisode']> {
  let tally: EpisodeTally | null = null;
  for (let part: EpisodePart | null = { episodeId, range: null }; part !== null; ) {
    const counted: CountedPart = await countPart(part);
    tally ??= new EpisodeTally(counted.pendingAtStart);
    tally.add(counted.received, counted.studies);
    part = counted.next;
  }
  return (tally ?? new EpisodeTally(0)).result();
}

function latest(connection: Connection): number {
  return connection.get<{ sequence: number }>('SELECT sequence FROM counters')?.sequence ?? 0;
}
