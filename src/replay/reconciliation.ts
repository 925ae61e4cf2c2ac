import type { EpisodeCounts, EpisodeRecord } from '../domain/episode.ts';
import { formatDuration } from '../domain/units.ts';
import type { Catalog } from '../storage/catalog.ts';
import type { TierPolicy } from '../tiers/policy.ts';

/** What became of everything that an outage held up. */
export interface Reconciliation extends EpisodeCounts {
  readonly episode: EpisodeRecord;
  /**
   * received - verified - quarantined - discarded - outstanding. `received` is counted where deliveries come in, the
   * others where they end, so that anything but 0 means that something vanished or was invented.
   */
  readonly unaccounted: number;
  /** The same by the studies' present tier; `received` belongs to no tier, since studies may change theirs. */
  readonly tiers: readonly (Omit<EpisodeCounts, 'received'> & { readonly tier: string })[];
}

/** Counts an episode's set from the deliveries themselves. */
export async function reconcile(catalog: Catalog, episode: EpisodeRecord, policy: TierPolicy): Promise<Reconciliation> {
  const { total, tiers } = await catalog.countEpisode(episode.id);
  const accounted = total.verified + total.quarantined + total.discarded + total.outstanding;
  return {
    episode,
    ...total,
    unaccounted: total.received - accounted,
    tiers: tiers.map(({ tier, ...counts }) => ({ tier: policy.tiers[tier]?.id ?? `tier ${tier}`, ...counts })),
  };
}

/** A reconciliation as a page for a person. Times are UTC. */
export function formatReconciliation(reconciliation: Reconciliation): string {
  const { episode, received, verified, quarantined, discarded, outstanding, unaccounted } = reconciliation;
  const lines = [
    `Outage of ${episode.destinationId} (episode ${episode.id}): ${episode.cause}`,
    instantLine('began', episode.startedAt, null),
    instantLine('detected', episode.detectedAt, episode.startedAt),
    instantLine('ended', episode.endedAt, episode.startedAt),
    instantLine('drained', episode.drainedAt, episode.endedAt),
    instantLine('closed', episode.closedAt, episode.endedAt),
    '',
    ...table([
      ['', 'verified', 'quarantined', 'discarded', 'outstanding'],
      ...reconciliation.tiers.map((row) => [
        row.tier,
        ...[row.verified, row.quarantined, row.discarded, row.outstanding].map(String),
      ]),
      ['all', ...[verified, quarantined, discarded, outstanding].map(String)],
    ]),
    '',
    `received ${received} = verified ${verified} + quarantined ${quarantined} + discarded ${discarded}` +
      `${outstanding > 0 ? ` + outstanding ${outstanding}` : ''}${unaccounted === 0 ? '' : ` + UNACCOUNTED ${unaccounted}`}`,
    unaccounted === 0
      ? 'It balances: nothing is unaccounted for.'
      : 'IT DOES NOT BALANCE: look into it before you rely on it.',
  ];
  return lines.join('\n');
}

function instantLine(name: string, at: number | null, since: number | null): string {
  if (at === null) return `  ${name.padEnd(9)} not yet`;
  const after = since === null ? '' : `  (+${formatDuration(at - since)})`;
  return `  ${name.padEnd(9)} ${new Date(at).toISOString()}${after}`;
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  '),
  );
}
