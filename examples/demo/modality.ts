import { setTimeout as sleep } from 'node:timers/promises';
import type { DemoInstance } from './hospital.ts';

const SENDERS = 4;
const RETRY_MS = 100;
const MAX_TRIES = 600;

/**
 * Sends instances to the gateway by STOW-RS, one a request, a few at once, each again until it is acknowledged: as a
 * modality does whose gateway is killed under it. `onAcknowledged` is told of each.
 */
export async function send(
  instances: readonly DemoInstance[],
  gatewayUrl: () => string,
  onAcknowledged: (instance: DemoInstance) => void,
): Promise<void> {
  const queue = [...instances];
  const sender = async () => {
    for (let instance = queue.shift(); instance !== undefined; instance = queue.shift()) {
      await sendOne(instance, gatewayUrl);
      onAcknowledged(instance);
    }
  };
  await Promise.all(Array.from({ length: SENDERS }, sender));
}

async function sendOne(instance: DemoInstance, gatewayUrl: () => string): Promise<void> {
  const bytes = await instance.bytes();
  const boundary = `spillway-demo-${instance.fileSha256.slice(0, 16)}`;
  const body = Buffer.concat([
    Buffer.from(`--${boundary}\r\nContent-Type: application/dicom\r\n\r\n`),
    bytes,
    Buffer.from(`\r\n--${boundary}--\r\n`),
  ]);
  for (let attempt = 1; ; attempt += 1) {
    try {
      const response = await fetch(gatewayUrl(), {
        method: 'POST',
        headers: { 'content-type': `multipart/related; type="application/dicom"; boundary=${boundary}` },
        body,
      });
      await response.arrayBuffer();
      if (response.status === 200) return;
      throw new Error(`the gateway answered ${response.status} for ${instance.sopInstanceUid}`);
    } catch (error) {
      if (attempt === MAX_TRIES) throw error;
      await sleep(RETRY_MS);
    }
  }
}
