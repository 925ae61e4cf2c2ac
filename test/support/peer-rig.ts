import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, onTestFinished } from 'vitest';
import type { Clock } from '../../src/domain/clock.ts';
import type { Receipt } from '../../src/domain/receipt.ts';
import type { SpillwayEvents } from '../../src/events.ts';
import { defaultRetryPolicy, type RetryPolicy } from '../../src/routing/retry.ts';
import { openSpillway, type Spillway, type SpillwayOptions } from '../../src/spillway.ts';
import { fileStore } from '../../src/storage/file-store.ts';
import { memoryStore } from '../../src/storage/memory/memory-store.ts';
import { startPacs, type TestPacs } from '../../src/testing/pacs.ts';
import type { JournalEntry } from '../../src/testing/pacs-archive.ts';
import { syntheticStudy } from '../../src/testing/synthetic.ts';
import { dicomwebDestination } from '../../src/transports/dicomweb/destination.ts';
import type { DicomwebDestinationOptions } from '../../src/transports/dicomweb/options.ts';
import type { Transport } from '../../src/transports/transport.ts';
import { fastClock } from './fast-clock.ts';
import { temporaryDirectory } from './temporary-directory.ts';

const POLL_MS = 5;
const BOUND_MS = 25_000;
const HOUR = 3_600_000;
/** Not more, or every turn of a busy event loop would look like a process that stood still. */
const TIMES_FASTER = 50;
/** Real time, as sockets have it: so long that none is given up only because the machine is busy. */
const IDLE_MS = 5_000;

interface PeerRigOptions {
  /** Its store is on the disk, so that it can be closed and opened again. @default false */
  readonly durable?: boolean;
  /** @default as ever */
  readonly retry?: Partial<RetryPolicy>;
}

/** A gateway with one DICOMweb peer, over real sockets, over all its openings; time runs faster for all but sockets. */
export class PeerRig {
  readonly clock: Clock = fastClock(TIMES_FASTER);
  readonly receipts: Receipt[] = [];
  readonly #events: { readonly name: keyof SpillwayEvents; readonly detail: unknown }[] = [];
  readonly #store: SpillwayOptions['store'];
  readonly #destination: DicomwebDestinationOptions;
  #spillway: Spillway | undefined;
  /** Instances that were sent once more though they had been answered for: to see whether the PACS stores at all. */
  testimonies = 0;
  /** Instances that were sent again without a question, though nobody knew whether they had arrived. */
  readonly blindResends: string[] = [];
  readonly #stored = new Set<string>();
  readonly #unclear = new Set<string>();
  /** Instances that went out, over all openings, each as often as it did; not those of requests that found nobody. */
  attempts = 0;

  readonly #retry: RetryPolicy;

  private constructor(
    store: SpillwayOptions['store'],
    destination: DicomwebDestinationOptions,
    retry: Partial<RetryPolicy>,
  ) {
    this.#store = store;
    this.#destination = destination;
    this.#retry = { ...defaultRetryPolicy, ...retry };
  }

  /** @param url - Where it sends to: a peer, or what stands before it. */
  static async open(url: string, options: Partial<DicomwebDestinationOptions> & PeerRigOptions = {}): Promise<PeerRig> {
    const { durable = false, retry, ...destination } = options;
    const directory = durable ? join(await temporaryDirectory(), 'buffer') : '';
    const rig = new PeerRig(
      durable ? fileStore({ directory, minFreeBytes: 0 }) : memoryStore(),
      {
        id: 'pacs',
        url,
        idleTimeoutMs: IDLE_MS,
        connectTimeoutMs: IDLE_MS,
        maxInstancesPerRequest: 4,
        maxConcurrency: 2,
        ...destination,
      },
      retry ?? {},
    );
    onTestFinished(() => rig.close());
    await rig.open();
    return rig;
  }

  get spillway(): Spillway {
    if (this.#spillway === undefined) throw new Error('The gateway is closed.');
    return this.#spillway;
  }

  async open(): Promise<void> {
    const destination = dicomwebDestination(this.#destination);
    const transport = this.#observed(destination.transport);
    const spillway = await openSpillway({
      store: this.#store,
      destinations: [{ ...destination, transport, policy: { retry: this.#retry } }],
      clock: this.clock,
      closeTimeoutMs: IDLE_MS * TIMES_FASTER,
    });
    const names = ['health', 'outage', 'recovery', 'delivery', 'quarantine', 'drained', 'closed', 'fault'] as const;
    for (const name of names) spillway.on(name, (detail) => this.#events.push({ name, detail }));
    this.#spillway = spillway;
  }

  async close(): Promise<void> {
    await this.#spillway?.close();
    this.#spillway = undefined;
  }

  #observed(transport: Transport): Transport {
    return {
      ...transport,
      send: async (instances, signal) => {
        const outcomes = await transport.send(instances, signal);
        outcomes.forEach(({ kind }, index) => {
          const uid = instances[index]?.identity.sopInstanceUid ?? '';
          if (kind === 'unreachable') return;
          this.attempts += 1;
          if (this.#stored.has(uid)) this.testimonies += 1;
          if (this.#unclear.delete(uid)) this.blindResends.push(uid);
          if (kind === 'stored') this.#stored.add(uid);
          if (kind === 'ambiguous' || kind === 'unanswered') this.#unclear.add(uid);
        });
        return outcomes;
      },
      lookUp: async (instances, signal) => {
        const found = await transport.lookUp(instances, signal);
        for (const { sopInstanceUid } of instances) this.#unclear.delete(sopInstanceUid);
        return found;
      },
    };
  }

  /** What was told under a name, over all openings. */
  told<Name extends keyof SpillwayEvents>(name: Name): readonly SpillwayEvents[Name][] {
    return this.#events.flatMap((event) => (event.name === name ? [event.detail as SpillwayEvents[Name]] : []));
  }

  /** Takes in so many small instances of a study. */
  async accept(
    seed: number,
    instances: number,
    more: { readonly ageMs?: number; readonly pixelBytes?: number; readonly studyInstanceUid?: string } = {},
  ): Promise<readonly Receipt[]> {
    const { ageMs = HOUR, pixelBytes = 128, ...rest } = more;
    const study = syntheticStudy({ seed, instances, pixelBytes, acquiredAt: this.clock.now() - ageMs, ...rest });
    const receipts = await Promise.all([...study].map(({ bytes }) => this.spillway.accept(bytes)));
    this.receipts.push(...receipts);
    return receipts;
  }

  async status() {
    const { destinations } = await this.spillway.status();
    const [status] = destinations;
    if (status === undefined) throw new Error('There is no destination.');
    return status;
  }

  async until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = Date.now() + BOUND_MS;
    while (!(await condition())) {
      if (Date.now() > deadline) {
        const { health, backlog, concurrency, episode } = await this.status();
        const told = this.#events.slice(-8).map(({ name, detail }) => `${name} ${JSON.stringify(detail)}`);
        const standing = JSON.stringify({ health, instances: backlog.instances, concurrency, episode });
        throw new Error(`Not within ${BOUND_MS} ms: ${what}.\n${standing}\n${told.join('\n')}`);
      }
      await pause(POLL_MS);
    }
  }

  phase(...phases: readonly string[]): Promise<void> {
    return this.until(phases.join(' or '), async () => phases.includes((await this.status()).health.phase));
  }

  /** Until nothing is pending or waits for evidence, and all of it is verified. */
  async verified(): Promise<void> {
    await this.until('nothing is left', async () => (await this.status()).backlog.instances === 0);
    expect(await this.status()).toMatchObject({ verified: this.receipts.length, quarantined: 0, discarded: 0 });
  }

  /**
   * What the peer stored is what was accepted, data set by data set: nothing lost, nothing invented; and each was called
   * verified once. Returns how many came more than once, those apart that were sent to see whether it stores.
   */
  expectStored(journal: readonly JournalEntry[]): number {
    const accepted = this.receipts.map(({ digest, identity }) => `${identity.sopInstanceUid} ${digest}`).sort();
    const stored = journal.filter(({ duplicate }) => !duplicate);
    expect(stored.map((entry) => `${entry.sopInstanceUid} ${entry.dataSetSha256}`).sort()).toEqual(accepted);
    const verified = this.told('delivery').filter(({ state }) => state === 'verified');
    expect(verified.map(({ arrivalId }) => arrivalId).sort()).toEqual(
      this.receipts.map(({ arrivalId }) => arrivalId).sort(),
    );
    expect(this.told('fault')).toEqual([]);
    expect(this.blindResends).toEqual([]);
    return journal.length - stored.length - this.testimonies;
  }
}

/** A small PACS of the running test's own. */
export async function ownPacs(options: Partial<Parameters<typeof startPacs>[0]> = {}): Promise<TestPacs> {
  const pacs = await startPacs({ directory: await temporaryDirectory(), ...options });
  onTestFinished(() => pacs.close());
  return pacs;
}
