import { defineConfig } from 'tsup';

const publicEntries = {
  index: 'src/index.ts',
  handler: 'src/handler/index.ts',
  tiers: 'src/tiers/index.ts',
  testing: 'src/testing/index.ts',
};

export default defineConfig({
  // All at the root of dist/, chunks too: whatever chunk starts the worker finds it as ./sqlite-worker.js beside itself.
  entry: { ...publicEntries, 'sqlite-worker': 'src/storage/sqlite/worker.ts' },
  dts: { entry: publicEntries },
  tsconfig: 'tsconfig.build.json',
  format: 'esm',
  target: 'node22',
  platform: 'node',
  splitting: true,
  sourcemap: true,
  clean: true,
  // node:sqlite has no name without the prefix.
  removeNodeProtocol: false,
});
