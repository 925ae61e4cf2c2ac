/**
 * Turns many small commits into few: what is submitted while one commit is under way goes into the next, together.
 * Nothing waits on a timer, so that a lone item is committed at once. When a batch fails, all of it fails.
 *
 * @internal
 */
export class GroupCommit<Item, Result> {
  readonly #commit: (batch: readonly Item[]) => Promise<readonly Result[]>;
  readonly #maxBatch: number;
  readonly #waiting: { readonly item: Item; resolve: (result: Result) => void; reject: (error: unknown) => void }[] =
    [];
  #running = false;

  constructor(commit: (batch: readonly Item[]) => Promise<readonly Result[]>, maxBatch: number) {
    this.#commit = commit;
    this.#maxBatch = maxBatch;
  }

  submit(item: Item): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      if (!this.#running) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, this.#maxBatch);
      try {
        const results = await this.#commit(batch.map((entry) => entry.item));
        batch.forEach((entry, index) => {
          entry.resolve(results[index] as Result);
        });
      } catch (error) {
        for (const entry of batch) entry.reject(error);
      }
    }
    this.#running = false;
  }
}
