import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import { openSpillway } from '../src/spillway.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

/** The order of writing, and what follows the commit (docs/storage-format.md). */
const STEPS = [
  'create',
  'write',
  'sync-file',
  'close',
  'make-directory',
  'sync-directory',
  'link',
  'commit',
  'release',
  'acknowledge',
] as const;
const MOMENTS = ['before', 'after'] as const;
const ROUNDS = 25;
const LANES = 2;
/** One that is never killed has not come to its step. */
const MAX_LIFE_MS = 20_000;

let child = '';
let outdir = '';
afterAll(() => rm(outdir, { recursive: true, force: true }));
beforeAll(async () => {
  // As one file it starts faster, and it is started hundreds of times.
  outdir = await mkdtemp(join(tmpdir(), 'spillway-kill-'));
  const source = (path: string) => fileURLToPath(new URL(path, import.meta.url));
  await build({
    entryPoints: {
      'kill-child': source('./support/kill-child.ts'),
      'sqlite-worker': source('../src/storage/sqlite/worker.ts'),
    },
    outdir,
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  });
  child = join(outdir, 'kill-child.js');
}, 60_000);

/** One store that is killed again and again, and what was acknowledged of it. */
class Victim {
  readonly #directory: string;
  readonly #acknowledged = new Map<string, string>();
  constructor(directory: string) {
    this.#directory = directory;
  }

  get acknowledged(): number {
    return this.#acknowledged.size;
  }

  async killAt(seed: number, step: string, occurrence: number, moment: string): Promise<void> {
    await this.#live(seed, [step, String(occurrence), moment], () => {});
  }

  async killAfter(seed: number, receipts: number, delayMs: number): Promise<void> {
    let heard = 0;
    await this.#live(seed, ['none'], (kill) => {
      heard += 1;
      if (heard === receipts) setTimeout(kill, delayMs);
    });
  }

  async #live(seed: number, orders: readonly string[], onReceipt: (kill: () => void) => void): Promise<void> {
    const process_ = spawn(process.execPath, [child, this.#directory, String(seed), ...orders], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = once(process_, 'exit');
    const overdue = setTimeout(() => process_.kill('SIGTERM'), MAX_LIFE_MS);
    for await (const line of createInterface({ input: process_.stdout })) {
      const [arrivalId = '', digest = ''] = line.split(' ');
      this.#acknowledged.set(arrivalId, digest);
      onReceipt(() => process_.kill('SIGKILL'));
    }
    const [, signal] = await exited;
    clearTimeout(overdue);
    expect(signal, orders.join(' ')).toBe('SIGKILL');
    await this.#examine();
  }

  /** The store opens without help, and holds what was acknowledged and nothing half done. */
  async #examine(): Promise<void> {
    const store = fileStore({ directory: this.#directory });
    await (await openSpillway({ store, destinations: [] })).close();
    const { catalog, blobs, close } = await store.open();
    const versions = await catalog.versions({ limit: 100_000 });
    const known = new Set(versions.map(({ arrivalId }) => arrivalId));
    expect([...this.#acknowledged.keys()].filter((arrivalId) => !known.has(arrivalId))).toEqual([]);
    for (const { arrivalId, digest, blobRef } of versions) {
      expect((await readAndDigest(blobs.read(blobRef))).digest).toBe(digest);
      expect(this.#acknowledged.get(arrivalId) ?? digest).toBe(digest);
    }
    await close();
    expect(await readdir(join(this.#directory, 'incoming'))).toEqual([]);
    const entries = await readdir(join(this.#directory, 'studies'), { recursive: true, withFileTypes: true });
    expect(entries.filter((entry) => entry.isFile())).toHaveLength(versions.length);
  }
}

test(`kill -9, ${STEPS.length * MOMENTS.length * ROUNDS} times: every acknowledged instance is there and equal, none is invented`, async () => {
  const random = seededRandom(77);
  const orders = Array.from({ length: ROUNDS }, () =>
    STEPS.flatMap((step) => MOMENTS.map((moment) => ({ step, moment, occurrence: 1 + Math.floor(random() * 12) }))),
  ).flat();
  let [kills, acknowledged] = [0, 0];
  const lane = async () => {
    while (orders.length > 0) {
      // A store for each twenty kills, so that what is looked through stays small.
      const victim = new Victim(await temporaryDirectory());
      for (const { step, moment, occurrence } of orders.splice(0, 20)) {
        await victim.killAt(100_000 * (1 + kills), step, occurrence, moment);
        kills += 1;
      }
      acknowledged += victim.acknowledged;
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  console.log(`kill -9 at named steps: ${kills} kills, ${acknowledged} instances acknowledged`);
  expect(kills).toBe(STEPS.length * MOMENTS.length * ROUNDS);
}, 400_000);

test('kill -9 at random moments', async () => {
  const random = seededRandom(78);
  const victim = new Victim(await temporaryDirectory());
  for (let round = 0; round < 20; round += 1) {
    await victim.killAfter(round * 100_000, 1 + Math.floor(random() * 40), random() * 10);
  }
  expect(victim.acknowledged).toBeGreaterThan(20);
}, 60_000);
