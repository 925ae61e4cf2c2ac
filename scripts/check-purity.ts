// Pure folders read no clock, draw no random number and start no timer: time and randomness come in as arguments, so
// that the simulator runs what production runs. That they import nothing of Node is check-layers' and check-browser's.

import ts from 'typescript';
import { conclude, filesUnder, parse, placeOf, purePaths, walk } from './lib/source.ts';

/** Globals that a pure file may not touch at all. */
const forbiddenGlobals = new Set([
  'performance',
  'crypto',
  'process',
  'globalThis',
  'setTimeout',
  'setInterval',
  'setImmediate',
  'queueMicrotask',
  'fetch',
  'console',
  'Temporal',
]);

/** `Object.member` that a pure file may not touch. */
const forbiddenMembers = new Set(['Date.now', 'Math.random', 'AbortSignal.timeout']);

function problemOf(node: ts.Node): string | undefined {
  if (ts.isPropertyAccessExpression(node)) {
    const member = node.getText();
    return forbiddenMembers.has(member) ? member : undefined;
  }
  if (ts.isNewExpression(node) && isDate(node.expression) && (node.arguments?.length ?? 0) === 0) return 'new Date()';
  if (ts.isCallExpression(node) && isDate(node.expression)) return 'Date()';
  if (ts.isIdentifier(node) && forbiddenGlobals.has(node.text) && isReference(node)) return node.text;
  return undefined;
}

function isDate(expression: ts.Expression): boolean {
  return ts.isIdentifier(expression) && expression.text === 'Date';
}

/** Whether the identifier is used as a value, not as the name of a member or of something declared here. */
function isReference(node: ts.Identifier): boolean {
  const parent = node.parent;
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node;
  if (ts.isTypeNode(parent) || ts.isQualifiedName(parent)) return false;
  return !('name' in parent && parent.name === node);
}

const files = purePaths.flatMap((relative) => filesUnder(`src/${relative}`, '.ts'));
const problems: string[] = [];
for (const file of files) {
  const source = parse(file);
  walk(source, (node) => {
    const problem = problemOf(node);
    if (problem !== undefined) {
      problems.push(`${placeOf(source, node)}: ${problem} in a pure file: take it as an argument`);
    }
  });
}
conclude(problems, `${files.length} pure files take time and randomness as arguments`);
