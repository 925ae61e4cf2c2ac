// One measurement in a process of its own: `measure.ts JOB`, a `Job` as JSON. Prints its result as one line of JSON.

import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { Clock } from '../../src/domain/clock.ts';
import { openSpillway, type Spillway } from '../../src/spillway.ts';
import { fileStore } from '../../src/storage/file-store.ts';
import { systemClock } from '../../src/system-clock.ts';
import { defaultTierPolicy } from '../../src/tiers/policy.ts';
import { DESTINATION } from './backlog-store.ts';
import { GatedTransport } from './gated-transport.ts';
import type { Job, OpenResult, ReplayResult } from './job.ts';
import { measureOperations } from './operations.ts';
import { statementPlans } from './plans.ts';

const DAY_MS = 24 * 3_600_000;
const STATUS_CALLS = 20;
const SETTLING_MS = 1_000;

const job = JSON.parse(process.argv[2] ?? '') as Job;
switch (job.scenario) {
  case 'open':
    await measureOpening(job);
    break;
  case 'replay':
    report(await measureReplay(job));
    break;
  case 'operations':
    report(await measureOperations(job));
    break;
  case 'plans':
    report(await statementPlans(job));
}

function report(result: unknown): void {
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

async function measureOpening(job: Job): Promise<void> {
  const transport = new GatedTransport(0);
  const began = performance.now();
  const spillway = await open(job, transport);
  const openMs = performance.now() - began;
  const firstSentMs = (await transport.firstSent) - began;
  const statusMs: number[] = [];
  for (let call = 0; call < STATUS_CALLS; call += 1) {
    const start = performance.now();
    await spillway.status();
    statusMs.push(performance.now() - start);
  }
  const firstAskedMs = transport.firstAskedAt === undefined ? null : transport.firstAskedAt - began;
  const result: OpenResult = { openMs, firstSentMs, firstAskedMs, statusMs };
  report(result);
  if (job.kill === true) await delay(60_000);
  const closed = spillway.close();
  transport.open();
  await closed;
}

async function measureReplay(job: Job): Promise<ReplayResult> {
  const deliveries = job.deliveries ?? 0;
  const transport = new GatedTransport(deliveries);
  const loop = monitorEventLoopDelay({ resolution: 1 });
  loop.enable();
  const began = performance.now();
  const spillway = await open(job, transport);
  await transport.firstSent;
  const before = await verified(spillway);
  while ((await verified(spillway)) - before < deliveries && transport.stored < deliveries) await delay(20);
  const replayMs = performance.now() - began;
  await delay(SETTLING_MS);
  loop.disable();
  const settledRss = process.memoryUsage.rss();
  const peakRss = process.resourceUsage().maxRSS * 1024;
  globalThis.gc?.();
  await delay(SETTLING_MS);
  globalThis.gc?.();
  const collectedRss = process.memoryUsage.rss();
  const ms = (ns: number) => ns / 1e6;
  const loopDelayMs = { median: ms(loop.percentile(50)), p999: ms(loop.percentile(99.9)), max: ms(loop.max) };
  const closed = spillway.close();
  transport.open();
  await closed;
  return { replayMs, peakRss, settledRss, collectedRss, loopDelayMs };
}

async function verified(spillway: Spillway): Promise<number> {
  const { destinations } = await spillway.status();
  return destinations.reduce((sum, destination) => sum + destination.verified, 0);
}

async function open(job: Job, transport: GatedTransport): Promise<Spillway> {
  const tiers = defaultTierPolicy.tiers.map((tier, index) =>
    job.otherPolicy === true && index === 0 ? { ...tier, maxAgeMs: 2 * DAY_MS } : tier,
  );
  const spillway = await openSpillway({
    store: fileStore({ directory: job.directory }),
    destinations: [{ id: DESTINATION, transport }],
    clock: clockOf(job),
    tiers: { ...defaultTierPolicy, tiers },
    closeTimeoutMs: 60_000,
  });
  spillway.on('fault', ({ error }) => console.error('fault', error));
  return spillway;
}

/** Goes on from the instant that the store was made for, however long ago that was: its studies keep their tiers. */
function clockOf({ made, daysLater = 0 }: Job): Clock {
  const offset = Date.now() - made.now - daysLater * DAY_MS;
  return { now: () => Date.now() - offset, schedule: systemClock.schedule };
}
