/** A node that answers as a test says, and a clock that stands still until a test moves it. */

import { duplexPair } from "node:stream";
import { encode } from "@msgpack/msgpack";
import { Clock } from "../src/clock.js";
import { decode } from "../src/decode.js";
import { FrameReader } from "../src/frames.js";
import { Op, Status } from "../src/protocol.js";

/** A clock of which the test says how late it is. */
export class FakeClock extends Clock {
  constructor() {
    super({ monotonic: () => 0, uptime: () => 0 });
    this.at = 0;
    this.timers = new Map();
    this.lastTimer = 0;
  }

  now() {
    return this.at;
  }

  after(ms, callback) {
    const id = (this.lastTimer += 1);
    this.timers.set(id, { due: this.at + ms, callback });
    return () => this.timers.delete(id);
  }

  /** Move on, timer by timer; what they set off runs in between. */
  async advance(ms) {
    const end = this.at + ms;
    for (;;) {
      const [next] = [...this.timers]
        .filter(([, { due }]) => due <= end)
        .sort(([, x], [, y]) => x.due - y.due);
      if (!next) break;
      this.timers.delete(next[0]);
      this.at = Math.max(this.at, next[1].due);
      next[1].callback();
      await settle();
    }
    this.at = end;
    await settle();
  }

  /** Let time pass without a timer being called, as for a process that is frozen. */
  freeze(ms) {
    this.at += ms;
  }
}

/**
 * Let the streams carry what is on its way: it stays in this process, so that a few turns always
 * are enough.
 */
export async function settle() {
  for (let turn = 0; turn < 12; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** A node in memory. `requests` takes what clients sent; `script` says what is answered. */
export class FakeNode {
  constructor() {
    /** @type {any[][]} */
    this.requests = [];
    this.sockets = new Set();
    this.leaderId = 1;
    /**
     * By request code: a function of the fields to [status, final, …], a promise of that, or null:
     * no answer.
     */
    this.script = {
      [Op.OPEN_SESSION]: () => [Status.OK, true, 7, 10_000, 0],
      [Op.ATTACH]: () => [Status.OK, true, 7, 10_000, 0],
      [Op.KEEP_ALIVE]: () => [Status.OK, true, 0],
      [Op.RELEASE]: () => [Status.OK, true],
      [Op.CANCEL]: () => [Status.CANCELLED, true, 0, 0, 0],
      [Op.CLOSE_SESSION]: () => [Status.OK, true],
      [Op.LIST]: () => [Status.OK, true, 0, [], ""],
      [Op.GET]: () => [Status.OK, true, 0, null],
    };
  }

  /** What a client connects with: a stream in memory. */
  connect() {
    const [here, there] = duplexPair();
    here.on("close", () => there.destroy());
    there.on("close", () => here.destroy());
    this.#serve(there);
    return here;
  }

  drop() {
    for (const socket of this.sockets) socket.destroy();
  }

  /** The fields of the requests of a code, in order. */
  asked(op) {
    return this.requests.filter(([code]) => code === op).map(([, , ...fields]) => fields);
  }

  push(...event) {
    for (const socket of this.sockets) this.#send(socket, [0, ...event]);
  }

  #send(socket, message) {
    const payload = encode([this.leaderId, message]);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(payload.length);
    if (!socket.destroyed) socket.write(Buffer.concat([length, payload]));
  }

  #serve(socket) {
    const reader = new FrameReader();
    this.sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.sockets.delete(socket));
    socket.on("data", (chunk) => {
      for (const payload of reader.feed(chunk))
        for (const request of decode(payload)) this.#answer(socket, request);
    });
  }

  async #answer(socket, [op, id, ...fields]) {
    if (op === Op.HELLO) {
      return this.#send(socket, [
        id,
        Status.OK,
        true,
        1,
        "fake",
        1,
        [[1, "fake:1"]],
        { slots_max: 4_096 },
      ]);
    }
    this.requests.push([op, id, ...fields]);
    const answer = await this.script[op]?.(...fields);
    return answer && this.#send(socket, [id, ...answer]);
  }
}
