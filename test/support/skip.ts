import type { TestContext } from 'vitest';

/**
 * Ends a test that needs a peer which is not installed: skipped, with the reason beside its name, or failed where
 * `SPILLWAY_REQUIRE_PEERS=1` says that all of them were installed.
 *
 * @param missing - What is missing; undefined when nothing is.
 */
export function needPeer(context: TestContext, missing: string | undefined): void {
  if (missing === undefined) return;
  if (process.env.SPILLWAY_REQUIRE_PEERS === '1') {
    throw new Error(`SPILLWAY_REQUIRE_PEERS=1 asks for every peer, but ${missing}.`);
  }
  context.skip(missing);
}
