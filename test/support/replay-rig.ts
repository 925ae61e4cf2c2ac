import { onTestFinished } from 'vitest';
import type { SpillwayEvents } from '../../src/events.ts';
import type { DestinationStatus } from '../../src/replay/events.ts';
import { openSpillway, type Spillway, type SpillwayOptions } from '../../src/spillway.ts';
import { memoryStore } from '../../src/storage/memory/memory-store.ts';
import { type SyntheticInstance, syntheticStudy } from '../../src/testing/synthetic.ts';
import { VirtualClock } from '../../src/testing/virtual-clock.ts';
import type { Destination } from '../../src/transports/transport.ts';
import { ScriptedTransport } from './scripted-transport.ts';
import { close, until } from './virtual-time.ts';

/** Of virtual time, where a good deal of it goes by. */
const STEP_MS = 100;
const MAX_STEPS = 1_000;
export const NOON = Date.parse('2026-03-02T12:00:00Z');
export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** A destination of a rig: a scripted peer, unless it is given a transport. */
export type RigDestination = Omit<Destination, 'transport'> & { readonly transport?: ScriptedTransport };

/** A spillway in virtual time, with scripted peers, and all that it tells. */
export interface ReplayRig {
  readonly clock: VirtualClock;
  readonly spillway: Spillway;
  readonly store: SpillwayOptions['store'];
  readonly events: { readonly name: keyof SpillwayEvents; readonly detail: unknown }[];
  peer(id?: string): ScriptedTransport;
  status(id?: string): Promise<DestinationStatus>;
  named<Name extends keyof SpillwayEvents>(name: Name): readonly SpillwayEvents[Name][];
  accept(instances: readonly { readonly bytes: Uint8Array }[]): Promise<void>;
  until(condition: () => boolean | Promise<boolean>, what?: string, stepMs?: number): Promise<void>;
  /** Lets so much virtual time go by, and what falls due in it happen. */
  pass(ms: number): Promise<void>;
  drained(): Promise<void>;
  /** Closes, and opens again on the same store with the same peers and clock; `options` replace those of before. */
  reopen(options?: Partial<SpillwayOptions>): Promise<ReplayRig>;
}

const NAMES = [
  'health',
  'outage',
  'overdue',
  'recovery',
  'delivery',
  'quarantine',
  'drained',
  'closed',
  'rollback-suspected',
  'fault',
] as const satisfies readonly (keyof SpillwayEvents)[];

export async function replayRig(
  destinations: readonly RigDestination[] = [{ id: 'pacs', maxConcurrency: 4 }],
  options: Partial<Omit<SpillwayOptions, 'destinations'>> = {},
): Promise<ReplayRig> {
  const { clock = new VirtualClock(NOON), store = memoryStore(), ...rest } = options;
  if (!(clock instanceof VirtualClock)) throw new TypeError('expected a virtual clock');
  const peers = new Map(destinations.map(({ id, transport }) => [id, transport ?? new ScriptedTransport()]));
  const peer = (id = 'pacs') => peers.get(id) ?? new ScriptedTransport();
  const given = destinations.map((destination) => ({ ...destination, transport: peer(destination.id) }));
  const spillway = await openSpillway({ store, destinations: given, clock, closeTimeoutMs: 0, ...rest });
  onTestFinished(() => close(clock, spillway));
  const events: ReplayRig['events'] = [];
  for (const name of NAMES) spillway.on(name, (detail: unknown) => events.push({ name, detail }));
  const rig: ReplayRig = {
    clock,
    spillway,
    store,
    events,
    peer,
    async status(id = 'pacs') {
      const found = (await spillway.status()).destinations.find(({ destinationId }) => destinationId === id);
      if (found === undefined) throw new Error(`there is no destination "${id}"`);
      return found;
    },
    named: <Name extends keyof SpillwayEvents>(name: Name) =>
      events.filter((event) => event.name === name).map(({ detail }) => detail as SpillwayEvents[Name]),
    async accept(instances) {
      await Promise.all(instances.map(({ bytes }) => spillway.accept(bytes)));
    },
    until: (condition, what, stepMs) => until(clock, condition, what, stepMs),
    async pass(ms) {
      const end = clock.now() + ms;
      await until(clock, () => clock.now() >= end, 'time', Math.max(STEP_MS, ms / MAX_STEPS));
    },
    drained: () =>
      until(
        clock,
        async () => (await spillway.status()).destinations.every(({ backlog }) => backlog.instances === 0),
        'drained',
      ),
    async reopen(changed = {}) {
      await close(clock, spillway);
      return replayRig(given, { ...options, ...changed, clock, store });
    },
  };
  return rig;
}

/** Small instances of one study. */
export function smallStudy(seed: number, instances: number, acquiredAt = NOON - HOUR): readonly SyntheticInstance[] {
  return [...syntheticStudy({ modality: 'CT', rows: 8, columns: 8, instances, acquiredAt, seed })];
}
