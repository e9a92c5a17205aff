/**
 * A client of raftlock for Node.
 *
 *     import { Client } from "raftlock-client";
 *
 *     const client = new Client({ endpoints: ["127.0.0.1:7401"] });
 *     await client.withLock("order:1", { ttl: 10_000, wait: 5_000 }, async (lock) => {
 *       await charge(order, { fencingToken: lock.token, signal: lock.signal });
 *     });
 *     await client.close();
 */

export { Client } from "./client.js";
export { Clock } from "./clock.js";
export * from "./errors.js";
export { Lock } from "./lock.js";
