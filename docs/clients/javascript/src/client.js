/** The client: its session, its locks, and what can be asked about locks. */

import os from "node:os";
import { Acquire } from "./acquire.js";
import { Clock } from "./clock.js";
import { Cluster } from "./cluster.js";
import { BadRequest, NotAcquired, RaftlockError, Unavailable } from "./errors.js";
import { Lease } from "./lease.js";
import { Lock } from "./lock.js";
import { Event, nameOf, Op, State, Status } from "./protocol.js";
import { Renewer } from "./renewer.js";
import { checkRequest } from "./requests.js";
import { Session } from "./session.js";

const LIST_BY = { prefix: 0, owner: 1, session: 2 };

/**
 * @typedef {object} ClientOptions Times are milliseconds.
 * @property {string[] | string} [endpoints] `host:port` of some nodes; else RAFTLOCK_ENDPOINTS, else the default ports
 * @property {string} [owner] this client's name for itself, for people; else host and process
 * @property {number} [sessionTtl] how long the session lives without a sign of life (1,000 to 300,000)
 * @property {number} [timeout] how long to wait for an answer, beyond what a lock may wait in its queue
 * @property {string} [clusterId] refuse to talk to another cluster
 * @property {Clock} [clock]
 * @property {() => number} [random]
 * @property {(address: string) => import("node:stream").Duplex} [connect] else over TCP
 *
 * @typedef {object} AcquireOptions Times are milliseconds.
 * @property {number} [ttl] a lease of its own of 100 to 86,400,000 that is renewed while it is held; 0: in the session
 * @property {number} [wait] how long to wait in the queue at most; 0: do not wait
 * @property {Record<string, string>} [metadata] shown to who asks who holds it
 * @property {AbortSignal} [signal] gives up when it aborts
 *
 * @typedef {object} Info Who holds a lock.
 * @property {string} name
 * @property {"held" | "offered" | "ending" | "waiting"} state
 * @property {number} token
 * @property {string} owner
 * @property {number} session
 * @property {number} ttl
 * @property {Date} since
 * @property {string} address
 * @property {Record<string, string> | null} metadata
 * @property {number} waiters
 * @property {number | null} expiresIn
 */

/** @param {Record<string, any>} info @returns {Info} */
function publicInfo(info) {
  return {
    name: info.resource,
    state: /** @type {Info["state"]} */ (nameOf(State, info.state).toLowerCase()),
    token: info.info_token,
    owner: info.owner,
    session: info.session,
    ttl: info.ttl_ms,
    since: new Date(info.since_us / 1_000),
    address: info.address,
    metadata: info.metadata,
    waiters: info.waiters,
    expiresIn: info.expires_in_ms,
  };
}

/** @param {string[] | string | undefined} endpoints */
function endpointList(endpoints) {
  const given =
    endpoints ?? process.env.RAFTLOCK_ENDPOINTS ?? "127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403";
  return typeof given === "string" ? given.split(",").map((each) => each.trim()) : given;
}

export class Client {
  /** @param {ClientOptions} [options] */
  constructor(options = {}) {
    const {
      endpoints,
      owner = `${os.hostname()}:${process.pid}`,
      sessionTtl = 10_000,
      timeout = 5_000,
    } = options;
    const { clusterId = null, clock = new Clock(), random = Math.random, connect } = options;
    checkRequest([Op.OPEN_SESSION, 1, new Uint8Array(16), sessionTtl]);
    this.owner = owner;
    this.sessionTtl = sessionTtl;
    this.timeout = timeout;
    this.clock = clock;
    /** Locks that are held, by token. @type {Map<number, Lease>} */
    this.leases = new Map();
    /** @type {Session | undefined} */
    this.session = undefined;
    /** @type {Promise<Session> | undefined} */
    this.opening = undefined;
    /** Releases in the background. @type {Set<Promise<unknown>>} */
    this.releasing = new Set();
    this.closed = false;
    this.cluster = new Cluster({
      endpoints: endpointList(endpoints),
      clock,
      random,
      name: owner,
      clusterId,
      connect,
      onEvent: (event) => this.#event(event),
      onChange: () => this.#keepAlive(),
    });
    this.renewer = new Renewer(this.cluster);
  }

  /**
   * Acquire a lock. It is renewed until it is released or lost.
   *
   * @param {string} name @param {AcquireOptions} [options] @returns {Promise<Lock>}
   * @throws {NotAcquired} somebody else holds it, or the wait was in vain; nothing is left behind
   * @throws {Unavailable} no node answered in time; nothing is left behind
   * @throws {import("./errors.js").OutcomeUnknown} it goes on to be cancelled
   */
  async acquire(name, { ttl = 10_000, wait = 0, metadata, signal } = {}) {
    const wish = { name, owner: this.owner, ttl, wait, metadata: metadata ?? null };
    checkRequest([Op.ACQUIRE, 1, 1, 0, 1, name, this.owner, ttl, wait, wish.metadata]);
    signal?.throwIfAborted();
    const limit = this.clock.now() + wait + this.timeout;
    const session = await this.#sessionOfNow(limit);
    const acquire = new Acquire(this.cluster, session, wish, limit);
    const stop = () => acquire.stop(signal?.reason);
    signal?.addEventListener("abort", stop);
    if (signal?.aborted) stop();
    /** @type {Lock | undefined} */
    let lock;
    try {
      await acquire.run((grant) => {
        lock = this.#hold(name, ttl, session, grant);
      }, this.timeout);
    } finally {
      signal?.removeEventListener("abort", stop);
    }
    return /** @type {Lock} */ (/** @type {unknown} */ (lock));
  }

  /**
   * Acquire a lock if it is free now.
   *
   * @param {string} name
   * @param {Omit<AcquireOptions, "wait">} [options]
   * @returns {Promise<Lock | null>}
   */
  async tryAcquire(name, options = {}) {
    try {
      return await this.acquire(name, { ...options, wait: 0 });
    } catch (error) {
      if (error instanceof NotAcquired && error.holderToken !== undefined) return null;
      throw error;
    }
  }

  /**
   * Do something while a lock is held. Stop when `lock.signal` aborts: from then on others may hold
   * it.
   *
   * @template T
   * @param {string} name
   * @param {AcquireOptions} options
   * @param {(lock: Lock) => Promise<T> | T} work
   * @returns {Promise<T>}
   * @throws {import("./errors.js").LockLost} it was lost before the work was done
   */
  async withLock(name, options, work) {
    const lock = await this.acquire(name, options);
    try {
      const result = await work(lock);
      if (lock.lost) throw lock.signal.reason;
      return result;
    } finally {
      if (lock.held) await lock.release();
    }
  }

  /**
   * Is this token the current grant? It is answered linearizably.
   *
   * @param {string} name @param {number} token @returns {Promise<boolean>}
   */
  async check(name, token) {
    return (await this.#ask(Op.CHECK, [name, token])).status === Status.OK;
  }

  /**
   * Who holds a lock.
   *
   * @param {string} name @param {{stale?: boolean}} [options] stale: what one node has, however old
   * @returns {Promise<Info | null>} null: nobody
   */
  async get(name, { stale = false } = {}) {
    const { info } = await this.#ask(Op.GET, [name, stale]);
    return info && publicInfo(info);
  }

  /**
   * Locks by a prefix of their names, by owner, or by session, in pages as they come.
   *
   * @param {{prefix?: string, owner?: string, session?: number, stale?: boolean, pageSize?: number}} [by]
   * @returns {AsyncGenerator<Info>}
   */
  async *list({ prefix, owner, session, stale = false, pageSize = 1_000 } = {}) {
    const given = Object.entries({ prefix, owner, session }).filter(
      ([, what]) => what !== undefined,
    );
    if (given.length > 1)
      throw new BadRequest("by", "one of prefix, owner and session, not several");
    const [by, what] = /** @type {[keyof typeof LIST_BY, unknown]} */ (given[0] ?? ["prefix", ""]);
    let cursor = "";
    do {
      const answer = await this.#ask(Op.LIST, [LIST_BY[by], what, cursor, pageSize, stale]);
      yield* answer.infos.map(publicInfo);
      cursor = answer.cursor;
    } while (cursor !== "");
  }

  /**
   * For administrators: end a grant for its holder.
   *
   * @param {string} name @param {number} token
   * @param {{reason: string, now?: boolean}} how now: pass it on at once, while the holder may still act
   * @returns {Promise<boolean>} false: it was over already
   */
  async forceRelease(name, token, { reason, now = false }) {
    return (await this.#ask(Op.FORCE_RELEASE, [name, token, reason, now])).status === Status.OK;
  }

  /** How the node is that this client is connected to. */
  async nodeStatus() {
    return (await this.#ask(Op.NODE_STATUS, [])).values;
  }

  /**
   * Cancel what is open, release what is held, close the session.
   *
   * @param {{timeout?: number}} [options]
   */
  async close({ timeout = 2_000 } = {}) {
    if (this.closed) return;
    this.closed = true;
    const until = this.clock.now() + timeout;
    const session = await this.clock.within(this.#opened(), timeout);
    const open = session ? [...session.acquires.values()] : [];
    for (const acquire of open) acquire.stop(new RaftlockError("the client was closed"));
    await this.clock.within(
      Promise.all(open.map((acquire) => acquire.ended)),
      until - this.clock.now(),
    );
    for (const lease of [...this.leases.values()]) lease.release("the client was closed");
    await this.clock.within(Promise.all(this.releasing), until - this.clock.now());
    await session?.close(until);
    this.cluster.close("the client was closed");
  }

  async [Symbol.asyncDispose]() {
    await this.close();
  }

  /** @returns {Promise<Session | undefined>} */
  async #opened() {
    return this.opening?.catch(() => undefined) ?? this.session;
  }

  /** @param {number} until @returns {Promise<Session>} */
  #sessionOfNow(until) {
    if (this.closed) return Promise.reject(new Unavailable("the client was closed"));
    // Deadlines are looked at before anything is believed: after a sleep of the machine the session
    // may be over.
    if (this.session && this.clock.now() >= this.session.alive)
      this.session.end("it was not kept alive in time", true);
    if (this.session && !this.session.over) return Promise.resolve(this.session);
    this.opening ??= Session.open(this.cluster, this.sessionTtl, until)
      .then((session) => {
        this.session = session;
        return session;
      })
      .finally(() => {
        this.opening = undefined;
      });
    return this.opening;
  }

  /**
   * @param {string} name
   * @param {number} ttl
   * @param {Session} session
   * @param {import("./acquire.js").Grant} grant
   */
  #hold(name, ttl, session, { token, rev, deadline, renewNow }) {
    const onEnd = (/** @type {Lease} */ lease) => this.#ended(lease);
    const lease = new Lease({ clock: this.clock, name, token, rev, ttl, session, deadline, onEnd });
    this.leases.set(token, lease);
    if (ttl > 0) this.renewer.add(lease, renewNow);
    return new Lock(lease, this);
  }

  /**
   * A lock ended: tell the cluster, until it answers or the lease is over by itself.
   *
   * @param {Lease} lease
   */
  #ended(lease) {
    this.leases.delete(lease.token);
    this.renewer.remove(lease);
    const until = this.clock.now() + lease.span;
    const released = this.cluster
      .ask(Op.RELEASE, [lease.name, lease.token], { until })
      .then(({ answer }) => answer?.status);
    lease.released = released;
    this.releasing.add(released);
    released.finally(() => this.releasing.delete(released));
  }

  /** @param {import("./frames.js").ServerEvent} event */
  #event(event) {
    if (event.code === Event.ROUTES_LOST) return this.#keepAlive();
    if (event.session !== this.session?.id) return undefined;
    this.session?.event(event);
    const lease = this.leases.get(event.token);
    if (event.code === Event.LOST) lease?.lose("somebody ended it");
    if (event.code === Event.CUT) lease?.freeze();
    return undefined;
  }

  #keepAlive() {
    this.session?.keepAlive();
  }

  /**
   * Ask what needs no key.
   *
   * @param {number} op @param {unknown[]} fields @returns {Promise<import("./frames.js").Answer>}
   */
  async #ask(op, fields) {
    if (this.closed) throw new Unavailable("the client was closed");
    checkRequest([op, 1, ...fields]);
    const { answer } = await this.cluster.ask(op, fields, {
      until: this.clock.now() + this.timeout,
    });
    if (answer?.status === Status.BAD_REQUEST) throw new BadRequest(answer.field, answer.problem);
    if (!answer?.final)
      throw new Unavailable(
        `no answer within ${this.timeout} ms: ${this.cluster.trouble || "nobody answered"}`,
      );
    return answer;
  }
}
