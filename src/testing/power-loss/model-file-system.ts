import { dirname } from 'node:path';
import type { FileStatus, FileSystem, WritableFile } from '../../storage/directory/file-system.ts';
import type { Scheduler } from './scheduler.ts';

interface FileNode {
  readonly kind: 'file';
  readonly inode: number;
  content: Buffer;
  /** As it was at its last sync; null before that. */
  synced: Buffer | null;
}

interface DirectoryNode {
  readonly kind: 'directory';
  readonly inode: number;
  readonly entries: Map<string, Node>;
  /** As it was at the last sync. */
  durable: ReadonlyMap<string, Node>;
  /** Everything that names have stood for since then. */
  readonly since: Map<string, (Node | undefined)[]>;
}

type Node = FileNode | DirectoryNode;

/** Says which syncs are left out: they succeed, and keep nothing. */
export type LeftOutSync = (kind: 'file' | 'directory', path: string) => boolean;

/** What a `ModelFileSystem` is made of. */
export interface ModelFileSystemOptions {
  readonly scheduler: Scheduler;
  /** Numbers in [0, 1), for what may go one way or the other. */
  readonly random: () => number;
  /** @default none */
  readonly isLeftOut?: LeftOutSync;
}

/**
 * A file system in memory that keeps only what was synced: a crash takes file contents and names that were not, in any
 * combination, and may tear what was written last. Steps are carried out in the order that the scheduler draws.
 */
export class ModelFileSystem implements FileSystem {
  readonly canSyncDirectories = true;
  readonly #options: ModelFileSystemOptions;
  readonly #root: DirectoryNode;
  #inodes = 0;
  /** Chance that a step fails with a system error (`ENOSPC`, `EIO`). */
  faults = 0;

  /** An empty one. */
  constructor(options: ModelFileSystemOptions) {
    this.#options = options;
    this.#root = this.#newDirectory();
  }

  create(path: string): Promise<WritableFile> {
    return this.#run('create', path, () => {
      const node: FileNode = { kind: 'file', inode: this.#newInode(), content: Buffer.alloc(0), synced: null };
      this.#add(path, node);
      return this.#writable(path, node);
    });
  }

  async *read(path: string, chunkBytes: number): AsyncGenerator<Uint8Array> {
    const node = await this.#run('read', path, () => this.#file(path));
    for (let at = 0; at < node.content.length; at += chunkBytes) yield node.content.subarray(at, at + chunkBytes);
  }

  makeDirectory(path: string): Promise<void> {
    return this.#run('makeDirectory', path, () => this.#add(path, this.#newDirectory()));
  }

  syncDirectory(path: string): Promise<void> {
    return this.#run('syncDirectory', path, () => {
      const directory = this.#directory(path);
      if (this.#options.isLeftOut?.('directory', path)) return;
      directory.durable = new Map(directory.entries);
      directory.since.clear();
    });
  }

  link(path: string, name: string): Promise<void> {
    return this.#run('link', name, () => this.#add(name, this.#file(path)));
  }

  rename(path: string, name: string): Promise<void> {
    return this.#run('rename', name, () => {
      const node = this.#file(path);
      this.#change(name, node);
      this.#change(path, undefined);
    });
  }

  unlink(path: string): Promise<void> {
    return this.#run('unlink', path, () => {
      this.#file(path);
      this.#change(path, undefined);
    });
  }

  removeDirectory(path: string): Promise<void> {
    return this.#run('removeDirectory', path, () => {
      if (this.#directory(path).entries.size > 0) throw systemError('ENOTEMPTY', path);
      this.#change(path, undefined);
    });
  }

  list(path: string): Promise<readonly string[]> {
    return this.#run('list', path, () => [...this.#directory(path).entries.keys()]);
  }

  status(path: string): Promise<FileStatus> {
    return this.#run('status', path, () => {
      const node = this.#node(path);
      const bytes = node.kind === 'file' ? node.content.length : 0;
      return { isFile: node.kind === 'file', bytes, inode: node.inode, links: this.#linksOf(node, this.#root) };
    });
  }

  /** There is always room. */
  async space(): Promise<{ readonly free: number; readonly total: number }> {
    return { free: Number.POSITIVE_INFINITY, total: Number.POSITIVE_INFINITY };
  }

  /** What a loss of power leaves, as a file system of its own. */
  crash(options: ModelFileSystemOptions): ModelFileSystem {
    const after = new ModelFileSystem(options);
    after.#inodes = this.#inodes;
    const survivor = this.#survivorOf(this.#root, new Map());
    if (survivor.kind === 'directory') {
      for (const [name, node] of survivor.entries) after.#root.entries.set(name, node);
      after.#root.durable = survivor.durable;
    }
    return after;
  }

  /** Paths of all files. */
  files(): string[] {
    return filesUnder(this.#root, '');
  }

  #survivorOf(node: Node, survivors: Map<Node, Node>): Node {
    const known = survivors.get(node);
    if (known !== undefined) return known;
    const { random } = this.#options;
    const { inode } = node;
    if (node.kind === 'file') {
      const content = survivingContent(node, random);
      const file: FileNode = { kind: 'file', inode, content, synced: content };
      survivors.set(node, file);
      return file;
    }
    const entries = new Map<string, Node>();
    const directory: DirectoryNode = { kind: 'directory', inode, entries, durable: entries, since: new Map() };
    survivors.set(node, directory);
    for (const name of new Set([...node.durable.keys(), ...node.since.keys()])) {
      const states = [node.durable.get(name), ...(node.since.get(name) ?? [])];
      const state = states[Math.floor(random() * states.length)];
      if (state !== undefined) entries.set(name, this.#survivorOf(state, survivors));
    }
    directory.durable = new Map(entries);
    return directory;
  }

  #writable(path: string, node: FileNode): WritableFile {
    return {
      write: (chunk, offset) =>
        this.#run('write', path, () => {
          const all = chunk.byteLength - offset;
          const bytes = this.#options.random() < 0.2 ? Math.ceil(all * this.#options.random()) : all;
          node.content = Buffer.concat([node.content, chunk.subarray(offset, offset + bytes)]);
          return bytes;
        }),
      size: () => this.#run('size', path, () => node.content.length),
      sync: () =>
        this.#run('sync', path, () => {
          if (!this.#options.isLeftOut?.('file', path)) node.synced = Buffer.from(node.content);
        }),
      close: () => this.#run('close', path, () => {}, false),
    };
  }

  #run<T>(name: string, path: string, action: () => T, mayFail = true): Promise<T> {
    return this.#options.scheduler.run(`${name} ${path}`, () => {
      if (mayFail && this.#options.random() < this.faults) {
        throw systemError(this.#options.random() < 0.5 ? 'ENOSPC' : 'EIO', path);
      }
      return action();
    });
  }

  #linksOf(node: Node, directory: DirectoryNode): number {
    let links = 0;
    for (const entry of directory.entries.values()) {
      if (entry === node) links += 1;
      else if (entry.kind === 'directory') links += this.#linksOf(node, entry);
    }
    return links;
  }

  #add(path: string, node: Node): void {
    if (this.#directory(dirname(path)).entries.has(nameOf(path))) throw systemError('EEXIST', path);
    this.#change(path, node);
  }

  #change(path: string, node: Node | undefined): void {
    const { entries, since } = this.#directory(dirname(path));
    const name = nameOf(path);
    since.set(name, [...(since.get(name) ?? []), node]);
    if (node === undefined) entries.delete(name);
    else entries.set(name, node);
  }

  #node(path: string): Node {
    let node: Node = this.#root;
    for (const name of path.split('/').filter((part) => part !== '')) {
      const next: Node | undefined = node.kind === 'directory' ? node.entries.get(name) : undefined;
      if (next === undefined) throw systemError('ENOENT', path);
      node = next;
    }
    return node;
  }

  #file(path: string): FileNode {
    const node = this.#node(path);
    if (node.kind === 'file') return node;
    throw systemError('EISDIR', path);
  }

  #directory(path: string): DirectoryNode {
    const node = this.#node(path);
    if (node.kind === 'directory') return node;
    throw systemError('ENOTDIR', path);
  }

  #newDirectory(): DirectoryNode {
    const entries = new Map<string, Node>();
    return { kind: 'directory', inode: this.#newInode(), entries, durable: new Map(), since: new Map() };
  }

  #newInode(): number {
    this.#inodes += 1;
    return this.#inodes;
  }
}

/** What was synced, or else anything that the disk may have got: nothing, a part, or a part and rubbish. */
function survivingContent({ content, synced }: FileNode, random: () => number): Buffer {
  if (synced !== null) return synced;
  const whole = Buffer.from(content.subarray(0, Math.floor(random() * (content.length + 1))));
  const torn = Buffer.concat([whole, Buffer.alloc(content.length - whole.length)]);
  return random() < 0.5 ? whole : torn;
}

function filesUnder(directory: DirectoryNode, path: string): string[] {
  return [...directory.entries].flatMap(([name, node]) =>
    node.kind === 'file' ? [`${path}/${name}`] : filesUnder(node, `${path}/${name}`),
  );
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function systemError(code: string, path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}
