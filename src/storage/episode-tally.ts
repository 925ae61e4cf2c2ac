import type { EpisodeCounts, EpisodeTierCounts } from '../domain/episode.ts';

/** What became of those deliveries of an episode's set that are of one study. */
export interface StudyTally {
  /** Names the study; unique in one count. */
  readonly key: number | string;
  readonly tier: number;
  readonly verified: number;
  readonly quarantined: number;
  readonly discarded: number;
  readonly pending: number;
  readonly sent: number;
  readonly bytes: number;
  /** When the last of them became final, as far as that is known. */
  readonly settledAt: number | null;
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

/** Adds up what became of an episode's set, study by study, in as many parts as it comes in. */
export class EpisodeTally {
  readonly #studies = new Map<StudyTally['key'], Mutable<StudyTally>>();
  #received: number;

  constructor(pendingAtStart: number) {
    this.#received = pendingAtStart;
  }

  /** @param received - Deliveries that came in since the episode began. */
  add(received: number, studies: readonly StudyTally[]): void {
    this.#received += received;
    for (const part of studies) {
      const known = this.#studies.get(part.key);
      if (known === undefined) {
        this.#studies.set(part.key, { ...part });
        continue;
      }
      // It may have been ranked anew since its other part was looked at.
      known.tier = part.tier;
      for (const name of ['verified', 'quarantined', 'discarded', 'pending', 'sent', 'bytes'] as const) {
        known[name] += part[name];
      }
      known.settledAt = laterOf(known.settledAt, part.settledAt);
    }
  }

  result(): { readonly total: EpisodeCounts; readonly tiers: readonly EpisodeTierCounts[] } {
    const total = { ...emptyCounts(), received: this.#received };
    const tiers = new Map<number, Mutable<EpisodeTierCounts>>();
    const unfinished = new Set<number>();
    for (const { tier, settledAt, pending, sent, ...study } of this.#studies.values()) {
      const ofTier = tiers.get(tier) ?? newTier(tier);
      tiers.set(tier, ofTier);
      for (const counts of [total, ofTier]) {
        counts.pending += pending;
        counts.outstanding += pending + sent;
        for (const state of ['verified', 'quarantined', 'discarded'] as const) counts[state] += study[state];
      }
      ofTier.received += pending + sent + study.verified + study.quarantined + study.discarded;
      ofTier.studies += 1;
      ofTier.bytes += study.bytes;
      if (pending + sent > 0) unfinished.add(tier);
      else {
        ofTier.firstStudyAt = earlierOf(ofTier.firstStudyAt, settledAt);
        ofTier.lastStudyAt = laterOf(ofTier.lastStudyAt, settledAt);
      }
    }
    for (const tier of unfinished) {
      const ofTier = tiers.get(tier);
      if (ofTier !== undefined) ofTier.lastStudyAt = null;
    }
    return { total, tiers: [...tiers.values()].sort((a, b) => a.tier - b.tier) };
  }
}

function emptyCounts(): Mutable<EpisodeCounts> {
  return { received: 0, verified: 0, quarantined: 0, discarded: 0, outstanding: 0, pending: 0 };
}

function newTier(tier: number): Mutable<EpisodeTierCounts> {
  return { tier, ...emptyCounts(), studies: 0, bytes: 0, firstStudyAt: null, lastStudyAt: null };
}

function earlierOf(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.min(a, b);
}

function laterOf(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.max(a, b);
}
