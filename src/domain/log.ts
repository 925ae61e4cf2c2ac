/** What an entry of the event log says; no patient data beyond UIDs. */
export type LogDetail = Readonly<Record<string, string | number | boolean | null>>;

/** One entry of the event log. Each hash covers the one before it, so that nothing can be changed or taken out unseen. */
export interface LogEntry {
  /** 1, 2, 3, … without gaps. */
  readonly id: number;
  /** ms since the epoch. */
  readonly at: number;
  readonly kind: string;
  readonly detail: LogDetail;
  /** SHA-256 (hex) over the hash before it (64 zeros for the first), id, at, kind and detail; see docs/storage-format.md. */
  readonly hash: string;
}
