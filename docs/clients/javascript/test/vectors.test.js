/** The golden frames of wire/vectors: this client reads and writes each of them as it says. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { encode } from "@msgpack/msgpack";
import { decode } from "../src/decode.js";
import { BadRequest, ProtocolError } from "../src/errors.js";
import { decodeFrame, encodeFrames, FrameReader, namedAnswer, namedEvent } from "../src/frames.js";
import { answerFields, EVENT_FIELDS, Limits } from "../src/protocol.js";
import { checkRequest } from "../src/requests.js";

const folder =
  process.env.RAFTLOCK_VECTORS ?? new URL("../../../../wire/vectors", import.meta.url).pathname;

/** Bytes stand as {"hex": …} in the JSON. */
const revived = (_key, value) =>
  value !== null && typeof value === "object" && Object.keys(value).join() === "hex"
    ? new Uint8Array(Buffer.from(value.hex, "hex"))
    : value;

const load = (name) => JSON.parse(readFileSync(`${folder}/${name}.json`, "utf8"), revived);
const bytesOf = (vector) => Buffer.from(vector.hex, "hex");

/** Cut a vector as it would be read, fed byte by byte. */
function payloadOf(vector, sizeMax) {
  const reader = new FrameReader(sizeMax);
  const payloads = [...bytesOf(vector)].flatMap((byte) => reader.feed(Buffer.from([byte])));
  assert.deepEqual([payloads.length, reader.size], [1, 0]);
  return payloads[0];
}

for (const vector of load("requests")) {
  test(`requests: ${vector.name}: encodes to these bytes`, () => {
    vector.payload.forEach(checkRequest);

    assert.equal(encodeFrames(vector.payload).toString("hex"), vector.hex);
    assert.deepEqual(decode(payloadOf(vector)), vector.payload);
  });
}

for (const vector of load("encodings")) {
  test(`encodings: ${vector.name}: a longer format means the same`, () => {
    assert.deepEqual(decode(payloadOf(vector)), vector.payload);
  });
}

for (const vector of load("answers")) {
  test(`answers: ${vector.name}: decodes, and every element has a name`, () => {
    const { leaderId, messages } = decodeFrame(payloadOf(vector));
    const [op] = vector.request;
    const answer = namedAnswer(op, messages[0]);
    const [, status, final, ...fields] = vector.payload[1];

    assert.deepEqual([leaderId, ...messages], vector.payload);
    assert.deepEqual([answer.status, answer.final], [status, final]);
    assert.equal(answerFields(op, status).length, fields.length);
    assert.deepEqual(Buffer.from(encode(vector.payload)), bytesOf(vector).subarray(4));
  });
}

for (const vector of load("events")) {
  test(`events: ${vector.name}: decodes, and every element has a name`, () => {
    const { leaderId, messages } = decodeFrame(payloadOf(vector));
    const [, code, ...fields] = vector.payload[1];
    const event = namedEvent(messages[0]);

    assert.deepEqual([leaderId, ...messages], vector.payload);
    if (code in EVENT_FIELDS) {
      assert.deepEqual(Object.values(event), [code, ...fields]);
    } else {
      // An answer under id 0: no event has its code.
      assert.equal(event, null);
      assert.deepEqual(namedAnswer(0, messages[0]).problem, fields.at(-1));
    }
  });
}

for (const vector of load("invalid")) {
  if (vector.goodbye) {
    test(`invalid: ${vector.name}: is no frame`, () => {
      assert.throws(() => {
        const requests = decode(payloadOf(vector, Limits.FRAME_SIZE_MAX));
        const one = Array.isArray(requests) && requests.length >= 1;
        if (!one) throw new ProtocolError("not an array of requests");
      }, ProtocolError);
    });
  } else {
    test(`invalid: ${vector.name}: this client would not send it, and names the field`, () => {
      const [request] = decode(payloadOf(vector));

      assert.throws(
        () => checkRequest(request),
        (error) => error instanceof BadRequest && error.field === vector.field,
      );
    });
  }
}

test("session: the session in bytes, frame by frame", () => {
  for (const vector of load("session")) {
    if (vector.direction === ">")
      assert.equal(encodeFrames(vector.payload).toString("hex"), vector.hex);
    else assert.deepEqual(decode(payloadOf(vector)), vector.payload);
  }
});

test("metadata with the key __proto__ is metadata like any other", () => {
  const metadata = decode(Buffer.from([0x81, 0xa9, ...Buffer.from("__proto__"), 0xa1, 0x78]));

  assert.deepEqual(Object.entries(metadata), [["__proto__", "x"]]);
  assert.equal(Object.getPrototypeOf(metadata), Object.prototype);
});

test("requests that do not fit into one frame go into several", () => {
  const renew = (id) => [
    8,
    id,
    Array.from({ length: 1000 }, (_, i) => [`${i}`.padEnd(512, "x"), 2 ** 52 + i]),
  ];
  const requests = [renew(1), renew(2), renew(3)];
  const reader = new FrameReader(Limits.FRAME_SIZE_MAX);

  const frames = reader.feed(encodeFrames(requests)).map((payload) => decode(payload));

  assert.deepEqual(frames.flat(), requests);
  assert.ok(frames.length >= 2);
});

test("a frame of the server with as many messages as are allowed has one element more than other arrays", () => {
  const messages = Array.from({ length: Limits.FRAME_MESSAGES_MAX }, (_, index) => [
    index + 1,
    0,
    true,
  ]);

  assert.deepEqual(decodeFrame(encode([1, ...messages])), { leaderId: 1, messages });
  assert.throws(() => decodeFrame(encode([1, ...messages, [1, 0, true]])), ProtocolError);
});
