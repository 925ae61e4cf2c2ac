import type { VerifyLevel } from '../domain/delivery.ts';
import type { Urgency } from '../domain/rank.ts';
import type { Duration, Size } from './quantity.ts';

export const FAULT_KINDS = [
  ...(['dead', 'storage-dead', 'unavailable', 'hangs', 'rejects', 'loses-answers', 'loses-instances'] as const),
  'restored',
] as const;

/** A world in time, and why it is worth looking at: data, as it stands in a file. Instants count from the beginning. */
export interface Scenario {
  readonly name: string;
  /** What it guards, and which wrong policy it would show. */
  readonly why: string;
  readonly world: World;
}

export interface World {
  /** When it begins, ISO 8601. @default '2026-03-02T06:00:00Z' */
  readonly startAt?: string;
  readonly lasts: Duration;
  readonly arrivals: readonly Arrivals[];
  /** By destination id. */
  readonly targets: Readonly<Record<string, TargetModel>>;
  /** What befalls the gateway itself. @default nothing */
  readonly gateway?: readonly GatewayFault[];
  /** What a person does. @default nothing */
  readonly operator?: readonly OperatorAct[];
}

/** Studies that come in; either `studies` of them, evenly, or `perHour`, at random (a Poisson process). */
export interface Arrivals {
  /** Names them, and begins the UIDs of their studies. */
  readonly label: string;
  /** @default '0 s' */
  readonly from?: Duration;
  /** @default `from` for `studies`: all at once; the end for `perHour` */
  readonly until?: Duration;
  readonly studies?: number;
  readonly perHour?: number;
  /** Instances of each study: a number, or from and to. @default 1 */
  readonly instances?: number | readonly [number, number];
  /** Time between a study's instances. @default '0 s' */
  readonly spacing?: Duration;
  /** Of each instance; of several, each is as likely. @default '526 kB' */
  readonly size?: Size | readonly Size[];
  /** How long before its arrival a study was acquired; of several, each in turn. @default '1 min' */
  readonly age?: Duration | readonly Duration[];
  /** @default 'unknown' */
  readonly urgency?: Urgency;
  /** @default all that are no standby */
  readonly destinations?: readonly string[];
  /** Every so-many-th instance is sick. @default none */
  readonly sick?: Sick;
}

/**
 * `refused`: for good. `refused-softly`: with a status that allows another try, each time. `spoils`: the connection breaks
 * over it, each time.
 */
export interface Sick {
  readonly every: number;
  readonly how: 'refused' | 'refused-softly' | 'spoils';
}

/** A peer as a queue: what it takes to store, how much of it at once, and what goes wrong when. */
export interface TargetModel {
  /** Requests served at once; the others wait. @default 4 */
  readonly servers?: number;
  /** Time of the server for each request, each instance, each megabyte. @default '2 ms', '8 ms', '8 ms' */
  readonly perRequest?: Duration;
  readonly perInstance?: Duration;
  readonly perMegabyte?: Duration;
  /** Time that passes for each instance while the server is idle, as with delayed acknowledgements. @default '0 ms' */
  readonly stall?: Duration;
  /** Part by which service times vary, either way. @default 0.1 */
  readonly noise?: number;
  /** Part by which service slows with each request in flight beyond `servers`. @default 0 */
  readonly contention?: number;
  /** How fast it is at instants, as a factor; in between it changes evenly. @default [['0 s', 1]] */
  readonly speed?: readonly (readonly [Duration, number])[];
  /** Requests at a time; how it turns away the others says `whenFull`. @default without limit */
  readonly maxRequests?: number;
  /**
   * `asks-for-less`: sends are pushed back. `resets`: connections are, also those by which it is asked, and a question takes
   * one of `maxRequests` too.
   * @default 'asks-for-less'
   */
  readonly whenFull?: 'asks-for-less' | 'resets';
  /** What is stored is indexed afterwards, one after the other; a query shows what is indexed. @default at once */
  readonly index?: IndexModel;
  readonly faults?: readonly TargetFault[];

  /** Time after which the sender gives a request up; the target goes on with it. @default '60 s' */
  readonly timeout?: Duration;
  /** Time until a refused connection, a probe, or a question is answered. @default '2 ms' */
  readonly roundTrip?: Duration;
  /** Instances and bytes of one request at the most. @default 20, '33 MB' */
  readonly maxInstances?: number;
  readonly maxBytes?: Size;
  /** What can be asked of it. @default true, true */
  readonly canLookUp?: boolean;
  readonly canReadBack?: boolean;
  /** @default 'found' where it can be looked up, otherwise 'answered' */
  readonly verify?: VerifyLevel;
  /** It receives only while the destination of this id is down. @default none */
  readonly standbyFor?: string;
  /** Knobs by which it is sent to: they replace those of the default policy, one by one. */
  readonly policy?: PolicyKnobs;
}

/** Knobs of a policy by value and name. */
export interface PolicyKnobs {
  readonly health?: Readonly<Record<string, unknown>>;
  readonly flow?: Readonly<Record<string, unknown>>;
  readonly share?: Readonly<Record<string, unknown>>;
  readonly retry?: Readonly<Record<string, unknown>>;
}

export interface IndexModel {
  /** Time to index one instance. */
  readonly perInstance: Duration;
  /** Instances that wait for it, beyond which storing is slowed down to `speed`. @default without limit */
  readonly slowAbove?: number;
  /** @default 0.1 */
  readonly speed?: number;
  /** Time from being indexed to being shown. @default '0 s' */
  readonly lag?: Duration;
}

/**
 * What goes wrong at a target from one instant to another; with `every`, again and again for `during` at a time.
 *
 * - `dead`: connections are refused; what was under way at its beginning breaks off.
 * - `storage-dead`: the listener answers, storing fails with a status that allows another try.
 * - `unavailable`: 503 to everything, with `retryAfter` where given.
 * - `hangs`: connections are taken, nothing is answered; what was under way stays so.
 * - `rejects`: every `nth` request is pushed back.
 * - `loses-answers`: every `nth` request is carried out, its answer lost.
 * - `loses-instances`: every `nth` instance is answered as stored, and is not.
 * - `restored`: at `from` it forgets what it stored since `since`.
 */
export interface TargetFault {
  readonly kind: (typeof FAULT_KINDS)[number];
  readonly from: Duration;
  /** @default the end */
  readonly to?: Duration;
  readonly every?: Duration;
  readonly during?: Duration;
  /** @default 1 */
  readonly nth?: number;
  readonly retryAfter?: Duration;
  readonly since?: Duration;
}

/**
 * What befalls the gateway.
 *
 * - `stalls`: nothing of it runs for the time; then first its timers fire, all at once.
 * - `clock-jumps`: its wall clock goes forward, or back where `by` is negative.
 * - `killed`: it is gone for the time; what is in flight goes on at the targets, and nothing is taken in.
 * - `disk-full`: for the time nothing is recorded and nothing taken in.
 */
export type GatewayFault =
  | { readonly kind: 'stalls' | 'killed' | 'disk-full'; readonly at: Duration; readonly lasts: Duration }
  | { readonly kind: 'clock-jumps'; readonly at: Duration; readonly by: Duration };

export type OperatorAct =
  | {
      readonly kind: 'declares-outage';
      readonly at: Duration;
      readonly destination: string;
      readonly reason: string;
      /** When it is expected to be over. @default unknown */
      readonly expectedEnd?: Duration;
    }
  | { readonly kind: 'ends-outage'; readonly at: Duration; readonly destination: string };
