import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll } from 'vitest';

/**
 * Bundles a program of this folder for the tests of a file: as one file it starts faster, and it is started often.
 * Returns what gives its path once tests run.
 */
export function bundledChild(name: string): () => string {
  let outdir = '';
  beforeAll(async () => {
    outdir = await mkdtemp(join(tmpdir(), 'spillway-child-'));
    const source = (path: string) => fileURLToPath(new URL(path, import.meta.url));
    await build({
      entryPoints: {
        [name]: source(`./${name}.ts`),
        'sqlite-worker': source('../../src/storage/sqlite/worker.ts'),
      },
      outdir,
      bundle: true,
      platform: 'node',
      format: 'esm',
      logLevel: 'error',
      banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
    });
  }, 60_000);
  afterAll(() => rm(outdir, { recursive: true, force: true }));
  return () => join(outdir, `${name}.js`);
}
