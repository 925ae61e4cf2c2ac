import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import type { DeliveryState, VersionRecord } from '../src/domain/delivery.ts';
import { openSpillway } from '../src/spillway.ts';
import type { BlobStore } from '../src/storage/blob-store.ts';
import type { Catalog } from '../src/storage/catalog.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';
import { bundledChild } from './support/bundled-child.ts';
import { FilePeer } from './support/file-peer.ts';
import { type FileSystemKind, LoopDisk } from './support/loop-disk.ts';
import { numberedInstance, numberOf } from './support/numbered-instance.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const ROUNDS = 25;
/** A store for so many rounds, so that what is looked through stays small. */
const ROUNDS_A_STORE = 5;
const MAX_RECEIPTS = 40;
/** A child that has not ended by itself by then is killed, and counted. */
const MAX_LIFE_MS = 15_000;
const MAX_LOOKS = 1_000_000;
const PAGE = 100_000;
const STATES: readonly DeliveryState[] = ['pending', 'sent', 'verified', 'quarantined', 'discarded'];

const child = bundledChild('shutdown-child');

/**
 * How it goes: `power` stops the process first, as a loss of power does; `disk` leaves it running, as when a disk is torn
 * out, so that its calls fail and it ends by itself.
 */
type Manner = 'power' | 'disk';

/** One store whose file system is shut down again and again, and what was said of it. */
class Victim {
  readonly #disk: LoopDisk;
  readonly #directory: string;
  readonly #peer: string;
  readonly #syncs: 'synced' | 'unsynced';
  /** What must stand: digests and states by arrival id. */
  readonly acknowledged = new Map<string, string>();
  readonly delivered = new Map<string, string>();
  /**
   * Said while the shutdown was under way, which proves nothing: on XFS and on ext4 one `fdatasync` that meets it may
   * return success for what is not on the disk, as a bare program that appends and syncs sees too.
   */
  readonly inDoubt = new Set<string>();
  /** What a child said that it never may. */
  readonly harm: string[] = [];
  /** Files that no row knows, as of the last look. */
  withoutRow = 0;
  refused = 0;
  /** Children that had to be ended. */
  overdue = 0;

  constructor(disk: LoopDisk, name: string, peer: string, syncs: 'synced' | 'unsynced' = 'synced') {
    this.#disk = disk;
    this.#directory = join(disk.path, name);
    this.#peer = peer;
    this.#syncs = syncs;
  }

  /** Takes instances in, numbered from `first`, loses the file system after so many receipts, and mounts it again. */
  async loseAfter(first: number, receipts: number, manner: Manner): Promise<void> {
    const process_ = spawn(process.execPath, [child(), this.#directory, this.#peer, String(first), this.#syncs], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = once(process_, 'exit');
    const overdue = setTimeout(() => process_.kill('SIGTERM'), MAX_LIFE_MS);
    let [heard, refused] = [0, 0];
    let shutDown: Promise<void> | undefined;
    for await (const line of createInterface({ input: process_.stdout })) {
      const [word = '', id = '', value = ''] = line.split(' ');
      if (line.includes('uncoded')) this.harm.push(line);
      if (word === 'refused') refused += 1;
      const isSure = shutDown === undefined || manner === 'power';
      if (word === 'delivered' && isSure) this.delivered.set(id, value);
      if (word !== 'accepted') continue;
      if (isSure) this.acknowledged.set(id, value);
      else this.inDoubt.add(id);
      heard += 1;
      if (heard !== receipts) continue;
      if (manner === 'power') stop(process_);
      shutDown = this.#disk.shutDown();
      if (manner === 'power') void shutDown.finally(() => process_.kill('SIGKILL'));
    }
    const [code, signal] = await exited;
    clearTimeout(overdue);
    if (signal === 'SIGTERM') this.overdue += 1;
    if (manner === 'disk' && signal === null && code !== 0) this.harm.push(`the child ended with code ${code}`);
    await shutDown;
    const wasInIntake = manner === 'power' ? signal === 'SIGKILL' : refused > 0;
    if (!wasInIntake) this.harm.push(`it was not in mid-intake after ${heard} receipts`);
    this.refused += refused;
    this.#disk.unmount();
    this.#disk.mount();
  }

  /** Opens the store as ever, looks at all that it holds, and returns what is wrong. */
  async examine(): Promise<readonly string[]> {
    const store = fileStore({ directory: this.#directory, minFreeBytes: 0 });
    const peer = new FilePeer(this.#peer);
    await (await openSpillway({ store, destinations: [{ id: 'peer', transport: peer }] })).close();
    const { catalog, blobs, close } = await store.open();
    try {
      const versions = await catalog.versions({ limit: PAGE });
      const files = await filesIn(join(this.#directory, 'studies'));
      this.withoutRow = files.length - versions.length;
      const inFlight = await filesIn(join(this.#directory, 'incoming'));
      return [
        ...this.harm,
        ...inFlight.map((name) => `${name} is left in flight`),
        ...this.#lost(versions),
        ...(await unfaithful(versions, blobs)),
        ...(await this.#untrue(versions, catalog, peer)),
      ];
    } finally {
      await close();
    }
  }

  /** Delivers what is left, and returns what of all that was acknowledged the peer does not hold. */
  async drain(): Promise<readonly string[]> {
    const peer = new FilePeer(this.#peer);
    const store = fileStore({ directory: this.#directory, minFreeBytes: 0 });
    const spillway = await openSpillway({ store, destinations: [{ id: 'peer', transport: peer }] });
    await spillway.drained();
    await spillway.close();
    const held = new Set(peer.held.values());
    return [...this.acknowledged.values()].filter((digest) => !held.has(digest));
  }

  #lost(versions: readonly VersionRecord[]): readonly string[] {
    const known = new Map(versions.map(({ arrivalId, digest }) => [arrivalId, digest]));
    const wrong = [...this.acknowledged].filter(([arrivalId, digest]) => known.get(arrivalId) !== digest);
    return wrong.map(([arrivalId]) => `${arrivalId} was acknowledged, and has no row or another one`);
  }

  /** States that say more than the peer holds, or less than was said of them before. */
  async #untrue(versions: readonly VersionRecord[], catalog: Catalog, peer: FilePeer): Promise<readonly string[]> {
    const states = new Map<string, DeliveryState>();
    const harm: string[] = [];
    for (const state of STATES) {
      const { deliveries } = await catalog.deliveries({ destinationId: 'peer', state, afterId: 0, limit: PAGE });
      for (const delivery of deliveries) {
        const { arrivalId, digest, identity } = delivery;
        states.set(arrivalId, state);
        const isHeld = peer.held.get(identity.sopInstanceUid) === digest;
        if (state === 'quarantined' || state === 'discarded') harm.push(`${arrivalId} is ${state}: ${delivery.reason}`);
        else if (state !== 'pending' && !isHeld) harm.push(`${arrivalId} is ${state}, and the peer does not hold it`);
      }
    }
    for (const { arrivalId } of versions) if (!states.has(arrivalId)) harm.push(`${arrivalId} has no delivery`);
    for (const [arrivalId, said] of this.delivered) {
      const stands = states.get(arrivalId);
      const isKept = stands !== undefined && STATES.indexOf(stands) >= STATES.indexOf(said as DeliveryState);
      if (!isKept) harm.push(`${arrivalId} was said to be ${said}, and is ${stands}`);
    }
    return harm;
  }
}

/** Rows whose file is missing or another than was offered. */
async function unfaithful(versions: readonly VersionRecord[], blobs: BlobStore): Promise<readonly string[]> {
  const harm: string[] = [];
  for (const { arrivalId, digest, blobRef, identity } of versions) {
    const offered = await readAndDigest([numberedInstance(numberOf(identity.sopInstanceUid))]);
    if (digest !== offered.digest) harm.push(`${arrivalId} was never offered so`);
    const found = await readAndDigest(blobs.read(blobRef)).catch((error) => String(error));
    if (typeof found === 'string') harm.push(`${arrivalId} has a row and cannot be read: ${found}`);
    else if (found.digest !== digest) harm.push(`${arrivalId} has other bytes than its row says`);
  }
  return harm;
}

/** Returns when no thread of the process goes on: each has been told to stop once its first one has. */
function stop(process_: ChildProcess): void {
  process_.kill('SIGSTOP');
  const status = `/proc/${process_.pid}/stat`;
  for (let look = 0; look < MAX_LOOKS; look += 1) if (/\) T /.test(readFileSync(status, 'utf8'))) return;
  throw new Error('the child does not stop');
}

async function filesIn(directory: string): Promise<readonly string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
}

const KINDS = ['xfs', 'ext4'] as const satisfies readonly FileSystemKind[];

test.for(KINDS)(
  `%s is shut down ${ROUNDS} times in mid-intake: every acknowledged instance is there and equal, none is invented`,
  { timeout: 240_000 },
  async (kind, context) => {
    const disk = await LoopDisk.make(context, kind);
    const peers = await temporaryDirectory();
    const random = seededRandom(kind === 'xfs' ? 79 : 80);
    const victims: Victim[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const name = `store-${Math.floor(round / ROUNDS_A_STORE)}`;
      if (round % ROUNDS_A_STORE === 0) victims.push(new Victim(disk, name, join(peers, name)));
      const victim = victims.at(-1) as Victim;
      const receipts = 1 + Math.floor(random() * MAX_RECEIPTS);
      await victim.loseAfter((1 + round) * 100_000, receipts, round % 2 === 0 ? 'power' : 'disk');
      expect(await victim.examine(), `round ${round + 1}`).toEqual([]);
    }
    expect((await Promise.all(victims.map((victim) => victim.drain()))).flat()).toEqual([]);
    const sum = (count: (victim: Victim) => number) => victims.reduce((total, victim) => total + count(victim), 0);
    console.log(
      `${kind}: ${ROUNDS} shutdowns; ${sum(({ acknowledged }) => acknowledged.size)} instances acknowledged, ` +
        `${sum(({ delivered }) => delivered.size)} said to be delivered, ${sum(({ inDoubt }) => inDoubt.size)} receipts ` +
        `while it went, ${sum(({ refused }) => refused)} calls refused, ${sum(({ withoutRow }) => withoutRow)} files ` +
        `without a row, ${sum((victim) => victim.overdue)} children that had to be ended`,
    );
    expect(sum(({ acknowledged }) => acknowledged.size)).toBeGreaterThan(ROUNDS);
  },
);

test.for(KINDS)('%s: files that are never synced are found out', { timeout: 120_000 }, async (kind, context) => {
  const disk = await LoopDisk.make(context, kind);
  const victim = new Victim(disk, 'store', join(await temporaryDirectory(), 'peer'), 'unsynced');
  let harm: readonly string[] = [];
  for (let round = 1; harm.length === 0; round += 1) {
    expect(round, 'rounds without harm').toBeLessThan(10);
    await victim.loseAfter(round * 100_000, 20, 'power');
    harm = await victim.examine();
  }
  expect(harm).toContainEqual(expect.stringMatching(/has a row and cannot be read|has other bytes/));
});
