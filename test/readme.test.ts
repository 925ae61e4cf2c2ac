import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import ts from 'typescript';
import { expect, onTestFinished, test } from 'vitest';
import { startPacs, syntheticIdentity, syntheticInstance } from '../src/testing/index.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PROCESS_BOUND_MS = 20_000;

/** What a reader types in place of what the README prints; everything else of the example runs as printed. */
const PRINTED = { store: '/var/lib/gateway/spill', url: 'http://pacs.example/dicom-web', image: '/incoming/image.dcm' };

/** Resolves the package's name to its source, as its exports do once it is built. */
const HOOK = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from 'node:module';
  const source = ${JSON.stringify(new URL('../src/index.ts', import.meta.url).href)};
  registerHooks({ resolve: (name, context, next) => next(name === 'spillway' ? source : name, context) });`)}`;

async function examples(): Promise<string[]> {
  const readme = await readFile(join(ROOT, 'README.md'), 'utf8');
  return [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map((match) => match[1] ?? '');
}

test('the first example runs as printed, and the instance is at the PACS when it ends', async () => {
  const directory = await temporaryDirectory();
  const pacs = await startPacs({ directory: join(directory, 'pacs') });
  onTestFinished(() => pacs.close());
  const actual = { store: join(directory, 'spill'), url: pacs.url, image: join(directory, 'image.dcm') };
  await writeFile(actual.image, syntheticInstance());

  let [script = ''] = await examples();
  for (const name of ['store', 'url', 'image'] as const) {
    expect(script.split(`'${PRINTED[name]}'`), `'${PRINTED[name]}' in the example`).toHaveLength(2);
    script = script.replace(`'${PRINTED[name]}'`, JSON.stringify(actual[name]));
  }
  const file = join(directory, 'example.mts');
  await writeFile(file, script);
  const run = await promisify(execFile)(process.execPath, ['--import', HOOK, file], { timeout: PROCESS_BOUND_MS });

  expect(run.stdout).toMatch(/^created historical: acquired .*\n1 verified at the PACS\n$/);
  const stored = (await pacs.journal()).map(({ sopInstanceUid }) => sopInstanceUid);
  expect(stored).toEqual([syntheticIdentity().sopInstanceUid]);
});

test('every example type-checks; those after the first go on with the spillway that it opened', async () => {
  const directory = await temporaryDirectory();
  const files: string[] = [];
  for (const [index, example] of (await examples()).entries()) {
    const opened = "declare const spillway: import('spillway').Spillway;\n";
    const file = join(directory, `example-${index + 1}.mts`);
    await writeFile(file, index === 0 ? example : `${opened}${example}\nexport {};\n`);
    files.push(file);
  }
  expect(files.length).toBeGreaterThan(1);

  const config = ts.readConfigFile(join(ROOT, 'tsconfig.json'), ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(
    config.config,
    ts.sys,
    ROOT,
    undefined,
    join(ROOT, 'tsconfig.json'),
  );
  const typeRoots = [join(ROOT, 'node_modules/@types')];
  const program = ts.createProgram(files, { ...options, typeRoots });
  const problems = ts.getPreEmitDiagnostics(program).map(({ file, messageText }) => {
    return `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`;
  });
  expect(problems).toEqual([]);
});
