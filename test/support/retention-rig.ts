import { onTestFinished } from 'vitest';
import { openSpillway, type Spillway, type SpillwayOptions } from '../../src/spillway.ts';
import { VirtualClock } from '../../src/testing/virtual-clock.ts';
import { studyUid } from './equal-instances.ts';
import { ScriptedTransport } from './scripted-transport.ts';
import { until } from './virtual-time.ts';

export const START = Date.UTC(2026, 0, 5, 12);
export const DAY_MS = 24 * 3_600_000;
export interface RetentionRig {
  readonly spillway: Spillway;
  readonly clock: VirtualClock;
  readonly peers: Readonly<Record<string, ScriptedTransport>>;
  /** Studies that were evicted, with why, in order. */
  readonly evicted: string[];
  /** What `full` has said. */
  readonly full: (string | null)[];
  readonly faults: unknown[];
  /** Lets time pass until nothing is pending or asked about any more. */
  drain(): Promise<void>;
  /** Resolves when the walk is done; it takes no virtual time for so few. */
  walked(): Promise<void>;
  close(): Promise<void>;
}

/** A spillway in virtual time whose destinations `a` (and others by name) are scripted, and what it tells of itself. */
export async function openRig(
  options: Pick<SpillwayOptions, 'store'> & Partial<Omit<SpillwayOptions, 'destinations' | 'clock'>>,
  {
    clock = new VirtualClock(START),
    names = ['a'],
    peers = Object.fromEntries(names.map((name) => [name, new ScriptedTransport()])),
    verify = 'answered',
  }: {
    readonly clock?: VirtualClock;
    readonly names?: readonly string[];
    readonly peers?: Readonly<Record<string, ScriptedTransport>>;
    readonly verify?: 'answered' | 'found';
  } = {},
): Promise<RetentionRig> {
  const destinations = Object.entries(peers).map(([id, transport]) => ({ id, transport, verify }));
  const spillway = await openSpillway({ ...options, destinations, clock });
  const evicted: string[] = [];
  const full: (string | null)[] = [];
  const faults: unknown[] = [];
  let tellWalked = () => {};
  const walked = new Promise<void>((resolve) => {
    tellWalked = resolve;
  });
  let isClosed = false;
  spillway.on('evicted', ({ studyInstanceUid, because }) => evicted.push(`${studyInstanceUid} ${because}`));
  spillway.on('full', ({ reason }) => full.push(reason));
  spillway.on('fault', ({ error }) => faults.push(error));
  spillway.on('walked', () => tellWalked());
  const closeOnce = async () => {
    if (isClosed) return;
    isClosed = true;
    // Its time-outs are virtual, and real files take real time.
    const ticking = setInterval(() => clock.advance(100), 5);
    await spillway.close().finally(() => clearInterval(ticking));
  };
  onTestFinished(closeOnce);
  return {
    spillway,
    clock,
    peers,
    evicted,
    full,
    faults,
    drain: () =>
      until(
        clock,
        async () => (await spillway.status()).destinations.every(({ backlog }) => backlog.instances === 0),
        'drained',
      ),
    walked: () => walked,
    close: closeOnce,
  };
}

/** What holds of a study in the store: its instances, or 0. */
export async function heldOf(spillway: Spillway, study: number): Promise<number> {
  for await (const { instances } of spillway.studies({ studyInstanceUid: studyUid(study) })) return instances;
  return 0;
}
