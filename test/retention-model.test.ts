import { expect, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import type { InstanceIdentity } from '../src/domain/identity.ts';
import { SpillwayError } from '../src/errors.ts';
import type { AcceptanceResult, Eviction } from '../src/storage/catalog.ts';
import { memoryStore } from '../src/storage/memory/memory-store.ts';
import type { OpenStore, Store } from '../src/storage/store.ts';
import { interceptStore } from '../src/testing/intercept.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';
import type { OutgoingInstance, SendOutcome } from '../src/transports/transport.ts';
import { INSTANCE_BYTES, instance } from './support/equal-instances.ts';
import { DAY_MS, openRig } from './support/retention-rig.ts';
import { ScriptedTransport } from './support/scripted-transport.ts';

const HISTORIES = 60;
const STEPS = 120;
const ROOM = 12;
const STUDIES = 6;
const SENDERS = 4;

/** One version, as the model knows it. */
interface Known {
  readonly identity: InstanceIdentity;
  readonly digest: string;
  /** Where it was routed, with the count of what was proven of it there when it was routed last. */
  readonly routed: Map<string, number>;
  isKept: boolean;
}

/** A peer whose answers are the proof: of each data set how often it said that it has it. */
class ProvingTransport extends ScriptedTransport {
  readonly proofs = new Map<string, number>();

  override async send(instances: readonly OutgoingInstance[], signal: AbortSignal): Promise<readonly SendOutcome[]> {
    const outcomes = await super.send(instances, signal);
    for (const [index, { identity }] of instances.entries()) {
      const digest = this.held.get(identity.sopInstanceUid)?.digest;
      if (outcomes[index]?.kind === 'stored' && digest !== undefined) this.#prove(digest);
    }
    return outcomes;
  }

  override async lookUp(instances: readonly InstanceIdentity[]) {
    const found = await super.lookUp(instances);
    for (const uid of found ?? []) this.#prove(this.held.get(uid)?.digest ?? '');
    return found;
  }

  override async readBack(instance: InstanceIdentity) {
    const read = await super.readBack(instance);
    if (read !== null && read !== 'absent') this.#prove(read.digest);
    return read;
  }

  #prove(digest: string): void {
    this.proofs.set(digest, (this.proofs.get(digest) ?? 0) + 1);
  }
}

/** What is committed and what is proven, by the answers alone: it says what may go. */
class Model {
  readonly known = new Map<string, Known>();
  readonly retired = new Set<string>();
  readonly wrong: string[] = [];
  evictions = 0;
  readonly #peers: Readonly<Record<string, ProvingTransport>>;

  constructor(peers: Readonly<Record<string, ProvingTransport>>) {
    this.#peers = peers;
  }

  accepted({ outcome, version, destinations }: AcceptanceResult): void {
    if (outcome === 'identical') return;
    const { identity, digest } = version;
    const known = this.known.get(digest) ?? { identity, digest, routed: new Map<string, number>(), isKept: true };
    this.known.set(digest, known);
    known.isKept = true;
    for (const id of destinations) known.routed.set(id, this.#peers[id]?.proofs.get(digest) ?? 0);
  }

  /** Why a version must stay; null when it need not. */
  mustStay({ digest, routed }: Known): string | null {
    const inUse = [...routed].filter(([id]) => !this.retired.has(id));
    if (inUse.length === 0) return 'it is routed to no destination in use';
    const [unproven] = inUse.find(([id, before]) => (this.#peers[id]?.proofs.get(digest) ?? 0) <= before) ?? [];
    return unproven === undefined ? null : `${unproven} has not said that it has it`;
  }

  ofStudy(studyInstanceUid: string): readonly Known[] {
    return [...this.known.values()].filter(
      (each) => each.isKept && each.identity.studyInstanceUid === studyInstanceUid,
    );
  }

  evicting({ studyInstanceUid, blobRefs }: Eviction): void {
    this.evictions += 1;
    const held = this.ofStudy(studyInstanceUid);
    if (held.length !== blobRefs.length)
      this.wrong.push(`${blobRefs.length} of ${held.length} of ${studyInstanceUid} go`);
    for (const each of held) {
      const reason = this.mustStay(each);
      if (reason !== null) this.wrong.push(`${each.identity.sopInstanceUid} goes, but ${reason}`);
      each.isKept = false;
    }
  }
}

async function history(seed: number): Promise<{ evictions: number; refusals: number; restored: number }> {
  const random = seededRandom(seed);
  const below = (end: number) => Math.floor(random() * end);
  const oneOf = <T>(...values: readonly T[]) => values[below(values.length)] as T;
  const peers = { a: new ProvingTransport(), b: new ProvingTransport() };
  const model = new Model(peers);
  const inner = memoryStore({ maxBytes: ROOM * INSTANCE_BYTES });
  let opened: OpenStore | undefined;
  let mostBytes = 0;
  const turns = async (count: number) => {
    for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  };
  const store: Store = {
    async open() {
      opened = await inner.open();
      return interceptStore(opened, async (call, action) => {
        await turns(below(3));
        const result = await action();
        if (call === 'catalog.accept') for (const each of result as readonly AcceptanceResult[]) model.accepted(each);
        if (call === 'catalog.beginEviction' && result !== null) model.evicting(result as Eviction);
        // Answers come in the order of the calls' doing, as from the worker: what was read does not go stale on the way.
        return result;
      });
    },
  };
  // One study is never to b's liking, and now and then an answer is lost.
  const refused = `1.2.${1000 + 1 + below(STUDIES)}`;
  peers.b.respond = ({ studyInstanceUid }) => {
    if (studyInstanceUid === refused) return { kind: 'refused', reason: 'A900', mayRetry: false };
    return random() < 0.1 ? { kind: 'ambiguous', reason: 'connection lost' } : { kind: 'stored' };
  };
  peers.b.keeps = () => random() < 0.5;
  const rig = await openRig(
    {
      store,
      route: (_, source) => (source === null ? ['a', 'b'] : source === 'none' ? [] : [source]),
      retention: { keepMs: 2 * DAY_MS, ...(seed % 3 === 0 ? { maxAgeMs: 6 * DAY_MS } : {}) },
    },
    { peers, verify: seed % 2 === 0 ? 'answered' : 'found' },
  );
  await rig.walked();
  const acknowledged = new Map<string, string>();
  let refusals = 0;
  let restored = 0;
  const send = async () => {
    const bytes = instance(1 + below(STUDIES), 1 + below(3), random() < 0.1 ? 1 + below(3) : undefined);
    const source = oneOf(undefined, undefined, 'a', 'b', random() < 0.2 ? 'none' : 'a');
    try {
      const { digest, outcome } = await rig.spillway.accept(bytes, source === undefined ? {} : { source });
      acknowledged.set(digest, outcome);
      if (outcome === 'restored') restored += 1;
    } catch (error) {
      refusals += 1;
      expect(error).toMatchObject({ code: 'SPILLWAY_STORE_FULL' });
    }
  };
  const pass = async (steps: number, ms: number) => {
    for (let step = 0; step < steps; step += 1) {
      rig.clock.advance(ms);
      await turns(3);
    }
  };
  for (let step = 0; step < STEPS; step += 1) {
    const choice = random();
    if (choice < 0.5) await Promise.all(Array.from({ length: 1 + below(SENDERS) }, send));
    else if (choice < 0.6) oneOf(peers.a, peers.b).reachable = false;
    else if (choice < 0.75) for (const peer of [peers.a, peers.b]) peer.reachable = true;
    else if (choice < 0.9) await pass(1 + below(10), 1_000);
    else if (choice < 0.99) await Promise.all([send(), pass(4, DAY_MS / 8)]);
    else if (!model.retired.has('b') && step > STEPS / 2) {
      // From the moment that it is asked for, it is in use no more.
      model.retired.add('b');
      await rig.spillway.retireDestination({ id: 'b', reason: 'replaced', by: 'test' });
    }
    mostBytes = Math.max(mostBytes, ROOM * INSTANCE_BYTES - ((await opened?.blobs.room())?.bytes ?? 0));
    let bytes = 0;
    for await (const blob of opened?.blobs.list() ?? []) bytes += blob.bytes;
    expect(bytes).toBeLessThanOrEqual((ROOM + SENDERS) * INSTANCE_BYTES);
  }
  for (const peer of [peers.a, peers.b]) peer.reachable = true;
  await rig.drain();
  await pass(3, 1_000);
  // Whatever was acknowledged is here, or was evicted.
  for (const { identity, digest, isKept } of model.known.values()) {
    const standing = await opened?.catalog.findVersion({ ...identity, digest });
    expect(standing?.presence).toBe(isKept ? 'kept' : 'evicted');
    if (standing?.presence !== 'kept' || opened === undefined) continue;
    expect((await readAndDigest(opened.blobs.read(standing.blobRef))).digest).toBe(digest);
  }
  for (const digest of acknowledged.keys()) expect(model.known.has(digest)).toBe(true);
  expect(model.wrong).toEqual([]);
  // What is still being sent to a destination that is retired may be evicted under the sending: it settles nothing.
  const isOfRetired = (fault: unknown) =>
    model.retired.size > 0 && fault instanceof SpillwayError && fault.code === 'SPILLWAY_NOT_FOUND';
  expect(rig.faults.filter((fault) => !isOfRetired(fault))).toEqual([]);
  // And the other way round: nobody is refused while enough may go.
  const held = [...model.known.values()].filter(({ isKept }) => isKept);
  const mustStay = held.filter(({ identity }) =>
    model.ofStudy(identity.studyInstanceUid).some((each) => model.mustStay(each) !== null),
  );
  // For so long nobody looks again where nothing might go.
  rig.clock.advance(11_000);
  const last = await rig.spillway.accept(instance(90)).then(
    () => 'taken',
    (error) => error.message,
  );
  if (mustStay.length < ROOM) expect(last).toBe('taken');
  await rig.close();
  return { evictions: model.evictions, refusals, restored };
}

test(`${HISTORIES} random histories: what goes is whole, and every destination in use has said that it has it`, async () => {
  const sums = { evictions: 0, refusals: 0, restored: 0 };
  for (let seed = 1; seed <= HISTORIES; seed += 1) {
    const { evictions, refusals, restored } = await history(seed).catch((error) => {
      throw new Error(`seed ${seed}: ${error.message}`, { cause: error });
    });
    sums.evictions += evictions;
    sums.refusals += refusals;
    sums.restored += restored;
  }
  // The histories are of the kind that they are meant to be.
  expect(sums.evictions).toBeGreaterThan(HISTORIES);
  expect(sums.refusals).toBeGreaterThan(HISTORIES / 2);
  expect(sums.restored).toBeGreaterThan(HISTORIES / 2);
}, 120_000);
