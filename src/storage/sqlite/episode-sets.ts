import type { DeliveryState } from '../../domain/delivery.ts';
import type { Connection } from './connection.ts';
import { COUNT_STATE } from './destination-operations.ts';

/** What the set of an episode is told by. */
export type EpisodeSet = { episode_id: number; start_seq: number; end_seq: number | null };

export const UNCLOSED = `SELECT episode_id, start_seq, end_seq FROM episodes
  WHERE destination_key = ? AND closed_at IS NULL`;

/** Whether a delivery was final at a number of the sequence, though something else became of it later. */
export const WAS_FINAL = `SELECT 1 AS found FROM former_settlements
  WHERE delivery_id = ? AND settled_seq <= ? AND until_seq > ? LIMIT 1`;

const ADD_TO_SET = 'UPDATE episodes SET pending = pending + ?, sent = sent + ? WHERE episode_id = ?';

/** Within a transaction. */
function unclosedEpisodes(connection: Connection, destinationKey: number): readonly EpisodeSet[] {
  return connection.once(`unclosed ${destinationKey}`, () => connection.all<EpisodeSet>(UNCLOSED, destinationKey));
}

/** Whether an outage of the destination is under way: what is owed to it now is backlog. Within a transaction. */
export function isInOutage(connection: Connection, destinationKey: number): boolean {
  return unclosedEpisodes(connection, destinationKey).some(({ end_seq }) => end_seq === null);
}

/** Counts what has become of a delivery: to its destination, and to the episodes that are not closed and have it in their sets. */
export function countState(
  connection: Connection,
  { id, destination_key: key }: { readonly id: number; readonly destination_key: number },
  from: DeliveryState | null,
  to: DeliveryState,
): void {
  if (from === to) return;
  if (from !== null) connection.accumulate(COUNT_STATE[from], [-1], [key]);
  connection.accumulate(COUNT_STATE[to], [1], [key]);
  const change = (state: DeliveryState) => Number(to === state) - Number(from === state);
  const [pending, sent] = [change('pending'), change('sent')];
  if (pending === 0 && sent === 0) return;
  for (const episode of unclosedEpisodes(connection, key)) {
    if (isInSet(connection, episode, id)) {
      connection.accumulate(ADD_TO_SET, [pending, sent], [episode.episode_id]);
    }
  }
}

/** Whether a delivery that was open at some time since the episode began is of its set. */
function isInSet(connection: Connection, { start_seq, end_seq }: EpisodeSet, id: number): boolean {
  if (id > (end_seq ?? Number.MAX_SAFE_INTEGER)) return false;
  return id > start_seq || connection.get(WAS_FINAL, id, start_seq, start_seq) === undefined;
}
