import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globals: false,
    pool: 'forks',
    // Each catalog that is opened from source strips types by WebAssembly in a thread of its own; where V8 swaps the wrapper
    // of that (after 1,000 calls) while such a thread ends, the process dies by SIGSEGV or SIGABRT. Packages hold no types.
    execArgv: ['--wasm-wrapper-tiering-budget=1000000000'],
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
});
