import type { Store } from '../storage/store.ts';

/** What every contract suite is given. Suites use `node:assert` and no test runner of their own. */
export interface ContractOptions {
  /** Registers one test with the caller's runner (vitest, node:test, mocha, …). */
  readonly test: (name: string, run: () => Promise<void>) => void;
  /** A new, empty store; `dispose` is called when its test has ended, whatever the outcome. */
  readonly makeStore: () => Promise<{ readonly store: Store; dispose(): Promise<void> }>;
  /**
   * The same, of a store that takes at most so many bytes of instances. Without it, nobody checks that a full store refuses.
   */
  readonly makeBoundedStore?: (maxBytes: number) => Promise<{ readonly store: Store; dispose(): Promise<void> }>;
}
