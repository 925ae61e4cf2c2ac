import { SpillwayError } from '../errors.ts';

/**
 * The bytes of a request, once. By a reader rather than by iterating, which would cancel the body when it is left: then no
 * server could answer on its connection any more.
 *
 * @throws SpillwayError `SPILLWAY_INCOMPLETE`, while iterating, when the sender stalls
 */
export class RequestBody implements AsyncIterable<Uint8Array> {
  /** The sender has sent nothing for too long. */
  hasStalled = false;
  readonly #body: Request['body'];
  readonly #idleTimeoutMs: number;

  /** @param idleTimeoutMs - Bound of each wait for the sender; the time that its bytes are worked on does not count. */
  constructor(body: Request['body'], idleTimeoutMs: number) {
    this.#body = body;
    this.#idleTimeoutMs = idleTimeoutMs;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    if (this.#body === null) return;
    const reader = this.#body.getReader();
    try {
      for (;;) {
        const step = await this.#inTime(reader.read());
        if (step.done) return;
        yield step.value;
      }
    } finally {
      reader.releaseLock();
    }
  }

  async #inTime<T>(reading: Promise<T>): Promise<T> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stalled = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        this.hasStalled = true;
        reject(
          new SpillwayError(
            'SPILLWAY_INCOMPLETE',
            `Expected more of the body within ${this.#idleTimeoutMs} ms, got nothing. Have the sender send again.`,
          ),
        );
      }, this.#idleTimeoutMs);
    });
    try {
      return await Promise.race([reading, stalled]);
    } finally {
      clearTimeout(timer);
    }
  }
}
