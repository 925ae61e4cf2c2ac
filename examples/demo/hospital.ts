import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readAndDigest } from '../../src/dicom/data-set-digest.ts';
import { messageOf } from '../../src/errors.ts';
import { type SyntheticModality, syntheticStudy } from '../../src/testing/index.ts';
import { classify } from '../../src/tiers/index.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** An instance of the demo, as it lies on the modality's disk. */
export interface DemoInstance {
  readonly sopInstanceUid: string;
  readonly studyInstanceUid: string;
  readonly seriesInstanceUid: string;
  readonly tier: string;
  readonly size: number;
  /** SHA-256 of the whole file, and of its data set. */
  readonly fileSha256: string;
  readonly dataSetSha256: string;
  bytes(): Promise<Uint8Array>;
}

interface StudyPlan {
  readonly modality: SyntheticModality;
  readonly instances: number;
  readonly ageMs: number;
}

/** What runs before the outage. */
const BEFORE: readonly StudyPlan[] = [
  { modality: 'CT', instances: 20, ageMs: HOUR_MS },
  { modality: 'KO', instances: 1, ageMs: HOUR_MS },
];

// In the order of sending, which is the opposite of what is urgent.
const DURING: readonly StudyPlan[] = [
  { modality: 'MR', instances: 120, ageMs: 400 * DAY_MS },
  { modality: 'CT', instances: 80, ageMs: 90 * DAY_MS },
  { modality: 'CR', instances: 2, ageMs: 30 * DAY_MS },
  { modality: 'CT', instances: 70, ageMs: 5 * DAY_MS },
  { modality: 'US', instances: 20, ageMs: 3 * DAY_MS },
  { modality: 'CR', instances: 2, ageMs: 2 * DAY_MS },
  { modality: 'CT', instances: 90, ageMs: 6 * HOUR_MS },
  { modality: 'MR', instances: 60, ageMs: 4 * HOUR_MS },
  { modality: 'CR', instances: 4, ageMs: 2 * HOUR_MS },
  { modality: 'US', instances: 16, ageMs: HOUR_MS },
  { modality: 'KO', instances: 2, ageMs: HOUR_MS },
];

const FAST_DIVISOR = 4;

/** The hospital's studies of three ages, before and during the outage, written to `directory`. */
export async function synthesise(
  directory: string,
  now: number,
  fast: boolean,
): Promise<{ before: DemoInstance[]; during: DemoInstance[] }> {
  const shrink = ({ instances, ...rest }: StudyPlan): StudyPlan => ({
    ...rest,
    instances: fast ? Math.ceil(instances / FAST_DIVISOR) : instances,
  });
  const make = async (plans: readonly StudyPlan[], seed: number) => {
    const studies: DemoInstance[][] = [];
    for (const [index, plan] of plans.map(shrink).entries()) {
      studies.push(await makeStudy(directory, plan, now, seed + index));
    }
    return studies.flat();
  };
  return { before: await make(BEFORE, 1_000), during: await make(DURING, 2_000) };
}

async function makeStudy(directory: string, plan: StudyPlan, now: number, seed: number): Promise<DemoInstance[]> {
  const { modality, instances, ageMs } = plan;
  const made: DemoInstance[] = [];
  for (const { bytes, identity } of syntheticStudy({ modality, instances, acquiredAt: now - ageMs, seed })) {
    const path = join(directory, `${identity.sopInstanceUid}.dcm`);
    await writeFile(path, bytes);
    made.push(await describe([bytes], now, path));
  }
  return made;
}

/** Real files: a fifth before the outage, the rest during it. What spillway would refuse is named and left out. */
export async function collect(
  directory: string,
  now: number,
  onSkipped: (path: string, reason: string) => void,
): Promise<{ before: DemoInstance[]; during: DemoInstance[] }> {
  const instances = new Map<string, DemoInstance>();
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    try {
      const instance = await describe(createReadStream(path), now, path);
      // Two data sets under one UID: which of them a PACS keeps is its own affair.
      if (instances.has(instance.sopInstanceUid)) onSkipped(path, 'its SOP Instance UID came before');
      else instances.set(instance.sopInstanceUid, instance);
    } catch (error) {
      onSkipped(path, messageOf(error));
    }
  }
  // Oldest tier first, the opposite of what is urgent.
  const order = ['historical', 'last-week', 'last-24-hours'];
  const all = [...instances.values()].sort((a, b) => order.indexOf(a.tier) - order.indexOf(b.tier));
  const before = Math.ceil(all.length / 5);
  return { before: all.slice(0, before), during: all.slice(before) };
}

async function describe(
  source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  now: number,
  path: string,
): Promise<DemoInstance> {
  const file = createHash('sha256');
  const {
    header,
    digest,
    bytes: size,
  } = await readAndDigest(source, {
    onFile: async (piece) => {
      file.update(piece);
    },
  });
  const { studyInstanceUid, seriesInstanceUid, sopInstanceUid } = header.identity;
  const { tier } = classify({ attributes: header.attributes, receivedAt: now }, { asOf: now });
  return {
    sopInstanceUid,
    studyInstanceUid,
    seriesInstanceUid,
    tier,
    size,
    fileSha256: file.digest('hex'),
    dataSetSha256: digest,
    bytes: () => readFile(path),
  };
}
