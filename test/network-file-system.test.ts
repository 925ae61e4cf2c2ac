import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, type TestContext, test } from 'vitest';
import { DirectoryBlobStore } from '../src/storage/directory/directory-blob-store.ts';
import { nodeFileSystem } from '../src/storage/directory/file-system.ts';
import {
  assertLocalFileSystem,
  isNetworkType,
  isUncPath,
  type MountReader,
  mountOf,
  networkFileSystemOf,
  parseMountInfo,
} from '../src/storage/directory/network-file-system.ts';
import { fileStore } from '../src/storage/file-store.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

/** As systems write it; hosts and names are made up. */
const GATEWAY = `
22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
23 22 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
40 22 253:0 / /var/lib rw,relatime shared:30 master:2 - xfs /dev/mapper/vg-lib rw,attr2,inode64,noquota
61 22 0:50 / /mnt/archive rw,relatime shared:33 - nfs4 10.0.0.9:/export rw,vers=4.2,hard,proto=tcp
62 40 0:50 /spill /var/lib/gateway/bound rw,relatime shared:33 - nfs4 10.0.0.9:/export rw,vers=4.2,hard
63 61 259:3 / /mnt/archive/local rw,relatime - ext4 /dev/sdb1 rw
64 22 0:51 / /mnt/Bilder\\040und\\011mehr\\134 rw,relatime - cifs //server/bilder rw,vers=3.1.1
65 22 0:52 / /data rw,relatime - ext4 /dev/sdc1 rw
66 65 0:53 / /data rw,relatime - fuse.sshfs gate@10.0.0.8:/data rw,user_id=0,group_id=0
67 22 0:54 / /mnt/usb rw,relatime - fuseblk /dev/sdd1 rw,user_id=0,group_id=0
68 22 0:55 / /mnt/merged rw,relatime - fuse.mergerfs a:b rw,user_id=0
69 22 0:56 / /auto rw,relatime shared:40 - autofs systemd-1 rw,fd=45,pgrp=1,timeout=0,direct
`;
/** WSL 2: the Windows drive comes by 9p. */
const WSL = `
77 64 8:32 / / rw,relatime - ext4 /dev/sdc rw,discard
97 77 0:44 / /mnt/c rw,noatime - 9p C:\\134 rw,dirsync,aname=drvfs;path=C:\\;uid=1000
`;

function recorded(text: string, more: Partial<MountReader> = {}): MountReader {
  return {
    platform: 'linux',
    realpath: async (path) => path,
    mountInfo: async () => text,
    magic: () => Promise.reject(new Error('not asked')),
    trigger: () => Promise.reject(new Error('not asked')),
    ...more,
  };
}

test.each<[string, string, string | undefined]>([
  ['/var/lib/gateway/spill', GATEWAY, undefined],
  ['/', GATEWAY, undefined],
  ['/mnt/archive', GATEWAY, 'nfs4'],
  ['/mnt/archive/spill', GATEWAY, 'nfs4'],
  ['/mnt/archive2/spill', GATEWAY, undefined],
  ['/mnt/archive/local/spill', GATEWAY, undefined],
  ['/var/lib/gateway/bound/spill', GATEWAY, 'nfs4'],
  ['/mnt/Bilder und\tmehr\\/spill', GATEWAY, 'cifs'],
  ['/data/spill', GATEWAY, 'fuse.sshfs'],
  ['/mnt/usb/spill', GATEWAY, undefined],
  ['/mnt/merged/spill', GATEWAY, undefined],
  ['/mnt/c/spill', WSL, '9p'],
  ['/srv/spill', WSL, undefined],
])('%j is judged by the longest mount point that holds it', async (directory, text, type) => {
  expect(await networkFileSystemOf(directory, recorded(text))).toBe(type);
});

test('lines that are not understood are left out, and no mount is no network', () => {
  expect(parseMountInfo('nonsense\n22 1 8:1 / / rw - ext4 /dev/sda rw\n23 22 8:2 / /a rw shared:1\n')).toEqual([
    { mountPoint: '/', type: 'ext4' },
  ]);
  expect(mountOf([], '/var')).toBeUndefined();
});

test.each(
  'nfs nfs4 cifs smb3 smbfs 9p afs ceph glusterfs lustre gfs2 ocfs2 beegfs davfs fuse.sshfs fuse.glusterfs fuse.s3fs fuse.rclone fuse.davfs'.split(
    ' ',
  ),
)('%s is of the network', (type) => {
  expect(isNetworkType(type)).toBe(true);
});

test.each('ext4 xfs btrfs zfs tmpfs overlay fuse fuseblk fuse.ntfs-3g fuse.lxcfs nfsd vfat'.split(' '))(
  '%s is not',
  (type) => {
    expect(isNetworkType(type)).toBe(false);
  },
);

test('a directory that is not there yet is judged by the nearest one above it, links resolved', async () => {
  const asked: string[] = [];
  const reader = recorded(GATEWAY, {
    realpath: async (path) => {
      asked.push(path);
      if (path === '/var/spill') return '/mnt/archive/spill';
      throw Object.assign(new Error('none'), { code: path === '/var/spill/a' ? 'ENOTDIR' : 'ENOENT' });
    },
  });
  expect(await networkFileSystemOf('/var/spill/a/b', reader)).toBe('nfs4');
  expect(asked).toEqual(['/var/spill/a/b', '/var/spill/a', '/var/spill']);
});

test('one that cannot be looked at is judged by its name', async () => {
  const realpath = () => Promise.reject(Object.assign(new Error('server gone'), { code: 'ESTALE' }));
  expect(await networkFileSystemOf('/mnt/archive/spill', recorded(GATEWAY, { realpath }))).toBe('nfs4');
});

test('what an automounter would mount is mounted and judged', async () => {
  let text = GATEWAY;
  const trigger = async () => {
    text += '70 69 0:60 / /auto rw,relatime - nfs 10.0.0.9:/auto rw,vers=3\n';
  };
  const reader = recorded('', { mountInfo: async () => text, trigger });
  expect(await networkFileSystemOf('/auto/gateway/spill', reader)).toBe('nfs');
});

test('without /proc the number of the file system decides', async () => {
  const mountInfo = () => Promise.reject(new Error('no /proc'));
  const of = (magic: () => Promise<number>) => networkFileSystemOf('/spill', recorded('', { mountInfo, magic }));
  expect(await of(async () => 0xff534d42)).toBe('cifs');
  expect(await of(async () => 0xef53)).toBeUndefined();
  expect(await of(() => Promise.reject(new Error('none')))).toBeUndefined();
});

test.each<[string, boolean]>([
  ['\\\\server\\share\\spill', true],
  ['//server/share/spill', true],
  ['\\\\?\\UNC\\server\\share', true],
  ['\\\\?\\C:\\spill', false],
  ['\\\\.\\C:\\spill', false],
  ['C:\\spill', false],
])('%s: a share is %s', (path, isShare) => {
  expect(isUncPath(path)).toBe(isShare);
});

test('on Windows a mapped drive is a share too; elsewhere nothing is judged', async () => {
  const windows = recorded('', { platform: 'win32', realpath: async () => '\\\\server\\share\\spill' });
  expect(await networkFileSystemOf('Z:\\spill', windows)).toMatch(/UNC/);
  const local = recorded('', { platform: 'win32' });
  expect(await networkFileSystemOf('C:\\spill', local)).toBeUndefined();
  expect(await networkFileSystemOf('/mnt/archive', recorded(GATEWAY, { platform: 'darwin' }))).toBeUndefined();
});

test('the refusal names the type and what to do', async () => {
  await expect(assertLocalFileSystem('/mnt/archive/spill', recorded(GATEWAY))).rejects.toMatchObject({
    code: 'SPILLWAY_OPTION_INVALID',
    isRetryable: false,
    message: expect.stringMatching(/\/mnt\/archive\/spill on nfs4.*allowNetworkFileSystem/),
  });
  await assertLocalFileSystem('/var/lib/spill', recorded(GATEWAY));
});

/** A mount that the kernel knows as sshfs; nobody serves it, as when the server is gone. */
async function networkMount(context: TestContext): Promise<string> {
  if (process.platform !== 'linux') context.skip('FUSE mounts are made here on Linux only');
  const directory = await mkdtemp(join(tmpdir(), 'spillway-sshfs-'));
  const options = 'fd=3,rootmode=40000,user_id=0,group_id=0';
  try {
    execFileSync('sh', ['-c', `mount -i -t fuse.sshfs -o ${options} host:/x "$0" 3<>/dev/fuse`, directory], {
      stdio: 'pipe',
    });
  } catch {
    await rm(directory, { recursive: true });
    context.skip('a FUSE file system cannot be mounted here (it takes root and /dev/fuse)');
  }
  onTestFinished(async () => {
    execFileSync('umount', ['-l', directory], { stdio: 'pipe' });
    await rm(directory, { recursive: true });
  });
  return directory;
}

test('fileStore refuses a real network mount before it makes anything there, also through a link', async (context) => {
  const mount = await networkMount(context);
  expect(await readFile('/proc/self/mountinfo', 'utf8')).toContain(mount);
  const refusal = { code: 'SPILLWAY_OPTION_INVALID', message: expect.stringContaining('fuse.sshfs') };
  await expect(fileStore({ directory: join(mount, 'spill') }).open()).rejects.toMatchObject(refusal);
  await expect(fileStore({ directory: mount }).open()).rejects.toMatchObject(refusal);
  // Allowed, it gets as far as the mount, which nobody serves.
  const allowed = fileStore({ directory: join(mount, 'spill'), allowNetworkFileSystem: true });
  await expect(allowed.open()).rejects.toMatchObject({ code: 'SPILLWAY_STORE_FAILED' });
});

test('a local directory opens as before, also where it is reached by a link', async () => {
  const directory = await temporaryDirectory();
  await mkdir(join(directory, 'real'));
  await symlink(join(directory, 'real'), join(directory, 'link'));
  await (await fileStore({ directory: join(directory, 'link/store') }).open()).close();
  expect(() => fileStore({ directory, allowNetworkFileSystem: 1 as never })).toThrow(
    expect.objectContaining({ code: 'SPILLWAY_OPTION_INVALID' }),
  );
});

test('a blob store says where directories cannot be synced', async () => {
  const root = await temporaryDirectory();
  const open = (canSyncDirectories: boolean) =>
    DirectoryBlobStore.open(root, { ...nodeFileSystem, canSyncDirectories });
  expect((await open(false)).canSyncDirectories).toBe(false);
  expect((await open(true)).canSyncDirectories).toBe(true);
  expect(nodeFileSystem.canSyncDirectories).toBe(process.platform !== 'win32');
});
