/** A session: kept alive, counted (rule L9), and given up when its time is over. */

import { randomBytes } from "node:crypto";
import { setMaxListeners } from "node:events";
import { Backoff, margin } from "./clock.js";
import { BadRequest, Forbidden, QuotaExceeded, Unavailable } from "./errors.js";
import { Event, Limits, Op, State, Status } from "./protocol.js";

const BY_SESSION = 2;

/**
 * @typedef {import("./lease.js").Lease} Lease
 * @typedef {import("./acquire.js").Acquire} Acquire
 */

export class Session {
  /**
   * @param {import("./cluster.js").Cluster} cluster
   * @param {{id: number, nonce: Uint8Array, ttl: number, alive: number}} opened
   */
  constructor(cluster, { id, nonce, ttl, alive }) {
    this.cluster = cluster;
    this.clock = cluster.clock;
    this.id = id;
    this.nonce = nonce;
    this.ttl = ttl;
    /** The deadline of every lease in the session. */
    this.alive = alive;
    this.hi = 0;
    this.seen = 0;
    this.ending = new AbortController();
    setMaxListeners(0, this.ending.signal);
    /** It may live on at the server: its acquires are cancelled, and it is closed. */
    this.inDoubt = false;
    /** Leases without a ttl of their own, by token. @type {Map<number, Lease>} */
    this.leases = new Map();
    /**
     * Open acquires by slot. A slot is taken until its acquire has ended for certain.
     *
     * @type {Map<number, Acquire>}
     */
    this.acquires = new Map();
    /** The last n of each slot (rule R1). @type {number[]} */
    this.last = [];
    this.running = false;
    this.wanted = false;
    this.cancelTimer = () => {};
    this.#watch();
    this.#plan(ttl / 3);
  }

  /**
   * Open a session.
   *
   * @param {import("./cluster.js").Cluster} cluster
   * @param {number} ttl
   * @param {number} until
   * @returns {Promise<Session>}
   */
  static async open(cluster, ttl, until) {
    const nonce = new Uint8Array(randomBytes(Limits.NONCE_SIZE));
    const first = cluster.clock.now();
    const { answer, attempts } = await cluster.ask(Op.OPEN_SESSION, [nonce, ttl], { until });
    if (answer?.status === Status.OK) {
      // Counted from the first attempt: a repeated one gets the session of the first, and does not
      // extend it.
      const alive = first + answer.ttl_ms - margin(answer.ttl_ms);
      const session = new Session(cluster, {
        id: answer.session,
        nonce,
        ttl: answer.ttl_ms,
        alive,
      });
      if (attempts > 1) session.keepAlive();
      return session;
    }
    if (answer?.status === Status.QUOTA_EXCEEDED) {
      throw new QuotaExceeded(`no session: ${answer.quota} are limited to ${answer.quota_max}`);
    }
    if (answer?.status === Status.BAD_REQUEST) throw new BadRequest(answer.field, answer.problem);
    if (answer?.status === Status.FORBIDDEN) throw new Forbidden(answer.why);
    throw new Unavailable(`no session: ${cluster.trouble || "no answer"}`);
  }

  get over() {
    return this.ending.signal.aborted;
  }

  /**
   * A free slot, taken for an acquire, with its next n.
   *
   * @param {Acquire} acquire
   * @param {number} slotsMax
   */
  take(acquire, slotsMax) {
    let slot = 0;
    while (this.acquires.has(slot)) slot += 1;
    if (slot >= slotsMax)
      throw new QuotaExceeded(`${slotsMax} acquires are under way in this session already`);
    this.acquires.set(slot, acquire);
    this.last[slot] = (this.last[slot] ?? 0) + 1;
    return { slot, n: this.last[slot] };
  }

  /** Take note of a count. @param {number | null | undefined} count */
  met(count) {
    this.hi = Math.max(this.hi, count ?? 0);
  }

  /** @param {import("./frames.js").ServerEvent} event */
  event(event) {
    if (this.over) return;
    if (event.code === Event.SESSION_ENDED) return this.end("the session is over", false);
    this.met(event.count);
    if (event.count === this.seen + 1) this.seen = event.count;
    else this.keepAlive();
    if (event.code === Event.OFFERED || event.code === Event.TIMEOUT)
      this.acquires.get(event.slot)?.event(event);
    return undefined;
  }

  /** Send a KEEP_ALIVE as soon as the one that is under way is answered. */
  async keepAlive() {
    this.wanted = true;
    if (this.running) return;
    this.running = true;
    const pauses = new Backoff(this.cluster.random);
    while (this.wanted && !this.over) {
      this.wanted = false;
      if (!(await this.#keepAliveOnce())) {
        this.wanted = true;
        await this.clock.sleep(pauses.next(), this.ending.signal);
      }
    }
    this.running = false;
    if (!this.over) this.#plan(this.ttl / 3);
  }

  /** @returns {Promise<boolean>} whether it did what it should: the session lives on, or is over */
  async #keepAliveOnce() {
    const signals = [this.ending.signal];
    const { answer, sent } = await this.cluster.ask(Op.KEEP_ALIVE, [this.id], {
      until: this.alive,
      session: this,
      signals,
    });
    if (this.#late() || !answer) return this.over;
    if (answer.status === Status.SESSION_EXPIRED) {
      this.end("the session is over", false);
      return true;
    }
    if (answer.status !== Status.OK) return false;
    this.met(answer.count);
    if (answer.count !== this.seen && !(await this.#resync(answer.count))) return false;
    if (this.#late()) return true;
    this.alive = Math.max(this.alive, sent + this.ttl - margin(this.ttl));
    return true;
  }

  /**
   * Learn from a list what events did not tell. Nothing is extended before.
   *
   * @param {number} count @returns {Promise<boolean>} false: the list failed
   */
  async #resync(count) {
    const had = [...this.leases.values()];
    const infos = await this.#list();
    if (!infos || this.#late()) return false;
    const states = new Map(infos.map((info) => [info.info_token, info.state]));
    for (const lease of had) {
      const state = states.get(lease.token);
      if (state === undefined) lease.lose("somebody ended it");
      else if (state === State.ENDING) lease.freeze();
    }
    for (const acquire of this.acquires.values()) acquire.askAgain();
    this.seen = Math.max(this.seen, count);
    return true;
  }

  async #list() {
    const infos = [];
    let cursor = "";
    do {
      const fields = [BY_SESSION, this.id, cursor, Limits.LIST_PAGE_MAX, false];
      const how = { until: this.alive, signals: [this.ending.signal] };
      const { answer } = await this.cluster.ask(Op.LIST, fields, how);
      if (answer?.status !== Status.OK) return undefined;
      infos.push(...answer.infos);
      cursor = answer.cursor;
    } while (cursor !== "");
    return infos;
  }

  /** Look at the deadline before an answer is believed. */
  #late() {
    if (!this.over && this.clock.now() >= this.alive)
      this.end("the session was not kept alive in time", true);
    return this.over;
  }

  #watch() {
    this.cancelWatch = this.clock.after(Math.max(this.alive - this.clock.now(), 0), () => {
      if (!this.#late()) this.#watch();
    });
  }

  /** @param {number} ms */
  #plan(ms) {
    this.cancelTimer();
    this.cancelTimer = this.clock.after(ms, () => this.keepAlive());
  }

  /**
   * The session is over: what lives in it is lost, and its open acquires end.
   *
   * @param {string} why @param {boolean} inDoubt the server may not know
   */
  end(why, inDoubt) {
    if (this.over) return;
    this.inDoubt = inDoubt;
    this.ending.abort();
    this.cancelTimer();
    this.cancelWatch?.();
    for (const lease of [...this.leases.values()]) lease.lose(why);
    if (inDoubt) this.#closeWhenCancelled();
  }

  /**
   * Rule L11: an acquire is cancelled first, so that a grant to it does not outlive the session
   * unnoticed.
   */
  async #closeWhenCancelled() {
    await Promise.all([...this.acquires.values()].map((acquire) => acquire.ended));
    await this.cluster.ask(Op.CLOSE_SESSION, [this.id], {
      until: Number.POSITIVE_INFINITY,
      session: this,
    });
  }

  /** End the session of the client's own will. @param {number} until */
  async close(until) {
    if (this.over) return;
    this.end("the client was closed", false);
    await this.cluster.ask(Op.CLOSE_SESSION, [this.id], { until, session: this });
  }
}
