const MAX_STEPS = 100_000;

/**
 * Steps that are under way: each is carried out when the scheduler picks it, in an order drawn by `random`, and not
 * before. So one seed is one history of everything that goes on at once.
 */
export class Scheduler {
  readonly #pending: { readonly name: string; perform(): void }[] = [];
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** Names of the steps that were carried out, in their order. */
  readonly done: string[] = [];

  /** Adds a step; resolves with what `action` gives once it was carried out. */
  run<T>(name: string, action: () => T | Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const perform = () => {
        try {
          resolve(action());
        } catch (error) {
          reject(error);
        }
      };
      this.#pending.push({ name, perform });
    });
  }

  /** Carries out one step, any of those that are under way; false when there is none. */
  step(): boolean {
    const [chosen] = this.#pending.splice(Math.floor(this.#random() * this.#pending.length), 1);
    if (chosen === undefined) return false;
    this.done.push(chosen.name);
    chosen.perform();
    return true;
  }

  /**
   * Carries steps out until it is done, or `maxSteps` were; returns whether it was done by then.
   *
   * @throws Error when nothing is under way and it is not done
   */
  async drive(isDone: () => boolean, maxSteps: number = MAX_STEPS): Promise<boolean> {
    for (let steps = 0; ; steps += 1) {
      // Everything that can go on without a step does.
      await new Promise((resolve) => setImmediate(resolve));
      if (isDone()) return true;
      if (steps === maxSteps) return false;
      if (!this.step()) throw new Error(`Nothing is under way, and it is not done: ${this.done.slice(-5).join(', ')}`);
    }
  }

  /** Carries steps out until the promise is settled, and gives what it came to. */
  async settle<T>(promise: Promise<T>): Promise<T> {
    let isSettled = false;
    const note = () => {
      isSettled = true;
    };
    promise.then(note, note);
    if (!(await this.drive(() => isSettled))) throw new Error(`Expected an end within ${MAX_STEPS} steps, got none.`);
    return promise;
  }
}
