import assert from 'node:assert/strict';
import { readAndDigest } from '../../dicom/data-set-digest.ts';
import type { Receipt } from '../../domain/receipt.ts';
import { SpillwayError, type SpillwayErrorCode } from '../../errors.ts';
import { openSpillway, type Spillway } from '../../spillway.ts';
import type { OpenStore, Store } from '../../storage/store.ts';
import { interceptStore } from '../intercept.ts';
import { syntheticInstance } from '../synthetic.ts';

/** A call of a store that fails: before the store has heard of it, or after it has done it. */
export interface Fault {
  readonly call: string;
  readonly moment: 'before' | 'after';
  readonly code: 'SPILLWAY_STORE_FULL' | 'SPILLWAY_STORE_FAILED';
  /** Which of the calls from now on. @default 1 */
  readonly occurrence?: number;
}

const CHUNK_BYTES = 400;

/** An intake on a store whose calls fail once they are armed, and what is to be in the store. */
export class IntakeRig {
  readonly #store: Store;
  readonly #armed: { readonly fault: Fault; left: number }[] = [];
  /** Digests of what is to be there, by arrival id. */
  readonly #standing = new Map<string, string>();
  /** Where blobs were placed, whatever became of them. */
  readonly #placed = new Set<string>();
  /** What was told of as a `fault`. */
  readonly faults: unknown[] = [];
  #opened: OpenStore | undefined;
  #spillway: Spillway | undefined;

  private constructor(store: Store) {
    this.#store = store;
  }

  static async open(store: Store): Promise<IntakeRig> {
    const rig = new IntakeRig(store);
    await rig.#start();
    return rig;
  }

  async #start(): Promise<void> {
    this.#spillway = await openSpillway({ store: { open: () => this.#openFaulty() }, destinations: [] });
    this.#spillway.on('fault', ({ error }) => this.faults.push(error));
  }

  async #openFaulty(): Promise<OpenStore> {
    this.#opened = await this.#store.open();
    return interceptStore(this.#opened, async (call, action) => {
      this.#fail(call, 'before');
      const result = await action();
      if (call === 'writer.place') this.#placed.add(String(result));
      this.#fail(call, 'after');
      return result;
    });
  }

  #fail(call: string, moment: Fault['moment']): void {
    const armed = this.#armed.find(({ fault }) => fault.call === call && fault.moment === moment);
    if (armed === undefined) return;
    armed.left -= 1;
    if (armed.left > 0) return;
    this.#armed.splice(this.#armed.indexOf(armed), 1);
    throw new SpillwayError(armed.fault.code, `${call} was made to fail ${moment} it was done.`);
  }

  arm(faults: readonly Fault[]): void {
    for (const fault of faults) this.#armed.push({ fault, left: fault.occurrence ?? 1 });
  }

  assertCameAbout(): void {
    assert.deepEqual(this.#armed, [], 'the calls that were to fail were made');
  }

  /** Instance `seed` is offered and acknowledged. */
  async accepts(seed: number, outcome: Receipt['outcome']): Promise<void> {
    const receipt = await this.#accept(chunksOf(instance(seed)));
    assert.equal(receipt.outcome, outcome);
    this.#standing.set(receipt.arrivalId, receipt.digest);
  }

  /** Instance `seed` is offered and refused. */
  async refuses(seed: number, code: SpillwayErrorCode): Promise<void> {
    await assert.rejects(this.#accept(chunksOf(instance(seed))), { code });
  }

  /** Instance `seed` breaks off on its way. */
  async refusesIncomplete(seed: number): Promise<void> {
    const bytes = instance(seed);
    const begun = chunksOf(bytes.subarray(0, bytes.byteLength - CHUNK_BYTES));
    await assert.rejects(this.#accept(begun, bytes.byteLength), { code: 'SPILLWAY_INCOMPLETE' });
  }

  async #accept(source: AsyncIterable<Uint8Array>, expectedBytes?: number): Promise<Receipt> {
    assert.ok(this.#spillway !== undefined, 'it is open');
    // Said every time, so that an instance that comes again states it anew.
    return this.#spillway.accept(source, { expectedBytes, urgency: 'stat' });
  }

  /** What was acknowledged is there and equal, and nothing else is. */
  async assertStanding(): Promise<void> {
    assert.ok(this.#opened !== undefined, 'it is open');
    const { catalog, blobs } = this.#opened;
    const versions = await catalog.versions({ limit: 1_000 });
    assert.deepEqual(
      versions.map(({ arrivalId }) => arrivalId),
      [...this.#standing.keys()].sort(),
      'rows of what was acknowledged',
    );
    const refs = new Set(versions.map(({ blobRef }) => blobRef));
    for (const { blobRef, digest } of versions) {
      assert.equal((await readAndDigest(blobs.read(blobRef))).digest, digest, 'bytes of what was acknowledged');
    }
    for (const ref of this.#placed) assert.equal(await blobs.has(ref), refs.has(ref), `bytes behind ${ref}`);
  }

  /** Opens the store anew, without faults or an intake; returns how many blobs were in flight and are removed. */
  async reopen(): Promise<number> {
    await this.close();
    const opened = await this.#store.open();
    this.#opened = opened;
    return opened.blobs.recover((arrivalId) => opened.catalog.hasArrival(arrivalId));
  }

  async close(): Promise<void> {
    await this.#spillway?.close();
    await this.#opened?.close();
  }
}

function instance(seed: number): Uint8Array {
  return syntheticInstance({ rows: 32, columns: 32, seed, studyInstanceUid: `1.2.${seed}` });
}

async function* chunksOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += CHUNK_BYTES) yield bytes.subarray(at, at + CHUNK_BYTES);
}
