import { execFile, execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { onTestFinished, type TestContext } from 'vitest';
import { needPeer } from './skip.ts';

export type FileSystemKind = 'xfs' | 'ext4';

const MIB = 1024 * 1024;
/** Sparse. mkfs.xfs takes nothing smaller than 300 MiB. */
const IMAGE_BYTES = 400 * MIB;
const COMMANDS = {
  xfs: ['mkfs.xfs', '-q'],
  ext4: ['mkfs.ext4', '-q', '-F'],
} as const;
/** Where tools for root are, which the path of others leaves out. */
const SEARCHED = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];

/**
 * A file system of the running test's own, in a file that is mounted by a loop device. Unmounted and removed when the
 * test has finished, however it ends.
 */
export class LoopDisk {
  /** Where it is mounted. */
  readonly path: string;
  readonly #image: string;
  #isMounted = false;

  private constructor(parent: string) {
    this.path = join(parent, 'mounted');
    this.#image = join(parent, 'image');
  }

  /** Skips the test, with the reason, where the machine does not let one be mounted; see `needPeer` for its tools. */
  static async make(context: TestContext, kind: FileSystemKind): Promise<LoopDisk> {
    const [makeFileSystem, ...options] = COMMANDS[kind];
    for (const tool of [makeFileSystem, 'xfs_io']) needPeer(context, missing(tool));
    if (process.getuid?.() !== 0) context.skip('a file system cannot be mounted here (it takes root)');
    const parent = await mkdtemp(join(tmpdir(), 'spillway-disk-'));
    const disk = new LoopDisk(parent);
    onTestFinished(async () => {
      disk.#detach();
      await rm(parent, { recursive: true, force: true });
    });
    await mkdir(disk.path);
    await writeFile(disk.#image, '');
    await truncate(disk.#image, IMAGE_BYTES);
    execFileSync(makeFileSystem, [...options, disk.#image], { stdio: 'pipe' });
    try {
      disk.mount();
    } catch (error) {
      context.skip(`this machine does not let a ${kind} be mounted: ${error instanceof Error ? error.message : error}`);
    }
    return disk;
  }

  /** Replays the log where it was shut down. */
  mount(...options: readonly string[]): void {
    const named = options.flatMap((option) => ['-o', option]);
    execFileSync('mount', ['-o', 'loop', ...named, this.#image, this.path], { stdio: 'pipe' });
    this.#isMounted = true;
  }

  /** Of the loop device, such as `loop0`. */
  get deviceName(): string {
    const line = readFileSync('/proc/mounts', 'utf8')
      .split('\n')
      .find((entry) => entry.split(' ')[1] === this.path);
    return basename(line?.split(' ')[0] ?? '');
  }

  remount(access: 'ro' | 'rw'): void {
    execFileSync('mount', ['-o', `remount,${access}`, this.path], { stdio: 'pipe' });
  }

  /** As if the power were lost: what is not on the disk is gone, its log included, and every call fails from now on. */
  async shutDown(): Promise<void> {
    await promisify(execFile)('xfs_io', ['-x', '-c', 'shutdown', this.path]);
  }

  /** Lets go of it, and of everything that was in memory of it. Fails while a file of it is open. */
  unmount(): void {
    execFileSync('umount', [this.path], { stdio: 'pipe' });
    this.#isMounted = false;
  }

  #detach(): void {
    // The loop device goes with the mount; lazily, since a test that failed may have left files open.
    if (this.#isMounted) execFileSync('umount', ['-l', this.path], { stdio: 'pipe' });
  }
}

function missing(tool: string): string | undefined {
  return SEARCHED.some((directory) => existsSync(join(directory, tool))) ? undefined : `${tool} is not installed`;
}
