import { messageOf, SpillwayError } from '../errors.ts';
import { systemCode } from '../storage/directory/file-errors.ts';

const NO_ROOM: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT']);

/** What a failed operation on the directory of an export or an import means. Messages name no files: names may be patients'. */
export function folderError(action: string, error: unknown): SpillwayError {
  if (error instanceof SpillwayError) return error;
  const code = systemCode(error);
  const what = code === undefined ? messageOf(error) : code;
  const remedy = code !== undefined && NO_ROOM.has(code) ? 'there is no room; free some' : 'see the cause';
  return new SpillwayError(
    'SPILLWAY_DIRECTORY_FAILED',
    `Could not ${action} (${what}): ${remedy}, and call again, which goes on.`,
    { cause: error },
  );
}

/** @throws SpillwayError `SPILLWAY_ABORTED`, or what the signal was aborted with when that is a SpillwayError */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (!signal?.aborted) return;
  if (signal.reason instanceof SpillwayError) throw signal.reason;
  throw new SpillwayError('SPILLWAY_ABORTED', 'The call was aborted by its signal.', { cause: signal.reason });
}

export function invalidOption(expected: string, came: unknown): SpillwayError {
  const text = typeof came === 'object' || typeof came === 'string' ? JSON.stringify(came) : String(came);
  return new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    `Expected ${expected}, got ${text?.slice(0, 120)} (${typeof came}).`,
  );
}
