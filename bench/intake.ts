// Durable intake in an outage against a bare loop that makes the same bytes durable in as many files, on the same disk, in
// alternating passes: write, fsync, rename, fsync of the directory, each time. That loop is the denominator; it has a
// thread for each file in flight, spillway has the four that Node gives everyone. Beside them: Orthanc's durable C-STORE
// intake, the loop with directory syncs shared, stalls of the event loop, and the memory that one instance of 1 GiB takes.
//
// BENCH_DIRECTORY says where (a real disk; /var/tmp by default), BENCH_PASSES how often (5).

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';
import { type ObjectSet, objectsOf, SETS } from './intake/objects.ts';
import { missingOrthanc, orthancPass } from './intake/orthanc-peer.ts';

const IN_FLIGHT = 8;
const PASSES = Number(process.env.BENCH_PASSES ?? 5);
const LARGE_PASSES = 3;
const TARGET = 0.7;
const MAX_STALL_MS = 20;
const MAX_PEAK_MB = 150;
const FILE_SYSTEMS = new Map([
  [0xef53, 'ext4'],
  [0x58465342, 'xfs'],
  [0x9123683e, 'btrfs'],
]);

interface Pass {
  readonly perSecond: number;
  readonly cpuMs: number;
  readonly stallMs?: number;
  readonly longestStallMs?: number;
}

interface LargePass {
  readonly bytes: number;
  readonly acceptSeconds: number;
  readonly readSeconds: number;
  readonly peakMb: number;
}

const root = mkdtempSync(join(process.env.BENCH_DIRECTORY ?? '/var/tmp', 'spillway-intake-'));
try {
  const fileSystem = FILE_SYSTEMS.get(statfsSync(root).type);
  if (fileSystem === undefined) throw new Error('BENCH_DIRECTORY is on no disk that is known (ext4, XFS, Btrfs)');
  console.log(`${availableParallelism()} cores, ${fileSystem}; load before: ${loadavg()[0]?.toFixed(1)}`);
  for (const set of Object.values(SETS)) {
    compare(set);
    await printOrthanc(set);
  }
  printLarge();
  console.log(`load after: ${loadavg()[0]?.toFixed(1)}`);
} finally {
  rmSync(root, { recursive: true, force: true });
}

function compare(set: ObjectSet): void {
  const { name, instances, studies } = set;
  const [object] = objectsOf(set, 1, 3);
  console.log(
    `\n${name}: ${instances} instances of ${object?.bytes.byteLength} bytes in ${studies} studies, ` +
      `${IN_FLIGHT} in flight, ${PASSES} passes each, in turn`,
  );
  const passes = { bare: [] as Pass[], shared: [] as Pass[], spillway: [] as Pass[] };
  const kinds = [
    () => passes.bare.push(run<Pass>('bare-pass.ts', [name, String(IN_FLIGHT), 'each'], IN_FLIGHT)),
    () => passes.spillway.push(run<Pass>('spillway-pass.ts', [name, String(IN_FLIGHT)])),
    () => passes.shared.push(run<Pass>('bare-pass.ts', [name, String(IN_FLIGHT), 'shared'], IN_FLIGHT)),
  ];
  for (let pass = 0; pass < PASSES; pass += 1) {
    // Who goes first changes, so that a disk that grows slower or faster favours nobody.
    for (const kind of pass % 2 === 0 ? kinds : kinds.toReversed()) kind();
  }
  const ofEachPass = (of: (pass: Pass) => number, among: readonly Pass[]) => among.map(of);
  const rate = (among: readonly Pass[]) =>
    `${describe(
      ofEachPass((pass) => pass.perSecond, among),
      0,
    )}/s, ` + `${median(ofEachPass((pass) => pass.cpuMs, among)).toFixed(2)} ms of CPU each`;
  console.log(`${name}: bare loop, directory synced for each: ${rate(passes.bare)}`);
  console.log(`${name}: bare loop, directory synced once for many: ${rate(passes.shared)}`);
  console.log(`${name}: spillway: ${rate(passes.spillway)}`);
  const ratios = (others: readonly Pass[]) =>
    passes.spillway.map(({ perSecond }, pass) => perSecond / (others[pass]?.perSecond ?? Number.NaN));
  console.log(`${name}: spillway by the bare loop of the same turn: ${describe(ratios(passes.bare), 2)}`);
  const stalls = passes.spillway.map(({ stallMs = Number.NaN }) => stallMs);
  const longest = Math.max(...passes.spillway.map(({ longestStallMs = Number.NaN }) => longestStallMs));
  console.log(
    `${name}: event loop delay at the 99.9th percentile: ${describe(stalls, 1)} ms; the longest of all: ${longest.toFixed(1)} ms`,
  );
  console.log(`ratio intake.${name} ${median(ratios(passes.bare)).toFixed(2)} target ${TARGET}`);
  console.log(`figure intake.${name}-per-shared-sync ${median(ratios(passes.shared)).toFixed(2)} unit ratio`);
  console.log(`figure intake.${name}-stall ${median(stalls).toFixed(1)} unit ms (at most ${MAX_STALL_MS})`);
}

async function printOrthanc(set: ObjectSet): Promise<void> {
  const missing = missingOrthanc();
  if (missing !== undefined) {
    console.log(`missing: ${missing}; no C-STORE intake stands beside it`);
    return;
  }
  for (const associations of [1, 4]) {
    const perSecond = await orthancPass(emptied(), set, associations);
    const by = associations === 1 ? '1 association' : `${associations} associations`;
    console.log(`${set.name}: storescu to Orthanc, ${by}: ${perSecond.toFixed(0)}/s (one pass)`);
    console.log(`figure intake.${set.name}-orthanc-${associations} ${perSecond.toFixed(0)} unit instances/s`);
  }
}

function printLarge(): void {
  // As the package is built: Node's own loader of TypeScript takes 50 MB in two threads, and finding out what kind of
  // module a file is, where no package.json says so, 30.
  const built = join(root, 'built');
  mkdirSync(built);
  writeFileSync(join(built, 'package.json'), '{"type":"module"}');
  for (const [entry, file] of [
    ['./intake/large-pass.ts', 'large-pass.js'],
    ['../src/storage/sqlite/worker.ts', 'sqlite-worker.js'],
  ] as const) {
    buildSync({
      entryPoints: [pathOf(entry)],
      outfile: join(built, file),
      bundle: true,
      platform: 'node',
      format: 'esm',
    });
  }
  const passes = Array.from({ length: LARGE_PASSES }, () => runFile<LargePass>(join(built, 'large-pass.js'), []));
  const mb = (passes[0]?.bytes ?? 0) / 1e6;
  const of = (seconds: (pass: LargePass) => number) => passes.map((pass) => mb / seconds(pass));
  console.log(`\nlarge: one instance of ${passes[0]?.bytes} bytes in chunks of 64 KiB, ${LARGE_PASSES} passes`);
  console.log(
    `large: accepted at ${describe(
      of((pass) => pass.acceptSeconds),
      0,
    )} MB/s`,
  );
  console.log(
    `large: read back and digested at ${describe(
      of((pass) => pass.readSeconds),
      0,
    )} MB/s`,
  );
  const peaks = passes.map(({ peakMb }) => peakMb);
  console.log(`large: peak resident memory of the process: ${describe(peaks, 0)} MB`);
  console.log(`figure intake.large-peak ${Math.max(...peaks).toFixed(0)} unit MB (less than ${MAX_PEAK_MB})`);
}

function run<Result>(script: string, parameters: readonly string[], threads?: number): Result {
  return runFile<Result>(pathOf(`./intake/${script}`), parameters, threads);
}

/** Runs a pass in a process of its own, on a directory that is new. */
function runFile<Result>(file: string, parameters: readonly string[], threads?: number): Result {
  const env = threads === undefined ? process.env : { ...process.env, UV_THREADPOOL_SIZE: String(threads) };
  const { status, stdout } = spawnSync(process.execPath, [file, emptied(), ...parameters], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`${file} ended with ${status}`);
  return JSON.parse(stdout) as Result;
}

/** A directory without anything in it, on a disk that has nothing left to do. */
function emptied(): string {
  const directory = join(root, 'pass');
  rmSync(directory, { recursive: true, force: true });
  spawnSync('sync');
  return directory;
}

function pathOf(script: string): string {
  return fileURLToPath(new URL(script, import.meta.url));
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** Median and range. */
function describe(values: readonly number[], digits: number): string {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return `${median(values).toFixed(digits)} (${least.toFixed(digits)} to ${most.toFixed(digits)})`;
}
