import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';

/** The root of the repository. */
export const root = path.resolve(import.meta.dirname, '../..');

/** Folders of src/, and errors.ts, that hold decisions only: no Node, no clock, no randomness of their own. */
export const purePaths = ['domain', 'errors.ts', 'tiers', 'capacity', 'routing', 'simulator'] as const;

/** The files below a folder of the repository (or the one file), as sorted posix paths from the root. Absent: none. */
export function filesUnder(relative: string, extension: string): string[] {
  const absolute = path.join(root, relative);
  const stat = statSync(absolute, { throwIfNoEntry: false });
  if (stat === undefined) return [];
  const names = stat.isFile()
    ? [relative]
    : readdirSync(absolute, { recursive: true, encoding: 'utf8' }).map((name) => path.posix.join(relative, name));
  return names.filter((name) => name.endsWith(extension)).sort();
}

/** Reads and parses one file. */
export function parse(file: string): ts.SourceFile {
  return ts.createSourceFile(file, readFileSync(path.join(root, file), 'utf8'), ts.ScriptTarget.ES2023, true);
}

/** `file:line` of a node, to click on. */
export function placeOf(source: ts.SourceFile, node: ts.Node): string {
  return `${source.fileName}:${source.getLineAndCharacterOfPosition(node.getStart(source)).line + 1}`;
}

/** Calls `visit` for the node and everything below it. */
export function walk(node: ts.Node, visit: (node: ts.Node) => void): void {
  visit(node);
  node.forEachChild((child) => walk(child, visit));
}

/** Prints the problems and fails, or prints what was found in order. */
export function conclude(problems: readonly string[], inOrder: string): void {
  if (problems.length === 0) {
    console.log(`ok: ${inOrder}`);
    return;
  }
  for (const problem of problems) console.error(problem);
  console.error(`${problems.length} problem${problems.length === 1 ? '' : 's'}`);
  process.exitCode = 1;
}
