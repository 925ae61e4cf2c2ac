import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import type { Clock } from '../src/domain/clock.ts';
import type { Receipt } from '../src/domain/receipt.ts';
import { SpillwayError } from '../src/errors.ts';
import type { SpillwayEvents } from '../src/events.ts';
import type { DeliveryEvent } from '../src/replay/events.ts';
import { formatReconciliation, type Reconciliation } from '../src/replay/reconciliation.ts';
import { openSpillway, type Spillway } from '../src/spillway.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { type SyntheticStudyOptions, syntheticInstance, syntheticStudy } from '../src/testing/synthetic.ts';
import { dicomwebDestination } from '../src/transports/dicomweb/destination.ts';
import { missingOrthanc, type Orthanc, startOrthanc } from './support/orthanc.ts';
import { needPeer } from './support/skip.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const TIERS = ['last-24-hours', 'last-week', 'historical'];
const MAX_CONCURRENCY = 2;
const INSTANCES_PER_REQUEST = 4;
const POLL_MS = 20;
const BOUND_MS = 45_000;
const TEST_MS = 120_000;

/** Pauses of half a minute before a refusal is tried again are for hospitals; time runs faster here. */
const TIMES_FASTER = 20;
const OPENED_AT = Date.now();
const fastClock: Clock = {
  now: () => OPENED_AT + (Date.now() - OPENED_AT) * TIMES_FASTER,
  schedule(delayMs, callback) {
    const timer = setTimeout(callback, delayMs / TIMES_FASTER);
    return () => clearTimeout(timer);
  },
};

type Recorded = { [Name in keyof SpillwayEvents]: SpillwayEvents[Name][] };

/** A gateway on the same directory and Orthanc, over all its openings. */
class Gateway {
  /** Everything that was told, over all openings. */
  readonly events: Recorded = {
    health: [],
    outage: [],
    recovery: [],
    delivery: [],
    quarantine: [],
    progress: [],
    drained: [],
    closed: [],
    overdue: [],
    'rollback-suspected': [],
    evicted: [],
    full: [],
    rebuilt: [],
    walked: [],
    damaged: [],
    lost: [],
    fault: [],
  };
  /** What was accepted as `created` or `version`. */
  readonly accepted: Accepted[] = [];
  readonly #directory: string;
  readonly #orthanc: Orthanc;
  #spillway: Spillway | undefined;

  constructor(directory: string, orthanc: Orthanc) {
    this.#directory = directory;
    this.#orthanc = orthanc;
    onTestFinished(() => this.close());
  }

  async open(): Promise<Spillway> {
    this.#spillway = await openSpillway({
      store: fileStore({ directory: join(this.#directory, 'buffer') }),
      destinations: [
        dicomwebDestination({
          id: 'orthanc',
          url: this.#orthanc.dicomWebUrl,
          maxConcurrency: MAX_CONCURRENCY,
          maxInstancesPerRequest: INSTANCES_PER_REQUEST,
        }),
      ],
      closeTimeoutMs: 10_000 * TIMES_FASTER,
      clock: fastClock,
    });
    for (const name of Object.keys(this.events) as (keyof SpillwayEvents)[]) this.#record(this.#spillway, name);
    return this.#spillway;
  }

  async close(): Promise<void> {
    await this.#spillway?.close();
    this.#spillway = undefined;
  }

  get spillway(): Spillway {
    if (this.#spillway === undefined) throw new Error('The gateway is closed.');
    return this.#spillway;
  }

  async accept(bytes: Uint8Array): Promise<Receipt> {
    const receipt = await this.spillway.accept(bytes);
    const isBare = receipt.oddities.includes('file-meta-missing');
    const file = sha256(isBare ? await withFileMeta(bytes) : bytes);
    if (receipt.outcome !== 'identical') this.accepted.push({ receipt, file });
    return receipt;
  }

  async acceptAll(instances: readonly Uint8Array[]): Promise<readonly Receipt[]> {
    return Promise.all(instances.map((bytes) => this.accept(bytes)));
  }

  async status() {
    const { destinations } = await this.spillway.status();
    return destinations[0];
  }

  /** Polls; a failure says what Orthanc had to say. */
  async until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = Date.now() + BOUND_MS;
    while (!(await condition())) {
      if (Date.now() > deadline) throw new Error(`Not within ${BOUND_MS} ms: ${what}.\n${this.#orthanc.log()}`);
      await pause(POLL_MS);
    }
  }

  #record<Name extends keyof SpillwayEvents>(spillway: Spillway, name: Name): void {
    spillway.on(name, (detail) => this.events[name].push(detail));
  }
}

interface Accepted {
  readonly receipt: Receipt;
  /** SHA-256 of the whole file as it was handed over. */
  readonly file: string;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Everything that Orthanc holds, by its own interface: nothing of this library but the digest is in between. */
/** What is stored of a data set that came without file meta. */
async function withFileMeta(bytes: Uint8Array): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  const onFile = async (piece: Uint8Array) => {
    pieces.push(piece);
  };
  await readAndDigest([bytes], { onFile });
  return Buffer.concat(pieces);
}

async function heldBy(orthanc: Orthanc) {
  const ids = (await (await fetch(`${orthanc.url}/instances`)).json()) as readonly string[];
  const held: { readonly sopInstanceUid: string; readonly digest: string; readonly file: string }[] = [];
  for (const id of ids) {
    const bytes = new Uint8Array(await (await fetch(`${orthanc.url}/instances/${id}/file`)).arrayBuffer());
    const { header, digest } = await readAndDigest([bytes]);
    held.push({ sopInstanceUid: header.identity.sopInstanceUid, digest, file: sha256(bytes) });
  }
  return sorted(held);
}

function asHeld(accepted: readonly Accepted[]) {
  return sorted(
    accepted.map(({ receipt, file }) => ({
      sopInstanceUid: receipt.identity.sopInstanceUid,
      digest: receipt.digest,
      file,
    })),
  );
}

function sorted<Item extends { readonly digest: string }>(items: readonly Item[]): readonly Item[] {
  return [...items].sort((a, b) => (a.digest < b.digest ? -1 : 1));
}

function arrivals(events: readonly DeliveryEvent[], state: DeliveryEvent['state']): ReadonlySet<string> {
  return new Set(events.filter((event) => event.state === state).map((event) => event.arrivalId));
}

/**
 * No study is sent while a more urgent one has not been, beyond what the other requests in flight may hold. Versions
 * under one UID are left out, since each waits for those before it; so are studies whose instances differ in tier.
 */
function expectTierOrder(sent: readonly DeliveryEvent[], accepted: readonly Accepted[]): void {
  const receipts = accepted.map(({ receipt }) => receipt);
  const plain = receipts.filter(({ identity, tier }) =>
    receipts.every(
      (other) =>
        other.identity === identity ||
        (other.identity.sopInstanceUid !== identity.sopInstanceUid &&
          (other.identity.studyInstanceUid !== identity.studyInstanceUid || other.tier === tier)),
    ),
  );
  const tierOf = new Map(plain.map(({ arrivalId, tier }) => [arrivalId, TIERS.indexOf(tier)]));
  const order = sent.flatMap(({ arrivalId }) => tierOf.get(arrivalId) ?? []);
  expect(new Set(order)).toEqual(new Set([0, 1, 2]));
  const overtaken = order.map((tier, index) => order.slice(index + 1).filter((later) => later < tier).length);
  expect(Math.max(...overtaken), `tiers as they were sent: ${order.join('')}`).toBeLessThanOrEqual(
    (MAX_CONCURRENCY - 1) * INSTANCES_PER_REQUEST,
  );
}

function expectBalance(closed: Reconciliation | undefined): asserts closed is Reconciliation {
  if (closed === undefined) throw new Error('The episode was not closed.');
  expect(closed, formatReconciliation(closed)).toMatchObject({ unaccounted: 0, outstanding: 0, discarded: 0 });
  expect(closed.received).toBe(closed.verified + closed.quarantined);
  expect(formatReconciliation(closed)).toContain('It balances: nothing is unaccounted for.');
}

const REAL_FILES = fileURLToPath(new URL('../../shared/dicom/', import.meta.url));
/** What may be said of a real file that is not taken: it is no Part 10 file, or names no instance. */
const NOT_TAKEN = ['SPILLWAY_NOT_DICOM', 'SPILLWAY_IDENTITY_MISSING'];

/** Hands over the real files, where there are any, one after another; receipts by their names. */
async function acceptReal(gateway: Gateway): Promise<ReadonlyMap<string, Receipt>> {
  const receipts = new Map<string, Receipt>();
  if (!existsSync(REAL_FILES)) return receipts;
  const [, ...lines] = (await readFile(join(REAL_FILES, 'MANIFEST.tsv'), 'utf8')).trim().split('\n');
  for (const line of lines) {
    const name = line.slice(0, line.indexOf('\t'));
    try {
      receipts.set(name, await gateway.accept(await readFile(join(REAL_FILES, name))));
    } catch (error) {
      if (!(error instanceof SpillwayError)) throw error;
      expect(NOT_TAKEN, `${name}: ${error.message}`).toContain(error.code);
    }
  }
  return receipts;
}

function named(receipts: ReadonlyMap<string, Receipt>, ...names: readonly string[]): readonly Receipt[] {
  return names.flatMap((name) => receipts.get(name) ?? []);
}

function study(options: SyntheticStudyOptions): readonly Uint8Array[] {
  return [...syntheticStudy({ rows: 32, columns: 32, ...options })].map(({ bytes }) => bytes);
}

/** A data set that ends before its own end: it is taken here, and Orthanc cannot parse it. */
function cutShort(options: Omit<SyntheticStudyOptions, 'instances'>): Uint8Array {
  const [whole = new Uint8Array()] = study({ ...options, instances: 1 });
  return whole.subarray(0, whole.length - 100);
}

async function rig(): Promise<{ readonly orthanc: Orthanc; readonly gateway: Gateway }> {
  const directory = await temporaryDirectory();
  const orthanc = await startOrthanc({ directory: join(directory, 'orthanc') });
  const gateway = new Gateway(directory, orthanc);
  await gateway.open();
  return { orthanc, gateway };
}

describe('a real Orthanc (skipped where it is not installed)', { timeout: TEST_MS }, () => {
  test('studies survive its outage and a restart of the gateway, and reach it in order, unaltered', async (context) => {
    needPeer(context, missingOrthanc());
    const { orthanc, gateway } = await rig();
    const { events, accepted } = gateway;
    const now = fastClock.now();
    const versioned = {
      rows: 32,
      columns: 32,
      sopInstanceUid: '2.25.1',
      studyInstanceUid: '2.25.2',
      seriesInstanceUid: '2.25.3',
    };

    // Normal operation.
    await gateway.acceptAll(study({ seed: 1, modality: 'MR', instances: 5, acquiredAt: now - HOUR }));
    await gateway.accept(syntheticInstance({ ...versioned, seed: 2 }));
    await gateway.until('all is verified', async () => (await gateway.status())?.verified === 6);
    expect(await gateway.status()).toMatchObject({ quarantined: 0, health: { phase: 'up' }, episode: null });
    expect(await heldBy(orthanc)).toEqual(asHeld(accepted));
    const before = accepted.length;

    // Orthanc is down; what is least urgent comes first.
    await orthanc.stop();
    const real = await acceptReal(gateway);
    await gateway.acceptAll(study({ seed: 10, modality: 'CR', instances: 12, acquiredAt: now - 400 * DAY }));
    await gateway.acceptAll(
      study({ seed: 11, instances: 12, acquiredAt: now - 3 * DAY, transferSyntax: 'implicit-little' }),
    );
    const twice = study({ seed: 12, instances: 12, acquiredAt: now - 4 * DAY, transferSyntax: 'rle' });
    const once = await gateway.acceptAll(twice);
    await gateway.until('an outage', () => events.outage.length > 0);
    expect(await gateway.status()).toMatchObject({ health: { phase: expect.stringMatching(/down|probing/) } });

    // The gateway is restarted in the middle of the outage, and goes on.
    await gateway.close();
    await gateway.open();
    const again = await gateway.acceptAll(twice);
    expect(again.map(({ outcome, arrivalId }) => [outcome, arrivalId])).toEqual(
      once.map(({ arrivalId }) => ['identical', arrivalId]),
    );
    await gateway.acceptAll(study({ seed: 20, instances: 12, acquiredAt: now - HOUR, transferSyntax: 'deflated' }));
    await gateway.acceptAll(study({ seed: 21, modality: 'US', instances: 6, acquiredAt: now - 2 * HOUR, frames: 2 }));
    await gateway.acceptAll(study({ seed: 22, modality: 'KO', instances: 1, acquiredAt: now - 2 * HOUR }));
    await gateway.acceptAll(
      study({ seed: 23, instances: 6, acquiredAt: now - 3 * HOUR, transferSyntax: 'explicit-big' }),
    );
    const second = await gateway.accept(syntheticInstance({ ...versioned, seed: 3 }));
    expect(second.outcome).toBe('version');
    const cut = await gateway.acceptAll([
      cutShort({ seed: 30, acquiredAt: now - HOUR }),
      cutShort({ seed: 31, acquiredAt: now - 4 * DAY, studyInstanceUid: once[0]?.identity.studyInstanceUid ?? '' }),
    ]);
    expect(cut.map(({ oddities }) => oddities)).toEqual([['truncated'], ['truncated']]);

    // Orthanc is back.
    await orthanc.start();
    await gateway.until('the episode is closed', () => events.closed.length > 0);
    const { outage, recovery, drained, closed } = events;
    expect([outage.length, recovery.length, drained.length, closed.length]).toEqual([1, 1, 1, 1]);
    const during = accepted.slice(before);
    expectBalance(closed[0]);
    expect(closed[0].received).toBe(during.length);

    // Each is either verified or quarantined.
    const verified = arrivals(events.delivery, 'verified');
    const reasons = new Map<string, string | null>();
    for await (const { arrivalId, reason } of gateway.spillway.quarantined()) reasons.set(arrivalId, reason);
    expect(reasons.size).toBe(closed[0].quarantined);
    expect(during.filter(({ receipt: { arrivalId } }) => verified.has(arrivalId) === reasons.has(arrivalId))).toEqual(
      [],
    );

    // Verified means that it is there, byte for byte; and nothing else is.
    expect(await heldBy(orthanc)).toEqual(asHeld(accepted.filter(({ receipt }) => verified.has(receipt.arrivalId))));

    // Quarantined means that Orthanc refused it, or keeps what it had first under this UID. The rest went on.
    const refused = [
      ...cut,
      ...named(real, 'pydicom/MR_truncated.dcm', 'pydicom/rtdose_rle_1frame.dcm', 'fo-dicom/GH364.dcm'),
    ];
    const outdated = [second, ...named(real, 'pydicom/MR_small_implicit.dcm', 'pydicom/MR_small_bigendian.dcm')];
    expect(refused.map(({ arrivalId }) => reasons.get(arrivalId))).toEqual(refused.map(() => 'HTTP 400'));
    for (const { arrivalId } of outdated) expect(reasons.get(arrivalId)).toMatch(/holds another version/);
    for (const { receipt } of during) {
      if (!reasons.has(receipt.arrivalId) || refused.includes(receipt)) continue;
      expect([receipt.outcome, reasons.get(receipt.arrivalId)]).toEqual([
        'version',
        expect.stringMatching(/another version/),
      ]);
    }

    expectTierOrder(
      events.delivery.filter(({ state }) => state === 'sent'),
      during,
    );
    expect(events.fault).toEqual([]);
  });

  test('nothing is lost when it is killed in the middle of the replay', async (context) => {
    needPeer(context, missingOrthanc());
    const { orthanc, gateway } = await rig();
    const { events, accepted, spillway } = gateway;
    const now = fastClock.now();
    await orthanc.stop();
    for (let seed = 1; seed <= 10; seed += 1) {
      await gateway.acceptAll(study({ seed, instances: 10, acquiredAt: now - seed * 9 * DAY }));
    }
    await gateway.until('an outage', () => events.outage.length === 1);

    let killed: Promise<void> | undefined;
    spillway.on('delivery', () => {
      if (arrivals(events.delivery, 'sent').size >= 20) killed ??= orthanc.stop('SIGKILL');
    });
    await orthanc.start();
    await gateway.until('a second outage', () => events.outage.length === 2);
    await killed;
    const left = events.outage[1]?.pendingAtStart;
    expect(left).toBeGreaterThan(0);

    await orthanc.start();
    await gateway.until('both episodes are closed', () => events.closed.length === 2);
    const closed = events.closed.toSorted((a, b) => a.episode.id - b.episode.id);
    for (const reconciliation of closed) expectBalance(reconciliation);
    expect(closed.map((reconciliation) => reconciliation.verified)).toEqual([100, left]);
    expect(await gateway.status()).toMatchObject({ verified: 100, quarantined: 0, backlog: { instances: 0 } });
    expect(await heldBy(orthanc)).toEqual(asHeld(accepted));
    expect(events.fault).toEqual([]);
  });
});
