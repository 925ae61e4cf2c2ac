import { type Duration, milliseconds } from '../../src/simulator/quantity.ts';
import type { SimulationEvent, SimulationResult } from '../../src/simulator/result.ts';
import { outOfOrder } from './simulated-order.ts';

/** A stretch of virtual time; without ends the whole. */
interface Stretch {
  readonly from?: Duration;
  readonly to?: Duration;
}

/** Of one destination and of what bears one label; without them of all. */
interface Where {
  readonly destination?: string;
  readonly label?: string;
}

/** A bound on a figure; both ends are allowed. */
interface Bounds {
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** What must be true of a scenario's outcome; each has one of these names first. */
export type Expectation =
  /** All that was accepted (in a stretch) is verified, but for what is in quarantine, by an instant. */
  | ({ readonly verifiedBy: Duration } & Where & Stretch)
  | ({ readonly quarantined: number } & Where)
  /** Verified or owed, and not at the target: 0 unless said otherwise. */
  | ({ readonly lost: number } & Where)
  | ({ readonly outages: number | Bounds } & Where)
  | ({ readonly recoveries: number | Bounds } & Where)
  | ({ readonly attemptsPerDelivery: Bounds } & Where)
  | ({ readonly duplicates: Bounds } & Where)
  | ({ readonly mostInFlight: Bounds } & Where)
  | ({ readonly mostAtTarget: Bounds } & Where)
  /** In the same lane no first send of a less urgent tier begins while a more urgent one waits. */
  | ({ readonly tiersInOrder: true } & Where)
  /** Greatest number of slots in a stretch. */
  | ({ readonly slots: Bounds } & Where & Stretch)
  /** Instances begun to be sent in a stretch. */
  | ({ readonly begun: Bounds } & Where & Stretch & { readonly tier?: number })
  /** Mean bytes a second in a stretch. */
  | ({ readonly bytesPerSecond: Bounds } & Where & Stretch)
  /** From being accepted to being answered for, of what was accepted in a stretch: the 95th percentile. */
  | ({ readonly waitP95: Duration } & Where & Stretch)
  /** The same, to being verified. */
  | ({ readonly verifiedP95: Duration } & Where & Stretch)
  /** So many events of a type. */
  | ({ readonly events: SimulationEvent['type']; readonly count: number } & Where)
  /** What was accepted in an outage is all verified no later than so many times the best fixed concurrency takes. */
  | ({ readonly timesBestFixed: number } & Where);

export interface Judged {
  readonly result: SimulationResult;
  /** When the last was verified with a fixed concurrency, at its best; ms since the beginning. */
  readonly bestFixedAt: () => number;
}

/** What is not as expected, each with what came. */
export function disappointments(expectations: readonly Expectation[], judged: Judged): readonly string[] {
  return [...invariants(expectations, judged.result), ...expectations.flatMap((one) => judge(one, judged))];
}

/** What must be true of every outcome. */
function invariants(expectations: readonly Expectation[], { history, destinations }: SimulationResult): string[] {
  const wrong: string[] = [];
  for (const [id, figures] of Object.entries(destinations)) {
    const { accepted, verified, quarantined, open, lost, invented } = figures;
    if (accepted !== verified + quarantined + open) wrong.push(`conservation at ${id}: ${JSON.stringify(figures)}`);
    if (invented > 0) wrong.push(`invented at ${id}: ${invented}`);
    if (lost > 0 && !expectations.some((one) => 'lost' in one)) wrong.push(`lost at ${id}: ${lost}`);
  }
  for (const event of history) {
    if (event.type !== 'closed') continue;
    if (event.received !== event.verified + event.quarantined) wrong.push(`balance: ${JSON.stringify(event)}`);
  }
  return wrong;
}

function judge(expectation: Expectation, judged: Judged): readonly string[] {
  const got = measure(expectation, judged);
  return got === null ? [] : [`${JSON.stringify(expectation)}: got ${got}`];
}

/** What came, where that is not as expected. */
function measure(expectation: Expectation, { result, bestFixedAt }: Judged): string | null {
  const ids = Object.keys(result.destinations).filter((id) => id === (expectation.destination ?? id));
  const figures = ids.flatMap((id) => result.destinations[id] ?? []);
  const sum = (of: (figures: SimulationResult['destinations'][string]) => number) =>
    figures.reduce((total, one) => total + of(one), 0);
  if ('verifiedBy' in expectation) return unverified(result, expectation, milliseconds(expectation.verifiedBy));
  if ('quarantined' in expectation) return unlessWithin(quarantined(result, expectation), expectation.quarantined);
  if ('lost' in expectation)
    return unlessWithin(
      sum(({ lost }) => lost),
      expectation.lost,
    );
  if ('outages' in expectation)
    return unlessWithin(
      sum(({ outages }) => outages),
      expectation.outages,
    );
  if ('recoveries' in expectation)
    return unlessWithin(
      sum(({ recoveries }) => recoveries),
      expectation.recoveries,
    );
  if ('attemptsPerDelivery' in expectation) {
    return unlessWithin(
      sum(({ attempts }) => attempts) / sum(({ accepted }) => accepted),
      expectation.attemptsPerDelivery,
    );
  }
  if ('duplicates' in expectation)
    return unlessWithin(
      sum(({ duplicates }) => duplicates),
      expectation.duplicates,
    );
  if ('mostInFlight' in expectation) {
    return unlessWithin(Math.max(...figures.map(({ mostInFlight }) => mostInFlight)), expectation.mostInFlight);
  }
  if ('mostAtTarget' in expectation) {
    return unlessWithin(Math.max(...figures.map(({ mostAtTarget }) => mostAtTarget)), expectation.mostAtTarget);
  }
  if ('tiersInOrder' in expectation) return ids.flatMap((id) => outOfOrder(result.history, id))[0] ?? null;
  if ('slots' in expectation) {
    const samples = samplesIn(result, ids, expectation);
    return unlessWithin(Math.max(...samples.map(({ slots }) => slots)), expectation.slots);
  }
  if ('begun' in expectation) return unlessWithin(begun(result, ids, expectation), expectation.begun);
  if ('bytesPerSecond' in expectation) {
    const samples = samplesIn(result, ids, expectation);
    const total = samples.reduce((rates, { bytesPerSecond }) => rates + bytesPerSecond, 0);
    return unlessWithin(total / samples.length, expectation.bytesPerSecond);
  }
  if ('waitP95' in expectation) {
    return waitsTooLong(result, expectation, milliseconds(expectation.waitP95), ['sent', 'verified', 'quarantined']);
  }
  if ('verifiedP95' in expectation) {
    return waitsTooLong(result, expectation, milliseconds(expectation.verifiedP95), ['verified', 'quarantined']);
  }
  if ('events' in expectation) {
    const { events, count } = expectation;
    const found = eventsOf(result, expectation).filter(({ type }) => type === events);
    return unlessWithin(found.length, count);
  }
  if ('timesBestFixed' in expectation) {
    const ratio = lastVerifiedAt(result) / bestFixedAt();
    return unlessWithin(ratio, { atMost: expectation.timesBestFixed });
  }
  throw new Error(`There is no such expectation: ${JSON.stringify(expectation)}`);
}

/** When the last instance was verified, ms since the beginning; infinite where some never was. */
export function lastVerifiedAt({ destinations }: SimulationResult): number {
  const figures = Object.values(destinations);
  if (figures.some(({ open }) => open > 0)) return Number.POSITIVE_INFINITY;
  return Math.max(...figures.flatMap(({ lastVerifiedAt: last }) => last.map((at) => at ?? 0)));
}

function unlessWithin(value: number, bounds: number | Bounds): string | null {
  const { atLeast = Number.NEGATIVE_INFINITY, atMost = Number.POSITIVE_INFINITY } =
    typeof bounds === 'number' ? { atLeast: bounds, atMost: bounds } : bounds;
  return value >= atLeast && value <= atMost ? null : String(value);
}

function eventsOf({ history }: SimulationResult, { destination, label }: Where): readonly SimulationEvent[] {
  return history.filter(
    (event) =>
      (destination === undefined || ('destination' in event && event.destination === destination)) &&
      (label === undefined || ('label' in event && event.label === label)),
  );
}

function unverified(result: SimulationResult, where: Where & Stretch, by: number): string | null {
  const waiting = new Map<string, number>();
  for (const event of eventsOf(result, where)) {
    if (event.at > by) break;
    if (event.type === 'accepted' && isIn(where, event.at)) waiting.set(`${event.destination} ${event.uid}`, event.at);
    if (event.type === 'settled' && (event.state === 'verified' || event.state === 'quarantined')) {
      waiting.delete(`${event.destination} ${event.uid}`);
    }
  }
  // What has only just come in may be on its way.
  const JUST_NOW_MS = 60_000;
  const left = [...waiting].filter(([, at]) => at < by - JUST_NOW_MS);
  return left.length === 0 ? null : `${left.length} not verified, such as ${left[0]?.[0]}`;
}

function quarantined(result: SimulationResult, where: Where): number {
  return eventsOf(result, where).filter((event) => event.type === 'settled' && event.state === 'quarantined').length;
}

function isIn({ from, to }: Stretch, at: number): boolean {
  return at >= milliseconds(from ?? '0 s') && (to === undefined || at <= milliseconds(to));
}

function samplesIn(result: SimulationResult, ids: readonly string[], stretch: Stretch) {
  return ids.flatMap((id) => (result.series[id] ?? []).filter(({ at }) => isIn(stretch, at)));
}

function begun(
  { history }: SimulationResult,
  ids: readonly string[],
  { label, tier, ...stretch }: Where & Stretch & { readonly tier?: number },
): number {
  return history.reduce((total, event) => {
    if (event.type !== 'begun' || event.kind === 'look-up' || !ids.includes(event.destination)) return total;
    const isMeant = (label === undefined || event.study.startsWith(`${label}-`)) && event.tier === (tier ?? event.tier);
    return total + (isMeant && isIn(stretch, event.at) ? event.uids.length : 0);
  }, 0);
}

function waitsTooLong(
  result: SimulationResult,
  where: Where & Stretch,
  atMost: number,
  states: readonly string[],
): string | null {
  const accepted = new Map<string, number>();
  const waits: number[] = [];
  for (const event of eventsOf(result, where)) {
    if (event.type === 'accepted' && isIn(where, event.at)) accepted.set(`${event.destination} ${event.uid}`, event.at);
    if (event.type !== 'settled' || !states.includes(event.state)) continue;
    const key = `${event.destination} ${event.uid}`;
    const since = accepted.get(key);
    if (since === undefined) continue;
    accepted.delete(key);
    waits.push(event.at - since);
  }
  // What never was answered for waits for ever.
  for (const _ of accepted) waits.push(Number.POSITIVE_INFINITY);
  waits.sort((a, b) => a - b);
  const p95 = waits[Math.ceil(waits.length * 0.95) - 1] ?? Number.NaN;
  return p95 <= atMost ? null : `${p95} ms of ${waits.length}`;
}
