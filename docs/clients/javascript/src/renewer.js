/** Renews leases with a ttl of their own, every ttl/3, many in one RENEW. */

import { Backoff } from "./clock.js";
import { Limits, Op } from "./protocol.js";

/** @typedef {import("./lease.js").Lease} Lease */

export class Renewer {
  /** @param {import("./cluster.js").Cluster} cluster */
  constructor(cluster) {
    this.cluster = cluster;
    this.clock = cluster.clock;
    /** When each is due; Infinity while it is being renewed. @type {Map<Lease, number>} */
    this.due = new Map();
    /** @type {WeakMap<Lease, Backoff>} */
    this.pauses = new WeakMap();
    this.planned = Number.POSITIVE_INFINITY;
    this.cancelTimer = () => {};
  }

  /** @param {Lease} lease @param {boolean} atOnce */
  add(lease, atOnce) {
    this.#plan(lease, atOnce ? this.clock.now() : this.clock.now() + lease.ttl / 3);
  }

  /** @param {Lease} lease */
  remove(lease) {
    this.due.delete(lease);
    if (this.due.size === 0) this.#arm(Number.POSITIVE_INFINITY);
  }

  /** @param {Lease} lease @param {number} at */
  #plan(lease, at) {
    this.due.set(lease, at);
    if (at < this.planned) this.#arm(at);
  }

  /** @param {number} at */
  #arm(at) {
    this.cancelTimer();
    this.planned = at;
    if (at < Number.POSITIVE_INFINITY) {
      this.cancelTimer = this.clock.after(Math.max(at - this.clock.now(), 0), () => this.#run());
    }
  }

  #run() {
    const now = this.clock.now();
    /** @type {Lease[]} */
    const batch = [];
    let next = Number.POSITIVE_INFINITY;
    for (const [lease, at] of this.due) {
      // A little early, so that leases that are due one after another share a RENEW.
      if (at <= now + lease.ttl / 30) batch.push(lease);
      else next = Math.min(next, at);
    }
    for (const lease of batch) this.due.set(lease, Number.POSITIVE_INFINITY);
    this.#arm(next);
    while (batch.length > 0) this.#renew(batch.splice(0, Limits.RENEW_ITEMS_MAX));
  }

  /** @param {Lease[]} leases */
  async #renew(leases) {
    const until = Math.max(...leases.map((lease) => lease.deadline));
    const fields = [leases.map((lease) => [lease.name, lease.token])];
    const { answer, sent } = await this.cluster.attempt(Op.RENEW, fields, { until });
    for (const [index, lease] of leases.entries()) {
      const settled = lease.renewed(answer?.items?.[index], sent);
      if (!lease.held || lease.frozen) this.remove(lease);
      else if (settled) this.#settled(lease, sent);
      else this.#soon(lease, answer?.retry_after_ms ?? 0);
    }
  }

  /** @param {Lease} lease @param {number} sent */
  #settled(lease, sent) {
    this.pauses.delete(lease);
    this.#plan(lease, sent + lease.ttl / 3);
  }

  /** @param {Lease} lease @param {number} least */
  #soon(lease, least) {
    const pauses = this.pauses.get(lease) ?? new Backoff(this.cluster.random);
    this.pauses.set(lease, pauses);
    this.#plan(lease, this.clock.now() + Math.max(pauses.next(), least));
  }
}
