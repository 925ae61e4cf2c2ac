// Holds the direction of imports in src/. Each file belongs to the first layer whose path matches; the table says what
// a layer may import besides itself. Biome's noRestrictedImports cannot tell a type from a value, nor resolve a path.

import { existsSync } from 'node:fs';
import { builtinModules } from 'node:module';
import path from 'node:path';
import ts from 'typescript';
import { conclude, filesUnder, parse, placeOf, root, walk } from './lib/source.ts';

interface Layer {
  readonly name: string;
  /** Files or folders of src/; an empty one is every file directly in src/. */
  readonly paths: readonly string[];
  readonly mayImport: readonly string[];
  /** Layers of which only types may be imported. */
  readonly mayImportTypesOf?: readonly string[];
  /** Neither `node:` modules nor packages. */
  readonly pure?: true;
}

// With the one way to submit many small changes to a contract together.
const contracts = [
  'storage/catalog.ts',
  'storage/catalog-records.ts',
  'storage/blob-store.ts',
  'storage/store.ts',
  'storage/group-commit.ts',
  'storage/event-log.ts',
];

const layers: readonly Layer[] = [
  { name: 'domain', paths: ['domain'], mayImport: [], pure: true },
  { name: 'errors', paths: ['errors.ts'], mayImport: [], pure: true },
  { name: 'pacer', paths: ['pacer.ts'], mayImport: ['domain'], pure: true },
  { name: 'tiers', paths: ['tiers'], mayImport: ['domain', 'errors'], pure: true },
  { name: 'capacity', paths: ['capacity'], mayImport: ['domain', 'errors'], pure: true },
  { name: 'routing', paths: ['routing'], mayImport: ['domain', 'tiers', 'errors'], pure: true },
  { name: 'simulator', paths: ['simulator'], mayImport: ['domain', 'tiers', 'routing', 'errors'], pure: true },
  { name: 'dicom', paths: ['dicom'], mayImport: ['domain', 'errors'] },
  { name: 'storage contract', paths: contracts, mayImport: ['domain', 'errors'] },
  { name: 'storage', paths: ['storage'], mayImport: ['storage contract', 'domain', 'errors', 'dicom'] },
  {
    name: 'transport contract',
    paths: ['transports/transport.ts'],
    mayImport: ['domain', 'errors'],
    mayImportTypesOf: ['routing'],
  },
  { name: 'transports', paths: ['transports'], mayImport: ['transport contract', 'domain', 'errors', 'dicom'] },
  {
    name: 'replay',
    paths: ['replay'],
    mayImport: ['domain', 'errors', 'pacer', 'routing', 'tiers', 'storage contract', 'transport contract'],
  },
  { name: 'retention', paths: ['retention'], mayImport: ['domain', 'errors', 'pacer', 'dicom', 'storage contract'] },
  { name: 'folders', paths: ['folders'], mayImport: ['domain', 'errors', 'dicom', 'storage contract', 'storage'] },
  {
    name: 'handler',
    paths: ['handler'],
    mayImport: ['domain', 'errors', 'dicom'],
    mayImportTypesOf: ['composition root'],
  },
  {
    name: 'testing',
    paths: ['testing'],
    mayImport: [
      'domain',
      'errors',
      'tiers',
      'routing',
      'dicom',
      'storage contract',
      'storage',
      'transport contract',
      'transports',
      'replay',
      'retention',
      'handler',
      'composition root',
    ],
  },
  {
    name: 'entry',
    paths: ['index.ts'],
    mayImport: [
      'domain',
      'errors',
      'tiers',
      'capacity',
      'routing',
      'storage contract',
      'storage',
      'transport contract',
      'transports',
      'replay',
      'retention',
      'folders',
      'composition root',
    ],
  },
  {
    name: 'composition root',
    paths: [''],
    mayImport: [
      'domain',
      'errors',
      'tiers',
      'capacity',
      'routing',
      'dicom',
      'storage contract',
      'storage',
      'transport contract',
      'transports',
      'replay',
      'retention',
      'folders',
    ],
  },
];

/** Modules that only some layers may import. */
const reserved: Readonly<Record<string, readonly string[]>> = {
  dcmjs: ['dicom'],
  'node:sqlite': ['storage'],
};

function layerOf(file: string): Layer | undefined {
  const inSource = path.posix.relative('src', file);
  return layers.find((layer) =>
    layer.paths.some((prefix) =>
      prefix === '' ? !inSource.includes('/') : inSource === prefix || inSource.startsWith(`${prefix}/`),
    ),
  );
}

interface Import {
  readonly node: ts.Node;
  readonly specifier: string;
  readonly typeOnly: boolean;
}

/** Everything that a file imports: statements, re-exports, `import()`, types by `import('…')`. */
function importsOf(source: ts.SourceFile): Import[] {
  const found: Import[] = [];
  const add = (node: ts.Node, specifier: ts.Node | undefined, typeOnly: boolean) => {
    if (specifier !== undefined && ts.isStringLiteralLike(specifier)) {
      found.push({ node, specifier: specifier.text, typeOnly });
    }
  };
  walk(source, (node) => {
    if (ts.isImportDeclaration(node)) add(node, node.moduleSpecifier, importsTypesOnly(node));
    else if (ts.isExportDeclaration(node)) add(node, node.moduleSpecifier, node.isTypeOnly);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node, node.argument.literal, true);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      add(node, node.arguments[0], false);
    }
  });
  return found;
}

function importsTypesOnly(declaration: ts.ImportDeclaration): boolean {
  const clause = declaration.importClause;
  if (clause === undefined) return false;
  if (clause.phaseModifier === ts.SyntaxKind.TypeKeyword) return true;
  const bindings = clause.namedBindings;
  return (
    clause.name === undefined &&
    bindings !== undefined &&
    ts.isNamedImports(bindings) &&
    bindings.elements.length > 0 &&
    bindings.elements.every((element) => element.isTypeOnly)
  );
}

function problemOf(file: string, layer: Layer, { specifier, typeOnly }: Import): string | undefined {
  if (!specifier.startsWith('.')) return problemOfModule(layer, specifier);
  const target = path.posix.join(path.posix.dirname(file), specifier);
  if (!target.startsWith('src/')) return 'leaves src/';
  if (!existsSync(path.join(root, target))) return 'does not exist (relative imports name the file, with .ts)';
  const targetLayer = layerOf(target);
  if (targetLayer === undefined) return `is in no layer: add its folder to the table in scripts/check-layers.ts`;
  if (targetLayer === layer || layer.mayImport.includes(targetLayer.name)) return undefined;
  if (layer.mayImportTypesOf?.includes(targetLayer.name)) {
    return typeOnly ? undefined : `is ${targetLayer.name}, of which ${layer.name} may import types only`;
  }
  const allowed = [...layer.mayImport, ...(layer.mayImportTypesOf ?? []).map((name) => `types of ${name}`)];
  return `is ${targetLayer.name}; ${layer.name} may import ${allowed.length === 0 ? 'nothing else' : allowed.join(', ')}`;
}

function problemOfModule(layer: Layer, specifier: string): string | undefined {
  if (layer.pure) return `is a module; ${layer.name} is pure and imports none`;
  if (!specifier.startsWith('node:') && builtinModules.includes(specifier))
    return `is Node's own: write node:${specifier}`;
  const owners = reserved[specifier];
  if (owners === undefined || owners.includes(layer.name)) return undefined;
  return `is reserved for ${owners.join(', ')}`;
}

const problems: string[] = [];
let edges = 0;
const files = filesUnder('src', '.ts');
for (const file of files) {
  const layer = layerOf(file);
  if (layer === undefined) {
    problems.push(`${file} is in no layer: add its folder to the table in scripts/check-layers.ts`);
    continue;
  }
  const source = parse(file);
  for (const found of importsOf(source)) {
    edges += 1;
    const problem = problemOf(file, layer, found);
    if (problem !== undefined) problems.push(`${placeOf(source, found.node)}: '${found.specifier}' ${problem}`);
  }
}
conclude(problems, `${edges} imports of ${files.length} files keep to their layers`);
