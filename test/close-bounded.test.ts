import { describe, expect, test } from 'vitest';
import type { Transport } from '../src/transports/transport.ts';
import { replayRig, smallStudy } from './support/replay-rig.ts';
import { ScriptedTransport } from './support/scripted-transport.ts';
import { close, until } from './support/virtual-time.ts';

const HANGING = ['send', 'probe', 'lookUp', 'readBack', 'close'] as const satisfies readonly (keyof Transport)[];

describe('closing is bounded in time', () => {
  test.each(HANGING)('also where `%s` of a transport never ends, whatever its signal says', async (hanging) => {
    const transport = new ScriptedTransport();
    transport.reachable = hanging !== 'probe';
    let isCalled = false;
    const never = () => {
      isCalled = true;
      return new Promise<never>(() => {});
    };
    Object.assign(transport, { [hanging]: never });
    const verify = hanging === 'readBack' ? ('compared' as const) : ('found' as const);
    const r = await replayRig([{ id: 'pacs', transport, verify }], { closeTimeoutMs: 1_000 });
    await r.accept(smallStudy(1, 3));
    if (hanging !== 'close') await until(r.clock, () => isCalled, 'it hangs');
    await close(r.clock, r.spillway);
    expect(isCalled).toBe(true);
  });

  test('what was in flight is looked up by the next process, and not sent twice', async () => {
    let r = await replayRig([{ id: 'pacs' }]);
    const peer = r.peer();
    const send = peer.send.bind(peer);
    peer.send = async (instances, signal) => {
      await send(instances, signal);
      return new Promise<never>(() => {});
    };
    await r.accept(smallStudy(1, 3));
    await r.until(() => peer.held.size === 3, 'they are there, unanswered');
    const sent = peer.requests.length;
    peer.send = send;
    r = await r.reopen();
    await r.drained();
    const uids = peer.requests.flat();
    expect([sent, peer.held.size, new Set(uids).size]).toEqual([1, 3, uids.length]);
  });
});
