import type { SimulationEvent } from '../../src/simulator/result.ts';

/**
 * First sends that were begun though one of a more urgent tier was waiting in the same lane. Trials and what was sent
 * before are left out: they have an order of their own.
 */
export function outOfOrder(history: readonly SimulationEvent[], destination: string): readonly string[] {
  /** Instances that were never begun, by study. */
  const waiting = new Map<string, { tier: number; lane: string; readonly uids: Set<string> }>();
  const wrong: string[] = [];
  for (const event of history) {
    if (!('destination' in event) || event.destination !== destination) continue;
    switch (event.type) {
      case 'accepted': {
        const { tier, lane, uid } = event;
        const study = waiting.get(event.study) ?? { tier, lane, uids: new Set() };
        waiting.set(event.study, Object.assign(study, { tier, lane }));
        study.uids.add(uid);
        break;
      }
      case 'ranked': {
        const study = waiting.get(event.study);
        if (study !== undefined) study.tier = event.tier;
        break;
      }
      case 'outage':
        // All that is open becomes backlog.
        for (const study of waiting.values()) study.lane = 'backlog';
        break;
      case 'begun': {
        const study = waiting.get(event.study);
        const isFirst = event.kind === 'send' && !event.isRetry && event.uids.some((uid) => study?.uids.has(uid));
        if (isFirst) {
          for (const [uid, other] of waiting) {
            const isPassedOver = other.lane === event.lane && other.tier < event.tier;
            if (isPassedOver) wrong.push(`at ${event.at} ${event.study} (${event.tier}) before ${uid} (${other.tier})`);
          }
        }
        for (const uid of event.uids) study?.uids.delete(uid);
        if (study?.uids.size === 0) waiting.delete(event.study);
        break;
      }
      default:
    }
  }
  return wrong;
}
