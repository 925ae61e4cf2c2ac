import { mergeRank, type Rank, withAgeTier } from '../domain/rank.ts';
import { SpillwayError } from '../errors.ts';
import type { ReferenceInstant } from '../routing/order.ts';
import type { Catalog, RankedStudy } from '../storage/catalog.ts';
import { classify } from '../tiers/classify.ts';
import { policyFingerprint, type TierPolicy, tierAt } from '../tiers/policy.ts';

/** What studies are ranked by; replaced as a whole. */
export interface Ranking {
  readonly policy: TierPolicy;
  readonly timeZone: string | undefined;
  readonly reference: ReferenceInstant;
}

/** What became of the ranks of a backlog. */
export interface Reclassification {
  /** Studies with open deliveries that were looked at. */
  readonly studies: number;
  /** Those whose rank is another now. */
  readonly changed: number;
}

export interface RankerOptions {
  readonly catalog: Catalog;
  readonly destinationId: string;
  /** As it is at present. */
  readonly ranking: () => Ranking;
  /** The instant that ages count from. */
  readonly referenceAt: (now: number) => number;
  /** Ends what is under way. */
  readonly isStopping: () => boolean;
  /** Is told each rank that is set. */
  readonly onRanked: (studyInstanceUid: string, rank: Rank) => void;
}

/** @param before - What was judged of the study a moment ago, when it received something in between. */
type Judge = (study: RankedStudy, before: Judged | undefined) => Judged | Promise<Judged>;

interface Judged {
  readonly rank: Rank;
  /** The last version that counted. */
  readonly through?: string | undefined;
}

const STUDY_PAGE = 500;
const FACTS_PAGE = 200;
/** Each round needs an arrival in one of a page's studies while what came since the last round is judged. */
const MAX_ROUNDS = 1_000;

/** Ranks the whole backlog of a destination anew, in bounded batches. Calls must not overlap. */
export class BacklogRanker {
  readonly #options: RankerOptions;

  constructor(options: RankerOptions) {
    this.#options = options;
  }

  /** Judges the age of every study anew. */
  byAge(now: number): Promise<Reclassification> {
    const { policy } = this.#options.ranking();
    const asOf = this.#options.referenceAt(now);
    return this.#replace(({ rank }) => ({ rank: rankAt(rank, policy, asOf) }));
  }

  /** Classifies every study anew, from what its instances said when they came. */
  async reclassify(now: number, signal?: AbortSignal): Promise<Reclassification> {
    const ranking = this.#options.ranking();
    const asOf = this.#options.referenceAt(now);
    const { catalog, destinationId } = this.#options;
    // Until it is done ranks are of two policies, and an opening after a kill must not take them for those of either.
    await catalog.markRanked({ destinationId, rankedBy: null });
    const ranked = await this.#replace((study, before) => this.#classify(study, before, ranking, asOf, signal), signal);
    // What came in since another change was judged by that, which ranks all again.
    if (this.#options.ranking() === ranking) {
      await catalog.markRanked({ destinationId, rankedBy: policyFingerprint(ranking.policy, ranking.timeZone) });
    }
    return ranked;
  }

  /** The policy, the reference or the time may have changed since the store was open. */
  async atOpening(now: number): Promise<void> {
    const { policy, timeZone } = this.#options.ranking();
    const known = await this.#options.catalog.destinations();
    const record = known.find(({ destinationId }) => destinationId === this.#options.destinationId);
    if (record?.rankedBy === policyFingerprint(policy, timeZone)) await this.byAge(now);
    else await this.reclassify(now);
  }

  async #classify(
    study: RankedStudy,
    before: Judged | undefined,
    { policy, timeZone }: Ranking,
    asOf: number,
    signal: AbortSignal | undefined,
  ): Promise<Judged> {
    const { catalog, destinationId } = this.#options;
    const { studyInstanceUid } = study;
    let [rank, through] = [before?.rank, before?.through];
    for (;;) {
      this.#assertGoingOn(signal);
      const facts = await catalog.rankingFacts({
        destinationId,
        studyInstanceUid,
        limit: FACTS_PAGE,
        ...(through !== undefined && { afterArrivalId: through }),
      });
      if (facts.length > 0) {
        const instances = facts.map(({ urgency, ...fact }) => ({ ...fact, urgency: urgency ?? undefined }));
        const judged = classify(instances, { asOf, policy, timeZone }).rank;
        rank = rank === undefined ? judged : mergeRank(rank, judged);
        through = facts.at(-1)?.arrivalId;
      }
      if (facts.length < FACTS_PAGE) return { rank: rank ?? study.rank, through };
    }
  }

  async #replace(judge: Judge, signal?: AbortSignal): Promise<Reclassification> {
    const { catalog, destinationId } = this.#options;
    let studies = 0;
    let changed = 0;
    for (let afterStudy = ''; ; ) {
      const page = await catalog.rankedStudies({ destinationId, afterStudy, limit: STUDY_PAGE });
      changed += await this.#replacePage(page, afterStudy, judge, signal);
      studies += page.length;
      if (page.length < STUDY_PAGE) return { studies, changed };
      afterStudy = page.at(-1)?.studyInstanceUid ?? afterStudy;
    }
  }

  /** Returns how many were changed. Studies that received something meanwhile are judged again, with it. */
  async #replacePage(
    page: readonly RankedStudy[],
    afterStudy: string,
    judge: Judge,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const { catalog, destinationId, onRanked } = this.#options;
    const changed = new Set<string>();
    let left = page;
    const judged = new Map<string, Judged>();
    for (let round = 0; left.length > 0; round += 1) {
      if (round === MAX_ROUNDS) throw tooManyArrivals(left.length);
      const ranks: RankedStudy[] = [];
      for (const study of left) {
        this.#assertGoingOn(signal);
        const found = await judge(study, judged.get(study.studyInstanceUid));
        judged.set(study.studyInstanceUid, found);
        const isOther = !isSame(found.rank, study.rank);
        if (isOther) changed.add(study.studyInstanceUid);
        // Of another policy, a rank is set even if it is the same, so that it counts as one of this policy.
        if (isOther || found.through !== undefined) ranks.push({ ...study, rank: found.rank });
      }
      if (ranks.length === 0) break;
      const missed = new Set(await catalog.setRanks({ destinationId, ranks }));
      for (const { studyInstanceUid, rank } of ranks) {
        if (!missed.has(studyInstanceUid)) onRanked(studyInstanceUid, rank);
      }
      if (missed.size === 0) break;
      left = await this.#readAgain(afterStudy, missed);
    }
    return changed.size;
  }

  /** What came in meanwhile may stand before them, so that they fill more than a page. */
  async #readAgain(afterStudy: string, studies: ReadonlySet<string>): Promise<readonly RankedStudy[]> {
    const { catalog, destinationId } = this.#options;
    const last = [...studies].reduce((greatest, uid) => (uid > greatest ? uid : greatest), '');
    const found: RankedStudy[] = [];
    for (let after = afterStudy; after < last; ) {
      const page = await catalog.rankedStudies({ destinationId, afterStudy: after, limit: STUDY_PAGE });
      found.push(...page.filter(({ studyInstanceUid }) => studies.has(studyInstanceUid)));
      if (page.length < STUDY_PAGE) break;
      after = page.at(-1)?.studyInstanceUid ?? last;
    }
    return found;
  }

  #assertGoingOn(signal: AbortSignal | undefined): void {
    if (this.#options.isStopping()) {
      throw new SpillwayError('SPILLWAY_CLOSED', 'The spillway was closed while its backlog was ranked.');
    }
    if (signal?.aborted) {
      throw new SpillwayError('SPILLWAY_ABORTED', 'Ranking was aborted by its signal.', { cause: signal.reason });
    }
  }
}

/** A rank as it is at a reference instant. */
export function rankAt(rank: Rank, policy: TierPolicy, asOf: number): Rank {
  return withAgeTier(rank, tierAt(rank.acquiredAt, asOf, policy));
}

function tooManyArrivals(studies: number): SpillwayError {
  return new SpillwayError(
    'SPILLWAY_STORE_FAILED',
    `Expected to rank ${studies} studies between two arrivals, but instances came in without a pause.`,
  );
}

function isSame(a: Rank, b: Rank): boolean {
  return (
    a.tier === b.tier &&
    a.urgency === b.urgency &&
    a.acquiredAt === b.acquiredAt &&
    a.basis === b.basis &&
    a.ageTier === b.ageTier &&
    a.ruledTier === b.ruledTier
  );
}
