/** Something that is asked for more often than it need be done: while it runs it is noted, and then done once more. */
export class Coalesced {
  readonly #run: () => Promise<void>;
  readonly #onFault: (error: unknown) => void;
  #isRunning = false;
  #isAskedFor = false;

  constructor(run: () => Promise<void>, onFault: (error: unknown) => void) {
    this.#run = run;
    this.#onFault = onFault;
  }

  ask(): void {
    this.#isAskedFor = true;
    if (this.#isRunning) return;
    this.#isRunning = true;
    void this.#untilDone().finally(() => {
      this.#isRunning = false;
    });
  }

  async #untilDone(): Promise<void> {
    while (this.#isAskedFor) {
      this.#isAskedFor = false;
      await this.#run().catch(this.#onFault);
    }
  }
}
