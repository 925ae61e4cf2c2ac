import type { EpisodeCounts, EpisodeRecord } from '../domain/episode.ts';
import { formatBytes, formatDuration } from '../domain/units.ts';
import type { Catalog } from '../storage/catalog.ts';
import type { TierPolicy } from '../tiers/policy.ts';
import { csvLine } from './csv.ts';

/** What became of everything that an outage held up. */
export interface Reconciliation extends EpisodeCounts {
  readonly episode: EpisodeRecord;
  readonly studies: number;
  readonly bytes: number;
  /**
   * received - verified - quarantined - discarded - outstanding. `received` is counted where deliveries come in, the
   * others where they end, so that anything but 0 means that something vanished or was invented.
   */
  readonly unaccounted: number;
  /** The same by the studies' present tier, most urgent first; tiers without any are left out. */
  readonly tiers: readonly ReconciledTier[];
}

/** What became of one tier of what an outage held up. */
export interface ReconciledTier extends EpisodeCounts {
  /** As the policy names it; `tier 3` for one that it has no more. */
  readonly tier: string;
  readonly studies: number;
  readonly bytes: number;
  /**
   * ms from the end of the outage until the first and the last of its studies were verified, quarantined or discarded as
   * a whole; null while none is (first), or not all are (last). What was done before the end counts as 0.
   */
  readonly firstStudyMs: number | null;
  readonly lastStudyMs: number | null;
}

/** Counts an episode's set from the deliveries themselves. */
export async function reconcile(catalog: Catalog, episode: EpisodeRecord, policy: TierPolicy): Promise<Reconciliation> {
  const { total, tiers } = await catalog.countEpisode(episode.id);
  const accounted = total.verified + total.quarantined + total.discarded + total.outstanding;
  return {
    episode,
    ...total,
    studies: tiers.reduce((sum, { studies }) => sum + studies, 0),
    bytes: tiers.reduce((sum, { bytes }) => sum + bytes, 0),
    unaccounted: total.received - accounted,
    tiers: tiers.map(({ tier, firstStudyAt, lastStudyAt, ...counts }) => ({
      tier: policy.tiers[tier]?.id ?? `tier ${tier}`,
      ...counts,
      firstStudyMs: since(episode.endedAt, firstStudyAt),
      lastStudyMs: since(episode.endedAt, lastStudyAt),
    })),
  };
}

function since(endedAt: number | null, at: number | null): number | null {
  return endedAt === null || at === null ? null : Math.max(0, at - endedAt);
}

/** A reconciliation as a page for a person. Times are UTC. */
export function formatReconciliation(reconciliation: Reconciliation): string {
  const { episode, received, verified, quarantined, discarded, outstanding, unaccounted } = reconciliation;
  const cells = (row: Omit<ReconciledTier, 'tier' | 'firstStudyMs' | 'lastStudyMs'>) => [
    String(row.studies),
    formatBytes(row.bytes),
    ...[row.received, row.verified, row.quarantined, row.discarded, row.outstanding].map(String),
  ];
  const after = (ms: number | null) => (ms === null ? 'not yet' : `+${formatDuration(ms)}`);
  const lines = [
    `Outage of ${episode.destinationId} (episode ${episode.id}${episode.planned ? ', planned' : ''}): ${episode.cause}`,
    instantLine('began', episode.startedAt, null),
    instantLine('detected', episode.detectedAt, episode.startedAt),
    instantLine('ended', episode.endedAt, episode.startedAt),
    instantLine('drained', episode.drainedAt, episode.endedAt),
    instantLine('closed', episode.closedAt, episode.endedAt),
    '',
    ...table([
      ['', 'studies', 'size', 'received', 'verified', 'quarantined', 'discarded', 'outstanding', 'first', 'last study'],
      ...reconciliation.tiers.map((row) => [row.tier, ...cells(row), after(row.firstStudyMs), after(row.lastStudyMs)]),
      ['all', ...cells(reconciliation), '', ''],
    ]),
    '',
    `received ${received} = verified ${verified} + quarantined ${quarantined} + discarded ${discarded}` +
      `${outstanding > 0 ? ` + outstanding ${outstanding}` : ''}${unaccounted === 0 ? '' : ` + UNACCOUNTED ${unaccounted}`}`,
    unaccounted === 0
      ? 'It balances: nothing is unaccounted for.'
      : 'IT DOES NOT BALANCE: look into it before you rely on it.',
  ];
  return lines.map((line) => line.trimEnd()).join('\n');
}

/**
 * A reconciliation as CSV (RFC 4180, with a header): a line for each tier (`scope` is `tier`), then one of the whole
 * (`all`). Instants are UTC, times in seconds from the end of the outage.
 */
export function reconciliationCsv(reconciliation: Reconciliation): string {
  const { episode } = reconciliation;
  const line = (scope: string, tier: string, row: Omit<ReconciledTier, 'tier'>, unaccounted: number | null) =>
    csvLine([
      ...[episode.destinationId, episode.id, scope, tier, row.studies, row.bytes],
      ...[row.received, row.verified, row.quarantined, row.discarded, row.outstanding, unaccounted],
      ...[row.firstStudyMs, row.lastStudyMs].map((ms) => (ms === null ? null : ms / 1000)),
      ...[episode.startedAt, episode.endedAt, episode.drainedAt, episode.closedAt].map(instant),
    ]);
  const whole = { ...reconciliation, firstStudyMs: null, lastStudyMs: null };
  return [
    csvLine([
      ...['destination', 'episode', 'scope', 'tier', 'studies', 'bytes'],
      ...['received', 'verified', 'quarantined', 'discarded', 'outstanding', 'unaccounted'],
      ...['first_study_s', 'last_study_s', 'started_at', 'ended_at', 'drained_at', 'closed_at'],
    ]),
    ...reconciliation.tiers.map((row) => line('tier', row.tier, row, null)),
    line('all', '', whole, reconciliation.unaccounted),
  ].join('');
}

function instant(at: number | null): string | null {
  return at === null ? null : new Date(at).toISOString();
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
