// A backlog drained by spillway against the simplest client that sends the same files, in alternating passes: to a server
// that reads and discards, and to Orthanc; and when the most urgent of a mixed backlog are through, against first in, first
// out. Each client is a process of its own, and so is the server.
//
//   node bench/replay.ts [discard] [orthanc] [tiers]      all three by default
//
// BENCH_DIRECTORY says where (a real disk; /var/tmp by default), BENCH_PASSES how often (5; 3 with Orthanc).

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import { objectsOf, SETS } from './intake/objects.ts';
import { MIXED, mixedBacklog } from './replay/mixed-backlog.ts';
import { DiscardingServer, describePasses, endPasses, inTurn, type Pass, runPass } from './replay/passes.ts';
import { describe, figure, median, printSummary, ratio } from './support/figures.ts';
import { missingOrthancDicomWeb, Orthanc } from './support/orthanc.ts';
import { type PendingStore, pendingStore } from './support/pending-store.ts';

const PASSES = Number(process.env.BENCH_PASSES ?? 5);
const ORTHANC_PASSES = Number(process.env.BENCH_PASSES ?? 3);
const IN_FLIGHT = 4;
const INSTANCES_PER_REQUEST = 20;
const FIXED = [1, 2, 4, 8, 16];
const TARGET = { discard: 0.9, cpu: 0.1, orthanc: 0.9, firstTier: 10 };
const FIRST_TIER = 'last-24-hours';

const asked = process.argv.slice(2);
const root = mkdtempSync(join(process.env.BENCH_DIRECTORY ?? '/var/tmp', 'spillway-replay-'));
try {
  console.log(`${availableParallelism()} cores; load before: ${loadavg()[0]?.toFixed(1)}`);
  const wants = (part: string) => asked.length === 0 || asked.includes(part);
  if (wants('discard') || wants('orthanc')) {
    const ct = await makeCt();
    if (wants('discard')) await compareDiscarding(ct);
    if (wants('orthanc')) await compareOrthanc(ct);
  }
  if (wants('tiers')) await compareTiers();
  console.log('memory with 1,000,000 deliveries waiting: npm run bench catalog (catalog.memory)');
  console.log(`load after: ${loadavg()[0]?.toFixed(1)}`);
  printSummary();
} finally {
  endPasses();
  rmSync(root, { recursive: true, force: true });
}

async function makeCt(): Promise<PendingStore> {
  const set = SETS.ct;
  if (set === undefined) throw new Error('no set "ct"');
  return pendingStore(
    join(root, 'ct'),
    objectsOf(set, set.instances, 2).map(({ bytes }) => bytes),
  );
}

async function compareDiscarding(store: PendingStore): Promise<void> {
  const server = await DiscardingServer.start();
  console.log(
    `\ndiscard: ${store.files.length} CT instances of ${store.files[0]?.bytes} bytes, ${IN_FLIGHT} requests in flight, ` +
      `${INSTANCES_PER_REQUEST} instances each, to a server that discards; ${PASSES} passes each, in turn`,
  );
  const plain: Pass[] = [];
  const spillway: Pass[] = [];
  const digests: number[] = [];
  const job = { inFlight: IN_FLIGHT, instancesPerRequest: INSTANCES_PER_REQUEST };
  await inTurn(PASSES, [
    async () => plain.push(await server.pass('plain-pass.ts', store, job)),
    async () => spillway.push(await server.pass('spillway-pass.ts', store, job)),
    async () => digests.push(digestMs(store)),
  ]);
  describePasses('discard: plain node:http client', plain);
  describePasses('discard: spillway', spillway);
  console.log(`discard: SHA-256 of the same bytes: ${describe(digests, 2)} ms of CPU each`);
  const of = (key: keyof Pass) => spillway.map((pass, index) => pass[key] / (plain[index]?.[key] ?? Number.NaN));
  console.log(`discard: spillway by the plain client of the same turn: ${describe(of('perSecond'), 2)}`);
  ratio('replay.discard', median(of('perSecond')), TARGET.discard);
  const cpu = (passes: readonly Pass[]) => median(passes.map(({ cpuMs }) => cpuMs));
  const own = cpu(spillway) - cpu(plain);
  ratio('replay.engine-cpu', (own - median(digests)) / cpu(spillway), TARGET.cpu);
  ratio('replay.engine-cpu-with-digest', own / cpu(spillway), TARGET.cpu);
}

/** What the promise that no byte leaves unchecked costs for each instance, in ms of CPU. */
function digestMs(store: PendingStore): number {
  const bytes = Buffer.alloc(store.files[0]?.bytes ?? 0, 7);
  const began = process.cpuUsage();
  for (const _ of store.files) createHash('sha256').update(bytes).digest();
  const { user, system } = process.cpuUsage(began);
  return (user + system) / 1_000 / store.files.length;
}

async function compareOrthanc(store: PendingStore): Promise<void> {
  const missing = missingOrthancDicomWeb();
  if (missing !== undefined) {
    console.log(`\nmissing: ${missing}; no drain to Orthanc`);
    return;
  }
  console.log(
    `\northanc: the same to an Orthanc that is new each time; the plain client with a number of requests in flight that ` +
      `stays, spillway by its flow from 1 to 8; ${ORTHANC_PASSES} passes each, in turn`,
  );
  const fixed = new Map<number, Pass[]>(FIXED.map((inFlight) => [inFlight, []]));
  const flow: Pass[] = [];
  await inTurn(ORTHANC_PASSES, [
    ...FIXED.map((inFlight) => async () => {
      fixed.get(inFlight)?.push(await orthancPass('plain-pass.ts', store, { inFlight }));
    }),
    async () => flow.push(await orthancPass('spillway-pass.ts', store, {})),
  ]);
  for (const [inFlight, passes] of fixed) describePasses(`orthanc: plain client, ${inFlight} in flight`, passes);
  describePasses('orthanc: spillway', flow);
  const rate = (passes: readonly Pass[]) => median(passes.map(({ perSecond }) => perSecond));
  const [best] = [...fixed].sort(([, a], [, b]) => rate(b) - rate(a));
  if (best === undefined) return;
  console.log(`orthanc: the best fixed number is ${best[0]}`);
  ratio('replay.orthanc', rate(flow) / rate(best[1]), TARGET.orthanc);
}

async function orthancPass(script: string, store: PendingStore, job: { readonly inFlight?: number }): Promise<Pass> {
  const directory = join(root, 'orthanc');
  rmSync(directory, { recursive: true, force: true });
  store.reset();
  spawnSync('sync');
  const orthanc = await Orthanc.start({ directory });
  try {
    const whole = { ...job, url: orthanc.dicomWebUrl, instancesPerRequest: INSTANCES_PER_REQUEST };
    const { startedAt, endedAt, cpuMs } = await runPass(script, store, whole);
    const held = await orthanc.count();
    const count = store.files.length;
    if (held !== count) throw new Error(`Orthanc holds ${held} of ${count} instances`);
    const seconds = (endedAt - startedAt) / 1_000;
    const bytes = store.files.reduce((sum, file) => sum + file.bytes, 0);
    return {
      perSecond: count / seconds,
      mbPerSecond: bytes / 1e6 / seconds,
      cpuMs: cpuMs / count,
      watchedSeconds: seconds,
    };
  } finally {
    await orthanc.kill();
  }
}

async function compareTiers(): Promise<void> {
  const instances = MIXED.studies * MIXED.instancesPerStudy;
  const dated = await pendingStore(join(root, 'dated'), mixedBacklog(true));
  const undated = await pendingStore(join(root, 'undated'), mixedBacklog(false));
  const watched = dated.files.filter(({ tier }) => tier === FIRST_TIER).map(({ sopInstanceUid }) => sopInstanceUid);
  if (undated.files.some(({ tier }) => tier !== FIRST_TIER)) throw new Error('not all of one tier');
  console.log(
    `\ntiers: ${instances} instances of ${dated.files[0]?.bytes} bytes in ${MIXED.studies} studies, ${watched.length} of ` +
      `the first tier; first in, first out are the same without dates; ${PASSES} passes each, in turn`,
  );
  const server = await DiscardingServer.start();
  const job = { inFlight: IN_FLIGHT, instancesPerRequest: INSTANCES_PER_REQUEST };
  const passes = { tiers: [] as Pass[], fifo: [] as Pass[], plain: [] as Pass[] };
  await inTurn(PASSES, [
    async () => passes.tiers.push(await server.pass('spillway-pass.ts', dated, job, watched)),
    async () => passes.fifo.push(await server.pass('spillway-pass.ts', undated, job, watched)),
    async () => passes.plain.push(await server.pass('plain-pass.ts', dated, job, watched)),
  ]);
  const seconds = (among: readonly Pass[]) => among.map(({ watchedSeconds }) => watchedSeconds);
  for (const [name, among] of [
    ['spillway', passes.tiers],
    ['spillway, first in, first out', passes.fifo],
    ['plain client, first in, first out', passes.plain],
  ] as const) {
    describePasses(`tiers: ${name}`, among);
    console.log(`tiers: ${name}: first tier complete after ${describe(seconds(among), 3)} s`);
  }
  const sooner = (others: readonly Pass[]) =>
    seconds(passes.tiers).map((own, index) => (others[index]?.watchedSeconds ?? Number.NaN) / own);
  console.log(`tiers: sooner than first in, first out of the same turn: ${describe(sooner(passes.fifo), 1)} times`);
  ratio('replay.first-tier-sooner', median(sooner(passes.fifo)), TARGET.firstTier, 1);
  figure('replay.first-tier-sooner-than-plain', median(sooner(passes.plain)), 'times', 1);
}
