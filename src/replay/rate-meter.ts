const WINDOW_MS = 30_000;
const BUCKET_MS = 1_000;

interface Amount {
  instances: number;
  bytes: number;
}

/** What a destination has answered for of late, as rates over the last 30 seconds. */
export class RateMeter {
  #buckets: (Amount & { readonly start: number; readonly tiers: Map<number, Amount> })[] = [];

  add(at: number, tier: number, bytes: number): void {
    const start = Math.floor(at / BUCKET_MS) * BUCKET_MS;
    let last = this.#buckets.at(-1);
    if (last?.start !== start) {
      last = { start, instances: 0, bytes: 0, tiers: new Map() };
      this.#buckets.push(last);
    }
    const ofTier = last.tiers.get(tier) ?? { instances: 0, bytes: 0 };
    last.tiers.set(tier, ofTier);
    for (const amount of [last, ofTier]) {
      amount.instances += 1;
      amount.bytes += bytes;
    }
    this.#forget(at);
  }

  /** Of one tier, or of all. */
  rate(at: number, tier?: number): { readonly instancesPerSecond: number; readonly bytesPerSecond: number } {
    this.#forget(at);
    const seconds = this.#seconds(at);
    if (seconds === 0) return { instancesPerSecond: 0, bytesPerSecond: 0 };
    const amounts = this.#buckets.map((bucket) => (tier === undefined ? bucket : bucket.tiers.get(tier)));
    const sum = (key: keyof Amount) => amounts.reduce((total, amount) => total + (amount?.[key] ?? 0), 0);
    return { instancesPerSecond: sum('instances') / seconds, bytesPerSecond: sum('bytes') / seconds };
  }

  /** Bytes a second, one for each second since the first that counts, those in which nothing was answered included. */
  samples(at: number): readonly number[] {
    this.#forget(at);
    const first = this.#buckets[0]?.start;
    if (first === undefined) return [];
    const samples = new Array<number>(Math.ceil(this.#seconds(at))).fill(0);
    for (const { start, bytes } of this.#buckets) {
      const index = (start - first) / BUCKET_MS;
      if (index < samples.length) samples[index] = bytes;
    }
    return samples;
  }

  #seconds(at: number): number {
    const first = this.#buckets[0];
    return first === undefined ? 0 : Math.max(BUCKET_MS, at - first.start) / 1000;
  }

  #forget(at: number): void {
    // What lies ahead was counted before the clock went back.
    this.#buckets = this.#buckets.filter(({ start }) => start > at - WINDOW_MS && start <= at);
  }
}
