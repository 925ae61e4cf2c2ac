import type { Urgency } from '../domain/rank.ts';
import { bytes, milliseconds } from './quantity.ts';
import { between, exponential, type Random, streamOf } from './random.ts';
import type { Arrivals, Sick, World } from './scenario.ts';

/** An instance as it comes in. */
export interface Arrival {
  /** Milliseconds since the beginning. */
  readonly at: number;
  readonly label: string;
  readonly study: string;
  readonly uid: string;
  readonly bytes: number;
  /** How long before its arrival the study was acquired, in ms. */
  readonly ageMs: number;
  readonly urgency: Urgency;
  readonly destinations: readonly string[] | null;
  readonly sick: Sick['how'] | null;
}

/** All that comes in, in order of time. */
export function arrivalsOf(world: World, seed: number): readonly Arrival[] {
  const endAt = milliseconds(world.lasts);
  const all = world.arrivals.flatMap((arrivals) =>
    instancesOf(arrivals, endAt, streamOf(seed, `arrivals ${arrivals.label}`)),
  );
  return all.sort((a, b) => a.at - b.at || (a.label < b.label ? -1 : a.label > b.label ? 1 : 0));
}

function instancesOf(arrivals: Arrivals, endAt: number, random: Random): Arrival[] {
  const { label, instances = 1, urgency = 'unknown', destinations = null, sick } = arrivals;
  const spacingMs = milliseconds(arrivals.spacing ?? '0 s');
  const sizes = listOf(arrivals.size ?? '526 kB').map(bytes);
  const ages = listOf(arrivals.age ?? '1 min').map(milliseconds);
  const found: Arrival[] = [];
  startsOf(arrivals, endAt, random).forEach((startAt, index) => {
    const count = typeof instances === 'number' ? instances : between(random, instances);
    for (let number = 0; number < count; number += 1) {
      const at = startAt + number * spacingMs;
      const size = sizes[sizes.length === 1 ? 0 : Math.floor(random() * sizes.length)] ?? 0;
      const isSick = sick !== undefined && (found.length + 1) % sick.every === 0;
      found.push({
        at,
        label,
        study: `${label}-${index}`,
        uid: `${label}-${index}.${number}`,
        bytes: size,
        // All of a study was acquired at one time, though it may take long to come in.
        ageMs: (ages[index % ages.length] ?? 0) + number * spacingMs,
        urgency,
        destinations,
        sick: isSick ? sick.how : null,
      });
    }
  });
  return found.filter(({ at }) => at <= endAt);
}

/** When each study begins to come in. */
function startsOf({ from = '0 s', until, studies, perHour }: Arrivals, endAt: number, random: Random): number[] {
  const fromMs = milliseconds(from);
  const starts: number[] = [];
  if (studies !== undefined) {
    const untilMs = until === undefined ? fromMs : milliseconds(until);
    for (let index = 0; index < studies; index += 1) starts.push(fromMs + ((untilMs - fromMs) * index) / studies);
  }
  if (perHour !== undefined) {
    const untilMs = until === undefined ? endAt : milliseconds(until);
    const meanMs = 3_600_000 / perHour;
    for (let at = fromMs + exponential(random, meanMs); at < untilMs; at += exponential(random, meanMs)) {
      starts.push(Math.round(at));
    }
  }
  return starts;
}

function listOf<T extends string>(value: T | readonly T[]): readonly T[] {
  return typeof value === 'string' ? [value] : value;
}
