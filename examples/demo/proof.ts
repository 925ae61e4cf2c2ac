import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readAndDigest } from '../../src/dicom/data-set-digest.ts';
import { boundaryOf, readMultipart } from '../../src/dicom/multipart.ts';
import type { JournalEntry } from '../../src/testing/index.ts';
import type { DemoInstance } from './hospital.ts';
import { MAX_CONCURRENCY, MAX_INSTANCES_PER_REQUEST } from './messages.ts';

const TIERS = ['last-24-hours', 'last-week', 'historical'];

/** What a PACS turned out to hold. */
export interface Proof {
  readonly compared: number;
  readonly problems: readonly string[];
}

/** Reads every file of the PACS's directory and compares it with what was sent, byte by byte (SHA-256 of the file). */
export async function compareFiles(directory: string, sent: readonly DemoInstance[]): Promise<Proof> {
  const held = new Set<string>();
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.dcm')) continue;
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(join(entry.parentPath, entry.name))) hash.update(chunk as Buffer);
    held.add(hash.digest('hex'));
  }
  const missing = sent.filter((instance) => !held.has(instance.fileSha256));
  const expected = new Set(sent.map((instance) => instance.fileSha256));
  const invented = [...held].filter((sha256) => !expected.has(sha256));
  return {
    compared: sent.length - missing.length,
    problems: [
      ...missing.map(({ sopInstanceUid }) => `lost or altered: ${sopInstanceUid}`),
      ...invented.map((sha256) => `never sent, or altered: a file with SHA-256 ${sha256}`),
    ],
  };
}

/** Retrieves every instance by WADO-RS and compares its data set; what stands before it a PACS may write anew. */
export async function compareRetrieved(url: string, sent: readonly DemoInstance[]): Promise<Proof> {
  const problems: string[] = [];
  for (const instance of sent) {
    const { studyInstanceUid, seriesInstanceUid, sopInstanceUid } = instance;
    const path = `/studies/${studyInstanceUid}/series/${seriesInstanceUid}/instances/${sopInstanceUid}`;
    const response = await fetch(url + path, {
      headers: { accept: 'multipart/related; type="application/dicom"; transfer-syntax=*' },
    });
    if (!response.ok || response.body === null) {
      problems.push(`lost: ${sopInstanceUid} (HTTP ${response.status})`);
      continue;
    }
    for await (const part of readMultipart(response.body, boundaryOf(response.headers.get('content-type') ?? ''))) {
      const { digest } = await readAndDigest(part.body);
      if (digest !== instance.dataSetSha256) problems.push(`altered: ${sopInstanceUid}`);
    }
  }
  return { compared: sent.length - problems.length, problems };
}

/** How the tiers of the backlog came to the PACS. */
export interface OrderProof extends Proof {
  readonly tiers: readonly {
    readonly tier: string;
    readonly instances: number;
    readonly firstAt: number;
    readonly lastAt: number;
  }[];
  /** Instances that the PACS was sent more than once, harmlessly, because a kill hid its answer. */
  readonly sentTwice: number;
}

/** An instance that came to the PACS, by its own journal or, where that cannot be read, by its answer to the gateway. */
export type Arrival = Pick<JournalEntry, 'sopInstanceUid' | 'storedAt'>;

/**
 * From what came to the PACS, oldest first: no tier may be complete before a more urgent one, and a lower tier may only
 * have begun with what fits into the requests that were in flight.
 */
export function checkOrder(arrivals: readonly Arrival[], backlog: readonly DemoInstance[]): OrderProof {
  const tierOf = new Map(backlog.map(({ sopInstanceUid, tier }) => [sopInstanceUid, tier]));
  const ofBacklog = arrivals.filter(({ sopInstanceUid }) => tierOf.has(sopInstanceUid));
  const first = new Map<string, Arrival & { readonly position: number }>();
  for (const [position, entry] of ofBacklog.entries()) {
    if (!first.has(entry.sopInstanceUid)) first.set(entry.sopInstanceUid, { ...entry, position });
  }
  const problems: string[] = [];
  const tiers = TIERS.flatMap((tier) => {
    const entries = [...first.values()].filter(({ sopInstanceUid }) => tierOf.get(sopInstanceUid) === tier);
    const [start] = entries;
    const end = entries.at(-1);
    if (start === undefined || end === undefined) return [];
    return [{ tier, instances: entries.length, firstAt: start.storedAt, lastAt: end.storedAt, end: end.position }];
  });
  const mayOverlap = MAX_CONCURRENCY * MAX_INSTANCES_PER_REQUEST;
  for (const [index, { tier, end }] of tiers.entries()) {
    const lower = new Set(tiers.slice(index + 1).map((other) => other.tier));
    const early = [...first.values()].filter(
      ({ sopInstanceUid, position }) => position < end && lower.has(tierOf.get(sopInstanceUid) ?? ''),
    );
    if (early.length > mayOverlap) {
      problems.push(`wrong order: ${early.length} less urgent instances came before ${tier} was complete`);
    }
    const next = tiers[index + 1];
    if (next !== undefined && next.end < end) problems.push(`wrong order: ${next.tier} was complete before ${tier}`);
  }
  return { compared: first.size, problems, tiers, sentTwice: ofBacklog.length - first.size };
}
