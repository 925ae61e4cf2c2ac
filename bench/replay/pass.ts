/** What a pass is given, as JSON in its first argument. */
export interface PassJob {
  /** Of a store that is all pending. */
  readonly directory: string;
  /** What it holds, in the order of arrival: a JSON file with `PendingFile[]`. */
  readonly files: string;
  /** The DICOMweb root of the peer. */
  readonly url: string;
  /** Requests in flight. Spillway finds out for itself when left out. */
  readonly inFlight?: number;
  readonly instancesPerRequest: number;
}

export interface PassResult {
  /** When it began to send, ms since the epoch. */
  readonly startedAt: number;
  /** When the last answer was taken note of, ms since the epoch. */
  readonly endedAt: number;
  /** Of the whole process, from before the first request on. */
  readonly cpuMs: number;
}

export function passJob(): PassJob {
  return JSON.parse(process.argv[2] ?? '') as PassJob;
}

/** Counts from now on; what it returns is called at the end, and tells how it went. */
export function stopwatch(): () => void {
  const epoch = () => performance.timeOrigin + performance.now();
  const began = process.cpuUsage();
  const startedAt = epoch();
  return () => {
    const { user, system } = process.cpuUsage(began);
    const result: PassResult = { startedAt, endedAt: epoch(), cpuMs: (user + system) / 1_000 };
    process.stdout.write(`${JSON.stringify(result)}\n`);
  };
}
