/**
 * The strict dialect of msgpack that "Values" allows, from bytes to values.
 *
 * The general decoder of `@msgpack/msgpack` takes text that is not UTF-8 and the same key twice,
 * and it refuses a whole
 * frame for a key `__proto__`, which is allowed in anybody's metadata. So this reads what arrives;
 * that package writes.
 */

import { ProtocolError } from "./errors.js";
import { Limits } from "./protocol.js";

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A value that msgpack knows and no field of the protocol takes. */
export class Timestamp {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes;
  }
}

class Reader {
  /** @param {Uint8Array} bytes @param {number} outerMax */
  constructor(bytes, outerMax) {
    this.bytes = bytes;
    this.outerMax = outerMax;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  /** @param {number} size @returns {number} where the next `size` bytes begin */
  take(size) {
    const at = this.at;
    if (size > this.bytes.length - at)
      throw new ProtocolError(`cut short: ${size} bytes are missing at ${at}`);
    this.at += size;
    return at;
  }

  /** @param {number} size */
  uint(size) {
    const at = this.take(size);
    if (size === 1) return this.view.getUint8(at);
    if (size === 2) return this.view.getUint16(at);
    if (size === 4) return this.view.getUint32(at);
    return Number(this.view.getBigUint64(at));
  }

  /** @param {number} size */
  int(size) {
    const at = this.take(size);
    if (size === 1) return this.view.getInt8(at);
    if (size === 2) return this.view.getInt16(at);
    if (size === 4) return this.view.getInt32(at);
    return Number(this.view.getBigInt64(at));
  }

  /** @param {number} size */
  text(size) {
    const at = this.take(size);
    try {
      return UTF8.decode(this.bytes.subarray(at, at + size));
    } catch {
      throw new ProtocolError(`text that is not UTF-8 at ${at}`);
    }
  }

  /** @param {number} size */
  bin(size) {
    const at = this.take(size);
    return new Uint8Array(this.bytes.subarray(at, at + size));
  }

  /** @param {number} size */
  extension(size) {
    const type = this.int(1);
    if (type !== -1) throw new ProtocolError(`an extension of type ${type} at ${this.at}`);
    return new Timestamp(this.bin(size));
  }

  /** @param {number} count @param {number} depth */
  array(count, depth) {
    const max = depth === 0 ? this.outerMax : Limits.FRAME_MESSAGES_MAX;
    if (count > max) throw new ProtocolError(`an array of ${count} elements, more than ${max}`);
    const values = [];
    for (let index = 0; index < count; index += 1) values.push(this.value(depth + 1));
    return values;
  }

  /** @param {number} count @param {number} depth */
  map(count, depth) {
    if (count > Limits.MAP_PAIRS_MAX) {
      throw new ProtocolError(`a map of ${count} pairs, more than ${Limits.MAP_PAIRS_MAX}`);
    }
    /** @type {Record<string, unknown>} */
    const pairs = {};
    for (let index = 0; index < count; index += 1) {
      const key = this.value(depth + 1);
      if (typeof key !== "string") throw new ProtocolError(`a key that is not text at ${this.at}`);
      if (Object.hasOwn(pairs, key))
        throw new ProtocolError(`the key ${JSON.stringify(key)} twice`);
      // Assignment to `__proto__` would set the prototype instead of a property.
      Object.defineProperty(pairs, key, {
        value: this.value(depth + 1),
        enumerable: true,
        configurable: true,
        writable: true,
      });
    }
    return pairs;
  }

  /** @param {number} depth @returns {unknown} */
  value(depth) {
    if (depth > Limits.NESTING_MAX)
      throw new ProtocolError(`nested deeper than ${Limits.NESTING_MAX}`);
    const head = this.uint(1);
    if (head < 0x80) return head;
    if (head < 0x90) return this.map(head & 0x0f, depth);
    if (head < 0xa0) return this.array(head & 0x0f, depth);
    if (head < 0xc0) return this.text(head & 0x1f);
    if (head >= 0xe0) return head - 0x100;
    switch (head) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.bin(this.uint(1 << (head - 0xc4)));
      case 0xca:
        return this.view.getFloat32(this.take(4));
      case 0xcb:
        return this.view.getFloat64(this.take(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
      case 0xcf:
        return this.uint(1 << (head - 0xcc));
      case 0xd0:
      case 0xd1:
      case 0xd2:
      case 0xd3:
        return this.int(1 << (head - 0xd0));
      case 0xc7:
        return this.extension(this.uint(1));
      case 0xd6:
      case 0xd7:
        return this.extension(4 << (head - 0xd6));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.text(this.uint(1 << (head - 0xd9)));
      case 0xdc:
      case 0xdd:
        return this.array(this.uint(2 << (head - 0xdc)), depth);
      case 0xde:
      case 0xdf:
        return this.map(this.uint(2 << (head - 0xde)), depth);
      default:
        throw new ProtocolError(
          `byte 0x${head.toString(16)} at ${this.at - 1} begins no value of the protocol`,
        );
    }
  }
}

/**
 * Decode a payload: one value and nothing behind it.
 *
 * @param {Uint8Array} payload
 * @param {number} [outerMax] elements of the array that it is
 * @returns {unknown}
 * @throws {ProtocolError}
 */
export function decode(payload, outerMax = Limits.FRAME_MESSAGES_MAX) {
  const reader = new Reader(payload, outerMax);
  const value = reader.value(0);
  if (reader.at !== payload.length)
    throw new ProtocolError(`${payload.length - reader.at} bytes behind the value`);
  return value;
}
