/**
 * One acquire under its key, from the first attempt to an answer that is certain, or to a CANCEL
 * that is (rules R1 to R9).
 */

import { setMaxListeners } from "node:events";
import { Backoff, margin } from "./clock.js";
import { BadRequest, NotAcquired, OutcomeUnknown, QuotaExceeded, Unavailable } from "./errors.js";
import { Event, nameOf, Op, State, Status } from "./protocol.js";

/**
 * @typedef {import("./frames.js").Answer} Answer
 * @typedef {{name: string, owner: string, ttl: number, wait: number, metadata: Record<string, string> | null}} Wish
 * @typedef {{token: number, rev: number, deadline: number, renewNow: boolean}} Grant
 *
 * @typedef {{grant: Grant} | {refused: Error} | {cancel: Error} | {expired: true}} Outcome
 * `refused`: it ended, and nothing is left. `cancel`: it must be cancelled before the error is
 * reported. `expired`: R9.
 */

/** Answers that say that an attempt was not taken. @type {Set<number>} */
const REFUSALS = new Set([Status.NO_QUORUM, Status.OVERLOADED, Status.BAD_REQUEST]);

/** Why the wait in the queue ended. */
const AGAIN = "again";
const STOPPED = "stopped";

export class Acquire {
  /**
   * @param {import("./cluster.js").Cluster} cluster @param {import("./session.js").Session} session
   * @param {Wish} wish @param {number} limit when the client gives up by itself
   */
  constructor(cluster, session, wish, limit) {
    this.cluster = cluster;
    this.clock = cluster.clock;
    this.session = session;
    this.wish = wish;
    this.limit = limit;
    this.stopping = new AbortController();
    setMaxListeners(0, this.stopping.signal);
    /** @type {Error | undefined} */
    this.stopReason = undefined;
    this.attempts = 0;
    this.first = this.clock.now();
    /** @type {import("./frames.js").ServerEvent | undefined} */
    this.offer = undefined;
    this.again = false;
    this.wake = () => {};
    const { slot, n } = session.take(this, cluster.current?.slotsMax ?? Number.POSITIVE_INFINITY);
    this.slot = slot;
    this.n = n;
    /** Settled when nothing of it can take effect any more. @type {Promise<void>} */
    this.ended = new Promise((resolve) => {
      this.setEnded = resolve;
    });
    session.ending.signal.addEventListener("abort", () =>
      this.stop(new NotAcquired(wish.name, { reason: "the session ended" })),
    );
  }

  get key() {
    return [this.session.id, this.slot, this.n];
  }

  /** Give up: cancel until that is certain. @param {Error} reason what the caller is told */
  stop(reason) {
    this.stopReason ??= reason;
    this.stopping.abort();
    this.wake();
  }

  /** @param {import("./frames.js").ServerEvent} event */
  event(event) {
    if (event.n !== this.n) return;
    this.offer = event;
    this.wake();
  }

  /** An event may have been lost: ask with the same key. */
  askAgain() {
    this.again = true;
    this.wake();
  }

  /**
   * Run to the end.
   *
   * @param {(grant: Grant) => void} hold called in the same step in which the grant was found to be good
   * @param {number} patience milliseconds for the CANCEL; then the outcome is unknown to the caller, and it goes on
   */
  async run(hold, patience) {
    const outcome = await this.#outcome();
    if ("grant" in outcome) {
      const objection = this.#objection();
      if (!objection) {
        this.#free();
        return hold(outcome.grant);
      }
      return this.#withdraw(objection, patience);
    }
    if ("refused" in outcome) {
      this.#free();
      throw outcome.refused;
    }
    if ("cancel" in outcome) return this.#withdraw(outcome.cancel, patience);
    return this.#withdraw(
      new NotAcquired(this.wish.name, { reason: "the session ended" }),
      patience,
      true,
    );
  }

  /** Why a grant must not become a lock. @returns {Error | undefined} */
  #objection() {
    const late = this.session.over || this.clock.now() >= this.session.alive;
    if (late) return new NotAcquired(this.wish.name, { reason: "the session ended" });
    return this.stopReason;
  }

  /** @returns {Promise<Outcome>} */
  async #outcome() {
    const pauses = new Backoff(this.cluster.random);
    for (;;) {
      const { answer, last } = await this.#ask();
      this.session.met(answer?.count);
      if (!answer) return this.#unanswered(last);
      switch (answer.status) {
        case Status.OK: {
          if (this.wish.ttl > 0) return this.#granted(answer);
          if (answer.count >= this.session.hi) return this.#inSession(answer.token, answer.rev);
          // Something happened to the session that may concern this grant (rule L9).
          await this.clock.sleep(pauses.next(), this.stopping.signal);
          break;
        }
        case Status.OFFERED:
          return this.#takeUp(answer.token, pauses);
        case Status.QUEUED: {
          const woken = await this.#queued();
          if (woken === STOPPED) return { cancel: this.#reason("timeout") };
          if (woken === AGAIN) break;
          if (woken.code === Event.TIMEOUT) return this.#refused("timeout");
          return this.#takeUp(woken.token, pauses);
        }
        default:
          return this.#ended(answer);
      }
    }
  }

  async #ask() {
    this.again = false;
    const { name, owner, ttl, wait, metadata } = this.wish;
    const asked = await this.cluster.ask(
      Op.ACQUIRE,
      [...this.key, name, owner, ttl, wait, metadata],
      {
        until: this.limit,
        session: this.session,
        signals: [this.stopping.signal],
        settles: (answer) => answer.status === Status.QUEUED,
      },
    );
    this.attempts += asked.attempts;
    return asked;
  }

  /**
   * No answer ended it. Nothing is left only if nothing was sent, or one attempt that was refused
   * (rule R4).
   *
   * @param {Answer | undefined} last @returns {Outcome}
   */
  #unanswered(last) {
    const refused = last !== undefined && REFUSALS.has(last.status);
    const nothingLeft = this.attempts === 0 || (this.attempts === 1 && refused);
    const why = last?.why ?? last?.reason ?? last?.problem ?? (this.cluster.trouble || "no answer");
    const error = this.stopReason ?? new Unavailable(`${this.wish.name}: ${why}`);
    return nothingLeft ? { refused: error } : { cancel: error };
  }

  /**
   * An answer that is neither a grant nor a place in the queue.
   *
   * @param {Answer} answer
   * @returns {Outcome}
   */
  #ended(answer) {
    const { status } = answer;
    if (status === Status.SESSION_EXPIRED) return { expired: true };
    if (status === Status.ENDING) return { cancel: this.#reason("an administrator ended it") };
    if (status === Status.HELD) {
      return this.#refused(
        `held by ${answer.owner || "nobody yet"}`,
        answer.owner,
        answer.holder_token,
      );
    }
    const refused = this.#error(answer);
    return answer.final || this.attempts === 1 ? { refused } : { cancel: refused };
  }

  /** @param {Answer} answer @returns {Error} */
  #error({ status, field, problem, quota, quota_max }) {
    if (status === Status.BAD_REQUEST) return new BadRequest(field, problem);
    if (status === Status.QUOTA_EXCEEDED) {
      return new QuotaExceeded(`${this.wish.name}: ${quota} are limited to ${quota_max}`);
    }
    return this.#reason(nameOf(Status, status).toLowerCase().replaceAll("_", " "));
  }

  /**
   * @param {string} reason
   * @param {string} [owner]
   * @param {number} [holderToken]
   * @returns {Outcome}
   */
  #refused(reason, owner, holderToken) {
    return { refused: new NotAcquired(this.wish.name, { reason, owner, holderToken }) };
  }

  /** @param {string} reason */
  #reason(reason) {
    return this.stopReason ?? new NotAcquired(this.wish.name, { reason });
  }

  /**
   * Granted at once, with a lease of its own: counted from the FIRST attempt, for a recorded
   * outcome re-arms nothing.
   *
   * @param {Answer} answer @returns {Promise<Outcome> | Outcome}
   */
  #granted({ token, rev }) {
    const deadline = this.first + this.wish.ttl - margin(this.wish.ttl);
    if (this.clock.now() >= deadline) return this.#takeUp(token, new Backoff(this.cluster.random));
    return { grant: { token, rev, deadline, renewNow: this.attempts > 1 } };
  }

  /** @param {number} token @param {number} rev @returns {Outcome} */
  #inSession(token, rev) {
    return { grant: { token, rev, deadline: this.session.alive, renewNow: false } };
  }

  /**
   * Rule L10: nobody holds an offer until a RENEW of it is answered.
   *
   * @param {number} token
   * @param {Backoff} pauses
   * @returns {Promise<Outcome>}
   */
  async #takeUp(token, pauses) {
    const { ttl } = this.wish;
    const how = { until: this.limit, signals: [this.stopping.signal] };
    for (;;) {
      const { answer, sent } = await this.cluster.ask(Op.RENEW, [[[this.wish.name, token]]], how);
      const item = answer?.items?.[0];
      this.session.met(item?.item_count);
      if (item?.status === Status.NOT_HELD) return this.#refused("its offer passed on");
      if (item?.status !== Status.OK)
        return { cancel: this.#reason("its offer could not be taken up") };
      const deadline = sent + ttl - margin(ttl);
      if (ttl > 0) return { grant: { token, rev: item.rev, deadline, renewNow: false } };
      if (item.item_count >= this.session.hi) return this.#inSession(token, item.rev);
      await this.clock.sleep(pauses.next(), this.stopping.signal);
    }
  }

  /**
   * Wait for what ends the wait in the queue.
   *
   * @returns {Promise<AGAIN | STOPPED | import("./frames.js").ServerEvent>}
   */
  async #queued() {
    const left = () => this.limit - this.clock.now();
    while (left() > 0 && !this.stopping.signal.aborted) {
      if (this.offer) return this.offer;
      if (this.again) return AGAIN;
      const woken = new Promise((resolve) => {
        this.wake = () => resolve(true);
      });
      await this.clock.within(woken, left(), this.stopping.signal);
    }
    return STOPPED;
  }

  /**
   * Leave nothing behind, then say why.
   *
   * @param {Error} error
   * @param {number} patience
   * @param {boolean} [expired] the session is known to be over
   * @returns {Promise<never>}
   */
  async #withdraw(error, patience, expired = false) {
    const certain = await this.clock.within(this.#undo(expired), patience);
    if (certain) throw error;
    throw new OutcomeUnknown(
      `${this.wish.name}: whether it was acquired is not known; it is being cancelled`,
      { cause: error },
    );
  }

  /**
   * @param {boolean} expired
   * @returns {Promise<boolean>} whether it is certain; false only if the client was closed before
   */
  async #undo(expired) {
    const until = Number.POSITIVE_INFINITY;
    let over = expired || (this.session.over && !this.session.inDoubt);
    if (!over) {
      const { answer } = await this.cluster.ask(Op.CANCEL, this.key, {
        until,
        session: this.session,
      });
      if (!answer?.final) return false;
      if (answer.status === Status.SESSION_EXPIRED) over = true;
      else this.session.met(answer.count);
    }
    if (over) {
      this.session.end("the session is over", false);
      if (!(await this.#releaseWhatItGot())) return false;
    }
    this.#free();
    return true;
  }

  /**
   * Rule R9: it can have no later effect, but it may have had one. A grant under another key is not
   * its own.
   */
  async #releaseWhatItGot() {
    const until = Number.POSITIVE_INFINITY;
    const { answer } = await this.cluster.ask(Op.GET, [this.wish.name, false], { until });
    if (answer?.status !== Status.OK) return false;
    const { info } = answer;
    const own =
      info &&
      [info.session, info.slot, info.n].join() === this.key.join() &&
      info.state !== State.WAITING;
    if (!own) return true;
    const released = await this.cluster.ask(Op.RELEASE, [this.wish.name, info.info_token], {
      until,
    });
    return released.answer !== undefined;
  }

  #free() {
    if (this.session.acquires.get(this.slot) === this) this.session.acquires.delete(this.slot);
    this.setEnded?.();
  }
}
