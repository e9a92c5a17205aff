/**
 * What "The client" and the rules of wire/PROTOCOL.md bind a client to, on a node that answers as
 * the test says.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Clock } from "../src/clock.js";
import {
  BadRequest,
  Client,
  LockLost,
  NotAcquired,
  OutcomeUnknown,
  Unavailable,
} from "../src/index.js";
import { Event, Op, State, Status } from "../src/protocol.js";
import { FakeClock, FakeNode, settle } from "./fake.js";

const { OK, OFFERED, QUEUED, HELD, NOT_HELD, ENDING, SESSION_EXPIRED, NO_QUORUM, UNKNOWN } = Status;
const TTL = 1_000;
const MARGIN = TTL / 100 + 5;

/** Run a test with a node, a clock and a client; nothing is left of them. */
function ruled(name, run) {
  test(name, async () => {
    const node = new FakeNode();
    const clock = new FakeClock();
    const client = new Client({
      endpoints: ["fake:1"],
      owner: "me",
      clock,
      random: () => 0.5,
      connect: () => node.connect(),
    });
    try {
      await run({ node, clock, client });
    } finally {
      client.cluster.close("the test is over");
      client.session?.end("the test is over", false);
      node.drop();
    }
  });
}

/** Let sockets and timers run until a promise settles. */
async function settled(clock, promise, step = 10, steps = 2_000) {
  let result;
  promise.then(
    (value) => (result = { value }),
    (error) => (result = { error }),
  );
  for (let turn = 0; !result && turn < steps; turn += 1) {
    await settle();
    if (!result) await clock.advance(step);
  }
  assert.ok(result, "it did not come to an end");
  return result.value ?? result.error;
}

const grant =
  (token, count = 0) =>
  () => [OK, true, count, token, 4];
const info = (token, state, [session, slot, n] = [7, 0, 1]) => [
  "x",
  state,
  token,
  4,
  "me",
  session,
  slot,
  n,
  0,
  1,
  "",
  "",
  null,
  0,
  null,
];
const item = (status, ...fields) => [
  OK,
  ![NO_QUORUM, UNKNOWN].includes(status),
  [[status, ...fields]],
];

ruled(
  "a lease counts from its first attempt, and a repeated one is renewed at once",
  async ({ node, clock, client }) => {
    let attempts = 0;
    node.script[Op.ACQUIRE] = () =>
      (attempts += 1) === 1 ? [UNKNOWN, false] : [OK, true, 0, 50, 4];
    const begun = clock.now();
    const lock = await settled(clock, client.acquire("x", { ttl: TTL }), 1);

    assert.equal(lock.lease.deadline, begun + TTL - MARGIN);
    assert.ok(clock.now() > begun);
    await clock.advance(1);
    assert.deepEqual(node.asked(Op.RENEW), [[[["x", 50]]]]);
    const keys = node.asked(Op.ACQUIRE).map((fields) => JSON.stringify(fields));
    assert.deepEqual([keys.length, new Set(keys).size], [2, 1]);
  },
);

ruled(
  "a grant that is answered after its own deadline is taken up by a RENEW, and counts from that",
  async ({ node, clock, client }) => {
    let attempts = 0;
    node.script[Op.ACQUIRE] = () => ((attempts += 1) === 1 ? null : [OK, true, 0, 50, 4]);
    node.script[Op.RENEW] = () => item(OK, null, 5, TTL, TTL);
    const lock = await settled(clock, client.acquire("x", { ttl: TTL }), 1, 5_000);

    assert.equal(lock.lease.rev, 5);
    assert.ok(lock.lease.deadline > 2_000);
  },
);

ruled(
  "a lock that nobody renews is lost at its deadline, and no answer after it saves it",
  async ({ node, clock, client }) => {
    node.script[Op.ACQUIRE] = grant(50);
    const lock = await settled(clock, client.acquire("x", { ttl: TTL }));
    const { deadline } = lock.lease;
    // The process is frozen: no timer is called, and the answer is there before any.
    clock.freeze(deadline - clock.now());
    lock.lease.renewed({ status: OK, rev: 9, ttl_ms: TTL }, deadline - 1);

    assert.deepEqual([lock.held, lock.lost, lock.remaining], [false, true, 0]);
    assert.ok(lock.signal.reason instanceof LockLost);
    await settle();
    assert.deepEqual(node.asked(Op.RELEASE), [["x", 50]]);
  },
);

ruled(
  "the timer of a deadline aborts the signal, not sooner and not later",
  async ({ node, clock, client }) => {
    node.script[Op.ACQUIRE] = grant(50);
    const lock = await settled(clock, client.acquire("x", { ttl: TTL }));
    const left = lock.lease.deadline - clock.now();
    await clock.advance(left - 1);
    const before = lock.signal.aborted;
    await clock.advance(1);

    assert.deepEqual([before, lock.signal.aborted], [false, true]);
  },
);

ruled(
  "a renewal counts from when it was sent, however late its answer comes",
  async ({ node, clock, client }) => {
    let answer;
    node.script[Op.ACQUIRE] = grant(50);
    node.script[Op.RENEW] = () =>
      new Promise((resolve) => (answer = () => resolve(item(OK, null, 4, TTL, TTL))));
    const lock = await settled(clock, client.acquire("x", { ttl: TTL }));
    const begun = clock.now();
    await clock.advance(TTL / 3 + 200);
    answer();
    await settle();

    assert.equal(lock.lease.deadline, begun + TTL / 3 + TTL - MARGIN);
  },
);

for (const [status, fields] of [
  [NO_QUORUM, ["no leader"]],
  [UNKNOWN, []],
]) {
  ruled(
    `a renewal that is not final (${status}) is asked again and loses nothing`,
    async ({ node, clock, client }) => {
      node.script[Op.ACQUIRE] = grant(50);
      node.script[Op.RENEW] = () =>
        node.asked(Op.RENEW).length < 3 ? item(status) : item(OK, null, 4, TTL, TTL);
      const lock = await settled(clock, client.acquire("x", { ttl: TTL }));
      const { deadline } = lock.lease;
      await clock.advance(TTL / 3 + 60);

      assert.equal(node.asked(Op.RENEW).length, 3);
      assert.ok(lock.held && lock.lease.deadline > deadline, fields.join());
    },
  );
}

ruled("a renewal that is ENDING freezes the deadline for good", async ({ node, clock, client }) => {
  node.script[Op.ACQUIRE] = grant(50);
  node.script[Op.RENEW] = () => item(ENDING, null, 4, TTL, TTL);
  const lock = await settled(clock, client.acquire("x", { ttl: TTL }));
  const { deadline } = lock.lease;
  await clock.advance(TTL / 3 + 1);
  lock.lease.renewed({ status: OK, rev: 9, ttl_ms: TTL }, clock.now());

  assert.deepEqual([lock.held, lock.lease.deadline], [true, deadline]);
});

ruled(
  "a refusal that is not final ends an acquire of a single attempt, and no CANCEL is needed",
  async ({ node, clock, client }) => {
    node.script[Op.ACQUIRE] = () => [Status.QUOTA_EXCEEDED, false, "slots", 1];
    const error = await settled(clock, client.acquire("x"));

    assert.deepEqual([error.name, node.asked(Op.CANCEL)], ["QuotaExceeded", []]);
  },
);

ruled(
  "after more than one attempt a refusal that is not final is reported only once a CANCEL is answered",
  async ({ node, clock, client }) => {
    node.script[Op.ACQUIRE] = () =>
      node.asked(Op.ACQUIRE).length === 1
        ? [UNKNOWN, false]
        : [Status.QUOTA_EXCEEDED, false, "slots", 1];
    const error = await settled(clock, client.acquire("x"));

    assert.deepEqual([error.name, node.asked(Op.CANCEL)], ["QuotaExceeded", [[7, 0, 1]]]);
  },
);

ruled(
  "an acquire without an answer is cancelled until that is final; meanwhile its slot stays taken",
  async ({ node, clock, client }) => {
    node.script[Op.ACQUIRE] = (_s, _slot, _n, name) =>
      name === "x" ? [UNKNOWN, false] : [OK, true, 0, 51, 4];
    node.script[Op.CANCEL] = () => [UNKNOWN, false];
    node.script[Op.RENEW] = () => item(OK, null, 4, 60_000, 60_000);
    const error = await settled(clock, client.acquire("x"), 50);
    const other = await settled(clock, client.acquire("y", { ttl: 60_000 }));
    node.script[Op.CANCEL] = () => [Status.CANCELLED, true, 0, 2, 50];
    await clock.advance(1_000);
    const free = client.session.acquires.size;

    assert.ok(error instanceof OutcomeUnknown && error.cause instanceof Unavailable, String(error));
    assert.deepEqual([other.token, free], [51, 0]);
    assert.deepEqual(node.asked(Op.ACQUIRE).at(-1).slice(0, 4), [7, 1, 1, "y"]);
  },
);

ruled("a slot is used again with a larger n", async ({ node, clock, client }) => {
  node.script[Op.ACQUIRE] = () => [HELD, true, 0, "you", 49, 1];
  const errors = [
    await settled(clock, client.acquire("x")),
    await settled(clock, client.acquire("x")),
  ];

  assert.deepEqual(
    node.asked(Op.ACQUIRE).map((fields) => fields.slice(0, 3)),
    [
      [7, 0, 1],
      [7, 0, 2],
    ],
  );
  assert.ok(
    errors.every(
      (error) => error instanceof NotAcquired && error.owner === "you" && error.holderToken === 49,
    ),
  );
});

ruled(
  "an offer is held once its RENEW is answered, and not before",
  async ({ node, clock, client }) => {
    node.script[Op.ACQUIRE] = () => [QUEUED, false, 0, 1];
    node.script[Op.RENEW] = () =>
      node.asked(Op.RENEW).length === 1 ? item(UNKNOWN) : item(OK, null, 6, TTL, TTL);
    const acquiring = client.acquire("x", { ttl: TTL, wait: 60_000 });
    while (node.asked(Op.ACQUIRE).length === 0) await settle();
    await settle();
    node.push(Event.OFFERED, 7, 1, 0, 1, "x", 50, 5);
    const lock = await settled(clock, acquiring);

    assert.deepEqual([lock.token, lock.lease.rev, node.asked(Op.RENEW).length], [50, 6, 2]);
  },
);

ruled("an offer that passed on is no lock", async ({ node, clock, client }) => {
  node.script[Op.ACQUIRE] = () => [OFFERED, true, 0, 50, 5];
  node.script[Op.RENEW] = () => item(NOT_HELD, 0);
  const error = await settled(clock, client.acquire("x", { wait: 60_000 }));

  assert.ok(error instanceof NotAcquired);
  assert.equal(error.reason, "its offer passed on");
});

ruled(
  "an OFFERED event that came before the answer QUEUED is not forgotten",
  async ({ node, clock, client }) => {
    node.script[Op.ACQUIRE] = () => {
      node.push(Event.OFFERED, 7, 1, 0, 1, "x", 50, 5);
      return [QUEUED, false, 0, 1];
    };
    node.script[Op.RENEW] = () => item(OK, null, 6, TTL, TTL);
    const lock = await settled(clock, client.acquire("x", { ttl: TTL, wait: 60_000 }));

    assert.equal(lock.token, 50);
  },
);

ruled(
  "a lost event shows as a gap in the count: the acquire is asked again under its key",
  async ({ node, clock, client }) => {
    node.script[Op.ACQUIRE] = () =>
      node.asked(Op.ACQUIRE).length === 1 ? [QUEUED, false, 0, 1] : [OFFERED, true, 1, 50, 5];
    node.script[Op.KEEP_ALIVE] = () => [OK, true, 1];
    node.script[Op.RENEW] = () => item(OK, null, 6, TTL, TTL);
    const lock = await settled(clock, client.acquire("x", { ttl: TTL, wait: 60_000 }), 100);

    assert.deepEqual(
      [lock.token, client.session.seen, node.asked(Op.LIST)],
      [50, 1, [[2, 7, "", 1_000, false]]],
    );
    const [first, second] = node.asked(Op.ACQUIRE);
    assert.deepEqual(first, second);
  },
);

ruled(
  "a client that waits in a queue connects again at once when its connection is lost",
  async ({ node, clock, client }) => {
    node.script[Op.ACQUIRE] = () => [QUEUED, false, 0, 1];
    client.acquire("x", { wait: 60_000 }).catch(() => {});
    while (node.asked(Op.ACQUIRE).length === 0) await settle();
    await settle();
    node.drop();
    await clock.advance(50);

    assert.deepEqual(
      [node.asked(Op.ATTACH).length, node.asked(Op.KEEP_ALIVE).length >= 1],
      [1, true],
    );
  },
);

ruled(
  "a gap: of the locks in the session the list says which are lost, and which end and keep their deadline",
  async ({ node, clock, client }) => {
    let token = 49;
    node.script[Op.ACQUIRE] = () => [OK, true, 0, (token += 1), 4];
    const [gone, ending, kept] = [
      await settled(clock, client.acquire("gone", { ttl: 0 })),
      await settled(clock, client.acquire("ending", { ttl: 0 })),
      await settled(clock, client.acquire("kept", { ttl: 0 })),
    ];
    const { alive } = client.session;
    node.script[Op.KEEP_ALIVE] = () => [OK, true, 2];
    node.script[Op.LIST] = () => [
      OK,
      true,
      0,
      [info(ending.token, State.ENDING), info(kept.token, State.HELD)],
      "",
    ];
    await clock.advance(4_000);

    assert.deepEqual([gone.lost, ending.held, kept.held], [true, true, true]);
    assert.deepEqual([ending.lease.deadline, kept.lease.deadline > alive], [alive, true]);
  },
);

ruled(
  "a gap whose list fails extends nothing: the session ends at its deadline, in doubt, and is closed",
  async ({ node, clock, client }) => {
    node.script[Op.ACQUIRE] = grant(50);
    const lock = await settled(clock, client.acquire("x", { ttl: 0 }));
    const { alive } = client.session;
    node.script[Op.KEEP_ALIVE] = () => [OK, true, 1];
    node.script[Op.LIST] = () => [UNKNOWN, false];
    await clock.advance(alive - clock.now() - 1);
    const before = lock.held;
    await clock.advance(1);

    assert.deepEqual([before, lock.held, lock.lost], [true, false, true]);
    assert.deepEqual(node.asked(Op.CLOSE_SESSION), [[7]]);
    const keptAlive = node.asked(Op.KEEP_ALIVE).length;
    await clock.advance(60_000);
    assert.equal(node.asked(Op.KEEP_ALIVE).length, keptAlive);
  },
);

ruled(
  "a grant in a session that something happened to is asked again before it is believed",
  async ({ node, clock, client }) => {
    node.script[Op.ACQUIRE] = () => {
      if (node.asked(Op.ACQUIRE).length > 1) return [OK, true, 2, 50, 4];
      node.push(Event.LOST, 7, 1, "other", 10);
      node.push(Event.LOST, 7, 2, "x", 50);
      return [OK, true, 0, 50, 4];
    };
    const lock = await settled(clock, client.acquire("x", { ttl: 0 }));

    assert.deepEqual([lock.held, node.asked(Op.ACQUIRE).length], [true, 2]);
  },
);

ruled(
  "rule R9: after SESSION_EXPIRED a grant under this very key is released before 'not acquired' is said",
  async ({ node, clock, client }) => {
    node.script[Op.ACQUIRE] = () => [SESSION_EXPIRED, true];
    node.script[Op.GET] = () => [OK, true, 0, info(50, State.HELD, [7, 0, 1])];
    const error = await settled(clock, client.acquire("x"));

    assert.ok(error instanceof NotAcquired);
    assert.deepEqual([node.asked(Op.GET), node.asked(Op.RELEASE)], [[["x", false]], [["x", 50]]]);
  },
);

for (const [what, key, state] of [
  ["another key", [7, 0, 2], State.HELD],
  ["a waiter", [7, 0, 1], State.WAITING],
]) {
  ruled(`rule R9: ${what} is not its own and is left alone`, async ({ node, clock, client }) => {
    node.script[Op.ACQUIRE] = () => [SESSION_EXPIRED, true];
    node.script[Op.GET] = () => [OK, true, 0, info(50, state, key)];
    const error = await settled(clock, client.acquire("x"));

    assert.ok(error instanceof NotAcquired);
    assert.deepEqual(node.asked(Op.RELEASE), []);
  });
}

ruled(
  "an event of a session that it does not know changes nothing",
  async ({ node, clock, client }) => {
    node.script[Op.ACQUIRE] = grant(50);
    const lock = await settled(clock, client.acquire("x", { ttl: 0 }));
    node.push(Event.LOST, 99, 1, "x", 50);
    node.push(Event.SESSION_ENDED, 99, 0);
    node.push(99, "an event of a later version");
    await settle();

    assert.deepEqual([lock.held, client.session.seen, client.session.over], [true, 0, false]);
  },
);

ruled(
  "a session that ended takes the locks that live in it, and no others",
  async ({ node, clock, client }) => {
    let token = 49;
    node.script[Op.ACQUIRE] = () => [OK, true, 0, (token += 1), 4];
    const own = await settled(clock, client.acquire("own", { ttl: 60_000 }));
    const inSession = await settled(clock, client.acquire("in", { ttl: 0 }));
    node.push(Event.SESSION_ENDED, 7, 0);
    await settle();
    node.script[Op.OPEN_SESSION] = () => [OK, true, 8, 10_000, 0];
    const next = await settled(clock, client.acquire("next", { ttl: 0 }));

    assert.deepEqual([own.held, inSession.held, next.held], [true, false, true]);
    assert.deepEqual(
      [node.asked(Op.ACQUIRE).at(-1).slice(0, 3), client.session.id],
      [[8, 0, 1], 8],
    );
  },
);

ruled(
  "a request that says that the session is not attached is asked again after an ATTACH",
  async ({ node, clock, client }) => {
    node.script[Op.ACQUIRE] = () =>
      node.asked(Op.ACQUIRE).length === 1
        ? [Status.BAD_REQUEST, false, "session", "not attached"]
        : [OK, true, 0, 50, 4];
    const lock = await settled(clock, client.acquire("x", { ttl: TTL }), 1);

    assert.deepEqual([lock.token, node.asked(Op.ATTACH).length], [50, 1]);
  },
);

ruled(
  "a wrong field is an error at its caller, which names it, and nothing is sent",
  async ({ node, client }) => {
    const errors = await Promise.all([
      client.acquire("x", { ttl: 10 }).catch((error) => error),
      client.acquire("", {}).catch((error) => error),
      client.acquire("x", { wait: -1 }).catch((error) => error),
      client.acquire("x", { metadata: { a: 1 } }).catch((error) => error),
    ]);

    assert.ok(errors.every((error) => error instanceof BadRequest));
    assert.deepEqual(
      errors.map(({ field }) => field),
      ["ttl_ms", "resource", "wait_ms", "metadata"],
    );
    assert.match(errors[0].message, /10 is not an integer from 100 to 86400000/);
    assert.deepEqual(node.requests, []);
  },
);

test("the clock goes on while the machine sleeps", () => {
  let [monotonic, uptime] = [5_000, 90_000];
  const clock = new Clock({ monotonic: () => monotonic, uptime: () => uptime });
  const before = clock.now();
  uptime += 60_000;
  monotonic += 1;
  uptime += 1;
  const elapsed = clock.now() - before;
  monotonic += 10;
  uptime += 10;

  assert.ok(elapsed >= 60_001 && elapsed < 60_050, String(elapsed));
  assert.equal(clock.now() - before, elapsed + 10);
});
