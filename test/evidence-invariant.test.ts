import { expect, test } from 'vitest';
import { EVIDENCE, type VerifyLevel } from '../src/domain/delivery.ts';
import type { InstanceIdentity } from '../src/domain/identity.ts';
import type { DeliveryEvent } from '../src/replay/events.ts';
import { seededRandom } from '../src/testing/seeded-random.ts';
import type { CommitmentReport, SendOutcome } from '../src/transports/transport.ts';
import { CommittingTransport } from './support/committing-transport.ts';
import { replayRig, smallStudy } from './support/replay-rig.ts';

const SEEDS = [1, 2, 3, 4, 5, 6];
const LEVELS: readonly VerifyLevel[] = ['answered', 'found', 'committed', 'compared'];
const OUTCOMES: readonly SendOutcome[] = [
  { kind: 'stored' },
  { kind: 'stored' },
  { kind: 'stored', warning: 'B000' },
  { kind: 'duplicate', reason: '0111' },
  { kind: 'refused', reason: 'A900', mayRetry: false },
  { kind: 'refused', reason: '0110', mayRetry: true },
  { kind: 'push-back', reason: 'A700', retryAfterMs: 1_000 },
  { kind: 'ambiguous', reason: 'the connection was lost' },
  { kind: 'unanswered', reason: 'nothing was said of it' },
];

/**
 * A peer that stores, refuses, loses, forgets and is silent as chance has it; it never says what is not so when it is
 * asked.
 */
class FicklePeer extends CommittingTransport {
  /** What it has ever said success of. */
  readonly answered = new Set<string>();
  /** What it has ever shown, given back or committed itself to. */
  readonly shown = new Set<string>();
  readonly #random: () => number;

  constructor(seed: number) {
    super();
    this.#random = seededRandom(seed);
    this.reportsAtOnce = true;
    this.respond = ({ sopInstanceUid }) => {
      const outcome = OUTCOMES[Math.floor(this.#random() * OUTCOMES.length)] ?? { kind: 'stored' };
      if (outcome.kind === 'stored') this.answered.add(sopInstanceUid);
      return outcome;
    };
    this.keeps = () => this.#random() < 0.5;
  }

  override async lookUp(instances: readonly InstanceIdentity[]): Promise<Set<string> | null> {
    // Now and then it loses what it had answered for.
    for (const uid of [...this.held.keys()]) if (this.#random() < 0.02) this.held.delete(uid);
    if (this.#random() < 0.2) return null;
    const found = await super.lookUp(instances);
    for (const uid of found ?? []) this.shown.add(uid);
    return found;
  }

  override async readBack(instance: InstanceIdentity) {
    const held = await super.readBack(instance);
    if (held !== null && held !== 'absent') this.shown.add(instance.sopInstanceUid);
    return held;
  }

  override tell(report: CommitmentReport): void {
    for (const uid of report.committed) this.shown.add(uid);
    super.tell(report);
  }
}

test.each(LEVELS.flatMap((verify) => SEEDS.map((seed) => [verify, seed] as const)))(
  'nothing is verified without the evidence that is asked for, nor put aside without a reason (%s, seed %i)',
  async (verify, seed) => {
    const peer = new FicklePeer(seed);
    const rig = await replayRig([{ id: 'pacs', transport: peer, verify, maxConcurrency: 3 }]);
    const wrong: DeliveryEvent[] = [];
    rig.spillway.on('delivery', (event) => {
      if (event.state !== 'verified') return;
      const { sopInstanceUid } = event.identity;
      const isProven = peer.shown.has(sopInstanceUid) || (verify === 'answered' && peer.answered.has(sopInstanceUid));
      const isEnough = EVIDENCE.indexOf(event.evidence) >= EVIDENCE.indexOf(verify);
      if (!isProven || !isEnough) wrong.push(event);
    });
    for (const study of [1, 2, 3, 4]) await rig.accept(smallStudy(seed * 10 + study, 6));
    await rig.until(async () => (await rig.status()).backlog.instances === 0, 'drained', 10_000);
    const { verified, quarantined, discarded } = await rig.status();
    expect(wrong).toEqual([]);
    expect(verified + quarantined).toBe(24);
    expect(verified).toBeGreaterThan(0);
    expect(discarded).toBe(0);
    const put = await Array.fromAsync(rig.spillway.quarantined());
    expect(put.every(({ reason }) => reason !== null && reason !== '')).toBe(true);
    expect(rig.named('fault')).toEqual([]);
  },
);
