import type { SpillwayErrorCode } from '../../errors.ts';
import type { CatalogOperations } from './operations.ts';
import type { SqliteOptions } from './sqlite-database.ts';

/** What the worker is started with. */
export type WorkerStart = SqliteOptions;

/** What a worker is started with that checks a copy of a catalog. */
export interface CheckStart {
  readonly check: string;
}

/** A call to the worker; `close` is the last. */
export interface WorkerRequest {
  readonly id: number;
  readonly method: keyof CatalogOperations | 'snapshot' | 'close';
  readonly parameters: readonly unknown[];
}

/** An error as it crosses threads: structured cloning keeps neither its class nor its code. */
export interface WorkerError {
  readonly code: SpillwayErrorCode;
  readonly message: string;
  /** Text of what SQLite or the file system said, where it was theirs. */
  readonly cause: string | null;
}

/** The answer to a call. The worker's first one, with id 0, says whether the catalog could be opened and was rebuilt. */
export type WorkerResponse =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: WorkerError };
