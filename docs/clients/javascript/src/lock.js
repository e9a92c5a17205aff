/** A lock as its holder has it. */

import { OutcomeUnknown } from "./errors.js";
import { Status } from "./protocol.js";

export class Lock {
  /** @param {import("./lease.js").Lease} lease @param {import("./client.js").Client} client */
  constructor(lease, client) {
    this.lease = lease;
    this.client = client;
  }

  get name() {
    return this.lease.name;
  }

  /**
   * The fencing token: larger than that of every grant of this name before. Give it to what the
   * lock protects.
   */
  get token() {
    return this.lease.token;
  }

  /**
   * Aborts when the lock is lost or released; its reason says why. The work that the lock protects
   * stops then.
   */
  get signal() {
    return this.lease.ending.signal;
  }

  /** Whether it is held, by the clock of now. */
  get held() {
    return this.lease.held;
  }

  /** Whether it ended otherwise than by `release`. */
  get lost() {
    return !this.lease.held && this.lease.state === "lost";
  }

  /** Milliseconds until it is lost unless it is renewed before; 0 if it is not held. */
  get remaining() {
    return this.lease.held ? Math.max(this.lease.deadline - this.lease.clock.now(), 0) : 0;
  }

  /**
   * Release it. From the call on it is not held.
   *
   * @returns {Promise<boolean>} false: it was over before, or (after a retry) this release ended it
   * @throws {OutcomeUnknown} no node answered while the lease lasted
   */
  async release() {
    this.lease.release();
    const status = await this.lease.released;
    if (status === undefined)
      throw new OutcomeUnknown(`${this.name}: no node answered its release; its lease runs out`);
    return status === Status.OK;
  }

  /** Is its token the current grant, by the cluster's word? */
  check() {
    return this.client.check(this.name, this.token);
  }

  async [Symbol.asyncDispose]() {
    if (this.held) await this.release();
  }
}
