/**
 * Time: a clock that does not jump and goes on while the machine sleeps, timers that obey it, and
 * pauses.
 */

import os from "node:os";

const TIMER_STEP_MS = 1_000;
const SLEEP_MS_MIN = 100;

/**
 * What the client counts on losing to clocks that differ in rate ("The client": margin).
 *
 * @param {number} ttl
 */
export const margin = (ttl) => ttl / 100 + 5;

/**
 * @returns {number} milliseconds since the machine started, asleep or not; NaN where nobody says so
 */
function uptimeMs() {
  try {
    return os.uptime() * 1_000;
  } catch {
    return Number.NaN;
  }
}

/**
 * Milliseconds from an arbitrary start.
 *
 * Node has CLOCK_MONOTONIC, which stands still while the machine sleeps, and the uptime, which does
 * not but is coarse.
 * So the first is read, and set forward by what the second shows to be missing. A sleep shorter
 * than 100 ms is not seen.
 */
export class Clock {
  /** @param {{monotonic?: () => number, uptime?: () => number}} [sources] in milliseconds */
  constructor({ monotonic = () => performance.now(), uptime = uptimeMs } = {}) {
    this.monotonic = monotonic;
    this.uptime = uptime;
    this.behind = uptime() - monotonic();
    this.slept = 0;
  }

  now() {
    const monotonic = this.monotonic();
    const missing = this.uptime() - monotonic - this.behind - this.slept;
    // Rounded up by the uptime's resolution: after a sleep a lease is rather believed to be older.
    if (missing > SLEEP_MS_MIN) this.slept += missing + 20;
    return monotonic + this.slept;
  }

  /**
   * Call back when `ms` have passed by this clock. The timers of Node stand still with
   * CLOCK_MONOTONIC, so a long one is
   * cut into steps of a second: after a sleep it comes at most so late.
   *
   * @param {number} ms @param {() => void} callback @returns {() => void} cancels it
   */
  after(ms, callback) {
    const due = this.now() + ms;
    /** @type {NodeJS.Timeout} */
    let timer;
    const step = () => {
      const left = due - this.now();
      if (left <= 0) callback();
      else timer = setTimeout(step, Math.min(Math.ceil(left), TIMER_STEP_MS));
    };
    timer = setTimeout(step, Math.min(Math.max(Math.ceil(ms), 0), TIMER_STEP_MS));
    return () => clearTimeout(timer);
  }

  /**
   * Wait until `ms` have passed, or until a signal aborts.
   *
   * @param {number} ms @param {AbortSignal[]} signals @returns {Promise<void>}
   */
  sleep(ms, ...signals) {
    return this.within(new Promise(() => {}), ms, ...signals);
  }

  /**
   * Wait for a promise, but no longer than `ms`, and not once a signal aborted.
   *
   * @template T
   * @param {Promise<T>} promise that does not reject
   * @param {number} ms may be Infinity
   * @param {AbortSignal[]} signals
   * @returns {Promise<T | undefined>} undefined if it did not come
   */
  within(promise, ms, ...signals) {
    return new Promise((resolve) => {
      const done = (/** @type {T | undefined} */ value) => {
        cancel();
        for (const signal of signals) signal.removeEventListener("abort", stop);
        resolve(value);
      };
      const stop = () => done(undefined);
      const cancel = ms === Number.POSITIVE_INFINITY ? () => {} : this.after(ms, stop);
      for (const signal of signals) {
        if (signal.aborted) return stop();
        signal.addEventListener("abort", stop);
      }
      promise.then(done);
    });
  }
}

/** The pauses of a retry: from 10 ms doubling to 500 ms, times 0.5 to 1.5 at random. */
export class Backoff {
  /** @param {() => number} random from 0 to 1 */
  constructor(random = Math.random) {
    this.random = random;
    this.ms = 10;
  }

  next() {
    const pause = this.ms * (0.5 + this.random());
    this.ms = Math.min(this.ms * 2, 500);
    return pause;
  }
}
