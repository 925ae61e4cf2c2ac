import type { Worker } from 'node:worker_threads';
import { expect, onTestFinished, test } from 'vitest';
import { openSpillway } from '../src/spillway.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { smallStudy } from './support/replay-rig.ts';
import { ScriptedTransport } from './support/scripted-transport.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

test('a catalog whose thread dies is told once; opened again it has what was acknowledged, and delivers it', async () => {
  const directory = await temporaryDirectory();
  const transport = new ScriptedTransport();
  const open = () => openSpillway({ store: fileStore({ directory }), destinations: [{ id: 'pacs', transport }] });
  const started = new Promise<Worker>((resolve) => process.once('worker', resolve));
  const spillway = await open();
  const worker = await started;
  const lost: unknown[] = [];
  const told = new Promise<void>((resolve) => {
    spillway.on('lost', ({ error }) => {
      lost.push(error);
      resolve();
    });
  });
  await spillway.pause();
  const [first, second] = smallStudy(1, 2);
  await spillway.accept(first?.bytes ?? '');
  await worker.terminate();
  await told;
  expect(lost).toEqual([expect.objectContaining({ code: 'SPILLWAY_STORE_FAILED' })]);
  await expect(spillway.accept(second?.bytes ?? '')).rejects.toMatchObject({ code: 'SPILLWAY_STORE_FAILED' });
  await spillway.close();

  const again = await open();
  onTestFinished(() => again.close());
  await again.drained();
  expect([...transport.held.keys()]).toEqual([first?.identity.sopInstanceUid]);
  expect(lost.length).toBe(1);
});

test('closing is no loss', async () => {
  const directory = await temporaryDirectory();
  const spillway = await openSpillway({ store: fileStore({ directory }), destinations: [] });
  let isLost = false;
  spillway.on('lost', () => {
    isLost = true;
  });
  await spillway.close();
  expect(isLost).toBe(false);
});
