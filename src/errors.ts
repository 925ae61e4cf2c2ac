/**
 * Every error that spillway throws on purpose. Match on `code`: messages may change, codes do not.
 *
 * | code | when |
 * |---|---|
 * | `SPILLWAY_OPTION_INVALID` | an option is not what was expected |
 * | `SPILLWAY_NOT_DICOM` | the bytes begin neither like a DICOM file nor like a data set |
 * | `SPILLWAY_IDENTITY_MISSING` | a UID that identifies the instance is missing |
 * | `SPILLWAY_UID_UNSAFE` | a UID is empty, a path, or holds control characters |
 * | `SPILLWAY_INCOMPLETE` | the stream failed, or ended before its transport's end |
 * | `SPILLWAY_TOO_LARGE` | the instance is larger than `maxInstanceBytes` |
 * | `SPILLWAY_ROUTE_INVALID` | `route` threw or named a destination that does not exist |
 * | `SPILLWAY_STORE_LOCKED` | another process has the store's directory open |
 * | `SPILLWAY_STORE_FORMAT` | the directory is no spillway store, or one of an unknown version |
 * | `SPILLWAY_STORE_FULL` | the store has no room |
 * | `SPILLWAY_STORE_FAILED` | the store could not read or write |
 * | `SPILLWAY_STORE_DAMAGED` | the catalog (opening the store again rebuilds it) or a stored file is damaged |
 * | `SPILLWAY_DIRECTORY_FAILED` | the directory of an export or an import could not be read or written |
 * | `SPILLWAY_BACKLOG_ORPHANED` | a destination that still has a backlog was left out at opening |
 * | `SPILLWAY_NOT_FOUND` | what was asked for does not exist |
 * | `SPILLWAY_BUSY` | the same is under way already |
 * | `SPILLWAY_ABORTED` | the caller's signal aborted the call |
 * | `SPILLWAY_CLOSED` | the spillway is closed |
 */
export type SpillwayErrorCode =
  | 'SPILLWAY_OPTION_INVALID'
  | 'SPILLWAY_NOT_DICOM'
  | 'SPILLWAY_IDENTITY_MISSING'
  | 'SPILLWAY_UID_UNSAFE'
  | 'SPILLWAY_INCOMPLETE'
  | 'SPILLWAY_TOO_LARGE'
  | 'SPILLWAY_ROUTE_INVALID'
  | 'SPILLWAY_STORE_LOCKED'
  | 'SPILLWAY_STORE_FORMAT'
  | 'SPILLWAY_STORE_FULL'
  | 'SPILLWAY_STORE_FAILED'
  | 'SPILLWAY_STORE_DAMAGED'
  | 'SPILLWAY_DIRECTORY_FAILED'
  | 'SPILLWAY_BACKLOG_ORPHANED'
  | 'SPILLWAY_NOT_FOUND'
  | 'SPILLWAY_BUSY'
  | 'SPILLWAY_ABORTED'
  | 'SPILLWAY_CLOSED';

// The sender may usefully try these again later without changing anything.
const RETRYABLE: ReadonlySet<SpillwayErrorCode> = new Set([
  'SPILLWAY_INCOMPLETE',
  'SPILLWAY_STORE_LOCKED',
  'SPILLWAY_STORE_FULL',
  'SPILLWAY_STORE_FAILED',
  'SPILLWAY_DIRECTORY_FAILED',
  'SPILLWAY_BUSY',
  'SPILLWAY_ABORTED',
  'SPILLWAY_CLOSED',
]);

const marker = Symbol.for('spillway.error');

/** An error with a stable `code`. `instanceof` works across copies of the package. */
export class SpillwayError extends Error {
  readonly code: SpillwayErrorCode;
  /** Whether the same call may succeed later without a change by the caller. */
  readonly isRetryable: boolean;

  constructor(code: SpillwayErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = 'SpillwayError';
    this.code = code;
    this.isRetryable = RETRYABLE.has(code);
    Object.defineProperty(this, marker, { value: true });
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    return typeof value === 'object' && value !== null && marker in value;
  }
}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
