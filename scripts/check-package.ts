// What users get: packs the build, lets publint and attw judge the tarball, then installs it into an empty project,
// type-checks test/consumer/ against it and runs it, on this Node and on the oldest one supported.

import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { root } from './lib/source.ts';

/** The oldest Node of package.json#engines; `node:sqlite` is there without a flag since then. */
const oldestNode = '22.13.0';

const tools = path.join(root, 'node_modules/.bin');
const work = mkdtempSync(path.join(tmpdir(), 'spillway-package-'));
process.on('exit', () => rmSync(work, { recursive: true, force: true }));

/** Runs a command and returns what it printed; a failure prints everything and ends the check. */
function run(headline: string, command: string, options: readonly string[], directory = root): string {
  const start = Date.now();
  try {
    const output = execFileSync(command, options, { cwd: directory, encoding: 'utf8', stdio: 'pipe' });
    console.log(`ok: ${headline} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
    return output;
  } catch (error) {
    const { stdout, stderr } = error as { readonly stdout?: string; readonly stderr?: string };
    return fail(`${headline}\n${stdout ?? ''}${stderr ?? ''}${stdout === undefined ? String(error) : ''}`);
  }
}

function fail(reason: string): never {
  console.error(`failed: ${reason}`);
  process.exit(1);
}

interface Packed {
  readonly filename: string;
  readonly size: number;
  readonly files: readonly { readonly path: string }[];
}

function pack(): string {
  if (!existsSync(path.join(root, 'dist/index.js'))) fail('nothing is built: npm run build');
  // --ignore-scripts: what is packed is what was built, not a new build.
  const output = run('npm pack', 'npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', work]);
  const [packed] = JSON.parse(output) as Packed[];
  if (packed === undefined) fail(`npm pack said: ${output}`);
  const names = packed.files.map((file) => file.path);
  for (const needed of ['dist/sqlite-worker.js', 'README.md', 'LICENSE', 'CHANGELOG.md']) {
    if (!names.includes(needed)) fail(`the tarball has no ${needed}`);
  }
  const stray = names.filter((name) => !/^(?:dist\/[^/]+\.(?:js|d\.ts|map)|package\.json|[A-Z]+(?:\.md)?)$/.test(name));
  if (stray.length > 0) fail(`the tarball holds what nobody needs: ${stray.join(', ')}`);
  checkBuiltinImports(names);
  console.log(`${packed.filename}: ${names.length} files, ${Math.ceil(packed.size / 1024)} KiB packed`);
  return path.join(work, packed.filename);
}

/** A bundler that takes `node:` off breaks node:sqlite, which has no other name, on the user's machine only. */
function checkBuiltinImports(names: readonly string[]): void {
  for (const name of names.filter((file) => file.endsWith('.js'))) {
    const source = readFileSync(path.join(root, name), 'utf8');
    const bare = source.match(/(?:from|import)\s*\(?["'](?:sqlite|fs|fs\/promises|path|crypto|worker_threads)["']/);
    if (bare !== null) fail(`${name} imports Node's own module without node: (${bare[0]})`);
  }
}

/** An empty project with the tarball, the types of Node and the oldest Node in it. */
function makeConsumer(tarball: string): string {
  const project = path.join(work, 'consumer');
  mkdirSync(project);
  writeFileSync(
    path.join(project, 'package.json'),
    JSON.stringify({ name: 'consumer', type: 'module', private: true }),
  );
  copyFileSync(path.join(root, 'test/consumer/consumer.ts'), path.join(project, 'consumer.ts'));
  const nodeTypes = JSON.parse(readFileSync(path.join(root, 'node_modules/@types/node/package.json'), 'utf8')) as {
    readonly version: string;
  };
  const quiet = ['--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];
  const packages = [tarball, `@types/node@${nodeTypes.version}`, `node@${oldestNode}`];
  run('install the tarball into an empty project', 'npm', ['install', ...quiet, ...packages], project);
  return project;
}

function typeCheck(project: string, lib: readonly string[]): void {
  const compilerOptions = {
    lib,
    types: ['node'],
    target: 'es2023',
    module: 'nodenext',
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    noEmit: true,
  };
  const file = path.join(project, 'tsconfig.json');
  writeFileSync(file, JSON.stringify({ compilerOptions, files: ['consumer.ts'] }));
  run(`type-check a consumer with lib ${lib.join(' and ')}`, path.join(tools, 'tsc'), ['-p', file], project);
}

const tarball = pack();
run('publint', path.join(tools, 'publint'), ['run', tarball, '--strict']);
run('attw', path.join(tools, 'attw'), [tarball, '--profile', 'esm-only', '--no-emoji']);
const project = makeConsumer(tarball);
typeCheck(project, ['es2023']);
typeCheck(project, ['es2023', 'dom']);

const script = path.join(project, 'consumer.js');
run('strip the types of the consumer', path.join(tools, 'esbuild'), ['consumer.ts', `--outfile=${script}`], project);
const nodes = { 'this Node': process.execPath, 'the oldest Node': path.join(project, 'node_modules/.bin/node') };
for (const [name, node] of Object.entries(nodes)) {
  process.stdout.write(run(`run the consumer on ${name}`, node, [script], project));
}
