/** Which deliveries may have arrived without an answer, so that they are looked up before they are sent again. */
export class Doubts {
  /** Study by delivery. */
  readonly #deliveries = new Map<number, string>();
  /** Studies that were being sent when the process last ended, or when they were last let go. */
  readonly #studies = new Set<string>();

  suspect(deliveryId: number, studyInstanceUid: string): void {
    this.#deliveries.set(deliveryId, studyInstanceUid);
  }

  suspectStudy(studyInstanceUid: string): void {
    this.#studies.add(studyInstanceUid);
  }

  hasDelivery(deliveryId: number): boolean {
    return this.#deliveries.has(deliveryId);
  }

  has(deliveryId: number, studyInstanceUid: string): boolean {
    return this.#deliveries.has(deliveryId) || this.#studies.has(studyInstanceUid);
  }

  /** Whether anything of the study is in doubt. */
  isInDoubt(studyInstanceUid: string): boolean {
    return this.#studies.has(studyInstanceUid) || [...this.#deliveries.values()].includes(studyInstanceUid);
  }

  /** Everything of it that was due has been asked for. */
  studyFinished(studyInstanceUid: string): void {
    this.#studies.delete(studyInstanceUid);
  }

  settled(deliveryId: number): void {
    this.#deliveries.delete(deliveryId);
  }
}
