/**
 * What the client believes about one grant: until when, and whether it still may be extended. It
 * sends nothing.
 */

import { margin } from "./clock.js";
import { LockLost } from "./errors.js";
import { Status } from "./protocol.js";

/** @typedef {"held" | "released" | "lost"} LeaseState */

export class Lease {
  /**
   * @param {object} grant
   * @param {import("./clock.js").Clock} grant.clock
   * @param {string} grant.name
   * @param {number} grant.token
   * @param {number} grant.rev
   * @param {number} grant.ttl 0: it lives in `session`
   * @param {import("./session.js").Session} grant.session
   * @param {number} grant.deadline of its own; of no account if it lives in the session
   * @param {(lease: Lease) => void} grant.onEnd
   */
  constructor({ clock, name, token, rev, ttl, session, deadline, onEnd }) {
    this.clock = clock;
    this.name = name;
    this.token = token;
    this.rev = rev;
    this.ttl = ttl;
    this.onEnd = onEnd;
    /** @type {LeaseState} */
    this.state = "held";
    this.frozen = false;
    this.ending = new AbortController();
    this.ownDeadline = deadline;
    /** @type {import("./session.js").Session | null} */
    this.session = ttl === 0 ? session : null;
    /** For how long the server may keep it if nobody releases it. */
    this.span = ttl || session.ttl;
    /**
     * The status that answered its RELEASE, once it ended; undefined: none did.
     *
     * @type {Promise<number | undefined>}
     */
    this.released = Promise.resolve(undefined);
    this.cancelWatch = () => {};
    if (this.session) this.session.leases.set(token, this);
    else this.#watch();
  }

  get deadline() {
    return this.session ? this.session.alive : this.ownDeadline;
  }

  /** Whether it may be believed in now. The clock decides, not a timer that may come late. */
  get held() {
    if (this.state === "held" && this.clock.now() >= this.deadline)
      this.lose("its deadline passed");
    return this.state === "held";
  }

  /**
   * Take an item of a RENEW's answer.
   *
   * @param {{status: number, [field: string]: any} | undefined} item
   * @param {number} sent when the RENEW was sent
   * @returns {boolean} false: ask again soon
   */
  renewed(item, sent) {
    if (!this.held) return true;
    switch (item?.status) {
      case Status.OK:
        this.rev = item.rev;
        // The ttl is the lease's of now: somebody may have changed it.
        if (item.ttl_ms > 0) this.ttl = item.ttl_ms;
        if (!this.frozen)
          this.ownDeadline = Math.max(this.ownDeadline, sent + this.ttl - margin(this.ttl));
        return true;
      case Status.ENDING:
        this.freeze();
        return true;
      case Status.NOT_HELD:
        this.lose("somebody ended it");
        return true;
      default:
        return false;
    }
  }

  /** Keep the deadline as it is, for good: an administrator lets the lease run out. */
  freeze() {
    if (this.frozen || !this.held) return;
    this.ownDeadline = this.deadline;
    this.frozen = true;
    if (this.session) {
      this.session.leases.delete(this.token);
      this.session = null;
      this.#watch();
    }
  }

  /** @param {string} why */
  lose(why) {
    this.#end("lost", why);
  }

  /** From now on it is not held. @param {string} why */
  release(why = "it was released") {
    this.#end("released", why);
  }

  /** @param {LeaseState} state @param {string} why */
  #end(state, why) {
    if (this.state !== "held") return;
    this.state = state;
    this.cancelWatch();
    this.session?.leases.delete(this.token);
    this.ending.abort(new LockLost(this.name, this.token, why));
    this.onEnd(this);
  }

  #watch() {
    const left = Math.max(this.ownDeadline - this.clock.now(), 0);
    this.cancelWatch = this.clock.after(left, () => {
      if (this.held) this.#watch();
    });
  }
}
