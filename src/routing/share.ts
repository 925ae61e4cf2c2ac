import type { Lane } from '../domain/delivery.ts';

/**
 * What part of all that is sent each lane is guaranteed while it has work. `backlog` has the rest. What a lane does not
 * use goes to the others.
 */
export interface SharePolicy {
  /**
   * Of what arrives after the outage, above 0 and below 1.
   * @default 0.5: a patient on the table does not wait for yesterday's studies, and yesterday's still end
   */
  readonly live: number;
  /**
   * Of the last tier of the backlog. 0: it is no lane of its own, and waits until all more urgent ones are sent.
   * @default 0: priors are needed least
   */
  readonly history: number;
}

export const defaultSharePolicy: SharePolicy = { live: 0.5, history: 0 };

/** A request costs its bytes and, for each instance, what many small ones cost a PACS: about that of so many bytes. */
const INSTANCE_COST_BYTES = 512 * 1024;

/** How much each lane has been served, by its part, beyond the one that was served least. */
export type ShareState = Readonly<Record<Lane, number>>;

export function initialShare(): ShareState {
  return { live: 0, backlog: 0, history: 0 };
}

/** The cost of a request, as `charge` takes it. */
export function costOf(request: { readonly bytes: number; readonly instances: number }): number {
  return request.bytes + request.instances * INSTANCE_COST_BYTES;
}

/** The lanes there are, the one that is most behind its part first; at a tie live first. */
export function lanesInOrder(share: ShareState, policy: SharePolicy = defaultSharePolicy): readonly Lane[] {
  const lanes: readonly Lane[] = policy.history > 0 ? ['live', 'backlog', 'history'] : ['live', 'backlog'];
  return lanes.toSorted((a, b) => share[a] - share[b]);
}

/**
 * A request of `lane` starts. It was the first of `lanesInOrder` that had work: those before it had none, and save up
 * nothing (weighted fair queueing with start tags).
 *
 * @param cost - As `costOf` says.
 */
export function charge(
  share: ShareState,
  lane: Lane,
  cost: number,
  policy: SharePolicy = defaultSharePolicy,
): ShareState {
  const parts = { live: policy.live, backlog: 1 - policy.live - policy.history, history: policy.history };
  const start = share[lane];
  const served = { ...share };
  const lanes = lanesInOrder(share, policy);
  for (const other of lanes) served[other] = Math.max(share[other], start);
  served[lane] = start + cost / (parts[lane] || 1);
  const least = Math.min(...lanes.map((one) => served[one]));
  return {
    live: Math.max(0, served.live - least),
    backlog: Math.max(0, served.backlog - least),
    history: Math.max(0, served.history - least),
  };
}
