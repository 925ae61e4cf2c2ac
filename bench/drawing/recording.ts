/** How it stood at one moment of a drain. */
export interface Sample {
  /** Seconds since the beginning. */
  readonly at: number;
  /** Instances that wait, by tier, most urgent first. */
  readonly backlog: readonly number[];
  readonly limit: number;
  readonly inFlight: number;
  /** Instances stored a second, over the second around. */
  readonly rate: number;
}

/** A span of time in which something is wrong. */
export interface Span {
  readonly from: number;
  readonly to: number;
  readonly label: string;
  readonly kind: 'outage' | 'slow' | 'busy';
}

/** Something that happened. */
export interface Mark {
  readonly at: number;
  readonly label: string;
}

export interface Recording {
  readonly seconds: number;
  readonly samples: readonly Sample[];
  readonly spans: readonly Span[];
  readonly marks: readonly Mark[];
  readonly tiers: readonly string[];
  /** What the peer can do at best, instances a second. */
  readonly capacity: readonly { readonly from: number; readonly perSecond: number }[];
  /** Requests in flight that the peer works on at once. */
  readonly atOnce: number;
}
