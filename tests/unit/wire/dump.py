"""Bytes explained: a small msgpack reader written from the document, and the lines of the example session."""

from typing import Any, NamedTuple

from tests.unit.wire.document import Document

_WIDTH = 32
"""Columns that the hex takes; longer values go over several lines."""


class Piece(NamedTuple):
    """One value of msgpack: its own bytes (of an array or a map: the header), and what is in it."""

    data: bytes
    kind: str
    value: Any
    children: "tuple[Piece, ...]" = ()


_SIZED = {
    0xC4: (1, "bin"), 0xC5: (2, "bin"), 0xC6: (4, "bin"),
    0xD9: (1, "text"), 0xDA: (2, "text"), 0xDB: (4, "text"),
    0xDC: (2, "array"), 0xDD: (4, "array"), 0xDE: (2, "map"), 0xDF: (4, "map"),
}  # fmt: skip
_FIXED = {0xC0: ("nil", None), 0xC2: ("bool", False), 0xC3: ("bool", True)}
_UNSIGNED = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}


def piece(data: bytes, start: int = 0) -> tuple[Piece, int]:
    """Read one value of what the server sends. Return it and where it ends."""
    first = data[start]
    if first < 0x80:
        return Piece(data[start : start + 1], "int", first), start + 1
    if first in _FIXED:
        kind, value = _FIXED[first]
        return Piece(data[start : start + 1], kind, value), start + 1
    if first in _UNSIGNED:
        end = start + 1 + _UNSIGNED[first]
        return Piece(data[start:end], "int", int.from_bytes(data[start + 1 : end], "big")), end
    if first in _SIZED:
        width, kind = _SIZED[first]
        body = start + 1 + width
        size = int.from_bytes(data[start + 1 : body], "big")
    else:
        body = start + 1
        kind = "map" if first < 0x90 else "array" if first < 0xA0 else "text"
        size = first & (0x1F if kind == "text" else 0x0F)
    if kind in ("text", "bin"):
        raw = data[body : body + size]
        value = raw.decode() if kind == "text" else raw
        return Piece(data[start : body + size], kind, value), body + size
    children = []
    end = body
    for _ in range(size * (2 if kind == "map" else 1)):
        child, end = piece(data, end)
        children.append(child)
    return Piece(data[start:body], kind, size, tuple(children)), end


def frame_lines(
    document: Document, direction: str, frame: bytes, codes: dict[int, int]
) -> list[str]:
    """Explain a frame, length included. `codes` are those of the requests that were asked, by id; it is filled."""
    payload, _ = piece(frame, 4)
    lines = [_line(frame[:4], 0, f"length: {len(frame) - 4}")]
    lines.append(_line(payload.data, 1, f"array of {payload.value}"))
    messages = payload.children
    if direction == "<":
        lines.append(_line(messages[0].data, 2, f"leader_id: {messages[0].value}"))
        messages = messages[1:]
    for message in messages:
        lines.append(_line(message.data, 2, f"array of {message.value}"))
        names = _names(document, direction, message, codes)
        for child, name in zip(message.children, names, strict=True):
            lines += _value_lines(document, child, 3, name)
    return lines


def _names(document: Document, direction: str, message: Piece, codes: dict[int, int]) -> list[str]:
    first, second = message.children[0].value, message.children[1].value
    if direction == ">":
        request = document.requests[first]
        codes[second] = first
        return [request.name, "id", *(field.name for field in request.fields)]
    if first == 0:
        event = document.events[second]
        return ["event", event.status, *event.names]
    status = document.statuses[second].status
    answers = (*document.requests[codes[first]].answers, *document.any_answers)
    final = message.children[2].value
    answer = next(a for a in answers if a.status == status and final in a.finals)
    return ["id", status, "final", *answer.names]


def _value_lines(document: Document, value: Piece, depth: int, name: str) -> list[str]:
    if value.kind not in ("array", "map"):
        shown = value.value
        if value.kind == "nil":
            shown = "nil"
        elif value.kind == "bool":
            shown = str(shown).lower()
        elif value.kind == "text":
            shown = f'"{shown}"'
        elif value.kind == "bin":
            shown = f"{len(shown)} bytes"
        return _lines(value.data, depth, f"{name}: {shown}" if name else str(shown))
    lines = _lines(value.data, depth, f"{name}: {value.kind} of {value.value}".lstrip(": "))
    for position, child in enumerate(value.children):
        inner = ""
        if name == "item":
            item = next(i for i in document.items if i.status == _status(document, value))
            inner = (item.status, *item.names)[position]
        elif name in _ELEMENTS:
            inner = _ELEMENTS[name][position % len(_ELEMENTS[name])]
        lines += _value_lines(document, child, depth + 1, inner)
    return lines


_ELEMENTS = {
    "items": ("item",),
    "leases": ("lease",),
    "lease": ("resource", "token"),
    "nodes": ("node",),
    "node": ("node_id", "address"),
}
"""The names of what is in an array, over and over."""


def _status(document: Document, item: Piece) -> str:
    return document.statuses[item.children[0].value].status


def _line(data: bytes, depth: int, text: str) -> str:
    return f"{data.hex(' '):<{_WIDTH}}{'  ' * depth}{text}"


def _lines(data: bytes, depth: int, text: str) -> list[str]:
    width = _WIDTH // 3
    parts = [data[i : i + width] for i in range(0, len(data), width)]
    return [_line(parts[0], depth, text), *(part.hex(" ") for part in parts[1:])]
