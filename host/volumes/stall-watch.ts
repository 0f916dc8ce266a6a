/** Whether a client that holds buffers is alive: it is asked at regular intervals. */
export class StallWatch {
  #progress = -1;
  #stalls = 0;

  /**
   * How many times in a row it `holds` what others may want, all that is left to do being the client's, and has moved no
   * byte: `progress` counts them.
   */
  check(holds: boolean, progress: number): number {
    const stalls = holds && progress === this.#progress;
    this.#progress = progress;
    this.#stalls = stalls ? this.#stalls + 1 : 0;
    return this.#stalls;
  }
}
