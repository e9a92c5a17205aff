/**
 * One TCP connection: HELLO, requests by id, answers, events. It retries nothing and knows no other
 * node.
 */

import net from "node:net";
import { BadRequest, ProtocolError, RaftlockError } from "./errors.js";
import { decodeFrame, encodeFrames, FrameReader, namedAnswer, namedEvent } from "./frames.js";
import { Event, Limits, Op, Status, VERSION } from "./protocol.js";
import { checkRequest } from "./requests.js";

/**
 * @typedef {import("./frames.js").Answer} Answer
 * @typedef {import("./frames.js").ServerEvent} ServerEvent
 * @typedef {{op: number, resolve: (answer: Answer | undefined) => void}} Waiting
 * @typedef {object} Listener
 * @property {(event: ServerEvent) => void} onEvent
 * @property {(leaderId: number, connection: Connection) => void} onLeader
 * @property {(connection: Connection) => void} onClose
 */

/** @param {string} address `host:port`, or `[v6]:port` */
export function parseAddress(address) {
  const match = /^(?:\[([^\]]+)\]|([^:\s]+)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (!match || port < 1 || port > 65_535) {
    throw new BadRequest(
      "endpoints",
      `${JSON.stringify(address)} is not host:port, as in 10.0.0.1:7401`,
    );
  }
  return { host: match[1] ?? match[2], port };
}

/** @param {string} address */
const overTcp = (address) => net.connect({ ...parseAddress(address), noDelay: true });

export class Connection {
  /**
   * @param {string} address @param {import("./clock.js").Clock} clock @param {Listener} listener
   * @param {(address: string) => import("node:stream").Duplex} [connect]
   */
  constructor(address, clock, listener, connect = overTcp) {
    this.address = address;
    this.clock = clock;
    this.listener = listener;
    this.closed = false;
    this.nodeId = 0;
    this.clusterId = "";
    /** @type {[number, string][]} */
    this.nodes = [];
    this.requestsMax = Limits.REQUESTS_PER_CONNECTION_MAX;
    this.slotsMax = Limits.SLOTS_MAX;
    /** Why it ended, for people. */
    this.why = "";
    /**
     * Sessions attached here, or on their way to it.
     *
     * @type {Map<number, Promise<Answer | undefined>>}
     */
    this.attached = new Map();
    /** @type {Map<number, Waiting>} */
    this.waiting = new Map();
    /** @type {unknown[][]} */
    this.outbox = [];
    this.lastId = 0;
    this.reader = new FrameReader();
    this.socket = connect(address);
    this.socket.on("data", (chunk) => this.#read(chunk));
    this.socket.on("error", (error) => {
      this.why ||= error.message;
    });
    this.socket.on("close", () => this.close("the connection was lost"));
  }

  /**
   * Say HELLO, and learn the version, the cluster and its nodes.
   *
   * @param {{clusterId: string | null, name: string, ms: number}} how
   * @throws {RaftlockError} if this node does not serve; the connection is closed then
   */
  async hello({ clusterId, name, ms }) {
    const answer = await this.request(Op.HELLO, [VERSION, VERSION, clusterId, null, name], ms);
    if (answer?.status === Status.OK) {
      this.nodeId = answer.node_id;
      this.clusterId = answer.cluster_id;
      this.nodes = answer.nodes;
      this.requestsMax = answer.bounds.requests_max ?? this.requestsMax;
      this.slotsMax = answer.bounds.slots_max ?? this.slotsMax;
      return;
    }
    if (answer?.status === Status.UNSUPPORTED_VERSION) {
      this.close(
        `it speaks versions ${answer.version_min} to ${answer.version_max}, not ${VERSION}`,
      );
    } else {
      this.close(answer?.problem ?? "no answer to HELLO");
    }
    throw new RaftlockError(`${this.address}: ${this.why}`);
  }

  /**
   * Send a request and wait for its answer. Requests of one turn of the event loop leave in one
   * frame.
   *
   * @param {number} op @param {unknown[]} fields @param {number} ms
   * @param {AbortSignal[]} signals end the wait, not the request
   * @returns {Promise<Answer | undefined>} undefined: no answer came; the request may or may not have its effect
   * @throws {BadRequest} if a field is not what the protocol allows
   */
  async request(op, fields, ms, ...signals) {
    const id = this.lastId + 1;
    const request = [op, id, ...fields];
    checkRequest(request);
    if (this.closed || this.waiting.size >= this.requestsMax) return undefined;
    this.lastId = id;
    const answered = new Promise((resolve) => this.waiting.set(id, { op, resolve }));
    if (this.outbox.push(request) === 1) queueMicrotask(() => this.#flush());
    const answer = await this.clock.within(answered, ms, ...signals);
    this.waiting.delete(id);
    return answer;
  }

  /** @param {string} why */
  close(why) {
    if (this.closed) return;
    this.closed = true;
    this.why ||= why;
    this.socket.destroy();
    for (const { resolve } of this.waiting.values()) resolve(undefined);
    this.waiting.clear();
    this.listener.onClose(this);
  }

  #flush() {
    const requests = this.outbox;
    this.outbox = [];
    if (!this.closed) this.socket.write(encodeFrames(requests));
  }

  /** @param {Buffer} chunk */
  #read(chunk) {
    if (this.closed) return;
    try {
      for (const payload of this.reader.feed(chunk)) {
        const { leaderId, messages } = decodeFrame(payload);
        for (const message of messages) this.#take(message);
        if (leaderId !== 0 && !this.closed) this.listener.onLeader(leaderId, this);
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.close(error.message);
    }
  }

  /** @param {any[]} message */
  #take(message) {
    const id = message[0];
    const waiting = this.waiting.get(id);
    if (waiting) return waiting.resolve(namedAnswer(waiting.op, message));
    if (id !== 0) return undefined; // An answer to an attempt that was given up.
    const event = namedEvent(message);
    if (event?.code === Event.GOODBYE) return this.close(`${event.goodbye}: ${event.why}`);
    if (event) return this.listener.onEvent(event);
    // An answer under id 0. Before HELLO is answered it is the answer to HELLO, which alone was
    // sent.
    const hello = this.waiting.get(1);
    if (hello?.op === Op.HELLO && message[1] === Status.BAD_REQUEST)
      hello.resolve(namedAnswer(Op.HELLO, message));
    return undefined;
  }
}
