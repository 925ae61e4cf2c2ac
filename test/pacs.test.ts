import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { Agent, type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readAndDigest } from '../src/dicom/data-set-digest.ts';
import { numberOf, sequenceOf, stringsOf, TAGS } from '../src/dicom/dicom-json.ts';
import { boundaryOf, closing, partHeader, readMultipart } from '../src/dicom/multipart.ts';
import { type PacsOptions, startPacs, type TestPacs } from '../src/testing/pacs.ts';
import { readJournal } from '../src/testing/pacs-archive.ts';
import {
  type SyntheticInstance,
  syntheticIdentity,
  syntheticInstance,
  syntheticStudy,
} from '../src/testing/synthetic.ts';

const BOUNDARY = 'test-boundary';
const MULTIPART = `multipart/related; type="application/dicom"; boundary=${BOUNDARY}`;

let directory: string;
const running: TestPacs[] = [];
const processes: ChildProcess[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'spillway-pacs-'));
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((pacs) => pacs.close()));
  for (const child of processes.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  }
  await rm(directory, { recursive: true, force: true });
});

async function start(options?: Omit<PacsOptions, 'directory'>): Promise<TestPacs> {
  const pacs = await startPacs({ directory, ...options });
  running.push(pacs);
  return pacs;
}

function study(seed: number, instances = 3, modality: 'KO' | 'MR' = 'KO'): readonly SyntheticInstance[] {
  return [...syntheticStudy({ modality, instances, acquiredAt: Date.UTC(2024, 0, 31), seed })];
}

function bodyOf(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const chunks = [...parts.flatMap((part) => [partHeader(BOUNDARY, 'application/dicom'), part]), closing(BOUNDARY)];
  return Uint8Array.from(Buffer.concat(chunks));
}

async function store(url: string, parts: readonly Uint8Array[], path = '/studies') {
  const headers = { 'Content-Type': MULTIPART, Accept: 'application/dicom+json' };
  const response = await fetch(url + path, { method: 'POST', headers, body: bodyOf(parts) });
  const text = await response.text();
  const json: unknown = text.startsWith('{') ? JSON.parse(text) : {};
  return { status: response.status, headers: response.headers, json };
}

async function find(url: string, path: string): Promise<readonly unknown[]> {
  const response = await fetch(url + path);
  if (response.status === 204) return [];
  expect(response.status).toBe(200);
  return JSON.parse(await response.text());
}

function instancePath({ identity }: SyntheticInstance): string {
  const { studyInstanceUid, seriesInstanceUid, sopInstanceUid } = identity;
  return `/studies/${studyInstanceUid}/series/${seriesInstanceUid}/instances/${sopInstanceUid}`;
}

async function retrieve(url: string, instance: SyntheticInstance): Promise<Buffer> {
  const response = await fetch(url + instancePath(instance), {
    headers: { Accept: 'multipart/related; type="application/dicom"; transfer-syntax=*' },
  });
  expect(response.status).toBe(200);
  const parts: Buffer[] = [];
  if (response.body === null) throw new Error('there was no body');
  const boundary = boundaryOf(response.headers.get('content-type') ?? '');
  for await (const part of readMultipart(response.body, boundary)) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of part.body) chunks.push(chunk);
    parts.push(Buffer.concat(chunks));
  }
  expect(parts).toHaveLength(1);
  return Buffer.concat(parts);
}

/** Sends a part of a body, then cuts the connection. */
async function sendTorn(url: string, body: Uint8Array, bytes: number): Promise<void> {
  const sending = request(`${url}/studies`, {
    method: 'POST',
    headers: { 'Content-Type': MULTIPART, 'Content-Length': body.length },
  });
  const failed = once(sending, 'error').catch(() => {});
  await new Promise<void>((resolve) => sending.write(body.subarray(0, bytes), () => resolve()));
  sending.destroy(new Error('cut'));
  await failed;
}

async function spawnPacs(...options: readonly string[]): Promise<{ child: ChildProcess; url: string }> {
  const main = join(import.meta.dirname, '../src/testing/pacs-main.ts');
  const child = spawn(process.execPath, [main, '--directory', directory, ...options], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  processes.push(child);
  const [line] = await once(createInterface({ input: child.stdout }), 'line');
  const { port }: { port: number } = JSON.parse(line);
  return { child, url: `http://127.0.0.1:${port}` };
}

describe('STOW-RS', () => {
  test('stores every instance as it came and says so of each', async () => {
    const pacs = await start();
    const instances = study(1);
    const { status, json } = await store(
      pacs.url,
      instances.map(({ bytes }) => bytes),
    );
    expect(status).toBe(200);
    const stored = sequenceOf(json, TAGS.referencedSopSequence);
    expect(stored.map((item) => stringsOf(item, TAGS.referencedSopInstanceUid)[0])).toEqual(
      instances.map(({ identity }) => identity.sopInstanceUid),
    );
    const [retrieveUrl] = stringsOf(stored[0], TAGS.retrieveUrl);
    expect(retrieveUrl).toBe(pacs.url + instancePath(at(instances, 0)));
    for (const instance of instances) {
      expect(Buffer.compare(await retrieve(pacs.url, instance), instance.bytes)).toBe(0);
    }
    const journal = await pacs.journal();
    expect(journal.map((entry) => entry.sopInstanceUid)).toEqual(
      instances.map(({ identity }) => identity.sopInstanceUid),
    );
    const { digest } = await readAndDigest([at(instances, 0).bytes]);
    expect(journal[0]).toMatchObject({
      studyInstanceUid: at(instances, 0).identity.studyInstanceUid,
      dataSetSha256: digest,
      bytes: at(instances, 0).bytes.length,
      duplicate: false,
    });
  });

  test('answers by PS3.18 10.5.3: 202 with the reasons of some, 409 when none was stored', async () => {
    const [good, refused] = study(2, 2);
    if (good === undefined || refused === undefined) throw new Error('the study is too small');
    const pacs = await start({
      faults: {
        refuse: (identity) => (identity.sopInstanceUid === refused.identity.sopInstanceUid ? 0xa900 : undefined),
      },
    });
    const notDicom = Buffer.from('no DICOM at all');
    const mixed = await store(pacs.url, [refused.bytes, notDicom, good.bytes]);
    expect(mixed.status).toBe(202);
    const [failed] = sequenceOf(mixed.json, TAGS.failedSopSequence);
    expect(stringsOf(failed, TAGS.referencedSopInstanceUid)).toEqual([refused.identity.sopInstanceUid]);
    expect(numberOf(failed, TAGS.failureReason)).toBe(0xa900);
    const [unreadable] = sequenceOf(mixed.json, TAGS.otherFailuresSequence);
    expect(numberOf(unreadable, TAGS.failureReason)).toBe(0xc000);
    expect(sequenceOf(mixed.json, TAGS.referencedSopSequence)).toHaveLength(1);

    expect((await store(pacs.url, [refused.bytes])).status).toBe(409);
    expect((await store(pacs.url, [syntheticInstance({ modality: 'KO', omit: ['00080018'] })])).status).toBe(409);
    const elsewhere = await store(pacs.url, [good.bytes], '/studies/1.2.3');
    expect(elsewhere.status).toBe(409);
    expect((await store(pacs.url, [good.bytes], `/studies/${good.identity.studyInstanceUid}`)).status).toBe(200);
    expect(await readdir(join(directory, 'incoming'))).toEqual([]);
    pacs.faults.refuse = undefined;
    expect((await store(pacs.url, [refused.bytes])).status).toBe(200);
  });

  test('the same data set again is a duplicate; another one replaces it, or is dropped', async () => {
    const identity = syntheticIdentity({ modality: 'MR', seed: 3 });
    const uids = { studyInstanceUid: identity.studyInstanceUid, seriesInstanceUid: identity.seriesInstanceUid };
    const options = { modality: 'MR', ...uids, sopInstanceUid: identity.sopInstanceUid } as const;
    const [first, other] = [syntheticInstance({ ...options, seed: 3 }), syntheticInstance({ ...options, seed: 4 })];
    const pacs = await start();
    for (const bytes of [first, first, other]) expect((await store(pacs.url, [bytes])).status).toBe(200);
    expect((await pacs.journal()).map((entry) => entry.duplicate)).toEqual([false, true, false]);
    expect(Buffer.compare(await retrieve(pacs.url, { bytes: other, identity }), other)).toBe(0);
    expect(await find(pacs.url, '/studies')).toHaveLength(1);

    await pacs.close();
    const keeping = await start({ onConflict: 'keep' });
    expect((await store(keeping.url, [first])).status).toBe(200);
    expect(Buffer.compare(await retrieve(keeping.url, { bytes: other, identity }), other)).toBe(0);
    expect(await keeping.journal()).toHaveLength(3);
  });

  test('nothing of a torn upload is visible, and what came whole before it is', async () => {
    const pacs = await start();
    const [whole, torn] = study(4, 2, 'MR');
    if (whole === undefined || torn === undefined) throw new Error('the study is too small');
    const body = bodyOf([whole.bytes, torn.bytes]);
    await sendTorn(pacs.url, body, body.length - 1000);
    // The server sees the cut some time after the client made it.
    await expect.poll(() => readdir(join(directory, 'incoming'))).toEqual([]);
    await expect.poll(async () => (await pacs.journal()).length).toBe(1);
    expect(await find(pacs.url, `/studies/${whole.identity.studyInstanceUid}/instances`)).toHaveLength(1);
    expect((await fetch(pacs.url + instancePath(torn))).status).toBe(404);
  });

  test('a body without its closing boundary, without parts, or of another type is refused', async () => {
    const pacs = await start();
    const [instance] = study(5, 1);
    if (instance === undefined) throw new Error('the study is empty');
    const send = async (body: Uint8Array<ArrayBuffer>, type: string) =>
      (await fetch(`${pacs.url}/studies`, { method: 'POST', headers: { 'Content-Type': type }, body })).status;
    const body = bodyOf([instance.bytes]);
    expect(await send(body.subarray(0, body.length - closing(BOUNDARY).length), MULTIPART)).toBe(400);
    expect(await send(bodyOf([]), MULTIPART)).toBe(400);
    expect(await send(body, 'multipart/related; type="application/dicom"')).toBe(400);
    expect(await send(body, 'application/dicom')).toBe(415);
    expect(await send(body, MULTIPART.replace('application/dicom', 'application/dicom+json'))).toBe(415);
    expect(await pacs.journal()).toEqual([]);
  });

  test('a sender that is refused in the middle of a large body gets its answer, and its connection goes on', async () => {
    const pacs = await start();
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const body = Buffer.concat([Buffer.from(`--${BOUNDARY}\r\nX: `), Buffer.alloc(8 * 1024 * 1024, 'x')]);
    const localPorts: (number | undefined)[] = [];
    for (let turn = 0; turn < 2; turn += 1) {
      const headers = { 'Content-Type': MULTIPART, 'Content-Length': body.length };
      const sending = request(`${pacs.url}/studies`, { method: 'POST', agent, headers });
      const sent = once(sending, 'finish');
      sending.end(body);
      const [response]: IncomingMessage[] = await once(sending, 'response');
      if (response === undefined) throw new Error('there was no response');
      expect(response.statusCode).toBe(400);
      localPorts.push(response.socket.localPort);
      const closed = once(response, 'close');
      response.resume();
      await Promise.all([sent, closed]);
    }
    agent.destroy();
    expect(localPorts[1]).toBe(localPorts[0]);
  });

  test('shows the faults of a real one: storage that fails, overload', async () => {
    const pacs = await start({ faults: { failStorage: true } });
    const [instance] = study(6, 1);
    if (instance === undefined) throw new Error('the study is empty');
    const failing = await store(pacs.url, [instance.bytes]);
    expect(failing.status).toBe(409);
    expect(numberOf(sequenceOf(failing.json, TAGS.failedSopSequence)[0], TAGS.failureReason)).toBe(0x0110);
    expect((await fetch(`${pacs.url}/studies`)).status).toBe(204);

    pacs.faults.failStorage = false;
    pacs.faults.overload = { maxInFlight: 0, retryAfterSeconds: 7 };
    const overloaded = await store(pacs.url, [instance.bytes]);
    expect(overloaded.status).toBe(503);
    expect(overloaded.headers.get('retry-after')).toBe('7');
    pacs.faults.overload = { maxInFlight: 1, retryAfterSeconds: 7 };
    expect((await store(pacs.url, [instance.bytes])).status).toBe(200);
  });
});

describe('QIDO-RS and WADO-RS', () => {
  test('find studies, series and instances, by UID and by page', async () => {
    const pacs = await start();
    const [a, b] = [study(7, 3), study(8, 2, 'MR')];
    await store(
      pacs.url,
      [...a, ...b].map(({ bytes }) => bytes),
    );
    const [uidA, uidB] = [at(a, 0).identity.studyInstanceUid, at(b, 0).identity.studyInstanceUid];
    const uidsOf = async (path: string, tag: string) =>
      (await find(pacs.url, path)).flatMap((item) => stringsOf(item, tag)).sort();

    expect(await uidsOf('/studies', TAGS.studyInstanceUid)).toEqual([uidA, uidB].sort());
    const [found] = await find(pacs.url, `/studies?StudyInstanceUID=${uidB}`);
    expect(stringsOf(found, TAGS.modalitiesInStudy)).toEqual(['MR']);
    expect(stringsOf(found, TAGS.studyDate)).toEqual(['20240131']);
    expect(numberOf(found, TAGS.numberOfStudyRelatedInstances)).toBe(2);
    expect(await uidsOf(`/studies?0020000D=${uidA},${uidB}&limit=1`, TAGS.studyInstanceUid)).toHaveLength(1);

    const seriesUid = at(a, 0).identity.seriesInstanceUid;
    expect(await uidsOf(`/studies/${uidA}/series`, TAGS.seriesInstanceUid)).toEqual([seriesUid]);
    const sopUids = a.map(({ identity }) => identity.sopInstanceUid).sort();
    expect(await uidsOf(`/studies/${uidA}/instances`, TAGS.sopInstanceUid)).toEqual(sopUids);
    const inSeries = `/studies/${uidA}/series/${seriesUid}/instances`;
    expect(await uidsOf(inSeries, TAGS.sopInstanceUid)).toEqual(sopUids);
    const pages = [];
    for (let offset = 0; offset < 4; offset += 2) {
      pages.push(...(await uidsOf(`${inSeries}?limit=2&offset=${offset}`, TAGS.sopInstanceUid)));
    }
    expect(pages.sort()).toEqual(sopUids);
    expect(await uidsOf(`${inSeries}?SOPInstanceUID=${sopUids[1]}`, TAGS.sopInstanceUid)).toEqual([sopUids[1]]);
    expect(await find(pacs.url, `/studies/${uidB}/instances?SOPInstanceUID=${sopUids[1]}`)).toEqual([]);
  });

  test('what is not there is 204 or 404, what is not offered says so', async () => {
    const pacs = await start();
    const [instance] = study(9, 1);
    if (instance === undefined) throw new Error('the study is empty');
    await store(pacs.url, [instance.bytes]);
    const statusOf = async (path: string, init?: RequestInit) => (await fetch(pacs.url + path, init)).status;
    expect(await statusOf('/studies/1.2.3/series')).toBe(204);
    expect(await statusOf('/studies?limit=some')).toBe(400);
    expect(await statusOf('/')).toBe(404);
    expect(await statusOf('/studies/%E0%A4%A')).toBe(404);
    expect(await statusOf(`${instancePath(instance)}9`)).toBe(404);
    const { sopInstanceUid } = instance.identity;
    expect(await statusOf(`/studies/1.2.3/series/1.2.4/instances/${sopInstanceUid}`)).toBe(404);
    expect(await statusOf(instancePath(instance), { headers: { Accept: 'image/png' } })).toBe(406);
    expect(await statusOf('/studies', { method: 'DELETE' })).toBe(405);
  });
});

describe('after a kill', () => {
  test('everything answered for is there, by another process on the same directory', async () => {
    const { child, url } = await spawnPacs('--latency-ms', '1');
    const instances = study(10, 40, 'MR');
    const answered: SyntheticInstance[] = [];
    for (const [index, instance] of instances.entries()) {
      if (index === 30) setTimeout(() => child.kill('SIGKILL'), 5);
      const status = await store(url, [instance.bytes]).then(
        (result) => result.status,
        () => 0,
      );
      if (status !== 200) break;
      answered.push(instance);
    }
    if (child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    expect(answered.length).toBeGreaterThanOrEqual(30);

    const again = await spawnPacs();
    for (const instance of answered) {
      expect(Buffer.compare(await retrieve(again.url, instance), instance.bytes)).toBe(0);
    }
    const journalled = (await readJournal(directory)).map((entry) => entry.sopInstanceUid);
    expect(journalled.slice(0, answered.length)).toEqual(answered.map(({ identity }) => identity.sopInstanceUid));
    const found = await find(again.url, `/studies/${at(instances, 0).identity.studyInstanceUid}/instances`);
    expect(found.length).toBe(journalled.length);

    again.child.kill('SIGTERM');
    const [code] = await once(again.child, 'exit');
    expect(code).toBe(0);
  });

  test('what a kill left half done is put right', async () => {
    const pacs = await start();
    const [first, second] = study(11, 2);
    if (first === undefined || second === undefined) throw new Error('the study is too small');
    await store(pacs.url, [first.bytes, second.bytes]);
    const before = await pacs.journal();
    await pacs.close();

    // A torn line, a line that was never written, an upload in flight.
    const path = join(directory, 'journal.ndjson');
    const [line] = (await readFile(path, 'utf8')).split('\n');
    await writeFile(path, `${line}\n`);
    await appendFile(path, '{"sopInstanceUid":"1.2');
    await writeFile(join(directory, 'incoming', '9.part'), 'half an instance');

    const again = await start();
    const after = await again.journal();
    expect(after.map(({ storedAt: _, ...entry }) => entry)).toEqual(before.map(({ storedAt: _, ...entry }) => entry));
    expect(await readdir(join(directory, 'incoming'))).toEqual([]);
    expect(Buffer.compare(await retrieve(again.url, second), second.bytes)).toBe(0);
  });
});

function at<T>(list: readonly T[], index: number): T {
  const item = list[index];
  if (item === undefined) throw new Error(`there is no item ${index}`);
  return item;
}

describe('the DICOM JSON readers', () => {
  test.each([[undefined], [null], [7], ['x'], [[]], [{}], [{ '00080018': null }], [{ '00080018': { Value: 'x' } }]])(
    'find nothing in %j',
    (json) => {
      expect(stringsOf(json, TAGS.sopInstanceUid)).toEqual([]);
      expect(numberOf(json, TAGS.sopInstanceUid)).toBeUndefined();
      expect(sequenceOf(json, TAGS.sopInstanceUid)).toEqual([]);
    },
  );

  test('take values in the forms that peers send', () => {
    const json = {
      [TAGS.failureReason]: { vr: 'US', Value: ['272'] },
      [TAGS.warningReason]: { vr: 'US', Value: [45056] },
      [TAGS.sopInstanceUid]: { vr: 'UI', Value: ['1.2.3\0', null, '', {}] },
      [TAGS.patientId]: { vr: 'PN', Value: [{ Alphabetic: 'A^B' }] },
      [TAGS.failedSopSequence]: { vr: 'SQ', Value: [null, 'x', [], { a: 1 }] },
    };
    expect(numberOf(json, TAGS.failureReason)).toBe(272);
    expect(numberOf(json, TAGS.warningReason)).toBe(45056);
    expect(numberOf(json, TAGS.sopInstanceUid)).toBeUndefined();
    expect(stringsOf(json, TAGS.sopInstanceUid)).toEqual(['1.2.3']);
    expect(stringsOf(json, TAGS.patientId)).toEqual(['A^B']);
    expect(sequenceOf(json, TAGS.failedSopSequence)).toEqual([{ a: 1 }]);
  });
});
