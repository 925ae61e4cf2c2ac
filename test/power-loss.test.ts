import { test } from 'vitest';
import { DirectoryBlobStore } from '../src/storage/directory/directory-blob-store.ts';
import { powerLossContract } from '../src/testing/power-loss-contract.ts';

powerLossContract({
  test: (name, run) => test(name, run, 300_000),
  openBlobs: (directory, fileSystem) => DirectoryBlobStore.open(directory, fileSystem),
  histories: 10_000,
  syncs: {
    'the file': (kind) => kind === 'file',
    'the directory of the series': (kind, path) =>
      kind === 'directory' && /^\/store\/studies\/[^/]+\/[^/]+$/.test(path),
    'the directory of the study': (kind, path) => kind === 'directory' && /^\/store\/studies\/[^/]+$/.test(path),
    'studies/': (kind, path) => kind === 'directory' && path === '/store/studies',
    'the root': (kind, path) => kind === 'directory' && path === '/store',
  },
  report: console.log,
});
