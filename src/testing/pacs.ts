import { randomUUID } from 'node:crypto';
import { open } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { type DicomJson, TAGS } from '../dicom/dicom-json.ts';
import {
  boundaryOf,
  closing,
  type MultipartPart,
  parseContentType,
  partHeader,
  readMultipart,
} from '../dicom/multipart.ts';
import type { InstanceIdentity } from '../domain/identity.ts';
import { messageOf, SpillwayError } from '../errors.ts';
import { type JournalEntry, PacsArchive, type ReceivedInstance, readJournal } from './pacs-archive.ts';
import { search } from './pacs-search.ts';

/** How a test PACS misbehaves; may be changed at any time. */
export interface PacsFaults {
  /** A Failure Reason (PS3.18 table I.2-2) for instances that it refuses, such as 0xa900. @default none */
  refuse?: ((identity: InstanceIdentity) => number | undefined) | undefined;
  /** Answers 503 to a store request that would be one more than `maxInFlight`. @default none */
  overload?: { readonly maxInFlight: number; readonly retryAfterSeconds: number } | undefined;
  /** Searches are answered, every instance to store fails with 0110 (processing failure). @default false */
  failStorage?: boolean;
  /** Pause before each instance is stored, in milliseconds. @default 0 */
  latencyMs?: number;
}

/** How a test PACS is started. */
export interface PacsOptions {
  /** Where it keeps what it stores; made when it is not there. */
  readonly directory: string;
  /** 0 picks a free one. @default 0 */
  readonly port?: number;
  /** @default '127.0.0.1' */
  readonly host?: string;
  /** What another data set under a known SOP Instance UID does. It answers success either way. @default 'replace' */
  readonly onConflict?: 'keep' | 'replace';
  /** @default none */
  readonly faults?: PacsFaults;
}

/** A running test PACS. */
export interface TestPacs {
  readonly port: number;
  /** The root of its DICOMweb services, without a slash at the end. */
  readonly url: string;
  /** What it does wrong; change it to make it do so from the next instance or request on. */
  readonly faults: PacsFaults;
  /** What it has stored, oldest first. */
  journal(): Promise<readonly JournalEntry[]>;
  /** Ends connections, waits for what is being written. Idempotent. */
  close(): Promise<void>;
}

const DICOM_JSON = 'application/dicom+json';
const PROCESSING_FAILURE = 0x0110;
const DATA_SET_MISMATCH = 0xa900;
const CANNOT_UNDERSTAND = 0xc000;
const UNREADABLE_INSTANCE: ReadonlySet<string> = new Set([
  'SPILLWAY_NOT_DICOM',
  'SPILLWAY_IDENTITY_MISSING',
  'SPILLWAY_UID_UNSAFE',
]);

/**
 * Starts a small DICOMweb PACS (PS3.18): STOW-RS, QIDO-RS for studies, series and instances, WADO-RS for instances. For
 * tests and demonstrations: no security, no transcoding, no patient data in its answers.
 *
 * What it has answered for is on disk, fsynced; it may be killed at any moment and started again on the same directory.
 *
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID`; errors of listening as they come
 */
export async function startPacs(options: PacsOptions): Promise<TestPacs> {
  const { directory, port = 0, host = '127.0.0.1', onConflict = 'replace' } = options;
  if (directory === '') throw new SpillwayError('SPILLWAY_OPTION_INVALID', 'Expected a directory, got an empty text.');
  const archive = await PacsArchive.open(directory, onConflict);
  const pacs = new Pacs(archive, { ...options.faults });
  try {
    await pacs.listen(port, host);
  } catch (error) {
    await archive.close();
    throw error;
  }
  return {
    port: pacs.port,
    url: pacs.url,
    faults: pacs.faults,
    journal: () => readJournal(directory),
    close: () => pacs.close(),
  };
}

class Pacs {
  readonly faults: PacsFaults;
  port = 0;
  url = '';
  readonly #archive: PacsArchive;
  readonly #server: Server;
  readonly #handling = new Set<Promise<void>>();
  #storesInFlight = 0;
  #closed: Promise<void> | undefined;

  constructor(archive: PacsArchive, faults: PacsFaults) {
    this.#archive = archive;
    this.faults = faults;
    this.#server = createServer((request, response) => {
      const handling = this.#handle(request, response).finally(() => this.#handling.delete(handling));
      this.#handling.add(handling);
    });
    // Longer than clients keep idle connections, so that none is closed under a request that is on its way.
    this.#server.keepAliveTimeout = 65_000;
  }

  async listen(port: number, host: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, host, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    this.port = (this.#server.address() as AddressInfo).port;
    this.url = `http://${host.includes(':') ? `[${host}]` : host}:${this.port}`;
  }

  close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  async #end(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
    await Promise.all(this.#handling);
    await this.#archive.close();
  }

  /** Never rejects: whatever goes wrong is an answer, or a connection that ended. */
  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      await this.#route(request, response);
    } catch (error) {
      if (response.headersSent) response.destroy();
      else answer(response, error instanceof SpillwayError ? 400 : 500, messageOf(error));
    }
    // What was left unread would keep the connection from its next request.
    if (!request.complete) request.resume();
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url);
    const path = pathOf(url);
    const [services, study, seriesLevel, series, instanceLevel, instance] = path;
    if (services !== 'studies') return answer(response, 404, 'There is no such resource.');
    if (request.method === 'POST' && path.length <= 2) return this.#limitedStore(request, response, study);
    if (request.method !== 'GET') return answer(response, 405, `${request.method} is not offered here.`);
    if (seriesLevel === 'series' && instanceLevel === 'instances' && instance !== undefined && path.length === 6) {
      return this.#retrieve(request, response, { study, series, instance });
    }
    const level = searchLevel(path);
    if (level === undefined) return answer(response, 404, 'There is no such resource.');
    const results = await search(this.#archive, {
      level,
      parameters: url.searchParams,
      rootUrl: this.url,
      studyInstanceUid: study,
      seriesInstanceUid: level === 'instances' ? series : undefined,
    });
    if (results.length === 0) response.writeHead(204).end();
    else answer(response, 200, JSON.stringify(results), DICOM_JSON);
  }

  async #limitedStore(request: IncomingMessage, response: ServerResponse, study: string | undefined): Promise<void> {
    const { overload } = this.faults;
    if (overload !== undefined && this.#storesInFlight >= overload.maxInFlight) {
      response.setHeader('Retry-After', overload.retryAfterSeconds);
      return answer(response, 503, 'Too many requests are under way.');
    }
    this.#storesInFlight += 1;
    try {
      await this.#store(request, response, study);
    } finally {
      this.#storesInFlight -= 1;
    }
  }

  async #store(request: IncomingMessage, response: ServerResponse, study: string | undefined): Promise<void> {
    const contentType = request.headers['content-type'] ?? '';
    const { type, parameters } = parseContentType(contentType);
    if (type !== 'multipart/related' || (parameters.get('type') ?? 'application/dicom') !== 'application/dicom') {
      return answer(response, 415, 'Expected multipart/related; type="application/dicom".');
    }
    const boundary = boundaryOf(contentType);
    const report = new StoreReport(this.url);
    try {
      // The connection outlives a body that is given up, since the sender is owed an answer.
      const body: AsyncIterable<Uint8Array> = request.iterator({ destroyOnReturn: false });
      for await (const part of readMultipart(body, boundary)) await this.#storePart(part, study, report);
    } finally {
      await this.#archive.sync(report.stored);
    }
    if (report.isEmpty) return answer(response, 400, 'Expected at least one part, got none.');
    answer(response, report.status, JSON.stringify(report.toJson()), DICOM_JSON);
  }

  async #storePart(part: MultipartPart, study: string | undefined, report: StoreReport): Promise<void> {
    if (this.faults.latencyMs !== undefined && this.faults.latencyMs > 0) await sleep(this.faults.latencyMs);
    let received: ReceivedInstance;
    try {
      received = await this.#archive.receive(part.body);
    } catch (error) {
      if (!(error instanceof SpillwayError && UNREADABLE_INSTANCE.has(error.code))) throw error;
      report.unreadable(CANNOT_UNDERSTAND);
      return;
    }
    const reason = this.#refusalOf(received.identity, study);
    if (reason === undefined) {
      await this.#archive.store(received);
      report.succeeded(received);
    } else {
      await this.#archive.discard(received);
      report.failed(received.identity, reason);
    }
  }

  #refusalOf(identity: InstanceIdentity, study: string | undefined): number | undefined {
    if (this.faults.failStorage === true) return PROCESSING_FAILURE;
    if (study !== undefined && study !== identity.studyInstanceUid) return DATA_SET_MISMATCH;
    return this.faults.refuse?.(identity);
  }

  async #retrieve(
    request: IncomingMessage,
    response: ServerResponse,
    asked: { readonly study: string | undefined; readonly series: string | undefined; readonly instance: string },
  ): Promise<void> {
    const accept = request.headers.accept ?? '*/*';
    if (!/multipart\/(related|\*)|\*\/\*/i.test(accept)) {
      return answer(response, 406, 'Only multipart/related; type="application/dicom" is offered.');
    }
    const held = this.#archive.instance(asked.instance);
    if (held === undefined || held.studyInstanceUid !== asked.study || held.seriesInstanceUid !== asked.series) {
      return answer(response, 404, 'There is no such instance.');
    }
    const { transferSyntaxUid } = (await this.#archive.headerOf(held)).identity;
    const file = await open(held.path, 'r');
    try {
      const boundary = randomUUID();
      const head = partHeader(boundary, `application/dicom; transfer-syntax=${transferSyntaxUid}`);
      const tail = closing(boundary);
      const { size } = await file.stat();
      response.writeHead(200, {
        'Content-Type': `multipart/related; type="application/dicom"; boundary=${boundary}`,
        'Content-Length': head.length + size + tail.length,
      });
      await pipeline(async function* () {
        yield head;
        yield* file.createReadStream({ autoClose: false });
        yield tail;
      }, response);
    } finally {
      await file.close();
    }
  }
}

/** What became of a store request's instances (PS3.18 section 10.5.3 and annex I.2). */
class StoreReport {
  readonly stored: ReceivedInstance[] = [];
  readonly #rootUrl: string;
  readonly #failed: DicomJson[] = [];
  readonly #unreadable: DicomJson[] = [];

  constructor(rootUrl: string) {
    this.#rootUrl = rootUrl;
  }

  get isEmpty(): boolean {
    return this.stored.length + this.#failures === 0;
  }

  get status(): number {
    if (this.#failures === 0) return 200;
    return this.stored.length > 0 ? 202 : 409;
  }

  get #failures(): number {
    return this.#failed.length + this.#unreadable.length;
  }

  succeeded(instance: ReceivedInstance): void {
    this.stored.push(instance);
  }

  failed(identity: InstanceIdentity, reason: number): void {
    this.#failed.push({ ...referenceTo(identity), ...failureReason(reason) });
  }

  unreadable(reason: number): void {
    this.#unreadable.push(failureReason(reason));
  }

  toJson(): DicomJson {
    const referenced = this.stored.map(({ identity }) => ({
      ...referenceTo(identity),
      [TAGS.retrieveUrl]: { vr: 'UR', Value: [instanceUrl(this.#rootUrl, identity)] },
    }));
    return {
      ...sequence(TAGS.failedSopSequence, this.#failed),
      ...sequence(TAGS.referencedSopSequence, referenced),
      ...sequence(TAGS.otherFailuresSequence, this.#unreadable),
    };
  }
}

function sequence(tag: string, items: readonly DicomJson[]): DicomJson {
  return items.length === 0 ? {} : { [tag]: { vr: 'SQ', Value: items } };
}

function referenceTo(identity: InstanceIdentity): DicomJson {
  return {
    [TAGS.referencedSopClassUid]: { vr: 'UI', Value: [identity.sopClassUid] },
    [TAGS.referencedSopInstanceUid]: { vr: 'UI', Value: [identity.sopInstanceUid] },
  };
}

function failureReason(reason: number): DicomJson {
  return { [TAGS.failureReason]: { vr: 'US', Value: [reason] } };
}

function instanceUrl(rootUrl: string, identity: InstanceIdentity): string {
  const { studyInstanceUid, seriesInstanceUid, sopInstanceUid } = identity;
  const [study, series, instance] = [studyInstanceUid, seriesInstanceUid, sopInstanceUid].map(encodeURIComponent);
  return `${rootUrl}/studies/${study}/series/${series}/instances/${instance}`;
}

function pathOf(url: URL): readonly string[] {
  try {
    return url.pathname
      .replace(/^\/|\/$/g, '')
      .split('/')
      .map(decodeURIComponent);
  } catch {
    return [];
  }
}

function searchLevel(path: readonly string[]): 'studies' | 'series' | 'instances' | undefined {
  if (path.length === 1) return 'studies';
  if (path.length === 3 && (path[2] === 'series' || path[2] === 'instances')) return path[2];
  return path.length === 5 && path[2] === 'series' && path[4] === 'instances' ? 'instances' : undefined;
}

function answer(response: ServerResponse, status: number, body: string, type = 'text/plain; charset=utf-8'): void {
  response.writeHead(status, { 'Content-Type': type, 'Content-Length': Buffer.byteLength(body) }).end(body);
}
