/**
 * The client against real nodes. RAFTLOCK_ENDPOINTS names them; RAFTLOCK_MAY_KILL=1 allows to stop
 * and kill them
 * (tests/e2e/test_javascript.py starts a cluster for that).
 */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { Client, Clock, LockLost, NotAcquired, OutcomeUnknown, Unavailable } from "../src/index.js";
import { Connection } from "../src/connection.js";
import { Op, Status } from "../src/protocol.js";

const endpoints = process.env.RAFTLOCK_ENDPOINTS?.split(",");
const skip = endpoints ? false : "RAFTLOCK_ENDPOINTS names no cluster";
const skipKill =
  skip || (process.env.RAFTLOCK_MAY_KILL === "1" ? false : "RAFTLOCK_MAY_KILL=1 is needed");
const clock = new Clock();
const deaf = { onEvent() {}, onLeader() {}, onClose() {} };

/** @type {Client} */
let a;
/** @type {Client} */
let b;

before(() => {
  if (skip) return;
  a = new Client({ endpoints, owner: "a" });
  b = new Client({ endpoints, owner: "b" });
});

after(async () => {
  await Promise.all([a?.close(), b?.close()]);
});

/** A name that no other test uses. */
const fresh = () => `js:${randomUUID()}`;

/** A connection to one node. */
async function connect(address) {
  const connection = new Connection(address, clock, deaf);
  await connection.hello({ clusterId: null, name: "test", ms: 5_000 });
  return connection;
}

/** Ask one node over and over until it answers for good. */
async function asked(connection, op, fields) {
  for (;;) {
    const answer = await connection.request(op, fields, 5_000);
    if (answer?.final) return answer;
    assert.equal(connection.closed, false);
    await clock.sleep(20);
  }
}

/** How each node says that it is. */
async function statuses() {
  return Promise.all(
    endpoints.map(async (address) => {
      const connection = await connect(address);
      const { values } = await asked(connection, Op.NODE_STATUS, []);
      connection.close("done");
      return { address, ...values };
    }),
  );
}

async function leader() {
  for (;;) {
    const found = (await statuses()).find((node) => node.role === "leader" && node.healthy);
    if (found) return found;
    await clock.sleep(20);
  }
}

async function waiters(name, count) {
  while (((await a.get(name))?.waiters ?? 0) !== count) await clock.sleep(5);
}

for (const [ttl, where] of [
  [10_000, "with a lease of its own"],
  [0, "in the session"],
]) {
  test(
    `a lock ${where} excludes others until it is released, and tokens grow`,
    { skip },
    async () => {
      const name = fresh();
      const first = await a.acquire(name, { ttl, metadata: { job: "nightly" } });
      const refused = await b.acquire(name, { ttl }).catch((error) => error);
      const info = await b.get(name);
      const tried = await b.tryAcquire(name, { ttl });
      const released = await first.release();
      const second = await b.acquire(name, { ttl });
      const checks = [await a.check(name, first.token), await second.check()];
      await second.release();

      assert.ok(refused instanceof NotAcquired);
      assert.deepEqual([refused.owner, refused.holderToken, tried], ["a", first.token, null]);
      assert.deepEqual(
        [info.state, info.token, info.owner, info.ttl, info.metadata],
        ["held", first.token, "a", ttl, { job: "nightly" }],
      );
      assert.ok(second.token > first.token);
      assert.deepEqual(
        [released, checks, first.signal.aborted, first.lost],
        [true, [false, true], true, false],
      );
      assert.equal(await a.get(name), null);
    },
  );

  test(`a release hands a lock ${where} to who waits first`, { skip }, async () => {
    const name = fresh();
    const held = await a.acquire(name, { ttl });
    const order = [];
    const waiting = [];
    for (let number = 0; number < 5; number += 1) {
      waiting.push(
        (number % 2 ? a : b).acquire(name, { ttl, wait: 60_000 }).then(async (lock) => {
          order.push([number, lock.held]);
          await lock.release();
        }),
      );
      await waiters(name, number + 1);
    }
    await held.release();
    await Promise.all(waiting);

    assert.deepEqual(
      order,
      [0, 1, 2, 3, 4].map((number) => [number, true]),
    );
  });
}

test("a wait that is over ends with 'timeout' and leaves nothing", { skip }, async () => {
  const name = fresh();
  const held = await a.acquire(name);
  const refused = await b.acquire(name, { wait: 100 }).catch((error) => error);
  const info = await a.get(name);
  await held.release();

  assert.deepEqual([refused.reason, info.waiters], ["timeout", 0]);
  assert.equal(await a.get(name), null);
});

test(
  "a wait that is cancelled rejects with the signal's reason and leaves nothing",
  { skip },
  async () => {
    const name = fresh();
    const held = await a.acquire(name);
    const caller = new AbortController();
    const waiting = b
      .acquire(name, { wait: 60_000, signal: caller.signal })
      .catch((error) => error);
    await waiters(name, 1);
    caller.abort(new Error("no longer needed"));
    const refused = await waiting;
    const info = await a.get(name);
    await held.release();

    assert.deepEqual([refused.message, info.waiters], ["no longer needed", 0]);
    assert.equal(await a.get(name), null);
  },
);

test("the same key sent again over another node gives the same token", { skip }, async () => {
  const nonce = new Uint8Array(Buffer.from(randomUUID().replaceAll("-", ""), "hex"));
  const [one, two, three] = await Promise.all(endpoints.map(connect));
  const { session } = await asked(one, Op.OPEN_SESSION, [nonce, 10_000]);
  const key = [session, 0, 1, fresh(), "raw", 10_000, 0, null];
  const first = await asked(one, Op.ACQUIRE, key);
  one.close("lost");
  const unattached = await two.request(Op.ACQUIRE, key, 5_000);
  await asked(two, Op.ATTACH, [session, nonce]);
  await asked(three, Op.ATTACH, [session, nonce]);
  const again = [await asked(two, Op.ACQUIRE, key), await asked(three, Op.ACQUIRE, key)];
  await asked(two, Op.RELEASE, [key[3], first.token]);
  await asked(two, Op.CLOSE_SESSION, [session]);
  two.close("done");
  three.close("done");

  assert.equal(first.status, Status.OK);
  assert.deepEqual(
    [unattached.status, unattached.final, unattached.field],
    [Status.BAD_REQUEST, false, "session"],
  );
  assert.deepEqual(
    again.map(({ status, token }) => [status, token]),
    [
      [0, first.token],
      [0, first.token],
    ],
  );
});

test("withLock releases after the work, also when the work fails", { skip }, async () => {
  const name = fresh();
  const result = await a.withLock(name, { ttl: 10_000 }, async (lock) => [
    await lock.check(),
    lock.held,
  ]);
  const failed = await a
    .withLock(name, { ttl: 10_000 }, () => {
      throw new Error("work");
    })
    .catch((error) => error);

  assert.deepEqual([result, failed.message, await a.get(name)], [[true, true], "work", null]);
});

for (const [ttl, where] of [
  [10_000, "with a lease of its own"],
  [0, "in the session"],
]) {
  test(`a lock ${where} that an administrator ends is lost at once`, { skip }, async () => {
    const name = fresh();
    const lock = await a.acquire(name, { ttl });
    const lost = new Promise((resolve) =>
      lock.signal.addEventListener("abort", () => resolve(lock.signal.reason)),
    );
    const ended = await b.forceRelease(name, lock.token, { reason: "test", now: true });
    const reason = await lost;

    assert.ok(reason instanceof LockLost);
    assert.deepEqual([ended, reason.token, lock.held, lock.lost], [true, lock.token, false, true]);
  });

  test(
    `a lock ${where} that an administrator lets run out is held to its deadline and not renewed`,
    { skip },
    async () => {
      const client = new Client({ endpoints, sessionTtl: 1_500 });
      const name = fresh();
      const lock = await client.acquire(name, { ttl: ttl && 1_500 });
      await b.forceRelease(name, lock.token, { reason: "test" });
      const state = (await b.get(name))?.state;
      await new Promise((resolve) => lock.signal.addEventListener("abort", resolve));

      assert.deepEqual([state, lock.lost], ["ending", true]);
      assert.match(lock.signal.reason.message, /its deadline passed/);
      await client.close();
    },
  );

  test(`a lock ${where} outlives its first deadline, for it is renewed`, { skip }, async () => {
    const client = new Client({ endpoints, sessionTtl: 3_000 });
    const lock = await client.acquire(fresh(), { ttl: ttl && 3_000 });
    await clock.sleep(lock.remaining + 100);

    assert.deepEqual([lock.held, await lock.check()], [true, true]);
    await client.close();
    assert.equal(await a.get(lock.name), null);
  });
}

test("a list goes page by page, in the order of the names", { skip }, async () => {
  const prefix = fresh();
  const names = [`${prefix}/a`, `${prefix}/b`, `${prefix}/ä`];
  const locks = await Promise.all(names.map((name) => a.acquire(name)));
  const listed = [];
  for await (const info of b.list({ prefix, pageSize: 2 })) listed.push(info);
  await Promise.all(locks.map((lock) => lock.release()));

  assert.deepEqual(
    listed.map(({ name, owner }) => [name, owner]),
    names.map((name) => [name, "a"]),
  );
});

test(
  "with every node stopped a lock is lost at its deadline, and never after it",
  { skip: skipKill },
  async () => {
    const nodes = await statuses();
    const name = fresh();
    const client = new Client({ endpoints, timeout: 1_000 });
    const own = await client.acquire(name, { ttl: 1_000 });
    const lost = new Promise((resolve) =>
      own.signal.addEventListener("abort", () => resolve(clock.now())),
    );
    try {
      for (const { pid } of nodes) process.kill(pid, "SIGSTOP");
      const deadline = clock.now() + own.remaining;
      const at = await lost;

      assert.ok(at >= deadline - 1, `lost at ${at}, before ${deadline}`);
      assert.deepEqual([own.held, own.lost, own.remaining], [false, true, 0]);
      assert.match(own.signal.reason.message, /its deadline passed/);
      const refused = await client.acquire(fresh()).catch((error) => error);
      // Whether an attempt was sent depends on which connection was left for its silence first.
      assert.ok(
        refused instanceof OutcomeUnknown || refused instanceof Unavailable,
        String(refused),
      );
    } finally {
      for (const { pid } of nodes) process.kill(pid, "SIGCONT");
      await client.close();
    }
    const next = await b.acquire(name, { wait: 30_000 });
    await next.release();

    assert.ok(next.token > own.token);
  },
);

test(
  "kill -9 of the leader: a held lock stays held, and a waiting acquire gets it",
  { skip: skipKill },
  async () => {
    const name = fresh();
    const { pid, address } = await leader();
    const [own, inSession] = [
      await a.acquire(name, { ttl: 30_000 }),
      await a.acquire(`${name}:s`, { ttl: 0 }),
    ];
    const waiting = b.acquire(name, { ttl: 30_000, wait: 60_000 });
    await waiters(name, 1);
    process.kill(pid, "SIGKILL");
    const checks = [await own.check(), await inSession.check(), own.held, inSession.held];
    await own.release();
    const next = await waiting;

    assert.deepEqual(checks, [true, true, true, true]);
    assert.ok(next.token > own.token);
    assert.notEqual(b.cluster.current.address, address);
    await Promise.all([next.release(), inSession.release()]);
  },
);
