import { expect } from 'vitest';
import { readAndDigest } from '../../src/dicom/data-set-digest.ts';
import { closing, partHeader } from '../../src/dicom/multipart.ts';
import type { InstanceIdentity } from '../../src/domain/identity.ts';
import type { Receipt } from '../../src/domain/receipt.ts';
import { SpillwayError, type SpillwayErrorCode } from '../../src/errors.ts';
import type { InstanceAcceptor } from '../../src/handler/index.ts';
import { type SyntheticOptions, syntheticIdentity, syntheticInstance } from '../../src/testing/synthetic.ts';

export const CT = { pixelBytes: 3000, studyInstanceUid: '2.25.1', seriesInstanceUid: '2.25.2' } as const;
export const ct = (seed: number, more: SyntheticOptions = {}) => syntheticInstance({ ...CT, seed, ...more });
export const identityOf = (seed: number, more: SyntheticOptions = {}) => syntheticIdentity({ ...CT, seed, ...more });

/** Accepts whatever is whole, as a spillway would; `refuse` makes it fail for an instance. */
export class FakeAcceptor implements InstanceAcceptor {
  readonly receipts: Receipt[] = [];
  readonly sources: (string | undefined)[] = [];
  refuse: ((identity: InstanceIdentity) => unknown) | undefined;

  async accept(
    source: AsyncIterable<Uint8Array>,
    options: { source?: string | undefined; signal?: AbortSignal | undefined } = {},
  ): Promise<Receipt> {
    const { header, digest, bytes } = await readAndDigest(source);
    const error = this.refuse?.(header.identity);
    if (error !== undefined) throw error;
    const receipt: Receipt = {
      outcome: this.receipts.some((known) => known.digest === digest) ? 'identical' : 'created',
      identity: header.identity,
      arrivalId: String(this.receipts.length),
      digest,
      bytes,
      tier: 'last-24-hours',
      urgency: 'unknown',
      tierReason: '',
      destinations: [],
      oddities: header.oddities,
    };
    this.receipts.push(receipt);
    this.sources.push(options.source);
    return receipt;
  }
}

export interface Post {
  readonly path?: string;
  readonly method?: string;
  readonly contentType?: string;
  /** How many bytes of the body come before the connection ends. */
  readonly cutAt?: number;
  /** What happens at the cut. */
  readonly cut?: 'end' | 'error';
  readonly chunkBytes?: number;
}

export const RELATED = 'multipart/related; type="application/dicom"; boundary=b';

export function bodyOf(parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat([...parts.flatMap((part) => [partHeader('b', 'application/dicom'), part]), closing('b')]);
}

export function post(parts: readonly Uint8Array[], options: Post = {}): Request {
  const { path = '/studies', method = 'POST', contentType = RELATED, cut = 'end', chunkBytes = 1000 } = options;
  const whole = bodyOf(parts);
  const bytes = whole.subarray(0, options.cutAt ?? whole.length);
  let at = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (at < bytes.length) controller.enqueue(bytes.subarray(at, at + chunkBytes));
      else if (options.cutAt !== undefined && cut === 'error') controller.error(new Error('ECONNRESET'));
      else controller.close();
      at += chunkBytes;
    },
  });
  const headers = contentType === '' ? {} : { 'content-type': contentType };
  return new Request(`http://spillway${path}`, {
    method,
    headers,
    ...(method === 'GET' ? {} : { body, duplex: 'half' }),
  });
}

export interface Answer {
  readonly status: number;
  readonly retryAfter: string | null;
  readonly stored: readonly unknown[];
  /** SOP Instance UID and Failure Reason. */
  readonly failed: readonly (readonly [unknown, unknown])[];
  readonly others: readonly unknown[];
}

export async function answerOf(response: Response): Promise<Answer> {
  expect(response.headers.get('content-type')).toBe('application/dicom+json');
  const payload = JSON.parse(await response.text());
  const items = (tag: string): { [tag: string]: { Value: unknown[] } }[] => payload[tag]?.Value ?? [];
  return {
    status: response.status,
    retryAfter: response.headers.get('retry-after'),
    stored: items('00081199').map((item) => item['00081155']?.Value[0]),
    failed: items('00081198').map((item) => [item['00081155']?.Value[0], item['00081197']?.Value[0]]),
    others: items('0008119A').map((item) => item['00081197']?.Value[0]),
  };
}

export const refusal = (code: SpillwayErrorCode) => new SpillwayError(code, 'a message that stays inside');
export const uid = (seed: number) => identityOf(seed).sopInstanceUid;
