"""Writes wire/vectors/ and the example session of PROTOCOL.md: `python -m tests.unit.wire.vectors`.

Requests come from `samples.py`, and everything that a server says from a recording of production drivers.
"""

import json
from typing import Any

from raftlock_wire.codec import pack, unpack
from raftlock_wire.messages import Op
from tests.unit.wire import document as doc
from tests.unit.wire import samples
from tests.unit.wire.dump import frame_lines
from tests.unit.wire.recorded import recorded
from tests.unit.wire.served import Served, messages

Vector = dict[str, Any]
Frame = tuple[str, str, bytes]
"""What it is, its direction, and its bytes."""


def frame(payload: bytes) -> bytes:
    """Return a payload behind its length."""
    return len(payload).to_bytes(4, "big") + payload


def to_json(value: Any) -> Any:
    """Return a value as the vectors have it: bytes as {"hex": ...}, tuples as lists."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, dict):
        return {to_json(k): to_json(v) for k, v in value.items()}
    return [to_json(v) for v in value] if isinstance(value, list | tuple) else value


def from_json(value: Any) -> Any:
    """Return what `to_json` was given."""
    if isinstance(value, dict):
        if set(value) == {"hex"}:
            return bytes.fromhex(value["hex"])
        return {k: from_json(v) for k, v in value.items()}
    return tuple(map(from_json, value)) if isinstance(value, list) else value


def _vector(name: str, encoded: bytes, **more: Any) -> Vector:
    return {"name": name, **to_json(more), "hex": frame(encoded).hex()}


def requests() -> list[Vector]:
    """Return frames of good requests."""
    return [_vector(name, pack(said), payload=said) for name, said in samples.GOOD.items()]


def encodings() -> list[Vector]:
    """Return good requests in longer formats."""
    found = []
    for op, request in samples.USUAL.items():
        said = (request,)
        found.append(_vector(f"{op.name.lower()}, longest", samples.longest(said), payload=said))
        found.append(_vector(f"{op.name.lower()}, signed", samples.signed(said), payload=said))
    metadata = (samples.with_field(samples.USUAL[Op.ACQUIRE], 9, {"host": "h1"}),)
    return [*found, _vector("metadata, longest", samples.longest(metadata), payload=metadata)]


def invalid() -> list[Vector]:
    """Return frames that must be refused."""
    too_large = {
        "name": "a length above the limit",
        "goodbye": "frame_too_large",
        "hex": "00100001",
    }
    refused = [
        _vector(bad.name, bad.payload, **({"goodbye": bad.goodbye} if bad.goodbye else {"field": bad.field}))
        for bad in samples.bad(doc.read())
    ]  # fmt: skip
    return [too_large, *refused]


def answers() -> list[Vector]:
    """Return recorded answers."""
    return [
        _vector(r.name, r.payload, request=r.request, payload=unpack(r.payload))
        for r in recorded()
        if r.request is not None
    ]


def events() -> list[Vector]:
    """Return recorded events."""
    return [
        _vector(r.name, r.payload, payload=unpack(r.payload))
        for r in recorded()
        if r.request is None
    ]


def session() -> list[Vector]:
    """Return the example session."""
    return [
        _vector(title, data[4:], direction=direction, payload=unpack(data[4:]))
        for title, direction, data in example_session()
    ]


FILES = {
    "requests": requests,
    "encodings": encodings,
    "invalid": invalid,
    "answers": answers,
    "events": events,
    "session": session,
}


def example_session() -> list[Frame]:
    """Record hello, session, acquire, renewal and release."""
    served = Served()
    served.until_served()
    connection = served.connect()
    frames: list[Frame] = []

    def ask(title: str, *request: Any) -> Any:
        payload = pack([request])
        frames.append((title, ">", frame(payload)))
        (answer,) = served.send(connection, payload)
        frames.append(("its answer", "<", frame(answer)))
        return messages([answer])[0]

    ask("HELLO: versions 1 to 1, any cluster", Op.HELLO, 1, 1, 1, None, None, "example")
    opened = ask("OPEN_SESSION: for 60 s", Op.OPEN_SESSION, 2, bytes(range(16)), 60_000)
    key = (opened[3], 0, 1)
    granted = ask(
        "ACQUIRE: a lease of 10 s, without waiting",
        *(Op.ACQUIRE, 3, *key, "order:1", "me", 10_000, 0, None),
    )
    grant = ("order:1", granted[4])
    served.advance(3_000)
    ask("RENEW: three seconds later", Op.RENEW, 4, [grant])
    ask("RELEASE", Op.RELEASE, 5, *grant)
    return frames


def session_text(frames: list[Frame]) -> str:
    """Return the example session as the document shows it."""
    document = doc.read()
    codes: dict[int, int] = {}
    lines: list[str] = []
    for title, direction, data in frames:
        lines += ["", f"{direction} {title}", *frame_lines(document, direction, data, codes)]
    return "\n".join(lines[1:]) + "\n"


def with_session(text: str, session: str) -> str:
    """Return the document with this example session in place of the one that it has."""
    head, _, rest = text.partition(doc.SESSION_HEADING)
    before, _, rest = rest.partition("```\n")
    _, _, after = rest.partition("```\n")
    return f"{head}{doc.SESSION_HEADING}{before}```\n{session}```\n{after}"


def load(name: str) -> list[Vector]:
    """Return the vectors of a file."""
    vectors: list[Vector] = json.loads((doc.VECTORS / f"{name}.json").read_text())
    return vectors


def main() -> None:
    """Write everything anew."""
    doc.VECTORS.mkdir(exist_ok=True)
    for name, make in FILES.items():
        lines = ",\n".join(json.dumps(vector, ensure_ascii=False) for vector in make())
        (doc.VECTORS / f"{name}.json").write_text(f"[\n{lines}\n]\n")
    text = doc.PATH.read_text()
    doc.PATH.write_text(with_session(text, session_text(example_session())))


if __name__ == "__main__":
    main()
