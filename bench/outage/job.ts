import { syntheticStudy } from '../../src/testing/synthetic.ts';

const HOUR_MS = 3_600_000;
/** Ages in the order in which studies come, so that no tier comes as a whole, the oldest first. */
const AGES = [
  { tier: 2, ms: 60 * 24 * HOUR_MS },
  { tier: 1, ms: 3 * 24 * HOUR_MS },
  { tier: 0, ms: 2 * HOUR_MS },
] as const;
export const TIERS = AGES.length;

/** What is sent. */
export interface Job {
  readonly name: string;
  readonly studies: number;
  readonly instances: number;
  /** Rows and columns, 16 bits a pixel. */
  readonly side: number;
}

export const CT: Job = { name: 'ct', studies: 10, instances: 2_000, side: 512 };
export const SMALL: Job = { name: 'small', studies: 100, instances: 1_000, side: 24 };

export interface JobInstance {
  readonly bytes: Uint8Array;
  readonly sopInstanceUid: string;
  readonly tier: number;
}

/** Study after study, as one modality sends. */
export function* instancesOf(job: Job): Generator<JobInstance> {
  for (let study = 0; study < job.studies; study += 1) {
    const age = AGES[study % AGES.length] ?? AGES[0];
    const made = syntheticStudy({
      seed: 7_000 + study,
      modality: 'CT',
      rows: job.side,
      columns: job.side,
      instances: job.instances / job.studies,
      acquiredAt: Date.now() - age.ms - study * 60_000,
    });
    for (const { bytes, identity } of made) yield { bytes, sopInstanceUid: identity.sopInstanceUid, tier: age.tier };
  }
}
