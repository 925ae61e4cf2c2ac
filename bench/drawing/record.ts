import { rmSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { dicomwebDestination, fileStore, openSpillway } from '../../src/index.ts';
import { syntheticStudy } from '../../src/testing/synthetic.ts';
import { ModelledPacs } from './modelled-pacs.ts';
import type { Mark, Recording, Sample, Span } from './recording.ts';

const AT_ONCE = 4;
const SERVICE_MS = 20;
const SLOW_FACTOR = 4;
const INSTANCES_PER_REQUEST = 5;
const PER_STUDY = 10;
const SAMPLE_MS = 100;
const RATE_OVER_S = 1;
const DAY_MS = 24 * 3_600_000;
/** Of ten studies that come: tier by tier, so that none comes as a whole. */
const AGES_MS = [0.05, 3, 60, 90, 4, 0.1, 200, 5, 400, 80].map((days) => days * DAY_MS);
/** Seconds, of the last two since it is known that it stores again: when that is, chance has a part in. */
const PLAN = {
  outage: { from: 3, to: 13 },
  rush: { from: 3, to: 12, perSecond: 330 },
  calm: { perSecond: 20 },
  slow: { from: 6, to: 12 },
  busy: { from: 17, to: 18.5 },
  atMost: 75,
};

/** A real drain, from before the outage until the backlog is through. */
export async function record(directory: string): Promise<Recording> {
  rmSync(directory, { recursive: true, force: true });
  const pacs = await ModelledPacs.create({ atOnce: AT_ONCE, serviceMs: SERVICE_MS });
  await using spillway = await openSpillway({
    store: fileStore({ directory }),
    destinations: [
      dicomwebDestination({
        id: 'pacs',
        url: pacs.url,
        verify: 'answered',
        maxInstancesPerRequest: INSTANCES_PER_REQUEST,
      }),
    ],
  });
  const began = performance.now();
  const now = () => (performance.now() - began) / 1_000;
  const until = (seconds: number) => pause(Math.max(0, (seconds - now()) * 1_000));
  const marks: Mark[] = [];
  const mark = (label: string) => marks.push({ at: now(), label });
  let drainedAt: number | undefined;
  spillway.on('outage', () => mark('outage declared'));
  const recovered = Promise.withResolvers<number>();
  spillway.on('recovery', () => {
    mark('stores again');
    recovered.resolve(now());
  });
  spillway.on('drained', () => {
    mark('drained');
    drainedAt = now();
  });
  spillway.on('fault', ({ error }) => {
    throw error;
  });
  const ended = new AbortController();
  const arrivals = arrive((bytes) => spillway.accept(bytes), now, ended.signal);
  const happenings = (async () => {
    await until(PLAN.outage.from);
    await pacs.stop();
    await until(PLAN.outage.to);
    await pacs.start();
    const back = await recovered.promise;
    const after = ({ from, to }: { readonly from: number; readonly to: number }) => ({
      from: back + from,
      to: back + to,
    });
    const [slow, busy] = [after(PLAN.slow), after(PLAN.busy)];
    await until(slow.from);
    pacs.serviceMs = SERVICE_MS * SLOW_FACTOR;
    await until(slow.to);
    pacs.serviceMs = SERVICE_MS;
    await until(busy.from);
    pacs.isBusy = true;
    await until(busy.to);
    pacs.isBusy = false;
    return { slow, busy };
  })();
  const raw: (Omit<Sample, 'rate'> & { readonly stored: number })[] = [];
  let tiers: readonly string[] = [];
  while (now() < PLAN.atMost && (drainedAt === undefined || now() < drainedAt + 3)) {
    const [status] = (await spillway.status()).destinations;
    if (status === undefined) break;
    tiers = status.backlog.tiers.map(({ tier }) => tier);
    raw.push({
      at: now(),
      backlog: status.backlog.tiers.map(({ instances }) => instances),
      limit: status.concurrency.limit,
      inFlight: status.concurrency.inFlight,
      stored: pacs.stored,
    });
    await pause(SAMPLE_MS);
  }
  ended.abort();
  const [{ slow, busy }] = await Promise.all([happenings, arrivals]);
  const seconds = now();
  await spillway.close();
  await pacs.stop();
  const best = (AT_ONCE * 1_000) / SERVICE_MS;
  const spans: readonly Span[] = [
    { ...PLAN.outage, label: 'PACS down', kind: 'outage' },
    { ...slow, label: `${SLOW_FACTOR} times slower`, kind: 'slow' },
    { ...busy, label: '503', kind: 'busy' },
  ];
  return {
    seconds,
    samples: raw.map((sample) => ({ ...sample, rate: rateAround(raw, sample.at) })),
    spans,
    marks,
    tiers,
    capacity: [
      { from: 0, perSecond: best },
      { from: PLAN.outage.from, perSecond: 0 },
      { from: PLAN.outage.to, perSecond: best },
      { from: slow.from, perSecond: best / SLOW_FACTOR },
      { from: slow.to, perSecond: best },
      { from: busy.from, perSecond: 0 },
      { from: busy.to, perSecond: best },
    ],
    atOnce: AT_ONCE,
  };
}

/** Studies come one after another, faster while the PACS is down: what a day of outage would hold up, in seconds. */
async function arrive(
  accept: (bytes: Uint8Array) => Promise<unknown>,
  now: () => number,
  signal: AbortSignal,
): Promise<void> {
  let due = 0;
  let seed = 900;
  const taking = new Set<Promise<unknown>>();
  while (!signal.aborted) {
    seed += 1;
    const study = syntheticStudy({
      seed,
      modality: 'MR',
      rows: 64,
      columns: 64,
      instances: PER_STUDY,
      acquiredAt: Date.now() - (AGES_MS[seed % AGES_MS.length] ?? 0),
    });
    for (const { bytes } of study) {
      const { from, to, perSecond } = PLAN.rush;
      const isRush = due >= from && due < to;
      due += 1 / (isRush ? perSecond : PLAN.calm.perSecond);
      if (due > now()) await pause((due - now()) * 1_000);
      const taken = accept(bytes).finally(() => taking.delete(taken));
      taking.add(taken);
      if (taking.size >= 16) await Promise.race(taking);
    }
  }
  await Promise.all(taking);
}

function rateAround(raw: readonly { readonly at: number; readonly stored: number }[], at: number): number {
  const near = raw.filter((sample) => Math.abs(sample.at - at) <= RATE_OVER_S / 2);
  const [first, last] = [near[0], near.at(-1)];
  if (first === undefined || last === undefined || last.at === first.at) return 0;
  return (last.stored - first.stored) / (last.at - first.at);
}
