// A catalog with a million deliveries pending, and their million files: how long it takes to open, to hand over the most
// urgent and to search, and what memory that needs, each against the same with a thousand. The store is made once (some
// minutes, 5 GB) and kept in the folder for temporary files.
//
//   node bench/catalog.ts [--instances 1000000] [--folder FOLDER] [--delete]

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { backlogStore, type MadeStore } from './catalog/backlog-store.ts';
import type { Job, OpenResult, OperationsResult, ReplayResult, StatementPlan } from './catalog/job.ts';

const OPENINGS = 7;
const REPLAYS = 3;
const FEW = 1_000;
const REPLAYED = 900;
const REPLAYED_MORE = [50_000, 100_000] as const;
const TARGET_MS = { open: 1_000, firstBatch: 50, search: 20 };
const TARGET_MEMORY = 1.2;
/** Tables with a row for each destination, each outage, or one row: a scan of them does not grow with the backlog. */
const SMALL_TABLES = /^SCAN (destinations|sequence|e|t)\b/;

const { values } = parseArgs({
  options: {
    instances: { type: 'string', default: '1000000' },
    folder: { type: 'string', default: join(tmpdir(), 'spillway-bench-catalog') },
    delete: { type: 'boolean', default: false },
  },
});
const { folder } = values;
if (values.delete) {
  rmSync(folder, { recursive: true, force: true });
  console.log(`deleted ${folder}`);
  process.exit();
}
const instances = Number(values.instances);
const big = await backlogStore(folder, instances);
const small = await backlogStore(folder, FEW);
console.log(
  `${big.made.instances} instances in ${big.made.studies} studies of ${big.made.patients} patients, all pending; ` +
    `made at ${big.made.rowsPerSecond}/s; against ${small.made.instances} in ${small.made.studies} studies`,
);

await measureOpenings();
await measureReplays();
await measureOperations();
await measurePlans();

interface Store {
  readonly directory: string;
  readonly made: MadeStore;
}

async function measureOpenings(): Promise<void> {
  const clean = await openings(big, {});
  const ofFew = await openings(small, {});
  // Each finds what the one before left in flight.
  await openings(big, { kill: true }, 1);
  const killed = await openings(big, { kill: true });
  await openings(big, {}, 1);
  const cold = await openings(big, { isCold: true }, 3);
  describeOpenings('after close', clean);
  describeOpenings(`the same with ${FEW}`, ofFew);
  describeOpenings('after SIGKILL with requests in flight', killed);
  if (cold.length > 0) describeOpenings('the catalog not in the page cache', cold);
  const openMs = (results: readonly OpenResult[]) => median(results.map((result) => result.openMs));
  figure('open', openMs(clean), 'ms', TARGET_MS.open);
  figure('open-growth', openMs(clean) / openMs(ofFew), 'times');
  figure('open-after-kill', openMs(killed), 'ms', TARGET_MS.open);
  figure(
    'first-sent',
    median(clean.map(({ openMs, firstSentMs }) => firstSentMs - openMs)),
    'ms',
    TARGET_MS.firstBatch,
  );
  figure(
    'first-sent-after-kill',
    median(killed.map(({ openMs, firstSentMs }) => firstSentMs - openMs)),
    'ms',
    TARGET_MS.firstBatch,
  );
  figure('status', median(clean.flatMap(({ statusMs }) => statusMs)), 'ms');
  const tomorrow = await openings(big, { daysLater: 1 }, 1);
  const back = await openings(big, {}, 1);
  const other = await openings(big, { otherPolicy: true }, 1);
  const again = await openings(big, {}, 1);
  describeOpenings('a day later, so that ranks change', tomorrow);
  describeOpenings('and back', back);
  describeOpenings('by another policy, so that all is classified anew', other);
  describeOpenings('and back', again);
  figure('first-sent-new-policy', median(other.map(({ firstSentMs }) => firstSentMs)), 'ms');
}

async function openings(
  store: Store,
  job: Pick<Job, 'kill' | 'daysLater' | 'otherPolicy'> & { readonly isCold?: boolean },
  count = OPENINGS,
): Promise<readonly OpenResult[]> {
  const { isCold = false, ...of } = job;
  const results: OpenResult[] = [];
  for (let opening = 0; opening < count; opening += 1) {
    if (isCold && !dropFromPageCache(join(store.directory, 'catalog.sqlite'))) {
      console.log('missing: dd with iflag=nocache, by which a file is dropped from the page cache');
      return [];
    }
    results.push(await measure<OpenResult>(store, { scenario: 'open', ...of }));
  }
  return results;
}

/** Written back first: what is dirty is not dropped. */
function dropFromPageCache(file: string): boolean {
  spawnSync('sync', ['-d', file]);
  return spawnSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0']).status === 0;
}

function describeOpenings(name: string, results: readonly OpenResult[]): void {
  const asked = results.flatMap(({ firstAskedMs }) => (firstAskedMs === null ? [] : [firstAskedMs]));
  console.log(
    `opening ${name}: ${spread(results.map(({ openMs }) => openMs))}; first instance handed over after ` +
      `${spread(results.map(({ firstSentMs }) => firstSentMs))}` +
      `${asked.length > 0 ? `, first asked for after ${spread(asked)}` : ''}; ` +
      `status() ${spread(results.flatMap(({ statusMs }) => statusMs))}`,
  );
}

async function measureReplays(): Promise<void> {
  const few: ReplayResult[] = [];
  const many: ReplayResult[] = [];
  for (let run = 0; run < REPLAYS; run += 1) {
    // The small one has no more than that.
    const fresh = await backlogStore(folder, FEW);
    few.push(await measure<ReplayResult>(fresh, { scenario: 'replay', deliveries: REPLAYED }));
    many.push(await measure<ReplayResult>(big, { scenario: 'replay', deliveries: REPLAYED }));
  }
  describeReplays(`${REPLAYED} of ${FEW}`, few);
  describeReplays(`${REPLAYED} of ${instances}`, many);
  const longer: ReplayResult[] = [];
  for (const deliveries of REPLAYED_MORE.filter((more) => more <= instances / 4)) {
    const result = await measure<ReplayResult>(big, { scenario: 'replay', deliveries });
    describeReplays(`${deliveries} of ${instances}`, [result]);
    longer.push(result);
  }
  const rss = (results: readonly ReplayResult[], key: 'peakRss' | 'settledRss' | 'collectedRss') =>
    median(results.map((result) => result[key]));
  for (const [name, key] of [
    ['memory-peak', 'peakRss'],
    ['memory', 'settledRss'],
    ['memory-collected', 'collectedRss'],
  ] as const) {
    ratio(name, rss(many, key) / rss(few, key), TARGET_MEMORY);
  }
  const [half, whole] = longer;
  if (half !== undefined && whole !== undefined) {
    ratio('memory-twice-replayed', whole.collectedRss / half.collectedRss, TARGET_MEMORY);
  }
  figure('loop-delay-p999', median(many.map(({ loopDelayMs }) => loopDelayMs.p999)), 'ms');
}

function describeReplays(name: string, results: readonly ReplayResult[]): void {
  const mib = (key: 'peakRss' | 'settledRss' | 'collectedRss') =>
    spread(
      results.map((result) => result[key] / 1024 ** 2),
      'MiB',
    );
  console.log(
    `replaying ${name}: ${spread(results.map(({ replayMs }) => replayMs))}; RSS peak ${mib('peakRss')}, settled ` +
      `${mib('settledRss')}, collected ${mib('collectedRss')}; event-loop delay p50 ` +
      `${spread(results.map(({ loopDelayMs }) => loopDelayMs.median))}, p99.9 ` +
      `${spread(results.map(({ loopDelayMs }) => loopDelayMs.p999))}, longest ` +
      `${spread(results.map(({ loopDelayMs }) => loopDelayMs.max))}`,
  );
}

async function measureOperations(): Promise<void> {
  // Pending again: what was replayed is settled.
  const many = await measure<OperationsResult>(await backlogStore(folder, instances), { scenario: 'operations' });
  const few = await measure<OperationsResult>(await backlogStore(folder, FEW), { scenario: 'operations' });
  for (const [name, times] of Object.entries(many)) {
    console.log(`${name}: ${spread(times)}; with ${FEW}: ${spread(few[name] ?? [])}`);
  }
  const of = (name: string) => median(many[name] ?? []);
  figure('lease-and-page', of('leaseStudies, 16') + of('dueDeliveries, 256'), 'ms', TARGET_MS.firstBatch);
  for (const by of ['patient id', 'name', 'date']) {
    const name = `studies by ${by}`;
    if (many[name] !== undefined) figure(`search-by-${by.replace(' ', '-')}`, of(name), 'ms', TARGET_MS.search);
  }
  figure('accept-256-growth', of('accept, 256') / median(few['accept, 256'] ?? []), 'times');
  figure('count-episode', of('countEpisode'), 'ms');
}

async function measurePlans(): Promise<void> {
  const statements = await measure<readonly StatementPlan[]>(big, { scenario: 'plans' });
  const isDear = (step: string) =>
    (step.startsWith('SCAN') && !SMALL_TABLES.test(step)) || step.includes('TEMP B-TREE');
  const dear = statements.filter(({ plan }) => plan.some(isDear));
  for (const { sql, plan, calls, slowestMs } of dear) {
    console.log(`scans or sorts: ${sql}\n  ${plan.join('; ')}\n  ${calls} calls, slowest ${slowestMs.toFixed(1)} ms`);
  }
  const slowest = [...statements].sort((a, b) => b.slowestMs - a.slowestMs).slice(0, 5);
  for (const { sql, slowestMs } of slowest) console.log(`slowest: ${slowestMs.toFixed(1)} ms ${sql.slice(0, 110)}`);
  figure('statements', statements.length, 'statements');
  figure('statements-that-scan-or-sort', dear.length, 'statements');
}

/** In a process of its own; one that is to be killed is, once it has told what it measured. */
async function measure<Result>(store: Store, job: Omit<Job, 'directory' | 'made'>): Promise<Result> {
  const whole: Job = { ...job, directory: store.directory, made: store.made };
  const file = fileURLToPath(new URL('./catalog/measure.ts', import.meta.url));
  const child = spawn(process.execPath, ['--expose-gc', file, JSON.stringify(whole)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close');
  let result: Result | undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    result = JSON.parse(line) as Result;
    if (job.kill === true) child.kill('SIGKILL');
  }
  await ended;
  if (result === undefined) throw new Error(`the measurement "${job.scenario}" told nothing`);
  return result;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

function spread(values: readonly number[], unit = 'ms'): string {
  const digits = (value: number) => value.toFixed(value < 10 ? 2 : 0);
  if (values.length === 1) return `${digits(values[0] ?? 0)} ${unit}`;
  return `${digits(median(values))} ${unit} (${digits(Math.min(...values))} to ${digits(Math.max(...values))})`;
}

function figure(name: string, value: number, unit: string, target?: number): void {
  const text = Number.isInteger(value) ? String(value) : value.toFixed(2);
  console.log(`figure catalog.${name} ${text} unit ${unit}${target === undefined ? '' : ` target ${target}`}`);
}

function ratio(name: string, value: number, target: number): void {
  console.log(`ratio catalog.${name} ${value.toFixed(2)} target ${target}`);
}
