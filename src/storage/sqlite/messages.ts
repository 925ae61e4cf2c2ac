import type { SpillwayErrorCode } from '../../errors.ts';
import type { CatalogOperations } from './operations.ts';

/** What the worker is started with. */
export interface WorkerStart {
  readonly file: string;
}

/** A call to the worker; `close` is the last. */
export interface WorkerRequest {
  readonly id: number;
  readonly method: keyof CatalogOperations | 'close';
  readonly parameters: readonly unknown[];
}

/** An error as it crosses threads: structured cloning keeps neither its class nor its code. */
export interface WorkerError {
  readonly code: SpillwayErrorCode;
  readonly message: string;
  /** Text of what SQLite or the file system said, where it was theirs. */
  readonly cause: string | null;
}

/** The answer to a call. The worker's first one, with id 0, says whether the catalog could be opened. */
export type WorkerResponse =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: WorkerError };
