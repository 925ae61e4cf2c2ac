import type { IncomingMessage } from 'node:http';
import { type DigestedInstance, readAndDigest } from '../../dicom/data-set-digest.ts';
import { boundaryOf, parseContentType, readMultipart } from '../../dicom/multipart.ts';
import type { InstanceIdentity } from '../../domain/identity.ts';
import { SpillwayError } from '../../errors.ts';
import { type HttpClient, HttpFailure } from './http-client.ts';
import { seriesPath } from './qido.ts';

/**
 * Retrieves an instance as it is stored (PS3.18 section 10.4) and digests its data set while it streams. `absent` when
 * the peer says that it does not have it; null for any answer that does not hold the instance asked for, whole.
 */
export async function readBack(
  client: HttpClient,
  instance: InstanceIdentity,
  signal: AbortSignal,
): Promise<{ readonly digest: string; readonly transferSyntaxUid: string } | 'absent' | null> {
  const path = `${seriesPath(instance)}/instances/${encodeURIComponent(instance.sopInstanceUid)}`;
  const accept = 'multipart/related; type="application/dicom"; transfer-syntax=*';
  try {
    return await client.exchange({ method: 'GET', path, headers: { accept } }, signal, async (response) => {
      if (response.statusCode === 404 || response.statusCode === 410) return 'absent';
      if (response.statusCode !== 200) return null;
      const digested = await digestAnswer(response);
      if (digested?.header.identity.sopInstanceUid !== instance.sopInstanceUid) return null;
      return { digest: digested.digest, transferSyntaxUid: digested.header.identity.transferSyntaxUid };
    });
  } catch (error) {
    if (error instanceof SpillwayError && error.code === 'SPILLWAY_ABORTED') throw error;
    if (error instanceof HttpFailure) return null;
    throw error;
  }
}

async function digestAnswer(response: IncomingMessage): Promise<DigestedInstance | null> {
  const contentType = response.headers['content-type'] ?? '';
  const { type } = parseContentType(contentType);
  if (type === 'application/dicom') {
    // Without either, a connection that was cut looks like an end.
    const isDelimited = 'content-length' in response.headers || 'transfer-encoding' in response.headers;
    return isDelimited ? await readAndDigest(response) : null;
  }
  if (type !== 'multipart/related') return null;
  let digested: DigestedInstance | null = null;
  // To the end, where it is known whether all of it came.
  for await (const part of readMultipart(response, boundaryOf(contentType))) {
    digested ??= await readAndDigest(part.body);
  }
  return digested;
}
