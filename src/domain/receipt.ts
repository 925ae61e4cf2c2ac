import type { InstanceIdentity } from './identity.ts';
import type { Urgency } from './rank.ts';

/** The proof that an instance was accepted; given only once it is durable. */
export interface Receipt {
  /**
   * `created`: first data set under its SOP Instance UID. `identical`: this data set was accepted before; nothing was
   * added. `version`: another data set stands under the same SOP Instance UID; both are kept and delivered in turn.
   * `restored`: it was accepted before, but had been evicted or lost, or only its file told of it; it is kept again, and
   * delivered again.
   */
  readonly outcome: 'created' | 'identical' | 'version' | 'restored';
  readonly identity: InstanceIdentity;
  /** Sorts by arrival; names this version in the store. For `identical` and `restored` it is that of the version that stands. */
  readonly arrivalId: string;
  /** SHA-256 (hex) of the data set as encoded, without preamble and file meta. */
  readonly digest: string;
  /** Length of the file as it came. */
  readonly bytes: number;
  /** Id of the tier that the instance was judged to be in on arrival. */
  readonly tier: string;
  readonly urgency: Urgency;
  /** Why that tier, in one sentence. */
  readonly tierReason: string;
  /** The destinations that it is to be delivered to, as routed when it was accepted. */
  readonly destinations: readonly string[];
  /** What was odd about it; see `Oddity`. */
  readonly oddities: readonly string[];
}
