// What must never be committed: download addresses in the lock file, focused or unexplained skipped tests, paths of
// somebody's machine, and ways round the type checker.

import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { conclude, filesUnder, root } from './lib/source.ts';

const folders = ['src', 'test', 'examples', 'bench', 'scripts', 'docs', '.ci'];
const textFiles = ['README.md', 'CHANGELOG.md', 'package.json', 'biome.json', 'knip.json', 'typedoc.json'];

interface Rule {
  readonly name: string;
  readonly files: RegExp;
  isBroken(line: string, lineBefore: string): boolean;
}

// Directories that hold checkouts and homes. Paths of the system (/usr, /etc, /var, /dev, /tmp) are no one's workplace.
const workplaces = ['home', 'root', 'Users', 'work', 'workspace', 'workspaces', 'builds'];
const workplacePath = new RegExp(`(?:^|[\\s'"\`(=])(?:file:/)?/(?:${workplaces.join('|')})/\\w`);

const rules: readonly Rule[] = [
  {
    name: 'a path of somebody’s machine',
    files: /./,
    isBroken: (line) =>
      workplacePath.test(line) || line.includes(`${root}/`) || (homedir().length > 1 && line.includes(`${homedir()}/`)),
  },
  {
    name: 'a focused test',
    files: /^test\/.*\.ts$/,
    isBroken: (line) => /\b(?:test|it|describe)(?:\.\w+)*\.only\b/.test(line),
  },
  {
    name: 'a skipped test without a reason (a comment on its line or the one before)',
    files: /^test\/.*\.ts$/,
    isBroken: (line, lineBefore) =>
      /\b(?:test|it|describe)(?:\.\w+)*\.(?:skip|skipIf|runIf|todo)\b/.test(line) &&
      !/\/\/ \w|\*\/$/.test(`${lineBefore}\n${line}`),
  },
  {
    name: 'a way round the type checker',
    files: /^(?:src|test|examples|bench)\/.*\.ts$/,
    isBroken: (line) => /\bas unknown as\b|@ts-(?:ignore|nocheck)\b/.test(line),
  },
  {
    name: 'a note of work left undone',
    files: /^(?:src|test|examples|bench)\/.*\.ts$/,
    isBroken: (line) => /\b(?:TODO|FIXME|XXX)\b/.test(line),
  },
];

function problemsOfText(file: string): string[] {
  const lines = readFileSync(path.join(root, file), 'utf8').split('\n');
  return lines.flatMap((line, index) =>
    rules
      .filter((rule) => rule.files.test(file) && rule.isBroken(line, lines[index - 1] ?? ''))
      .map((rule) => `${file}:${index + 1}: ${rule.name}: ${line.trim().slice(0, 120)}`),
  );
}

interface LockFile {
  readonly packages: Readonly<
    Record<
      string,
      {
        readonly resolved?: string;
        readonly integrity?: string;
        readonly optionalDependencies?: Readonly<Record<string, string>>;
      }
    >
  >;
}

/**
 * Without addresses npm ci takes packages from whatever registry the machine is set up for; integrity says that they
 * are the same. An entry for every platform's package must be there, or npm ci fails on every machine.
 */
function problemsOfLockFile(): string[] {
  const { packages } = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')) as LockFile;
  const problems: string[] = [];
  for (const [name, entry] of Object.entries(packages)) {
    if (entry.resolved !== undefined) problems.push(`${name} has a download address: ${entry.resolved}`);
    if (name !== '' && entry.integrity === undefined) problems.push(`${name} has no integrity`);
    for (const optional of Object.keys(entry.optionalDependencies ?? {})) {
      if (
        packages[`node_modules/${optional}`] === undefined &&
        packages[`${name}/node_modules/${optional}`] === undefined
      ) {
        problems.push(`${optional}, a platform package, is missing: take the version before of ${name}`);
      }
    }
  }
  return problems.map((problem) => `package-lock.json: ${problem}`);
}

function problemsOfNpmSettings(): string[] {
  const problems: string[] = [];
  const settings = readFileSync(path.join(root, '.npmrc'), 'utf8');
  if (!/^omit-lockfile-registry-resolved=true$/m.test(settings)) {
    problems.push('.npmrc: omit-lockfile-registry-resolved=true is missing');
  }
  if (settings.includes('://')) problems.push('.npmrc: names an address; which registry is the machine’s matter');
  return problems;
}

const text = [...textFiles, ...folders].flatMap((relative) => filesUnder(relative, ''));
const files = text.filter((file) => /\.(?:ts|md|json|sh|ya?ml|sql)$|^\.ci\/|LICENSE/.test(file));
conclude(
  [...problemsOfLockFile(), ...problemsOfNpmSettings(), ...files.flatMap(problemsOfText)],
  `${files.length} files and the lock file hold nothing that must not be committed`,
);
