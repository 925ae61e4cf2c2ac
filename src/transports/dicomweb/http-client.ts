import http, { type ClientRequest, type IncomingMessage } from 'node:http';
import https from 'node:https';
import { urlToHttpOptions } from 'node:url';
import { giveBack } from '../../domain/owned-bytes.ts';
import { messageOf, SpillwayError } from '../../errors.ts';
import type { DicomwebSettings } from './options.ts';

/** The exchange failed: the peer could not be reached, or was lost on the way. */
export class HttpFailure extends Error {}

/** The body to be sent could not be produced here; the peer has nothing to do with it. */
export class SourceFailure extends Error {}

export interface HttpRequest {
  readonly method: 'GET' | 'POST';
  /** Under the root, with its query, encoded. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Exactly `bytes` long; the iterable is not touched before the connection stands. */
  readonly body?: { readonly bytes: number; readonly chunks: AsyncIterable<Uint8Array> };
}

const DEFAULT_CONCURRENCY = 8;
/** Idle time-outs in which a whole answer must have come: one that drips would hold its slot for ever. */
const ANSWER_PATIENCE = 10;
/** How long a connection is kept for the next request: firewalls forget idle ones within minutes, and tell nobody. */
const KEPT_MS = 30_000;

/**
 * HTTP requests to one peer over connections that are kept alive. node:http rather than fetch, which takes two to
 * three times as long for large bodies.
 */
export class HttpClient {
  readonly #settings: DicomwebSettings;
  readonly #keeping: http.Agent;
  readonly #singleUse: http.Agent;
  readonly #keptMs: number;
  /** By `performance.now()`. */
  #distrustUntil = Number.NEGATIVE_INFINITY;

  constructor(settings: DicomwebSettings) {
    this.#settings = settings;
    const maxFreeSockets = settings.maxConcurrency ?? DEFAULT_CONCURRENCY;
    const agent = (options: http.AgentOptions) =>
      settings.url.protocol === 'https:' ? new https.Agent({ ...options, ...settings.tls }) : new http.Agent(options);
    // It counts while a connection is being made, too, and must not cut that short.
    this.#keptMs = Math.max(KEPT_MS, settings.connectTimeoutMs);
    this.#keeping = agent({ keepAlive: true, maxFreeSockets, timeout: this.#keptMs });
    this.#singleUse = agent({ keepAlive: false });
  }

  /**
   * Sends a request and lets `read` read the answer; an answer that comes before the whole body has gone out ends the
   * sending and counts. What `read` leaves unread is dropped, with its connection.
   *
   * @throws HttpFailure, SourceFailure, or SpillwayError `SPILLWAY_ABORTED`; an abort destroys the connection
   */
  async exchange<T>(
    request: HttpRequest,
    signal: AbortSignal,
    read: (response: IncomingMessage) => Promise<T>,
  ): Promise<T> {
    try {
      signal.throwIfAborted();
      const headers = await this.#ownHeaders(signal);
      const outgoing = this.#open(request, headers, signal);
      return await this.#run(outgoing, request.body, read);
    } catch (error) {
      if (signal.aborted) throw aborted(signal);
      if (error instanceof HttpFailure || error instanceof SourceFailure) throw error;
      throw new HttpFailure(describe(error), { cause: error });
    }
  }

  /** Ends idle connections and those in use. */
  close(): void {
    this.#keeping.destroy();
    this.#singleUse.destroy();
  }

  async #ownHeaders(signal: AbortSignal): Promise<Readonly<Record<string, string>>> {
    const { headers, idleTimeoutMs } = this.#settings;
    try {
      const given = await unlessLate(Promise.resolve(headers()), idleTimeoutMs, signal);
      return Object.fromEntries(Object.entries(given).map(([name, value]) => [name.toLowerCase(), value]));
    } catch (error) {
      throw new HttpFailure(`the option \`headers\` gave none: ${messageOf(error)}`, { cause: error });
    }
  }

  #open(request: HttpRequest, headers: Readonly<Record<string, string>>, signal: AbortSignal): ClientRequest {
    const { url } = this.#settings;
    const length = request.body === undefined ? {} : { 'content-length': String(request.body.bytes) };
    return (url.protocol === 'https:' ? https : http).request({
      ...urlToHttpOptions(url),
      method: request.method,
      path: url.pathname.replace(/\/$/, '') + request.path,
      headers: { ...headers, ...request.headers, ...length },
      agent: this.#agentOfNow(),
      signal,
    });
  }

  async #run<T>(
    outgoing: ClientRequest,
    body: HttpRequest['body'],
    read: (response: IncomingMessage) => Promise<T>,
  ): Promise<T> {
    const { connectTimeoutMs, idleTimeoutMs } = this.#settings;
    const answer = new Promise<IncomingMessage>((resolve, reject) => {
      outgoing.once('response', resolve);
      // Stays for good: destroying a request may report more than one error.
      outgoing.on('error', reject);
    });
    const over = answer.then(
      () => {},
      () => {},
    );
    let isReadingSource = false;
    let timedOut: Error | undefined;
    let deadline: NodeJS.Timeout | undefined;
    const giveUp = (reason: Error) => {
      timedOut = reason;
      outgoing.destroy(reason);
    };
    const connecting = setTimeout(
      () => giveUp(new HttpFailure(`no connection within ${connectTimeoutMs} ms`)),
      connectTimeoutMs,
    );
    const connected = whenConnected(outgoing).then(() => clearTimeout(connecting));
    outgoing.setTimeout(idleTimeoutMs, () => {
      if (isReadingSource) giveUp(new SourceFailure(`nothing could be read for ${idleTimeoutMs} ms`));
      else giveUp(new HttpFailure(`no byte moved for ${idleTimeoutMs} ms`));
    });
    try {
      if (body !== undefined) {
        await Promise.race([connected, over]);
        await writeBody(outgoing, body.chunks, over, (isReading) => {
          isReadingSource = isReading;
        });
      } else {
        outgoing.end();
      }
      deadline = setTimeout(
        () => giveUp(new HttpFailure(`no whole answer within ${idleTimeoutMs * ANSWER_PATIENCE} ms`)),
        idleTimeoutMs * ANSWER_PATIENCE,
      );
      const response = await answer;
      const result = await read(response);
      if (!response.complete || !outgoing.writableEnded) outgoing.destroy();
      return result;
    } catch (error) {
      outgoing.destroy();
      if (outgoing.reusedSocket) this.#distrustUntil = performance.now() + this.#keptMs;
      // Node reports only that the connection closed when it was destroyed while the answer came.
      throw timedOut ?? error;
    } finally {
      clearTimeout(connecting);
      clearTimeout(deadline);
    }
  }

  /**
   * Where a kept connection has failed, others that were kept are dead as well, or the peer ends them as soon as it has answered:
   * for as long as those may be kept, each request has a connection of its own. Else two in a row look like an outage.
   */
  #agentOfNow(): http.Agent {
    return performance.now() < this.#distrustUntil ? this.#singleUse : this.#keeping;
  }
}

/** Resolves when bytes that are written leave at once. */
function whenConnected(outgoing: ClientRequest): Promise<void> {
  return new Promise((resolve) => {
    outgoing.once('socket', (socket) => {
      if (!socket.connecting) resolve();
      else socket.once('encrypted' in socket ? 'secureConnect' : 'connect', () => resolve());
    });
  });
}

/** Writes no faster than the peer takes it, and stops when the exchange is over. */
async function writeBody(
  outgoing: ClientRequest,
  chunks: AsyncIterable<Uint8Array>,
  over: Promise<void>,
  onReading: (isReading: boolean) => void,
): Promise<void> {
  let isOver = false;
  let wake = () => {};
  void over.then(() => {
    isOver = true;
    wake();
  });
  // Instead of Promise.race, which would leave a reaction on `over` for every chunk of a large instance.
  const unlessOver = <T>(promise: Promise<T>) =>
    new Promise<T | undefined>((resolve, reject) => {
      wake = () => resolve(undefined);
      promise.then(resolve, reject);
    });
  const iterator = chunks[Symbol.asyncIterator]();
  try {
    while (!isOver) {
      onReading(true);
      const step = await unlessOver(iterator.next());
      onReading(false);
      if (step === undefined || isOver) break;
      if (step.done) {
        outgoing.end();
        break;
      }
      const chunk = step.value;
      // Called when the system has it.
      const written = (error?: Error | null) => {
        if (!error) giveBack(chunk);
      };
      if (!outgoing.write(chunk, written)) await unlessOver(drained(outgoing));
    }
  } catch (error) {
    throw error instanceof SourceFailure ? error : new SourceFailure(messageOf(error), { cause: error });
  } finally {
    // Not awaited: a source that hangs would hold the exchange.
    iterator.return?.()?.catch(() => {});
  }
}

function drained(outgoing: ClientRequest): Promise<void> {
  return new Promise((resolve) => {
    outgoing.once('drain', () => resolve());
  });
}

/** Collects a body as text; undefined when it is longer than `maxBytes`. */
export async function readText(response: AsyncIterable<Uint8Array>, maxBytes: number): Promise<string | undefined> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Parses JSON that a peer sent; undefined when it is none. */
export function parseJson(text: string | undefined): unknown {
  try {
    return text === undefined || text === '' ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function unlessLate<T>(promise: Promise<T>, timeoutMs: number, signal: AbortSignal): Promise<T> {
  const cleanup = new AbortController();
  const late = new Promise<never>((_, reject) => {
    const timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    cleanup.signal.addEventListener('abort', () => clearTimeout(timer));
    signal.addEventListener('abort', () => reject(signal.reason), { signal: cleanup.signal });
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    cleanup.abort();
  }
}

function aborted(signal: AbortSignal): SpillwayError {
  return new SpillwayError('SPILLWAY_ABORTED', 'The request was aborted by its signal; its connection was destroyed.', {
    cause: signal.reason,
  });
}

/** Errors of connecting to a name with several addresses have no message of their own. */
function describe(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(messageOf).join('; ');
  return messageOf(error);
}
