/**
 * The way to the cluster: which node to talk to, following the leader, and asking until there is an
 * answer.
 */

import { setMaxListeners } from "node:events";
import { Backoff } from "./clock.js";
import { Connection, parseAddress } from "./connection.js";
import { BadRequest, RaftlockError } from "./errors.js";
import { Op, Status } from "./protocol.js";

const ANSWER_MS = 2_000;
const MOVE_MS_MIN = 1_000;
const MOVE_MS_MAX = 30_000;

/**
 * @typedef {import("./frames.js").Answer} Answer
 * @typedef {{id: number, nonce: Uint8Array, met?: (count: number) => void}} Attachable
 *
 * @typedef {object} Asked How an `ask` ended.
 * @property {Answer | undefined} answer what ended it: final, or a refusal that repeating does not change; else undefined
 * @property {Answer | undefined} last the answer to the last attempt
 * @property {number} sent when the attempt that was answered was sent
 * @property {number} attempts how many were sent
 * @property {Connection | undefined} connection
 *
 * @typedef {object} How
 * @property {number} until ask no longer than this
 * @property {Attachable} [session] attached first
 * @property {AbortSignal[]} [signals] end it
 * @property {(answer: Answer) => boolean} [settles] what else ends it
 */

/** Not final, and the same if repeated. @type {Set<number>} */
const REFUSED_AGAIN = new Set([Status.BAD_REQUEST, Status.QUOTA_EXCEEDED, Status.UNAUTHENTICATED]);

/** @param {Answer | undefined} answer */
const isUnattached = (answer) =>
  answer?.status === Status.BAD_REQUEST && !answer.final && answer.field === "session";

export class Cluster {
  /**
   * @param {object} options
   * @param {string[]} options.endpoints
   * @param {import("./clock.js").Clock} options.clock
   * @param {() => number} options.random
   * @param {string} options.name
   * @param {string | null} options.clusterId
   * @param {(address: string) => import("node:stream").Duplex} [options.connect]
   * @param {(event: import("./frames.js").ServerEvent) => void} options.onEvent
   * @param {() => void} options.onChange the connection is a new one, or was lost
   */
  constructor({ endpoints, clock, random, name, clusterId, connect, onEvent, onChange }) {
    if (endpoints.length === 0)
      throw new BadRequest("endpoints", "at least one host:port is needed");
    endpoints.forEach(parseAddress);
    this.endpoints = endpoints;
    this.clock = clock;
    this.random = random;
    this.name = name;
    this.clusterId = clusterId;
    this.connect = connect;
    this.onEvent = onEvent;
    this.onChange = onChange;
    this.closing = new AbortController();
    setMaxListeners(0, this.closing.signal);
    this.turn = Math.floor(random() * endpoints.length);
    /** @type {Map<number, string>} */
    this.nodes = new Map();
    /** @type {Connection | undefined} */
    this.current = undefined;
    /**
     * All that are open: the current one, and those that still wait for answers.
     *
     * @type {Set<Connection>}
     */
    this.open = new Set();
    /** @type {Promise<Connection | undefined> | undefined} */
    this.connecting = undefined;
    this.moveAt = 0;
    this.movePause = MOVE_MS_MIN;
    /** The last reason why a node could not be used, for people. */
    this.trouble = "";
  }

  get closed() {
    return this.closing.signal.aborted;
  }

  /** @param {string} why */
  close(why) {
    this.closing.abort();
    for (const connection of [...this.open]) connection.close(why);
  }

  /**
   * Repeat a request, on any node, until an answer ends it, or a time, or a signal.
   *
   * @param {number} op @param {unknown[]} fields @param {How} how @returns {Promise<Asked>}
   */
  async ask(op, fields, { until, session, signals = [], settles = () => false }) {
    const pauses = new Backoff(this.random);
    let attempts = 0;
    for (;;) {
      const asked = await this.attempt(op, fields, { until, session, signals });
      attempts += asked.attempts;
      const { answer } = asked;
      const again =
        !answer || isUnattached(answer) || !(answer.final || REFUSED_AGAIN.has(answer.status));
      if (answer && (!again || settles(answer))) return { ...asked, last: answer, attempts };
      const pause = Math.max(pauses.next(), answer?.retry_after_ms ?? 0);
      const left = until - this.clock.now();
      if (left > 0) await this.clock.sleep(Math.min(pause, left), this.closing.signal, ...signals);
      if (this.closed || this.clock.now() >= until || signals.some((signal) => signal.aborted)) {
        return { ...asked, answer: undefined, last: answer, attempts };
      }
    }
  }

  /**
   * Send a request once, over the connection of now or the next one.
   *
   * @param {number} op @param {unknown[]} fields @param {How} how @returns {Promise<Asked>}
   */
  async attempt(op, fields, { until, session, signals = [] }) {
    const none = {
      answer: undefined,
      last: undefined,
      sent: this.clock.now(),
      attempts: 0,
      connection: undefined,
    };
    const left = until - this.clock.now();
    const connection = await this.clock.within(
      this.#connected(),
      left,
      this.closing.signal,
      ...signals,
    );
    if (!connection) return none;
    if (session) {
      const attached = await this.#attach(connection, session);
      // Of an attach that failed for good the request is told that there is no session: rules R9,
      // L11.
      if (attached?.status === Status.SESSION_EXPIRED || attached?.status === Status.FORBIDDEN) {
        return { ...none, answer: { status: Status.SESSION_EXPIRED, final: true }, connection };
      }
      if (attached?.status !== Status.OK) return none;
      session.met?.(attached.count);
    }
    if (connection.closed || signals.some((signal) => signal.aborted)) return none;
    const sent = this.clock.now();
    const answer = await connection.request(op, fields, ANSWER_MS, ...signals);
    if (session && isUnattached(answer)) connection.attached.delete(session.id);
    if (answer && op === Op.OPEN_SESSION && answer.status === Status.OK) {
      connection.attached.set(answer.session, Promise.resolve(answer));
    }
    this.#judge(connection, answer, sent, signals);
    return { answer, last: answer, sent, attempts: 1, connection };
  }

  /**
   * Leave a node that knows no leader, or that does not answer.
   *
   * @param {Connection} connection
   * @param {Answer | undefined} answer
   * @param {number} sent
   * @param {AbortSignal[]} signals
   */
  #judge(connection, answer, sent, signals) {
    const silent =
      !answer && this.clock.now() >= sent + ANSWER_MS && !signals.some((signal) => signal.aborted);
    if (this.current !== connection || !(silent || answer?.status === Status.NO_QUORUM)) return;
    this.trouble = `${connection.address}: ${answer ? answer.why : "no answer"}`;
    this.#retire(connection);
  }

  /**
   * @param {Connection} connection
   * @param {Attachable} session
   * @returns {Promise<Answer | undefined>}
   */
  #attach(connection, session) {
    const known = connection.attached.get(session.id);
    if (known) return known;
    const attach = connection
      .request(Op.ATTACH, [session.id, session.nonce], ANSWER_MS)
      .then((answer) => {
        if (answer?.status !== Status.OK) connection.attached.delete(session.id);
        return answer;
      });
    connection.attached.set(session.id, attach);
    return attach;
  }

  /** @returns {Promise<Connection | undefined>} undefined once the client is closed */
  #connected() {
    if (this.current) return Promise.resolve(this.current);
    this.connecting ??= this.#connect().finally(() => {
      this.connecting = undefined;
    });
    return this.connecting;
  }

  async #connect() {
    const pauses = new Backoff(this.random);
    while (!this.closed) {
      const addresses = [...new Set([...this.endpoints, ...this.nodes.values()])];
      this.turn = (this.turn + 1) % addresses.length;
      const connection = await this.#dial(addresses[this.turn]);
      if (connection) return this.#use(connection);
      await this.clock.sleep(pauses.next(), this.closing.signal);
    }
    return undefined;
  }

  /** @param {string} address @returns {Promise<Connection | undefined>} */
  async #dial(address) {
    const listener = {
      onEvent: this.onEvent,
      onLeader: (/** @type {number} */ leaderId, /** @type {Connection} */ from) =>
        this.#follow(leaderId, from),
      onClose: (/** @type {Connection} */ ended) => {
        this.open.delete(ended);
        if (this.current !== ended) return;
        this.trouble = `${ended.address}: ${ended.why}`;
        this.#leave();
      },
    };
    const connection = new Connection(address, this.clock, listener, this.connect);
    this.open.add(connection);
    try {
      await connection.hello({ clusterId: this.clusterId, name: this.name, ms: ANSWER_MS });
      return this.closed ? undefined : connection;
    } catch (error) {
      if (!(error instanceof RaftlockError)) throw error;
      this.trouble = error.message;
      return undefined;
    }
  }

  /** @param {Connection} connection */
  #use(connection) {
    this.clusterId = connection.clusterId;
    this.nodes = new Map(connection.nodes);
    const before = this.current;
    this.current = connection;
    if (before) this.#retire(before);
    this.onChange();
    return connection;
  }

  /**
   * Send nothing more over a connection, and close it when what it carries is answered or given up.
   *
   * @param {Connection} connection
   */
  #retire(connection) {
    if (this.current === connection) this.#leave();
    this.clock
      .sleep(ANSWER_MS, this.closing.signal)
      .then(() => connection.close("another node is used"));
  }

  /**
   * Without a connection no event arrives: who waits for one needs the next connection now, not at
   * its next request.
   */
  #leave() {
    this.current = undefined;
    if (!this.closed) this.onChange();
  }

  /** @param {number} leaderId @param {Connection} from */
  #follow(leaderId, from) {
    const address = this.nodes.get(leaderId);
    const now = this.clock.now();
    if (from !== this.current || leaderId === from.nodeId || !address || now < this.moveAt) return;
    // An address that cannot be reached from here is tried more and more rarely; the follower
    // passes requests on.
    this.moveAt = now + this.movePause;
    this.#dial(address).then((connection) => {
      this.movePause = connection ? MOVE_MS_MIN : Math.min(this.movePause * 2, MOVE_MS_MAX);
      if (connection && from === this.current) this.#use(connection);
      else connection?.close("another node is used");
    });
  }
}
