/** Runs one after another what must not overlap. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Resolves or rejects as `run` does, once everything before has ended either way. */
  run<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(run);
    this.#last = turn.catch(() => {});
    return turn;
  }

  /** Resolves when everything so far has ended. */
  async idle(): Promise<void> {
    await this.#last;
  }
}
