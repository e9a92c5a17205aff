/**
 * What the client says when it cannot do what was asked. Each says what was wrong and, where it
 * helps, what is allowed.
 */

export class RaftlockError extends Error {
  /** @param {string} message @param {ErrorOptions} [options] */
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A value that the protocol does not allow. Nothing was sent, or the server refused it. */
export class BadRequest extends RaftlockError {
  /** @param {string} field @param {string} problem */
  constructor(field, problem) {
    super(`${field}: ${problem}`);
    this.field = field;
  }
}

/** The peer broke the protocol. */
export class ProtocolError extends RaftlockError {}

/** The acquire ended without a lock, and it leaves nothing behind. */
export class NotAcquired extends RaftlockError {
  /**
   * @param {string} resource
   * @param {{reason: string, owner?: string, holderToken?: number}} about
   */
  constructor(resource, { reason, owner, holderToken }) {
    super(`${resource} was not acquired: ${reason}`);
    this.resource = resource;
    this.reason = reason;
    /** Who holds it, if the cluster said so. */
    this.owner = owner;
    this.holderToken = holderToken;
  }
}

/**
 * The lock is not held any more: its deadline passed, or somebody ended it. It is the reason of
 * `lock.signal`.
 */
export class LockLost extends RaftlockError {
  /** @param {string} resource @param {number} token @param {string} reason */
  constructor(resource, token, reason) {
    super(`${resource} under token ${token} is not held any more: ${reason}`);
    this.resource = resource;
    this.token = token;
    this.reason = reason;
  }
}

/**
 * No node answered for certain in the time that was given. The request had no effect, or it may be
 * repeated.
 */
export class Unavailable extends RaftlockError {}

/** A request may or may not have its effect. Of an acquire, the client goes on to cancel it. */
export class OutcomeUnknown extends RaftlockError {}

/** A limit of the cluster or of the client is reached. */
export class QuotaExceeded extends RaftlockError {}

/** It belongs to another principal, or the nonce is not the session's. */
export class Forbidden extends RaftlockError {}
