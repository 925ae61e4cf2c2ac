import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { VersionRecord } from '../../domain/delivery.ts';
import { openSpillway } from '../../spillway.ts';
import type { Store } from '../../storage/store.ts';
import { assertDelivered, examine } from './oracle.ts';
import { DESTINATION_ID, type KillOrders, ORDERS_VARIABLE, RECEIPTS_DESCRIPTOR } from './orders.ts';
import { RecordingTransport, readReceived } from './received-record.ts';

/** One that is never killed has not come to its step. */
const MAX_LIFE_MS = 60_000;
/** Instances are numbered; no life takes in so many. */
const SEEDS_OF_A_LIFE = 100_000;

/** A store that `killContract` kills the process of, again and again. */
export interface KillableStore {
  /** Opened in the test's own process after each kill. */
  readonly store: Store;
  /** What the child's script is given: where the same store is. */
  readonly args: readonly string[];
  /**
   * Called after each kill, when the store was opened, recovered and closed: looks at what the contracts do not show, such
   * as files that nothing refers to, and throws where it is not as it must be. @default nothing
   */
  examine?(versions: readonly VersionRecord[]): Promise<void>;
  dispose(): Promise<void>;
}

/** One store that is killed again and again, and what was acknowledged of it. */
export class Victim {
  readonly #made: KillableStore;
  readonly #child: string;
  readonly #directory = mkdtempSync(join(tmpdir(), 'spillway-kill-'));
  readonly #receivedFile = join(this.#directory, 'received');
  readonly #acknowledged = new Map<string, string>();
  #lives = 0;

  constructor(made: KillableStore, child: string) {
    this.#made = made;
    this.#child = child;
    closeSync(openSync(this.#receivedFile, 'wx'));
  }

  get acknowledged(): number {
    return this.#acknowledged.size;
  }

  /** How many instances the destination has received, and how many of them it had before. */
  get received(): { readonly all: number; readonly again: number } {
    const all = readReceived(this.#receivedFile);
    return { all: all.length, again: all.length - new Set(all.map(({ sopInstanceUid }) => sopInstanceUid)).size };
  }

  /** The child kills itself at a step, so that it happens there and nowhere else. */
  killAt(step: string, occurrence: number, moment: 'before' | 'after'): Promise<void> {
    return this.#live({ step, occurrence, moment }, () => {});
  }

  /** The child is killed from here, so many ms after so many receipts. */
  killAfter(receipts: number, delayMs: number): Promise<void> {
    let heard = 0;
    return this.#live(null, (kill) => {
      heard += 1;
      if (heard === receipts) setTimeout(kill, delayMs);
    });
  }

  async #live(at: KillOrders['at'], onReceipt: (kill: () => void) => void): Promise<void> {
    this.#lives += 1;
    const orders: KillOrders = { seed: this.#lives * SEEDS_OF_A_LIFE, at, receivedFile: this.#receivedFile };
    const process_ = spawn(process.execPath, [this.#child, ...this.#made.args], {
      stdio: ['ignore', 'inherit', 'inherit', 'pipe'],
      env: { ...process.env, [ORDERS_VARIABLE]: JSON.stringify(orders) },
    });
    const exited = once(process_, 'exit');
    const overdue = setTimeout(() => process_.kill('SIGTERM'), MAX_LIFE_MS);
    const receipts = process_.stdio[RECEIPTS_DESCRIPTOR] as Readable;
    for await (const line of createInterface({ input: receipts })) {
      const [arrivalId = '', digest = ''] = line.split(' ');
      this.#acknowledged.set(arrivalId, digest);
      onReceipt(() => process_.kill('SIGKILL'));
    }
    const [code, signal] = await exited;
    clearTimeout(overdue);
    const name = at === null ? 'killed from outside' : `${at.moment} ${at.step}, occurrence ${at.occurrence}`;
    assert.equal(signal, 'SIGKILL', `life ${this.#lives} (${name}) ended with code ${code}, signal ${signal}`);
    try {
      const versions = await this.#examine();
      await this.#made.examine?.(versions);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      throw new Error(`after life ${this.#lives} (${name}): ${message}`, { cause: error });
    }
  }

  #examine(): Promise<readonly VersionRecord[]> {
    return examine(this.#made.store, { acknowledged: this.#acknowledged, receivedFile: this.#receivedFile });
  }

  /** Opened once more and left alone, everything that it holds is delivered. */
  async deliverAll(): Promise<void> {
    const transport = new RecordingTransport(this.#receivedFile);
    const spillway = await openSpillway({ store: this.#made.store, destinations: [{ id: DESTINATION_ID, transport }] });
    try {
      await spillway.drained();
    } finally {
      await spillway.close();
    }
    assertDelivered(await this.#examine(), this.#receivedFile);
  }

  async dispose(): Promise<void> {
    rmSync(this.#directory, { recursive: true, force: true });
    await this.#made.dispose();
  }
}
