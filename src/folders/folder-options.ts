import { invalidOption } from './folder-errors.ts';

export const DEFAULT_CONCURRENCY = 8;
const MAX_CONCURRENCY = 64;

/** What an export and an import are given alike. */
interface FolderOptions {
  readonly directory: string;
  readonly concurrency?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Checks what both calls take, and that nothing else is given. */
export function checkFolderOptions(call: string, options: FolderOptions, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null) throw invalidOption(`${call}({ directory })`, options);
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown !== undefined) throw invalidOption(`${call} to be given only ${known.join(', ')}`, unknown);
  const { directory, concurrency = DEFAULT_CONCURRENCY, signal } = options;
  if (typeof directory !== 'string' || directory === '') {
    throw invalidOption(`${call}({ directory }) with the path of a directory`, directory);
  }
  if (!Number.isSafeInteger(concurrency) || concurrency < 1 || concurrency > MAX_CONCURRENCY) {
    throw invalidOption(`${call}({ concurrency }) to be a whole number from 1 to ${MAX_CONCURRENCY}`, concurrency);
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw invalidOption(`${call}({ signal }) to be an AbortSignal`, signal);
  }
}

export function checkCallback(call: string, name: string, callback: unknown): void {
  if (callback === undefined || typeof callback === 'function') return;
  throw invalidOption(`${call}({ ${name} }) to be a function`, callback);
}
