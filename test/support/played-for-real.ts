import type { InstanceIdentity } from '../../src/domain/identity.ts';
import type { Receipt } from '../../src/domain/receipt.ts';
import type { DeliveryEvent } from '../../src/replay/events.ts';
import { type Arrival, arrivalsOf } from '../../src/simulator/arrivals.ts';
import { EventQueue } from '../../src/simulator/event-queue.ts';
import { Host } from '../../src/simulator/host.ts';
import { milliseconds } from '../../src/simulator/quantity.ts';
import { streamOf } from '../../src/simulator/random.ts';
import { Recorder } from '../../src/simulator/recorder.ts';
import type { DestinationFigures, SimulationResult } from '../../src/simulator/result.ts';
import type { Scenario, TargetModel } from '../../src/simulator/scenario.ts';
import { policyOf } from '../../src/simulator/simulate.ts';
import { Target } from '../../src/simulator/target.ts';
import { openSpillway, type Spillway } from '../../src/spillway.ts';
import { memoryStore } from '../../src/storage/memory/memory-store.ts';
import { syntheticInstance } from '../../src/testing/synthetic.ts';
import { defaultTierPolicy } from '../../src/tiers/policy.ts';
import { TargetTransport } from './target-transport.ts';

const UID_ROOT = '1.2.826.0.1.3680043.2.1143';
/** Turns of the event loop after each step of virtual time: what happens at one instant ends in them. */
const TURNS = 2;
const MAX_TURNS = 1_000;

interface Peer {
  readonly model: TargetModel;
  readonly target: Target;
  readonly transport: TargetTransport;
  accepted: number;
  attempts: number;
}

/**
 * A scenario with the real replay, in virtual time: the same world, but `openSpillway` in place of the simulator's engine.
 * Kills and full disks are left out, and so are `slots`, rates and lanes, which replay does not tell.
 */
export async function playForReal({ world }: Scenario, seed: number): Promise<SimulationResult> {
  const queue = new EventQueue();
  const endMs = milliseconds(world.lasts);
  const host = new Host(queue, Date.parse(world.startAt ?? '2026-03-02T06:00:00Z'));
  const recorder = new Recorder(queue);
  const studies = new Map<string, number>();
  const arrivals = new Map<string, Arrival>();
  const receipts = new Map<string, Receipt>();
  const known = (identity: InstanceIdentity): Arrival => {
    const arrival = arrivals.get(identity.sopInstanceUid);
    if (arrival === undefined) throw new Error(`${identity.sopInstanceUid} never came in`);
    return arrival;
  };

  const peers = new Map<string, Peer>();
  for (const [id, model] of Object.entries(world.targets)) {
    const target = new Target(model, queue, streamOf(seed, `target ${id}`), endMs);
    const transport = new TargetTransport({
      ...{ model, target, host, sent: known },
      digestOf: ({ sopInstanceUid }) => receipts.get(sopInstanceUid)?.digest ?? '',
      onSend: (sent) => {
        const peer = peers.get(id);
        if (peer !== undefined) peer.attempts += sent.length;
        const study = known(identityOf(sent[0]?.uid ?? '')).study;
        const uids = sent.map(({ uid }) => uid);
        const of = { destination: id, study, uids, tier: 0, lane: null, isRetry: false };
        recorder.note({ type: 'begun', kind: 'send', ...of });
      },
    });
    peers.set(id, { model, target, transport, accepted: 0, attempts: 0 });
  }
  const identities = new Map<string, InstanceIdentity>();
  function identityOf(uid: string): InstanceIdentity {
    const identity = identities.get(uid);
    if (identity === undefined) throw new Error(`${uid} never came in`);
    return identity;
  }

  let faults: readonly unknown[] = [];
  const spillway = await openSpillway({
    store: memoryStore(),
    clock: {
      now: () => Math.round(host.now),
      schedule: (delayMs, callback) => host.after(delayMs, callback),
    },
    destinations: [...peers].map(([id, { model, transport }]) => ({
      id,
      transport,
      policy: policyOf(model.policy ?? {}, {}),
      ...(model.verify !== undefined && { verify: model.verify }),
      ...(model.standbyFor !== undefined && { standbyFor: model.standbyFor }),
    })),
    closeTimeoutMs: 0,
  });
  listen(spillway, recorder, known);
  spillway.on('fault', ({ error }) => {
    faults = [...faults, error];
  });

  let accepting = 0;
  const outside: Arrival[] = [];
  const offer = (arrival: Arrival) => {
    if (host.isStalled) {
      outside.push(arrival);
      return;
    }
    const study = studies.get(arrival.study) ?? studies.size + 1;
    studies.set(arrival.study, study);
    const number = Number(arrival.uid.split('.').at(-1)) + 1;
    const file = fileOf(arrival, study, number, Math.round(host.now));
    identities.set(arrival.uid, file.identity);
    arrivals.set(file.identity.sopInstanceUid, arrival);
    accepting += 1;
    const { urgency } = arrival;
    void spillway
      .accept(file.bytes, { urgency })
      .then((receipt) => {
        receipts.set(receipt.identity.sopInstanceUid, receipt);
        for (const destination of receipt.destinations) {
          const peer = peers.get(destination);
          if (peer !== undefined) peer.accepted += 1;
          const tier = defaultTierPolicy.tiers.findIndex(({ id }) => id === receipt.tier);
          const { label, study: uid } = arrival;
          const of = { destination, label, study: uid, uid: arrival.uid, tier, lane: 'live' } as const;
          recorder.note({ type: 'accepted', ...of });
        }
      })
      .finally(() => {
        accepting -= 1;
      });
  };
  for (const arrival of arrivalsOf(world, seed)) queue.at(arrival.at, () => offer(arrival));
  for (const fault of world.gateway ?? []) {
    queue.at(milliseconds(fault.at), () => {
      if (fault.kind === 'clock-jumps') host.jump(milliseconds(fault.by));
      else if (fault.kind === 'stalls') {
        host.stall(milliseconds(fault.lasts));
        queue.at(queue.now + milliseconds(fault.lasts), () => {
          for (const arrival of outside.splice(0)) offer(arrival);
        });
      } else throw new Error(`${fault.kind} cannot be played for real`);
    });
  }
  for (const act of world.operator ?? []) {
    queue.at(milliseconds(act.at), () => {
      const { destination: destinationId } = act;
      if (act.kind === 'ends-outage') {
        void spillway.endOutage({ destinationId, by: 'operator' });
        return;
      }
      const { reason, expectedEnd } = act;
      const expectedEndAt =
        expectedEnd === undefined ? null : Math.round(host.now - queue.now + milliseconds(expectedEnd));
      void spillway.declareOutage({ destinationId, reason, by: 'operator', expectedEndAt });
    });
  }

  const settle = async () => {
    for (let turn = 0; turn < TURNS || (accepting > 0 && turn < MAX_TURNS); turn += 1) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await settle();
  while (queue.step(endMs)) await settle();
  const figures = await figuresOf(spillway, peers, receipts, known, recorder);
  const closing = spillway.close();
  for (let isClosed = false; !isClosed; ) {
    queue.step(queue.now + 1_000);
    isClosed = await Promise.race([closing.then(() => true), settle().then(() => false)]);
  }
  if (faults.length > 0) throw faults[0];
  return { history: recorder.history, series: {}, destinations: figures };
}

function listen(spillway: Spillway, recorder: Recorder, known: (identity: InstanceIdentity) => Arrival): void {
  const settled = ({ destinationId, identity, state, evidence, reason }: DeliveryEvent) => {
    const { label, study, uid } = known(identity);
    const of = { destination: destinationId, label, study, uid, tier: 0 };
    recorder.note({ type: 'settled', ...of, state, evidence, reason });
  };
  spillway.on('delivery', settled);
  spillway.on('quarantine', settled);
  spillway.on('outage', ({ destinationId, cause, planned, pendingAtStart }) =>
    recorder.note({ type: 'outage', destination: destinationId, cause, planned, pending: pendingAtStart }),
  );
  for (const type of ['recovery', 'overdue', 'drained'] as const) {
    spillway.on(type, ({ destinationId }) => recorder.note({ type, destination: destinationId }));
  }
  spillway.on('closed', ({ episode, received, verified, quarantined }) => {
    recorder.note({ type: 'closed', destination: episode.destinationId, received, verified, quarantined });
  });
  spillway.on('health', ({ destinationId, to, reason }) => {
    if (to !== 'probing') recorder.note({ type: 'health', destination: destinationId, phase: to, reason });
  });
}

async function figuresOf(
  spillway: Spillway,
  peers: ReadonlyMap<string, Peer>,
  receipts: ReadonlyMap<string, Receipt>,
  known: (identity: InstanceIdentity) => Arrival,
  { history }: Recorder,
): Promise<Readonly<Record<string, DestinationFigures>>> {
  const { destinations } = await spillway.status();
  const figures: Record<string, DestinationFigures> = {};
  for (const { destinationId, verified, quarantined, backlog } of destinations) {
    const peer = peers.get(destinationId);
    if (peer === undefined) continue;
    const { accepted, attempts, target, transport } = peer;
    const owed = [...receipts.values()].filter((receipt) => receipt.destinations.includes(destinationId));
    const uids = new Set(owed.map(({ identity }) => known(identity).uid));
    const missing = [...uids].filter((uid) => !target.held.has(uid)).length;
    const isStandby = peer.model.standbyFor !== undefined;
    figures[destinationId] = {
      // What a standby takes over when an outage begins was not routed to it.
      accepted: isStandby ? verified + quarantined + backlog.instances : accepted,
      ...{ verified, quarantined, open: backlog.instances, attempts },
      lost: isStandby ? 0 : Math.max(0, missing - quarantined - backlog.instances),
      invented: isStandby ? 0 : [...target.held.keys()].filter((uid) => !uids.has(uid)).length,
      duplicates: target.duplicates,
      outages: history.filter((event) => event.type === 'outage' && event.destination === destinationId).length,
      recoveries: history.filter((event) => event.type === 'recovery' && event.destination === destinationId).length,
      mostInFlight: transport.mostInFlight,
      mostAtTarget: target.mostActive,
      firstVerifiedAt: [],
      lastVerifiedAt: [],
    };
  }
  return figures;
}

function fileOf(arrival: Arrival, study: number, number: number, now: number) {
  const iso = new Date(now - arrival.ageMs).toISOString();
  const studyInstanceUid = `${UID_ROOT}.${study}`;
  const bytes = syntheticInstance({
    ...{ modality: 'MR', rows: 4, columns: 4, seed: study * 10_000 + number, studyInstanceUid },
    seriesInstanceUid: `${studyInstanceUid}.1`,
    sopInstanceUid: `${studyInstanceUid}.1.${number}`,
    acquisitionDate: iso.slice(0, 10).replaceAll('-', ''),
    acquisitionTime: iso.slice(11, 19).replaceAll(':', ''),
    timezoneOffset: '+0000',
  });
  const identity: InstanceIdentity = {
    studyInstanceUid,
    seriesInstanceUid: `${studyInstanceUid}.1`,
    sopInstanceUid: `${studyInstanceUid}.1.${number}`,
    sopClassUid: '1.2.840.10008.5.1.4.1.1.4',
    transferSyntaxUid: '1.2.840.10008.1.2.1',
  };
  return { bytes, identity };
}
