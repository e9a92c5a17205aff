/**
 * The numbers and tables of `wire/PROTOCOL.md`: codes, statuses, limits, and the names of the
 * elements of answers and
 * events. It knows neither bytes nor connections.
 */

export const VERSION = 1;

/** Request codes ("Requests"). */
export const Op = Object.freeze({
  HELLO: 1,
  OPEN_SESSION: 2,
  ATTACH: 3,
  KEEP_ALIVE: 4,
  CLOSE_SESSION: 5,
  ACQUIRE: 6,
  CANCEL: 7,
  RENEW: 8,
  CHANGE_TTL: 9,
  RELEASE: 10,
  CHECK: 11,
  GET: 12,
  LIST: 13,
  FORCE_RELEASE: 14,
  NODE_STATUS: 15,
  MEMBERS: 16,
  ADD_MEMBER: 17,
  PROMOTE_MEMBER: 18,
  REMOVE_MEMBER: 19,
  AUDIT_READ: 20,
});

/** Element 1 of an answer ("Statuses"). */
export const Status = Object.freeze({
  OK: 0,
  OFFERED: 1,
  QUEUED: 2,
  HELD: 3,
  NOT_HELD: 4,
  ENDING: 5,
  SESSION_EXPIRED: 6,
  TIMEOUT: 7,
  CANCELLED: 8,
  NO_QUORUM: 9,
  UNKNOWN: 10,
  OVERLOADED: 11,
  QUOTA_EXCEEDED: 12,
  UNAUTHENTICATED: 13,
  FORBIDDEN: 14,
  BAD_REQUEST: 15,
  TOO_LARGE: 16,
  UNSUPPORTED_VERSION: 17,
  REFUSED: 18,
});

/** Event codes ("Events"). */
export const Event = Object.freeze({
  OFFERED: 1,
  TIMEOUT: 2,
  LOST: 3,
  CUT: 4,
  ROUTES_LOST: 5,
  SESSION_ENDED: 6,
  GOODBYE: 7,
});

/** Element 1 of an info. */
export const State = Object.freeze({ HELD: 0, OFFERED: 1, ENDING: 2, WAITING: 3 });

/** "Limits", and those of a client that "The client" names. */
export const Limits = Object.freeze({
  FRAME_HEADER_SIZE: 4,
  FRAME_SIZE_MAX: 1_048_576,
  ANSWER_FRAME_SIZE_MAX: 16_777_216,
  FRAME_MESSAGES_MAX: 4_096,
  MAP_PAIRS_MAX: 64,
  NESTING_MAX: 500,
  NUMBER_MAX: Number.MAX_SAFE_INTEGER,
  VERSION_MAX: 65_535,
  RESOURCE_SIZE_MAX: 512,
  OWNER_SIZE_MAX: 256,
  METADATA_SIZE_MAX: 1_024,
  REASON_SIZE_MAX: 1_024,
  CURSOR_SIZE_MAX: 1_024,
  CLUSTER_ID_SIZE_MAX: 64,
  NODE_ID_MAX: 65_535,
  INCARNATION_SIZE_MAX: 64,
  ADDRESS_SIZE_MAX: 261,
  AUTH_SIZE_MAX: 4_096,
  NONCE_SIZE: 16,
  TTL_MS_MIN: 100,
  TTL_MS_MAX: 86_400_000,
  SESSION_TTL_MS_MIN: 1_000,
  SESSION_TTL_MS_MAX: 300_000,
  WAIT_MS_MAX: 86_400_000,
  RENEW_ITEMS_MAX: 1_000,
  LIST_PAGE_MAX: 1_000,
  AUDIT_PAGE_MAX: 1_000,
  OPERATION_SIZE_MAX: 32,
  SLOTS_MAX: 4_096,
  REQUESTS_PER_CONNECTION_MAX: 8_192,
});

const { OK, OFFERED, QUEUED, HELD, NOT_HELD, ENDING, SESSION_EXPIRED, TIMEOUT, CANCELLED } = Status;
const { QUOTA_EXCEEDED, FORBIDDEN, UNSUPPORTED_VERSION, REFUSED } = Status;

/** What any request may be answered with. @type {Record<number, string[]>} */
const ANY_ANSWER = {
  [Status.NO_QUORUM]: ["why"],
  [Status.UNKNOWN]: [],
  [Status.OVERLOADED]: ["retry_after_ms", "reason"],
  [Status.BAD_REQUEST]: ["field", "problem"],
  [Status.UNAUTHENTICATED]: ["why"],
};

const QUOTA = { [QUOTA_EXCEEDED]: ["quota", "quota_max"] };
const NOT_THE_HOLDER = { [NOT_HELD]: ["holder_token"] };

/**
 * The elements of answers from 3 on, by request and status.
 *
 * @type {Record<number, Record<number, string[]>>}
 */
const ANSWERS = {
  [Op.HELLO]: {
    [OK]: ["version", "cluster_id", "node_id", "nodes", "bounds"],
    [UNSUPPORTED_VERSION]: ["version_min", "version_max"],
  },
  [Op.OPEN_SESSION]: { [OK]: ["session", "ttl_ms", "count"], ...QUOTA, [FORBIDDEN]: ["why"] },
  [Op.ATTACH]: {
    [OK]: ["session", "ttl_ms", "count"],
    [SESSION_EXPIRED]: [],
    [FORBIDDEN]: ["why"],
    ...QUOTA,
  },
  [Op.KEEP_ALIVE]: { [OK]: ["count"], [SESSION_EXPIRED]: [] },
  [Op.CLOSE_SESSION]: { [OK]: [], [SESSION_EXPIRED]: [] },
  [Op.ACQUIRE]: {
    [OK]: ["count", "token", "rev"],
    [OFFERED]: ["count", "token", "rev"],
    [QUEUED]: ["count", "place"],
    [HELD]: ["count", "owner", "holder_token", "since_us"],
    [NOT_HELD]: ["count", "holder_token"],
    [ENDING]: ["count", "token"],
    [SESSION_EXPIRED]: [],
    [TIMEOUT]: ["count"],
    [CANCELLED]: ["count"],
    ...QUOTA,
  },
  [Op.CANCEL]: { [CANCELLED]: ["count", "withdrawn", "holder_token"], [SESSION_EXPIRED]: [] },
  [Op.RENEW]: { [OK]: ["items"] },
  [Op.CHANGE_TTL]: {
    [OK]: ["rev", "ttl_ms"],
    [HELD]: ["rev", "ttl_ms"],
    ...NOT_THE_HOLDER,
    [ENDING]: [],
    [FORBIDDEN]: ["why"],
  },
  [Op.RELEASE]: { [OK]: [], ...NOT_THE_HOLDER, [FORBIDDEN]: ["why"] },
  [Op.CHECK]: { [OK]: ["rev"], [OFFERED]: ["rev"], ...NOT_THE_HOLDER },
  [Op.GET]: { [OK]: ["age_ms", "info"] },
  [Op.LIST]: { [OK]: ["age_ms", "infos", "cursor"] },
  [Op.FORCE_RELEASE]: { [OK]: ["now"], ...NOT_THE_HOLDER },
  [Op.NODE_STATUS]: { [OK]: ["values"] },
  [Op.MEMBERS]: { [OK]: ["cluster_id", "settled", "members"] },
  [Op.ADD_MEMBER]: { [OK]: [], [REFUSED]: ["cause", "why"] },
  [Op.PROMOTE_MEMBER]: { [OK]: [], [REFUSED]: ["cause", "why"] },
  [Op.REMOVE_MEMBER]: { [OK]: [], [REFUSED]: ["cause", "why"] },
  [Op.AUDIT_READ]: {
    [OK]: ["applied_index", "spans", "next_index", "next_position", "complete", "records"],
    [REFUSED]: ["cause", "why"],
  },
};

/**
 * The elements of an item of a RENEW's answer from 1 on, by its status.
 *
 * @type {Record<number, string[]>}
 */
export const ITEM_FIELDS = {
  [OK]: ["item_count", "rev", "ttl_ms", "expires_in_ms"],
  [ENDING]: ["item_count", "rev", "ttl_ms", "expires_in_ms"],
  [NOT_HELD]: ["holder_token"],
};

/** The elements of an info. */
export const INFO_FIELDS = [
  "resource",
  "state",
  "info_token",
  "info_rev",
  "owner",
  "session",
  "slot",
  "n",
  "ttl_ms",
  "since_us",
  "principal",
  "address",
  "metadata",
  "waiters",
  "expires_in_ms",
];

/** The elements of events from 2 on. @type {Record<number, string[]>} */
export const EVENT_FIELDS = {
  [Event.OFFERED]: ["session", "count", "slot", "n", "resource", "token", "rev"],
  [Event.TIMEOUT]: ["session", "count", "slot", "n"],
  [Event.LOST]: ["session", "count", "resource", "token"],
  [Event.CUT]: ["session", "count", "resource", "token"],
  [Event.ROUTES_LOST]: [],
  [Event.SESSION_ENDED]: ["session", "count"],
  [Event.GOODBYE]: ["goodbye", "why"],
};

/**
 * Name the elements of an answer from 3 on. A status that is not in the tables has none: `final`
 * alone counts then.
 *
 * @param {number} op @param {number} status @returns {string[]}
 */
export function answerFields(op, status) {
  return ANSWERS[op]?.[status] ?? ANY_ANSWER[status] ?? [];
}

/**
 * Say the name of a code, for people.
 *
 * @param {Record<string, number>} names @param {number} code
 */
export function nameOf(names, code) {
  return Object.keys(names).find((name) => names[name] === code) ?? String(code);
}
