import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { closing, partHeader } from '../../dicom/multipart.ts';
import { messageOf } from '../../errors.ts';
import type { OutgoingInstance, SendOutcome } from '../transport.ts';
import { type HttpClient, HttpFailure, parseJson, readText, SourceFailure } from './http-client.ts';
import { type StowAnswer, stowOutcomes } from './stow-outcomes.ts';

/** A Store response names every instance sent in a few hundred bytes. */
const MAX_ANSWER_BYTES = 8 * 1024 * 1024;

/**
 * Stores instances by one STOW-RS request (PS3.18 section 10.5), streamed: no instance is ever held in memory.
 *
 * When the connection is lost, instances whose last byte was handed over are `ambiguous`, the others `unreachable`.
 * When an instance cannot be read here (`open` fails, or gives more or fewer than `bytes`), the request is destroyed:
 * that one is `refused` and may be retried; the others are `unanswered`, so that each is looked for and sent alone,
 * and nothing counts against the destination.
 */
export async function store(
  client: HttpClient,
  instances: readonly OutgoingInstance[],
  signal: AbortSignal,
  now: () => number,
): Promise<readonly SendOutcome[]> {
  if (instances.length === 0) return [];
  const body = new StowBody(instances);
  try {
    const answer = await client.exchange(
      {
        method: 'POST',
        path: '/studies',
        headers: {
          accept: 'application/dicom+json',
          'content-type': `multipart/related; type="application/dicom"; boundary=${body.boundary}`,
        },
        body: { bytes: body.bytes, chunks: body.chunks() },
      },
      signal,
      readAnswer,
    );
    const uids = instances.map((instance) => instance.identity.sopInstanceUid);
    return stowOutcomes(answer, uids, now()).map((outcome, index) =>
      // Whatever it says of an instance that had not gone out whole is no promise for it.
      outcome.kind === 'stored' && index >= body.handedOver
        ? { kind: 'ambiguous', reason: 'it was answered as stored before all of it had gone out' }
        : outcome,
    );
  } catch (error) {
    if (error instanceof SourceFailure) return outcomesOfSourceFailure(body, error, instances.length);
    if (error instanceof HttpFailure) {
      return instances.map((_, index) => ({
        kind: index < body.handedOver ? 'ambiguous' : 'unreachable',
        reason: error.message,
      }));
    }
    throw error;
  }
}

async function readAnswer(response: IncomingMessage): Promise<StowAnswer> {
  const status = response.statusCode ?? 0;
  const retryAfter = response.headers['retry-after'];
  try {
    return { status, retryAfter, payload: parseJson(await readText(response, MAX_ANSWER_BYTES)) };
  } catch (error) {
    // A refusal stands even if its text was cut; what a success would have listed is lost.
    if (status >= 400) return { status, retryAfter, payload: undefined };
    throw new HttpFailure(`HTTP ${status}, but its payload was lost: ${messageOf(error)}`, { cause: error });
  }
}

function outcomesOfSourceFailure(body: StowBody, error: SourceFailure, count: number): readonly SendOutcome[] {
  return Array.from({ length: count }, (_, index): SendOutcome => {
    if (index === body.current) {
      return { kind: 'refused', reason: `it could not be read here: ${error.message}`, mayRetry: true };
    }
    return { kind: 'unanswered', reason: 'the request was given up, since another instance could not be read here' };
  });
}

/** The body of a Store request, and how far it has gone out. */
class StowBody {
  readonly boundary: string = `spillway-${randomUUID()}`;
  readonly bytes: number;
  /** Index of the instance that is being read. */
  current = 0;
  /** Instances whose last byte has been handed over: whatever happens now, the peer may have them. */
  handedOver = 0;
  readonly #instances: readonly OutgoingInstance[];
  readonly #partHeader: Uint8Array;
  readonly #closing: Uint8Array;

  constructor(instances: readonly OutgoingInstance[]) {
    this.#instances = instances;
    this.#partHeader = partHeader(this.boundary, 'application/dicom');
    this.#closing = closing(this.boundary);
    const headerBytes = instances.length * this.#partHeader.byteLength;
    const instanceBytes = instances.reduce((sum, instance) => sum + instance.bytes, 0);
    this.bytes = headerBytes + instanceBytes + this.#closing.byteLength;
  }

  async *chunks(): AsyncGenerator<Uint8Array, void, undefined> {
    for (const [index, instance] of this.#instances.entries()) {
      this.current = index;
      yield this.#partHeader;
      let bytes = 0;
      for await (const chunk of instance.open()) {
        bytes += chunk.byteLength;
        if (bytes > instance.bytes) throw new SourceFailure(`expected ${instance.bytes} bytes, got more`);
        // Before it goes, since nobody may come back to say that it went.
        if (bytes === instance.bytes) this.handedOver = index + 1;
        yield chunk;
      }
      if (bytes < instance.bytes) throw new SourceFailure(`expected ${instance.bytes} bytes, got ${bytes}`);
    }
    yield this.#closing;
  }
}
