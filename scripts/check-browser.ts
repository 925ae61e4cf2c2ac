// Every pure file bundles for the browser: nothing of Node is reachable from it.

import { build, type Message } from 'esbuild';
import { conclude, filesUnder, purePaths, root } from './lib/source.ts';

const files = purePaths.flatMap((relative) => filesUnder(`src/${relative}`, '.ts'));

function describe({ text, location, notes }: Message): string {
  const place = location === null ? '' : `${location.file}:${location.line}: `;
  return [`${place}${text}`, ...notes.map((note) => `  ${note.text}`)].join('\n');
}

async function problemsOf(): Promise<string[]> {
  try {
    await build({
      absWorkingDir: root,
      entryPoints: files,
      outdir: 'unused',
      bundle: true,
      write: false,
      platform: 'browser',
      format: 'esm',
      target: 'es2023',
      logLevel: 'silent',
    });
    return [];
  } catch (error) {
    if (error instanceof Error && 'errors' in error) return (error.errors as Message[]).map(describe);
    throw error;
  }
}

conclude(await problemsOf(), `${files.length} pure files bundle for the browser`);
