import { opendir, readFile, realpath, statfs } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { SpillwayError } from '../../errors.ts';
import { systemCode } from './file-errors.ts';

/** One line of /proc/self/mountinfo, as far as it matters here. */
export interface Mount {
  readonly mountPoint: string;
  /** Such as `ext4`, `nfs4` or `fuse.sshfs`. */
  readonly type: string;
}

/** File systems that are served by another machine, shared with other machines, or lent by the host of this one. */
const NETWORK_TYPES: ReadonlySet<string> = new Set([
  ...['nfs', 'nfs4', 'cifs', 'smb2', 'smb3', 'smbfs', 'ncpfs', 'ncp', '9p', 'afs', 'coda', 'davfs'],
  ...['ceph', 'glusterfs', 'lustre', 'gfs', 'gfs2', 'ocfs2', 'gpfs', 'beegfs', 'orangefs', 'pvfs2', 'panfs'],
  ...['vboxsf', 'vmhgfs', 'prl_fs', 'fakeowner'],
]);

/** Of FUSE, by what comes after `fuse.`; what is not named may well be local. */
const NETWORK_FUSE_TYPES: ReadonlySet<string> = new Set([
  ...['sshfs', 'glusterfs', 'ceph', 'ceph-fuse', 'cephfs', 'davfs', 'davfs2', 'curlftpfs', 'smbnetfs', 'nfs'],
  ...['s3fs', 's3ql', 'goofys', 'gcsfuse', 'blobfuse', 'blobfuse2', 'mount-s3', 'mountpoint-s3', 'rclone'],
  ...['juicefs', 'JuiceFS', 'mfs', 'moosefs', 'lizardfs', 'seaweedfs', 'beegfs', 'quobyte', 'orangefs', 'lustre'],
  ...['vmhgfs-fuse', 'grpcfuse', 'osxfs', 'prl_fsd'],
]);

/** `f_type` of statfs(2) on Linux, for where /proc is not to be had. */
const NETWORK_MAGIC: ReadonlyMap<number, string> = new Map([
  [0x6969, 'nfs'],
  [0xff534d42, 'cifs'],
  [0xfe534d42, 'smb2'],
  [0x517b, 'smbfs'],
  [0x564c, 'ncpfs'],
  [0x01021997, '9p'],
  [0x5346414f, 'afs'],
  [0x73757245, 'coda'],
  [0x00c36400, 'ceph'],
  [0x0bd00bd0, 'lustre'],
  [0x01161970, 'gfs2'],
  [0x7461636f, 'ocfs2'],
  [0x47504653, 'gpfs'],
  [0x19830326, 'beegfs'],
]);

/** Parses /proc/self/mountinfo (proc_pid_mountinfo(5)). Lines that are not understood are left out. */
export function parseMountInfo(text: string): readonly Mount[] {
  return text.split('\n').flatMap((line) => {
    const fields = line.split(' ');
    const mountPoint = fields[4];
    // Optional fields come before the separator, in any number.
    const separator = fields.indexOf('-', 6);
    const type = fields[separator + 1];
    if (separator < 0 || mountPoint === undefined || type === undefined) return [];
    return [{ mountPoint: unescapeOctal(mountPoint), type }];
  });
}

/** The mount that holds `path`, which is absolute: the longest mount point; of equal ones the last, which hides the others. */
export function mountOf(mounts: readonly Mount[], path: string): Mount | undefined {
  let holding: Mount | undefined;
  for (const mount of mounts) {
    const { mountPoint } = mount;
    const isAbove = mountPoint === '/' || path === mountPoint || path.startsWith(`${mountPoint}/`);
    if (isAbove && mountPoint.length >= (holding?.mountPoint.length ?? 0)) holding = mount;
  }
  return holding;
}

/** Whether a file system of this type is one of the network. */
export function isNetworkType(type: string): boolean {
  if (type.startsWith('fuse.')) return NETWORK_FUSE_TYPES.has(type.slice('fuse.'.length));
  return NETWORK_TYPES.has(type);
}

/** Whether a Windows path names a share: `\\server\share` or `\\?\UNC\server\share`; `\\?\C:\` and `\\.\` are local. */
export function isUncPath(path: string): boolean {
  const text = path.replaceAll('/', '\\');
  if (/^\\\\[?.]\\/.test(text)) return /^\\\\[?.]\\UNC\\/i.test(text);
  return /^\\\\[^\\]+/.test(text);
}

/** What is asked of the system; tests put recorded answers in its place. */
export interface MountReader {
  readonly platform: NodeJS.Platform;
  /** Resolves links; on Windows also the letter of a mapped drive. */
  realpath(path: string): Promise<string>;
  /** The text of /proc/self/mountinfo. */
  mountInfo(): Promise<string>;
  /** `f_type` of statfs(2). */
  magic(path: string): Promise<number>;
  /** Has an automounter mount what belongs at `path`. */
  trigger(path: string): Promise<void>;
}

const nodeMountReader: MountReader = {
  platform: process.platform,
  realpath,
  mountInfo: () => readFile('/proc/self/mountinfo', 'utf8'),
  magic: async (path) => (await statfs(path)).type,
  trigger: async (path) => {
    await (await opendir(path)).close();
  },
};

/**
 * The type of the network file system that a directory is on, or would be on; undefined where it is on none, or where
 * that cannot be told (systems other than Linux and Windows).
 */
export async function networkFileSystemOf(
  directory: string,
  reader: MountReader = nodeMountReader,
): Promise<string | undefined> {
  if (reader.platform === 'win32') {
    return isUncPath(directory) || isUncPath(await nearestOf(directory, reader)) ? 'a share (UNC path)' : undefined;
  }
  if (reader.platform !== 'linux') return undefined;
  const path = await nearestOf(resolve(directory), reader);
  let type = await linuxTypeOf(path, reader);
  if (type === 'autofs') {
    await reader.trigger(path).catch(() => {});
    type = await linuxTypeOf(path, reader);
  }
  return type !== undefined && isNetworkType(type) ? type : undefined;
}

async function linuxTypeOf(path: string, reader: MountReader): Promise<string | undefined> {
  try {
    return mountOf(parseMountInfo(await reader.mountInfo()), path)?.type;
  } catch {
    return NETWORK_MAGIC.get(await reader.magic(path).catch(() => 0));
  }
}

/**
 * The directory itself or the nearest one above it that is there, its links resolved. One that cannot be looked at, as on a
 * mount whose server is gone, is judged by its name.
 */
async function nearestOf(directory: string, reader: MountReader): Promise<string> {
  for (let at = directory; ; at = dirname(at)) {
    try {
      return await reader.realpath(at);
    } catch (error) {
      const isMissing = ['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '');
      if (!isMissing || at === dirname(at)) return at;
    }
  }
}

/**
 * Refuses a directory on a network file system, before anything is made there.
 *
 * @throws SpillwayError `SPILLWAY_OPTION_INVALID`
 */
export async function assertLocalFileSystem(directory: string, reader?: MountReader): Promise<void> {
  const type = await networkFileSystemOf(directory, reader);
  if (type === undefined) return;
  throw new SpillwayError(
    'SPILLWAY_OPTION_INVALID',
    `Expected fileStore({ directory }) on a local disk, got ${directory} on ${type}. There, two processes may open one ` +
      'store, and what was acknowledged may be lost, since locks, shared memory and syncs are not to be relied on. Name ' +
      'a directory on a local disk, or give allowNetworkFileSystem: true and answer for it.',
  );
}

/** `\040` is a space, `\011` a tab, `\012` a line feed, `\134` a backslash. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
