// A STOW-RS server that reads and discards, in a process of its own. It is told by messages which files come, finds the
// instances of a request by their lengths alone, and names each of them in its answer, as a Store response does (PS3.18
// section 10.5.3). Whoever sends, it does the same.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { closing, partHeader } from '../../src/dicom/multipart.ts';

/** The SOP Instance UIDs that come, with the length of each file, and those of which the last answer is of interest. */
export interface Announcement {
  readonly files: readonly (readonly [sopInstanceUid: string, bytes: number])[];
  readonly watched: readonly string[];
}

/** What it has seen since it was asked last. Instants in ms since the epoch. */
export interface ServerFigures {
  readonly firstRequestAt: number;
  readonly lastAnswerAt: number;
  /** When the last of those watched was answered; 0 while some are missing. */
  readonly lastWatchedAt: number;
  readonly instances: number;
  readonly bytes: number;
  readonly requests: number;
  readonly mostInFlight: number;
  readonly cpuMs: number;
}

/** How far into a file its SOP Instance UID is to be found: file meta is short. */
const META_BYTES = 1_024;
/** (0002,0003) UI. */
const UID_TAG = Buffer.from('020003005549', 'hex');

let known = new Map<string, number>();
let watched: ReadonlySet<string> = new Set();
let seenOfWatched = 0;
let figures = fresh();
let inFlight = 0;
let cpu = process.cpuUsage();

function fresh() {
  return { firstRequestAt: 0, lastAnswerAt: 0, lastWatchedAt: 0, instances: 0, bytes: 0, requests: 0, mostInFlight: 0 };
}

const server = createServer((request, response) => {
  if (request.method === 'POST') return store(request, response);
  response.setHeader('content-type', 'application/dicom+json').end('[]');
});

function store(request: IncomingMessage, response: ServerResponse): void {
  if (figures.firstRequestAt === 0) figures.firstRequestAt = epoch();
  figures.requests += 1;
  inFlight += 1;
  figures.mostInFlight = Math.max(figures.mostInFlight, inFlight);
  const boundary = /boundary=([^;]+)/.exec(request.headers['content-type'] ?? '')?.[1] ?? '';
  const headerBytes = partHeader(boundary, 'application/dicom').byteLength;
  const end = Number(request.headers['content-length']) - closing(boundary).byteLength;
  const uids: string[] = [];
  let position = 0;
  let nextFile = headerBytes;
  let pieces: Buffer[] = [];
  request.on('data', (chunk: Buffer) => {
    const from = position;
    position += chunk.length;
    while (nextFile < end && position > nextFile) {
      // Only the beginning of each file is looked at, pieced together where it is cut.
      pieces.push(chunk.subarray(Math.max(0, nextFile - from)));
      const [first] = pieces;
      const head = pieces.length === 1 && first !== undefined ? first : Buffer.concat(pieces);
      if (head.length < META_BYTES && position < end) break;
      const uid = uidIn(head);
      const bytes = known.get(uid);
      if (bytes === undefined) throw new Error('an instance came that nobody announced');
      uids.push(uid);
      nextFile += bytes + headerBytes;
      pieces = [];
    }
  });
  request.on('end', () => {
    inFlight -= 1;
    figures.bytes += position;
    figures.instances += uids.length;
    response.setHeader('content-type', 'application/dicom+json').end(answer(uids));
    figures.lastAnswerAt = epoch();
    for (const uid of uids) seenOfWatched += Number(watched.has(uid));
    if (seenOfWatched === watched.size && figures.lastWatchedAt === 0) figures.lastWatchedAt = figures.lastAnswerAt;
  });
}

function uidIn(head: Buffer): string {
  const at = head.indexOf(UID_TAG);
  const length = head.readUInt16LE(at + 6);
  return head.toString('latin1', at + 8, at + 8 + length).replace(/\0$/, '');
}

function answer(uids: readonly string[]): string {
  const items = uids.map((uid) => ({ '00081155': { vr: 'UI', Value: [uid] } }));
  return JSON.stringify({ '00081199': { vr: 'SQ', Value: items } });
}

function epoch(): number {
  return performance.timeOrigin + performance.now();
}

process.on('message', (message: Announcement | 'figures') => {
  if (message !== 'figures') {
    known = new Map(message.files);
    watched = new Set(message.watched);
  }
  const { user, system } = process.cpuUsage(cpu);
  const told: ServerFigures = { ...figures, cpuMs: (user + system) / 1_000 };
  process.send?.(told);
  figures = fresh();
  seenOfWatched = 0;
  cpu = process.cpuUsage();
});
process.on('disconnect', () => process.exit());
server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port));
