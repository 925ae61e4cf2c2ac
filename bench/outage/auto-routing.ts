import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The scripts by which Orthanc is usually made to forward what it stores, as its book gives them. */
export type Routing = 'instance' | 'study';

const SCRIPTS: Readonly<Record<Routing, string>> = {
  instance: `function OnStoredInstance(instanceId, tags, metadata, origin)
  SendToModality(instanceId, 'B')
end
`,
  study: `function OnStableStudy(studyId, tags, metadata)
  SendToModality(studyId, 'B')
end
`,
};
/** Said of every instance that comes, known ones included. */
const WATCH = `function ReceivedInstanceFilter(dicom, origin)
  print('received ' .. dicom.SOPInstanceUID)
  return true
end
`;

export function routingScript(directory: string, routing: Routing): string {
  return script(directory, routing, SCRIPTS[routing]);
}

/** Has an Orthanc say which instances it receives. */
export function watchingScript(directory: string): string {
  return script(directory, 'watch', WATCH);
}

function script(directory: string, name: string, text: string): string {
  mkdirSync(directory, { recursive: true });
  const file = join(directory, `${name}.lua`);
  writeFileSync(file, text);
  return file;
}
