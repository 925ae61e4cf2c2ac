import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { SpillwayError } from '../errors.ts';

const FIRST_PORT = 15_000;
const LAST_PORT = 32_000;
const ATTEMPTS = 20;

/**
 * A port that nobody listens on, below those that systems give to outgoing connections: it must still be free when
 * its owner comes back, and nothing that knocks meanwhile may happen to be given it and so connect to itself.
 *
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID` where none of 20 ports tried can be had on `host`
 */
export async function freePort(host: string): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const port = randomInt(FIRST_PORT, LAST_PORT + 1);
    const server = createServer().listen(port, host);
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
  const expected = `Expected a free port between ${FIRST_PORT} and ${LAST_PORT} on ${host}`;
  throw new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    `${expected}, got none of ${ATTEMPTS} tried; give one as \`port\`.`,
  );
}
