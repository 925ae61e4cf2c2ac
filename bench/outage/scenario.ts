import http from 'node:http';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort } from '../support/orthanc.ts';
import type { Routing } from './auto-routing.ts';
import { DestinationB } from './destination.ts';
import { instancesOf, type Job, TIERS } from './job.ts';
import { OrthancSender, type Sender, SpillwaySender } from './sender.ts';

export interface Plan {
  readonly job: Job;
  readonly sender: Routing | 'spillway';
  /** By SIGKILL, when B has a quarter, and started again. */
  readonly killed: boolean;
}

export interface Outcome {
  readonly plan: Plan;
  readonly sender: string;
  readonly total: number;
  /** Instances that B holds. */
  readonly atB: number;
  /** Instances that B received once more. */
  readonly twice: number;
  readonly attempts: number | null;
  /** Instances that B had when the sender was killed; null where it was not. */
  readonly killedAt: number | null;
  readonly claims: string;
  readonly reconciliation: string;
  readonly balanced: boolean;
  /** Seconds from B's return until the sender knew; null where it does not say. */
  readonly noticed: number | null;
  /** Seconds from B's return until the last of each tier was there; null where it never was. */
  readonly tiers: readonly (number | null)[];
}

const DOWN_MS = 20_000;
const FEEDS_IN_FLIGHT = 4;
const POLL_MS = 250;
const KILL_POLL_MS = 20;
/** A sender that is idle, with nothing new at B for so long, is done. */
const QUIET_MS = 8_000;
const PATIENCE_MS = 90_000;
/** Without a quarter at B by then, it is killed all the same. */
const KILL_PATIENCE_MS = 30_000;
const BOUNDARY = 'feed-0123456789abcdef';

/** From an empty sender and a destination that is down to the end, hands off. */
export async function play(directory: string, plan: Plan): Promise<Outcome> {
  const b = new DestinationB(join(directory, 'b'), await freePort(), await freePort());
  const port = await freePort();
  const home = join(directory, 'sender');
  const sender =
    plan.sender === 'spillway' ? new SpillwaySender(home, port, b) : new OrthancSender(home, plan.sender, port, b);
  try {
    await sender.start();
    const backAt = Date.now() + DOWN_MS;
    const tierOf = await feed(plan.job, sender.dicomWebUrl);
    await pause(Math.max(0, backAt - Date.now()));
    await b.start();
    const killedAt = plan.killed ? await killInMidDrain(sender, b, tierOf.size) : null;
    await untilDone(sender, b, tierOf.size);
    return { ...(await outcomeOf(plan, sender, b, tierOf)), killedAt };
  } finally {
    await sender.kill();
    await b.stop();
  }
}

/** Sends everything by STOW-RS, one instance a request, each until it is taken. Returns the tier of each. */
async function feed(job: Job, url: string): Promise<ReadonlyMap<string, number>> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: FEEDS_IN_FLIGHT });
  const tierOf = new Map<string, number>();
  const instances = instancesOf(job);
  const lane = async () => {
    for (const { bytes, sopInstanceUid, tier } of instances) {
      await stow(agent, url, bytes);
      tierOf.set(sopInstanceUid, tier);
    }
  };
  // One iterator: each lane takes the next.
  await Promise.all(Array.from({ length: FEEDS_IN_FLIGHT }, lane));
  agent.destroy();
  return tierOf;
}

async function stow(agent: http.Agent, url: string, bytes: Uint8Array): Promise<void> {
  const before = Buffer.from(`\r\n--${BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n`);
  const after = Buffer.from(`\r\n--${BOUNDARY}--\r\n`);
  const status = await new Promise<number | undefined>((resolve, reject) => {
    const request = http.request(`${url}/studies`, {
      method: 'POST',
      agent,
      headers: {
        accept: 'application/dicom+json',
        'content-type': `multipart/related; type="application/dicom"; boundary=${BOUNDARY}`,
        'content-length': before.length + bytes.byteLength + after.length,
      },
    });
    request.once('error', reject);
    request.once('response', (response) => {
      response.resume().once('end', () => resolve(response.statusCode));
    });
    request.write(before);
    request.write(bytes);
    request.end(after);
  });
  if (status !== 200) throw new Error(`an instance was answered HTTP ${status}`);
}

/** Returns how many instances B had received. */
async function killInMidDrain(sender: Sender, b: DestinationB, total: number): Promise<number> {
  const deadline = Date.now() + KILL_PATIENCE_MS;
  while (b.received.length < total / 4 && Date.now() < deadline) await pause(KILL_POLL_MS);
  await sender.kill();
  const had = b.received.length;
  await sender.start();
  return had;
}

async function untilDone(sender: Sender, b: DestinationB, total: number): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  let held = -1;
  let since = Date.now();
  for (;;) {
    const now = await b.count();
    if (now !== held) {
      held = now;
      since = Date.now();
    }
    const isIdle = await sender.isIdle();
    if (isIdle && (held === total || Date.now() - since > QUIET_MS)) return;
    if (Date.now() > deadline) return;
    await pause(POLL_MS);
  }
}

async function outcomeOf(
  plan: Plan,
  sender: Sender,
  b: DestinationB,
  tierOf: ReadonlyMap<string, number>,
): Promise<Omit<Outcome, 'killedAt'>> {
  const { received } = b;
  const firstAt = new Map<string, number>();
  for (const { sopInstanceUid, at } of received) if (!firstAt.has(sopInstanceUid)) firstAt.set(sopInstanceUid, at);
  const tiers = Array.from({ length: TIERS }, (_, tier) => {
    const instants = [...tierOf].filter(([, of]) => of === tier).map(([uid]) => firstAt.get(uid));
    const known = instants.filter((at) => at !== undefined);
    return known.length < instants.length ? null : (Math.max(...known) - b.upAt) / 1_000;
  });
  return {
    plan,
    sender: sender.name,
    total: tierOf.size,
    atB: await b.count(),
    twice: received.length - firstAt.size,
    attempts: sender.attempts,
    noticed: sender.noticedAt === null ? null : (sender.noticedAt - b.upAt) / 1_000,
    claims: await sender.claims(),
    reconciliation: sender.reconciliation,
    balanced: /^received (\d+), verified \1, unaccounted for 0$/.test(sender.reconciliation),
    tiers,
  };
}
