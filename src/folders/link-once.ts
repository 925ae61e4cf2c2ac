import { NO_HARD_LINKS } from '../storage/directory/directory-blob-store.ts';
import { systemCode } from '../storage/directory/file-errors.ts';
import type { FileSystem } from '../storage/directory/file-system.ts';

/**
 * Gives a file its name instead of the temporary one. False, and nothing is changed, when something has that name already.
 * Where there are no hard links it is renamed, after a look: there, two exports at once may overwrite one another's files.
 */
export async function linkOnce(fileSystem: FileSystem, temporary: string, path: string): Promise<boolean> {
  try {
    await fileSystem.link(temporary, path);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EEXIST') return false;
    if (code === undefined || !NO_HARD_LINKS.has(code)) throw error;
    if (await isThere(fileSystem, path)) return false;
    await fileSystem.rename(temporary, path);
    return true;
  }
  await fileSystem.unlink(temporary);
  return true;
}

async function isThere(fileSystem: FileSystem, path: string): Promise<boolean> {
  try {
    await fileSystem.status(path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}
