import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { temporaryDirectory } from './support/temporary-directory.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PROCESS_BOUND_MS = 20_000;

/** Resolves the subpath to its source, as the package's exports do once it is built. */
const HOOK = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from 'node:module';
  const source = ${JSON.stringify(new URL('../src/tiers/index.ts', import.meta.url).href)};
  registerHooks({ resolve: (name, context, next) => next(name === 'spillway/tiers' ? source : name, context) });`)}`;

test('every example of docs/tiers.md prints what stands below it', async () => {
  const page = await readFile(join(ROOT, 'docs/tiers.md'), 'utf8');
  const examples = [...page.matchAll(/^```ts\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?/gms)];
  expect(examples.length).toBeGreaterThanOrEqual(6);
  const directory = await temporaryDirectory();
  for (const [index, [, script = '', printed]] of examples.entries()) {
    expect(printed, `what example ${index + 1} prints`).toBeDefined();
    const file = join(directory, `example-${index + 1}.mts`);
    await writeFile(file, script);
    const run = await promisify(execFile)(process.execPath, ['--import', HOOK, file], { timeout: PROCESS_BOUND_MS });
    expect(run.stdout, script).toBe(printed);
  }
});
