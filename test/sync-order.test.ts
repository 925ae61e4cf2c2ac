import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { needPeer } from './support/skip.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const CHILD = fileURLToPath(new URL('./support/traced-child.ts', import.meta.url));
const UNLINK = 'unlink incoming file';
const CALLS = 'fsync,fdatasync,link,linkat,mkdir,mkdirat,unlink,unlinkat,write';

test('the system is asked for every sync, in the order of writing, before an instance is acknowledged', async (context) => {
  needPeer(context, existsSync('/usr/bin/strace') ? undefined : 'strace is not installed');
  const directory = await temporaryDirectory();
  const [store, log] = [join(directory, 'store'), join(directory, 'calls')];
  const orders = ['-f', '-y', '-s', '40', '-e', `trace=${CALLS}`, '-o', log, process.execPath, CHILD, store];
  const { status, stderr } = spawnSync('strace', orders, { encoding: 'utf8' });
  // No peer is missing then: the machine forbids one process to watch another.
  if (/ptrace.*(not permitted|not implemented)/i.test(stderr)) context.skip('this machine does not allow tracing');
  expect(status, stderr).toBe(0);

  const all = (await readFile(log, 'utf8')).split('\n').flatMap((line) => stepOf(line, store) ?? []);
  expectTracesToOutliveCommits(all);
  // Nobody waits for the trace to go.
  const steps = all.filter((step) => step !== UNLINK);
  const acknowledged = steps.flatMap((step, index) => (step === 'acknowledged' ? [index] : []));
  expect(acknowledged).toHaveLength(3);
  for (const [number, end] of acknowledged.entries()) {
    const study = `studies/1.2.${number + 1}`;
    const begin = steps.indexOf('sync incoming file', acknowledged[number - 1] ?? 0);
    expect(steps.slice(begin, end)).toEqual([
      'sync incoming file',
      ...(number === 0 ? ['make studies', 'sync .'] : []),
      `make ${study}`,
      'sync studies',
      `make ${study}/1.2.${number + 1}.1`,
      `sync ${study}`,
      `link ${study}/1.2.${number + 1}.1`,
      `sync ${study}/1.2.${number + 1}.1`,
      'sync catalog',
    ]);
  }
});

function expectTracesToOutliveCommits(steps: readonly string[]): void {
  const unlinked = steps.flatMap((step, index) => (step === UNLINK ? [index] : []));
  expect(unlinked).toHaveLength(3);
  const linked = steps.flatMap((step, index) => (step.startsWith('link ') ? [index] : []));
  for (const [number, begin] of linked.entries()) {
    const committed = steps.indexOf('sync catalog', begin);
    expect(committed).toBeGreaterThan(begin);
    expect(unlinked[number]).toBeGreaterThan(committed);
  }
}

/** A call as a step of the order of writing, or undefined for one that is no part of it. */
function stepOf(line: string, store: string): string | undefined {
  if (line.includes('"acknowledged ')) return 'acknowledged';
  const within = (path: string | undefined) =>
    path?.startsWith(store) ? path.slice(store.length + 1) || '.' : undefined;
  const [, call = ''] = /^\d+ +(\w+)\(/.exec(line) ?? [];
  if (call === 'fsync' || call === 'fdatasync') {
    const path = within(/<([^>]+)>/.exec(line)?.[1]);
    if (path === undefined) return undefined;
    if (path.startsWith('incoming/')) return 'sync incoming file';
    return path.startsWith('catalog.sqlite') ? 'sync catalog' : `sync ${path}`;
  }
  const paths = [...line.matchAll(/"([^"]+)"/g)].map((match) => within(match[1]));
  const last = paths.at(-1);
  if (last === undefined) return undefined;
  if (call.startsWith('mkdir')) return `make ${last}`;
  if (call.startsWith('link')) return `link ${last.slice(0, last.lastIndexOf('/'))}`;
  if (call.startsWith('unlink') && last.startsWith('incoming/')) return UNLINK;
  return undefined;
}
