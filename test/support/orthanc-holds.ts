import { expect } from 'vitest';
import { readAndDigest } from '../../src/dicom/data-set-digest.ts';
import type { Orthanc } from './orthanc.ts';

/** What was accepted, as far as an archive can be asked for it. */
export interface AcceptedInstance {
  readonly sopInstanceUid: string;
  readonly digest: string;
}

/**
 * Everything that Orthanc holds, by its own list, read whole: it is what was accepted, data set by data set; nothing lost,
 * nothing invented.
 */
export async function expectHeld(orthanc: Orthanc, accepted: readonly AcceptedInstance[]): Promise<void> {
  const ids = (await (await fetch(`${orthanc.url}/instances`)).json()) as readonly string[];
  const held: string[] = [];
  for (const id of ids) {
    const bytes = new Uint8Array(await (await fetch(`${orthanc.url}/instances/${id}/file`)).arrayBuffer());
    const { header, digest } = await readAndDigest([bytes]);
    held.push(`${header.identity.sopInstanceUid} ${digest}`);
  }
  expect(held.sort()).toEqual(accepted.map(({ sopInstanceUid, digest }) => `${sopInstanceUid} ${digest}`).sort());
}

const PAGE_SIZE = 100;

/** The SOP Instance UIDs that it holds, in the order in which they came, by its own record of changes. */
export async function arrivalOrder(orthanc: Orthanc): Promise<readonly string[]> {
  const get = async <T>(path: string) => (await (await fetch(orthanc.url + path)).json()) as T;
  const instances = await get<{ ID: string; MainDicomTags: { SOPInstanceUID: string } }[]>('/instances?expand');
  const uidOf = new Map(instances.map(({ ID, MainDicomTags }) => [ID, MainDicomTags.SOPInstanceUID]));
  const order: string[] = [];
  for (let since = 0; ; ) {
    const page = await get<{ Changes: { ChangeType: string; ID: string }[]; Done: boolean; Last: number }>(
      `/changes?since=${since}&limit=${PAGE_SIZE}`,
    );
    for (const { ChangeType, ID } of page.Changes) {
      const uid = uidOf.get(ID);
      if (ChangeType === 'NewInstance' && uid !== undefined) order.push(uid);
    }
    if (page.Done) return order;
    since = page.Last;
  }
}
