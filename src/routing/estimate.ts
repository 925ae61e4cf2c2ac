/** How long a backlog takes, in ms. */
export interface DrainEstimate {
  /** If the mean throughput is at its 90th percentile. */
  readonly lowMs: number;
  readonly expectedMs: number;
  /** If it is at its 10th; null where it may then never end. */
  readonly highMs: number | null;
}

/** 90th percentile of Student's t by degrees of freedom from 1 on; beyond them that of the normal distribution. */
const T90 = [3.078, 1.886, 1.638, 1.533, 1.476, 1.44, 1.415, 1.397, 1.383, 1.372, 1.363, 1.356, 1.35, 1.345];
const Z90 = 1.282;

/**
 * When a backlog will have been sent, from what was sent of late: the fluid model T = B / (mu - lambda). The range is that
 * of the mean of the samples (80 of 100 times the long-run mean lies in it, were the samples of one distribution; those
 * that follow one another are taken to be correlated as they show), not of what may happen to the destination meanwhile.
 *
 * Null where it does not end at the expected rate, or nothing is known of the rate.
 */
export function drainEstimate(known: {
  /** The backlog. */
  readonly bytes: number;
  /** What was sent, in bytes per second, in intervals of equal length that followed one another, oldest first. */
  readonly samples: readonly number[];
  /** What arrives meanwhile, in bytes per second. @default 0 */
  readonly arrivals?: number;
}): DrainEstimate | null {
  const { bytes, samples, arrivals = 0 } = known;
  if (bytes <= 0) return { lowMs: 0, expectedMs: 0, highMs: 0 };
  if (samples.length === 0) return null;
  const mean = samples.reduce((sum, sample) => sum + sample, 0) / samples.length;
  const halfWidth = halfWidthOfMean(samples, mean);
  const timeAt = (rate: number) => {
    const ms = (bytes / (rate - arrivals)) * 1000;
    return rate > arrivals && Number.isFinite(ms) ? ms : null;
  };
  const expectedMs = timeAt(mean);
  if (expectedMs === null) return null;
  return { lowMs: timeAt(mean + halfWidth) ?? expectedMs, expectedMs, highMs: timeAt(mean - halfWidth) };
}

function halfWidthOfMean(samples: readonly number[], mean: number): number {
  const n = samples.length;
  // Of one sample nothing is known but itself: half of it either way.
  if (n === 1) return mean / 2;
  const deviations = samples.map((sample) => sample - mean);
  const squares = deviations.reduce((sum, deviation) => sum + deviation ** 2, 0);
  if (squares === 0) return 0;
  const products = deviations.slice(1).reduce((sum, deviation, index) => sum + deviation * (deviations[index] ?? 0), 0);
  const correlation = Math.min(0.9, Math.max(0, products / squares));
  const effective = Math.max(1, (n * (1 - correlation)) / (1 + correlation));
  const t = T90[Math.max(1, Math.round(effective)) - 1] ?? Z90;
  return t * Math.sqrt(squares / (n - 1) / effective);
}
