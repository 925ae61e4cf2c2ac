import { messageOf, SpillwayError } from '../../errors.ts';

/** The `code` of a system error, such as `ENOSPC`. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** What a failed file operation means to a user of the store. */
export function storeError(action: string, error: unknown): SpillwayError {
  if (error instanceof SpillwayError) return error;
  const code = systemCode(error);
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new SpillwayError('SPILLWAY_STORE_FULL', `No room on the store's file system to ${action}. Free some.`, {
      cause: error,
    });
  }
  return new SpillwayError('SPILLWAY_STORE_FAILED', `Could not ${action}: ${messageOf(error)}.`, { cause: error });
}
