import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo, Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readAndDigest } from '../../src/dicom/data-set-digest.ts';
import { startPacs } from '../../src/testing/pacs.ts';
import { type SyntheticOptions, syntheticIdentity, syntheticInstance } from '../../src/testing/synthetic.ts';
import { dicomwebDestination } from '../../src/transports/dicomweb/destination.ts';
import type { DicomwebDestinationOptions } from '../../src/transports/dicomweb/options.ts';
import type { OutgoingInstance, SendOutcome, Transport } from '../../src/transports/transport.ts';

export const cleanups: (() => Promise<unknown> | unknown)[] = [];
/** For `afterEach`: ends everything that the test started. */
export async function cleanUp(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}

export const never = new AbortController().signal;
export const STUDY = '2.25.100';
export const SERIES = '2.25.200';

export function transportTo(url: string, options: Partial<DicomwebDestinationOptions> = {}): Transport {
  const { transport } = dicomwebDestination({ id: 'pacs', url, ...options });
  cleanups.push(() => transport.close());
  return transport;
}

export function instance(
  number: number,
  options: SyntheticOptions & { readonly chunkBytes?: number } = {},
): OutgoingInstance {
  const { chunkBytes = 64 * 1024, ...synthetic } = options;
  const all: SyntheticOptions = {
    seed: number,
    pixelBytes: 20_000,
    studyInstanceUid: STUDY,
    seriesInstanceUid: SERIES,
    ...synthetic,
  };
  const bytes = syntheticInstance(all);
  return {
    identity: syntheticIdentity(all),
    bytes: bytes.byteLength,
    async *open() {
      for (let at = 0; at < bytes.byteLength; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
    },
  };
}

/** An instance of so many zeros, made while it is read. */
export function zeros(number: number, bytes: number, onRead: (total: number) => void = () => {}): OutgoingInstance {
  const chunk = new Uint8Array(64 * 1024);
  return {
    identity: syntheticIdentity({ seed: number, studyInstanceUid: STUDY, seriesInstanceUid: SERIES }),
    bytes,
    async *open() {
      for (let at = 0; at < bytes; at += chunk.length) {
        onRead(Math.min(at + chunk.length, bytes));
        yield chunk.subarray(0, Math.min(chunk.length, bytes - at));
      }
    },
  };
}

export async function listen(server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

export async function serve(listener: RequestListener): Promise<string> {
  return `http://127.0.0.1:${await listen(createServer(listener))}/dicom-web`;
}

export async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export function answerJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/dicom+json' }).end(JSON.stringify(body));
}

export function allStored(...instances: readonly OutgoingInstance[]): unknown {
  const items = instances.map(({ identity }) => ({ '00081155': { vr: 'UI', Value: [identity.sopInstanceUid] } }));
  return { '00081199': { vr: 'SQ', Value: items } };
}

export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'spillway-dicomweb-'));
  cleanups.push(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

export async function pacs(options: Partial<Parameters<typeof startPacs>[0]> = {}) {
  const running = await startPacs({ directory: await temporaryDirectory(), ...options });
  cleanups.push(() => running.close());
  return running;
}

export const kinds = (outcomes: readonly SendOutcome[]) => outcomes.map((outcome) => outcome.kind);

export async function digestOf(outgoing: OutgoingInstance): Promise<string> {
  return (await readAndDigest(outgoing.open())).digest;
}
