import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished, type TestContext } from 'vitest';

/** About so many bytes may be written to it. */
export const SMALL_DISK_BYTES = 24 * 1024 * 1024;

/** A file system of the running test's own that is soon full; without root the test is skipped. */
export async function smallDisk(context: TestContext, kind: 'tmpfs' | 'ext4' = 'tmpfs'): Promise<string> {
  const parent = await mkdtemp(join(tmpdir(), 'spillway-small-'));
  onTestFinished(() => rm(parent, { recursive: true, force: true }));
  const directory = join(parent, 'mounted');
  await mkdir(directory);
  try {
    if (kind === 'tmpfs') mount('-t', 'tmpfs', '-o', `size=${SMALL_DISK_BYTES}`, 'tmpfs', directory);
    else {
      const image = join(parent, 'image');
      await writeFile(image, '');
      await truncate(image, SMALL_DISK_BYTES);
      execFileSync('mkfs.ext4', ['-q', '-F', '-m', '0', '-O', '^has_journal', image], { stdio: 'pipe' });
      mount('-o', 'loop', image, directory);
    }
  } catch (error) {
    context.skip(
      `a small ${kind} cannot be mounted here (it takes root): ${error instanceof Error ? error.message : error}`,
    );
  }
  onTestFinished(() => {
    execFileSync('umount', ['-l', directory], { stdio: 'pipe' });
  });
  return directory;
}

function mount(...parameters: readonly string[]): void {
  execFileSync('mount', [...parameters], { stdio: 'pipe' });
}
