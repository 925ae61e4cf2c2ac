import { boundaryOf, type MultipartPart, parseContentType, readMultipart } from '../dicom/multipart.ts';
import { DicomReader } from '../dicom/reader.ts';
import type { AbortableOptions } from '../domain/abort.ts';
import type { InstanceIdentity } from '../domain/identity.ts';
import type { Receipt } from '../domain/receipt.ts';
import { messageOf, SpillwayError } from '../errors.ts';
import { RequestBody } from './request-body.ts';
import { FAILURE, failureOf, type PartResult, storeResponse } from './stow-response.ts';

/** What takes the instances: a spillway, or anything that promises as much. */
export interface InstanceAcceptor {
  /** Resolves once the instance is durable; rejects with a `SpillwayError` when it is refused, and keeps nothing of it. */
  accept(
    source: AsyncIterable<Uint8Array>,
    options?: AbortableOptions & { readonly source?: string | undefined },
  ): Promise<Receipt>;
}

/** How a STOW-RS handler behaves. */
export interface StowHandlerOptions {
  /**
   * Asked before anything of a request is read. A Response is sent instead of taking the request; undefined lets it
   * pass. What it throws rejects the handler's promise. @default everybody may store
   */
  readonly authorize?: (request: Request) => Response | undefined | Promise<Response | undefined>;
  /** Path that `/studies` is under, such as `/dicom-web`. @default '' */
  readonly pathPrefix?: string;
  /** Names the sender for routing, given to `accept` as `source`. @default no source */
  readonly source?: (request: Request) => string | undefined;
  /**
   * Told of errors of `accept` that are no `SpillwayError`. The sender learns only that processing failed.
   * @default nobody is told
   */
  readonly onError?: (error: unknown) => void;
  /**
   * Most parts of one request that are taken, 1 or more. Those after them are passed over and answered for by one A700 in
   * the Other Failures Sequence. @default 10,000
   */
  readonly maxParts?: number;
  /**
   * A sender that sends nothing for so long while it is waited for is answered for what is durable by then, in ms, 1 to
   * 2,147,483,647. @default 60,000
   */
  readonly idleTimeoutMs?: number;
}

const MAX_TIMER_MS = 2 ** 31 - 1;
const PREFIX = /^(\/[^/?#]+)*$/;

/**
 * A handler that receives instances by STOW-RS (PS3.18 section 10.5): `POST {prefix}/studies` and
 * `POST {prefix}/studies/{study}`, multipart/related with parts of application/dicom.
 *
 * Parts are accepted one after another while they stream in, and nothing is answered as stored before `accept` has
 * resolved. Each instance is answered for by itself, as PS3.18 annex I says; what was accepted stays when a later part
 * fails, the body is cut off, or the sender stalls. An instance of another study than the path names is refused with A900 and not kept.
 * The body is never cancelled, so that a server can still answer on its connection.
 *
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID`
 */
export function createStowHandler(
  acceptor: InstanceAcceptor,
  options: StowHandlerOptions = {},
): (request: Request) => Promise<Response> {
  const { authorize, pathPrefix = '', source, onError } = options;
  if (!PREFIX.test(pathPrefix)) {
    throw new SpillwayError(
      'SPILLWAY_OPTION_INVALID',
      `Expected \`pathPrefix\` to be empty or a path such as /dicom-web, got ${JSON.stringify(pathPrefix)}.`,
    );
  }
  const maxParts = wholeNumber('maxParts', options.maxParts ?? 10_000, Number.MAX_SAFE_INTEGER);
  const idleTimeoutMs = wholeNumber('idleTimeoutMs', options.idleTimeoutMs ?? 60_000, MAX_TIMER_MS);
  return async (request) => {
    const refusal = await authorize?.(request);
    if (refusal !== undefined) return refusal;
    const study = studyOf(request, pathPrefix);
    if (study instanceof Response) return study;
    const boundary = bodyBoundaryOf(request);
    if (boundary instanceof Response) return boundary;
    const intake = { acceptor, study, source: source?.(request), signal: request.signal, onError, maxParts };
    return await receive(new RequestBody(request.body, idleTimeoutMs), boundary, intake);
  };
}

interface Intake {
  readonly acceptor: InstanceAcceptor;
  /** The only study taken; any when undefined. */
  readonly study: string | undefined;
  readonly source: string | undefined;
  readonly signal: AbortSignal;
  readonly onError: ((error: unknown) => void) | undefined;
  readonly maxParts: number;
}

async function receive(body: RequestBody, boundary: string, intake: Intake): Promise<Response> {
  const results: PartResult[] = [];
  let parts = 0;
  let malformation: unknown;
  try {
    for await (const part of readMultipart(body, boundary)) {
      parts += 1;
      // What is not asked for passes by, so that the sender is still there to be answered.
      if (parts <= intake.maxParts) results.push(await acceptPart(part, intake));
    }
  } catch (error) {
    malformation = error;
  }
  const isWhole = malformation === undefined;
  if (results.length === 0) {
    const reason = isWhole ? 'Expected at least one part, got none.' : messageOf(malformation);
    return refuse(body.hasStalled ? 408 : 400, reason);
  }
  if (parts > intake.maxParts) {
    results.push({ kind: 'failed', identity: undefined, reason: FAILURE.outOfResources });
  }
  const last = results.at(-1);
  const isToldAlready = last?.kind === 'failed' && last.code === 'SPILLWAY_INCOMPLETE';
  // What was lost may have been instances that nothing is known of.
  if (!isWhole && !isToldAlready) results.push(failureOf(malformation, undefined));
  if (isWhole) return storeResponse(results);
  return storeResponse(results, body.hasStalled ? 408 : 400);
}

async function acceptPart(part: MultipartPart, intake: Intake): Promise<PartResult> {
  const watch = new IdentityWatch();
  let isOtherStudy = false;
  async function* watched(): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const chunk of part.body) {
      await watch.see(chunk);
      yield chunk;
    }
    if (intake.study === undefined) return;
    const identity = await watch.identity();
    isOtherStudy = identity !== undefined && identity.studyInstanceUid !== intake.study;
    // Before the source ends, since then it would be kept.
    if (isOtherStudy) throw new SpillwayError('SPILLWAY_INCOMPLETE', 'Expected an instance of the study in the path.');
  }
  try {
    const receipt = await intake.acceptor.accept(watched(), { source: intake.source, signal: intake.signal });
    return { kind: 'stored', identity: receipt.identity };
  } catch (error) {
    // Read on, so that an instance that was refused before it had come can still be named.
    await watch.seeRest(part.body);
    const identity = await watch.identity();
    if (isOtherStudy) return { kind: 'failed', identity, reason: FAILURE.doesNotMatch };
    if (!(error instanceof SpillwayError)) intake.onError?.(error);
    return failureOf(error, identity);
  }
}

/** Learns who an instance is while its bytes pass by. That they are no instance is for `accept` to say. */
class IdentityWatch {
  readonly #reader = new DicomReader();
  #isReadable = true;
  #identity: InstanceIdentity | undefined;

  async see(chunk: Uint8Array): Promise<void> {
    if (!this.#isReadable) return;
    try {
      await this.#reader.push(chunk);
    } catch {
      this.#isReadable = false;
    }
  }

  async seeRest(body: AsyncIterable<Uint8Array>): Promise<void> {
    try {
      for await (const chunk of body) await this.see(chunk);
    } catch {
      // A body that is cut off fails again where the next part is asked for.
    }
  }

  /** Undefined when the bytes do not name an instance. No more may be seen afterwards. */
  async identity(): Promise<InstanceIdentity | undefined> {
    if (!this.#isReadable) return this.#identity;
    this.#isReadable = false;
    try {
      this.#identity = (await this.#reader.end()).identity;
    } catch {
      // Nobody can name it.
    }
    return this.#identity;
  }
}

/** The study that the path names, undefined for any, or why the request is not for this handler. */
function studyOf(request: Request, pathPrefix: string): string | undefined | Response {
  const { pathname } = new URL(request.url);
  const path = pathname.startsWith(pathPrefix) ? pathname.slice(pathPrefix.length) : '';
  const match = /^\/studies(?:\/([^/]+))?\/?$/.exec(path);
  if (match === null) return refuse(404, `Expected ${pathPrefix}/studies or ${pathPrefix}/studies/{study}.`);
  if (request.method !== 'POST') {
    return refuse(405, `Expected POST, got ${request.method}.`, { allow: 'POST' });
  }
  try {
    return match[1] === undefined ? undefined : decodeURIComponent(match[1]);
  } catch {
    return refuse(400, 'Expected a Study Instance UID in the path, got something that is not percent-encoded.');
  }
}

function bodyBoundaryOf(request: Request): string | Response {
  const expected = 'multipart/related; type="application/dicom"; boundary=…';
  const contentType = request.headers.get('content-type') ?? '';
  const { type, parameters } = parseContentType(contentType);
  const partType = parameters.get('type')?.toLowerCase() ?? 'application/dicom';
  if (type !== 'multipart/related' || partType !== 'application/dicom') {
    return refuse(415, `Expected a body of ${expected}, got ${JSON.stringify(contentType.slice(0, 200))}.`);
  }
  try {
    return boundaryOf(contentType);
  } catch (error) {
    return refuse(400, messageOf(error));
  }
}

function wholeNumber(name: string, value: number, most: number): number {
  if (Number.isSafeInteger(value) && value >= 1 && value <= most) return value;
  throw new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    `Expected \`${name}\` to be a whole number from 1 to ${most}, got ${String(value)}.`,
  );
}

function refuse(status: number, reason: string, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(`${reason}\n`, { status, headers: { 'content-type': 'text/plain; charset=utf-8', ...headers } });
}
