/**
 * The tables of requests: what each element may be. A request is checked before it is sent, so that
 * a mistake is an
 * error at its caller, with the name of the field.
 */

import { encode } from "@msgpack/msgpack";
import { BadRequest } from "./errors.js";
import { Limits, Op } from "./protocol.js";

/** @typedef {(value: unknown, field: string) => void} Check Throws BadRequest. */

/** @param {unknown} value */
function shown(value) {
  return typeof value === "string" ? JSON.stringify(value.slice(0, 40)) : String(value);
}

/** @param {number} min @param {number} max @returns {Check} */
const int = (min, max) => (value, field) => {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min || value > max) {
    throw new BadRequest(field, `${shown(value)} is not an integer from ${min} to ${max}`);
  }
};

/** @param {number} min @param {number} max @returns {Check} */
const text = (min, max) => (value, field) => {
  const size = typeof value === "string" && value.isWellFormed() ? Buffer.byteLength(value) : -1;
  if (size < min || size > max) {
    throw new BadRequest(field, `${shown(value)} is not text of ${min} to ${max} bytes of UTF-8`);
  }
};

/** @param {Check} check @returns {Check} */
const orNil = (check) => (value, field) => {
  if (value !== null) check(value, field);
};

/** @type {Check} */
const bool = (value, field) => {
  if (typeof value !== "boolean")
    throw new BadRequest(field, `${shown(value)} is neither true nor false`);
};

/** @type {Check} */
const nonce = (value, field) => {
  if (!(value instanceof Uint8Array) || value.length !== Limits.NONCE_SIZE) {
    throw new BadRequest(field, `not ${Limits.NONCE_SIZE} bytes`);
  }
};

/** @type {Check} */
const ttlOfAcquire = (value, field) => {
  if (value !== 0) int(Limits.TTL_MS_MIN, Limits.TTL_MS_MAX)(value, field);
};

/** @type {Check} */
const metadata = (value, field) => {
  if (value === null) return;
  if (
    typeof value !== "object" ||
    ![Object.prototype, null].includes(Object.getPrototypeOf(value))
  ) {
    throw new BadRequest(field, `${shown(value)} is not a map of text to text`);
  }
  const pairs = Object.entries(/** @type {object} */ (value));
  if (pairs.length > Limits.MAP_PAIRS_MAX) {
    throw new BadRequest(field, `${pairs.length} pairs are more than ${Limits.MAP_PAIRS_MAX}`);
  }
  for (const [key, content] of pairs) {
    text(0, Limits.METADATA_SIZE_MAX)(key, field);
    text(0, Limits.METADATA_SIZE_MAX)(content, field);
  }
  const size = encode(value).length;
  if (size > Limits.METADATA_SIZE_MAX) {
    throw new BadRequest(field, `${size} bytes are more than ${Limits.METADATA_SIZE_MAX}`);
  }
};

const number = int(1, Limits.NUMBER_MAX);
const resource = text(1, Limits.RESOURCE_SIZE_MAX);
const slot = int(0, Limits.SLOTS_MAX - 1);
const nodeId = int(1, Limits.NODE_ID_MAX);
const incarnation = text(1, Limits.INCARNATION_SIZE_MAX);
const address = text(1, Limits.ADDRESS_SIZE_MAX);

/** @type {Check} */
const leases = (value, field) => {
  if (!Array.isArray(value) || value.length < 1 || value.length > Limits.RENEW_ITEMS_MAX) {
    throw new BadRequest(field, `not an array of 1 to ${Limits.RENEW_ITEMS_MAX} leases`);
  }
  for (const lease of value) {
    if (!Array.isArray(lease) || lease.length !== 2)
      throw new BadRequest(field, "a lease is [resource, token]");
    resource(lease[0], "resource");
    number(lease[1], "token");
  }
};

/** Elements from 2 on, in order. @type {Record<number, [string, Check][]>} */
const TABLES = {
  [Op.HELLO]: [
    ["version_min", int(1, Limits.VERSION_MAX)],
    ["version_max", int(1, Limits.VERSION_MAX)],
    ["cluster_id", orNil(text(1, Limits.CLUSTER_ID_SIZE_MAX))],
    ["auth", orNil(text(1, Limits.AUTH_SIZE_MAX))],
    ["client_name", text(0, 256)],
  ],
  [Op.OPEN_SESSION]: [
    ["nonce", nonce],
    ["ttl_ms", int(Limits.SESSION_TTL_MS_MIN, Limits.SESSION_TTL_MS_MAX)],
  ],
  [Op.ATTACH]: [
    ["session", number],
    ["nonce", nonce],
  ],
  [Op.KEEP_ALIVE]: [["session", number]],
  [Op.CLOSE_SESSION]: [["session", number]],
  [Op.ACQUIRE]: [
    ["session", number],
    ["slot", slot],
    ["n", number],
    ["resource", resource],
    ["owner", text(1, Limits.OWNER_SIZE_MAX)],
    ["ttl_ms", ttlOfAcquire],
    ["wait_ms", int(0, Limits.WAIT_MS_MAX)],
    ["metadata", metadata],
  ],
  [Op.CANCEL]: [
    ["session", number],
    ["slot", slot],
    ["n", number],
  ],
  [Op.RENEW]: [["leases", leases]],
  [Op.CHANGE_TTL]: [
    ["resource", resource],
    ["token", number],
    ["ttl_ms", int(Limits.TTL_MS_MIN, Limits.TTL_MS_MAX)],
    ["rev", number],
  ],
  [Op.RELEASE]: [
    ["resource", resource],
    ["token", number],
  ],
  [Op.CHECK]: [
    ["resource", resource],
    ["token", number],
  ],
  [Op.GET]: [
    ["resource", resource],
    ["stale", bool],
  ],
  [Op.LIST]: [
    ["by", int(0, 2)],
    ["what", () => {}],
    ["cursor", text(0, Limits.CURSOR_SIZE_MAX)],
    ["limit", int(1, Limits.LIST_PAGE_MAX)],
    ["stale", bool],
  ],
  [Op.FORCE_RELEASE]: [
    ["resource", resource],
    ["token", number],
    ["reason", text(1, Limits.REASON_SIZE_MAX)],
    ["now", bool],
  ],
  [Op.NODE_STATUS]: [],
  [Op.MEMBERS]: [],
  [Op.ADD_MEMBER]: [
    ["node_id", nodeId],
    ["incarnation", incarnation],
    ["peer_address", address],
    ["client_address", address],
  ],
  [Op.PROMOTE_MEMBER]: [
    ["node_id", nodeId],
    ["incarnation", incarnation],
  ],
  [Op.REMOVE_MEMBER]: [
    ["node_id", nodeId],
    ["incarnation", incarnation],
  ],
  [Op.AUDIT_READ]: [
    ["from_index", number],
    ["from_position", int(0, Limits.NUMBER_MAX)],
    ["resource", orNil(resource)],
    ["prefix", orNil(resource)],
    ["owner", orNil(text(1, Limits.OWNER_SIZE_MAX))],
    ["token", orNil(number)],
    ["operation", orNil(text(1, Limits.OPERATION_SIZE_MAX))],
    ["since_us", orNil(int(0, Limits.NUMBER_MAX))],
    ["until_us", orNil(int(0, Limits.NUMBER_MAX))],
    ["limit", int(1, Limits.AUDIT_PAGE_MAX)],
  ],
};

/**
 * Check a request against the tables.
 *
 * @param {unknown} request `[code, id, …fields]`
 * @throws {BadRequest} with the name of the field that is wrong
 */
export function checkRequest(request) {
  if (!Array.isArray(request) || request.length < 2)
    throw new BadRequest("request", "not [code, id, …fields]");
  const [op, id, ...fields] = request;
  number(id, "request_id");
  const table = typeof op === "number" ? TABLES[op] : undefined;
  if (!table) throw new BadRequest("code", `${shown(op)} is not a known request`);
  if (fields.length !== table.length) {
    throw new BadRequest("request", `${request.length} elements, not ${table.length + 2}`);
  }
  table.forEach(([field, check], index) => check(fields[index], field));
  if (op === Op.LIST)
    (fields[0] === 2 ? number : text(0, Limits.RESOURCE_SIZE_MAX))(fields[1], "what");
  if (op === Op.HELLO && fields[1] < fields[0]) {
    throw new BadRequest("version_max", `${fields[1]} is below version_min ${fields[0]}`);
  }
}
