/** Frames: a length and a payload, in both directions, and what the messages in them are called. */

import { encode } from "@msgpack/msgpack";
import { decode } from "./decode.js";
import { ProtocolError } from "./errors.js";
import { answerFields, EVENT_FIELDS, INFO_FIELDS, ITEM_FIELDS, Limits } from "./protocol.js";

/**
 * @typedef {{status: number, final: boolean, [field: string]: any}} Answer
 * @typedef {{code: number, [field: string]: any}} ServerEvent
 */

/** @param {number} count */
function arrayHead(count) {
  return count < 16 ? Buffer.from([0x90 | count]) : Buffer.from([0xdc, count >> 8, count & 0xff]);
}

/**
 * Put requests into frames, as few as the limits allow.
 *
 * @param {unknown[][]} requests `[code, id, …fields]` each, checked @returns {Buffer}
 */
export function encodeFrames(requests) {
  /** @type {Uint8Array[]} */
  const frames = [];
  /** @type {Uint8Array[]} */
  let parts = [];
  let size = 0;
  const close = () => {
    const head = arrayHead(parts.length);
    const length = Buffer.alloc(Limits.FRAME_HEADER_SIZE);
    length.writeUInt32BE(head.length + size);
    frames.push(length, head, ...parts);
    parts = [];
    size = 0;
  };
  for (const request of requests) {
    const part = encode(request);
    // 3 bytes are the longest head of an array of so many messages.
    const full =
      parts.length === Limits.FRAME_MESSAGES_MAX || 3 + size + part.length > Limits.FRAME_SIZE_MAX;
    if (parts.length > 0 && full) close();
    parts.push(part);
    size += part.length;
  }
  if (parts.length > 0) close();
  return Buffer.concat(frames);
}

/** Cuts a stream into payloads. */
export class FrameReader {
  /** @param {number} sizeMax */
  constructor(sizeMax = Limits.ANSWER_FRAME_SIZE_MAX) {
    this.sizeMax = sizeMax;
    /** @type {Buffer[]} */
    this.chunks = [];
    this.size = 0;
  }

  /**
   * Take what arrived and return the payloads that are complete now.
   *
   * @param {Buffer} chunk @returns {Buffer[]} @throws {ProtocolError} for a frame above the limit
   */
  feed(chunk) {
    this.chunks.push(chunk);
    this.size += chunk.length;
    const payloads = [];
    for (
      let length = this.#length();
      length !== null && this.size >= 4 + length;
      length = this.#length()
    ) {
      const all = this.#joined();
      payloads.push(all.subarray(4, 4 + length));
      this.chunks = [all.subarray(4 + length)];
      this.size = this.chunks[0].length;
    }
    return payloads;
  }

  #joined() {
    if (this.chunks.length > 1) this.chunks = [Buffer.concat(this.chunks)];
    return this.chunks[0];
  }

  /** @returns {number | null} */
  #length() {
    if (this.size < Limits.FRAME_HEADER_SIZE) return null;
    if (this.chunks[0].length < Limits.FRAME_HEADER_SIZE) this.#joined();
    const length = this.chunks[0].readUInt32BE(0);
    if (length > this.sizeMax)
      throw new ProtocolError(`frame of ${length} bytes exceeds ${this.sizeMax}`);
    return length;
  }
}

/**
 * Decode a frame of the server.
 *
 * @param {Uint8Array} payload
 * @returns {{leaderId: number, messages: unknown[][]}} @throws {ProtocolError}
 */
export function decodeFrame(payload) {
  const value = decode(payload, 1 + Limits.FRAME_MESSAGES_MAX);
  if (!Array.isArray(value) || !Number.isSafeInteger(value[0]) || value[0] < 0) {
    throw new ProtocolError("a frame that is not [leader_id, message, …]");
  }
  const [leaderId, ...messages] = value;
  if (!messages.every((message) => Array.isArray(message) && Number.isSafeInteger(message[0]))) {
    throw new ProtocolError("a message that is not an array with an id");
  }
  return { leaderId, messages };
}

/**
 * @param {string[]} names
 * @param {unknown[]} values
 * @param {string} what
 * @returns {Record<string, any>}
 */
function named(names, values, what) {
  if (values.length < names.length) {
    throw new ProtocolError(
      `${what} has ${values.length} fields, not ${names.length} (${names.join(", ")})`,
    );
  }
  return Object.fromEntries(names.map((name, index) => [name, values[index]]));
}

/**
 * Name the elements of an info. Elements that this client does not know are left out.
 *
 * @param {unknown[]} info
 */
export function namedInfo(info) {
  return named(INFO_FIELDS, info, "an info");
}

/**
 * Name the elements of an answer, `[id, status, final, …]`.
 *
 * @param {number} op of the request @param {any[]} message @returns {Answer}
 */
export function namedAnswer(op, message) {
  const [, status, final, ...fields] = message;
  if (!Number.isSafeInteger(status) || typeof final !== "boolean") {
    throw new ProtocolError("an answer that is not [id, status, final, …]");
  }
  /** @type {Answer} */
  const answer = {
    status,
    final,
    ...named(answerFields(op, status), fields, `an answer to request ${op}`),
  };
  if (answer.items) answer.items = answer.items.map(namedItem);
  if (answer.info) answer.info = namedInfo(answer.info);
  if (answer.infos) answer.infos = answer.infos.map(namedInfo);
  return answer;
}

/** @param {any[]} item @returns {{status: number, [field: string]: any}} */
function namedItem([status, ...fields]) {
  return { status, ...named(ITEM_FIELDS[status] ?? [], fields, "an item") };
}

/**
 * Name the elements of an event, `[0, code, …]`; null for one that this client does not know.
 *
 * @param {any[]} message @returns {ServerEvent | null}
 */
export function namedEvent([, code, ...fields]) {
  const names = EVENT_FIELDS[code];
  return names ? { code, ...named(names, fields, `event ${code}`) } : null;
}
