// Sends files by STOW-RS as simply as node:http can: a kept-alive agent, always so many requests in flight, so many
// instances of a study in each, streamed from the disk, in the order of arrival. It keeps no record, checks no bytes, and
// takes every answer for a success.

import { createReadStream, readFileSync } from 'node:fs';
import http from 'node:http';
import { text } from 'node:stream/consumers';
import { finished } from 'node:stream/promises';
import type { PendingFile } from '../support/pending-store.ts';
import { passJob, stopwatch } from './pass.ts';

const { url, inFlight = 1, instancesPerRequest, files } = passJob();
const batches = batchesOf(JSON.parse(readFileSync(files, 'utf8')) as readonly PendingFile[]);
const agent = new http.Agent({ keepAlive: true, maxSockets: inFlight });
const boundary = 'plain-0123456789abcdef0123456789abcdef';
const header = Buffer.from(`\r\n--${boundary}\r\nContent-Type: application/dicom\r\n\r\n`);
const closing = Buffer.from(`\r\n--${boundary}--\r\n`);

const report = stopwatch();
let next = 0;
const lane = async () => {
  for (let batch = batches[next]; batch !== undefined; batch = batches[next]) {
    next += 1;
    await send(batch);
  }
};
await Promise.all(Array.from({ length: inFlight }, lane));
report();
agent.destroy();

/** A request goes when it has as many of a study as it may, the rest at the end. */
function batchesOf(all: readonly PendingFile[]): readonly (readonly PendingFile[])[] {
  const batches: PendingFile[][] = [];
  const open = new Map<string, PendingFile[]>();
  for (const file of all) {
    const batch = open.get(file.studyInstanceUid) ?? [];
    batch.push(file);
    open.set(file.studyInstanceUid, batch);
    if (batch.length < instancesPerRequest) continue;
    batches.push(batch);
    open.delete(file.studyInstanceUid);
  }
  return [...batches, ...open.values()];
}

async function send(batch: readonly PendingFile[]): Promise<void> {
  const bytes = batch.reduce((sum, file) => sum + file.bytes + header.length, closing.length);
  const request = http.request(`${url}/studies`, {
    method: 'POST',
    agent,
    headers: {
      accept: 'application/dicom+json',
      'content-type': `multipart/related; type="application/dicom"; boundary=${boundary}`,
      'content-length': bytes,
    },
  });
  const answered = new Promise<http.IncomingMessage>((resolve, reject) => {
    request.once('response', resolve);
    request.once('error', reject);
  });
  for (const { path } of batch) {
    request.write(header);
    const file = createReadStream(path);
    file.pipe(request, { end: false });
    await finished(file);
  }
  request.end(closing);
  const response = await answered;
  if (response.statusCode !== 200) throw new Error(`HTTP ${response.statusCode}`);
  JSON.parse(await text(response));
}
