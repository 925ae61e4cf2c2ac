const WINDOW_MS = 30_000;
const BUCKET_MS = 1_000;

/** What a destination has answered for of late, as rates over the last 30 seconds. */
export class RateMeter {
  #buckets: { readonly start: number; instances: number; bytes: number }[] = [];

  add(at: number, instances: number, bytes: number): void {
    const start = Math.floor(at / BUCKET_MS) * BUCKET_MS;
    const last = this.#buckets.at(-1);
    if (last?.start === start) {
      last.instances += instances;
      last.bytes += bytes;
    } else {
      this.#buckets.push({ start, instances, bytes });
    }
    this.#forget(at);
  }

  rate(at: number): { readonly instancesPerSecond: number; readonly bytesPerSecond: number } {
    this.#forget(at);
    const first = this.#buckets[0];
    if (first === undefined) return { instancesPerSecond: 0, bytesPerSecond: 0 };
    const seconds = Math.max(BUCKET_MS, at - first.start) / 1000;
    const sum = (key: 'instances' | 'bytes') => this.#buckets.reduce((total, bucket) => total + bucket[key], 0);
    return { instancesPerSecond: sum('instances') / seconds, bytesPerSecond: sum('bytes') / seconds };
  }

  #forget(at: number): void {
    this.#buckets = this.#buckets.filter((bucket) => bucket.start > at - WINDOW_MS);
  }
}
