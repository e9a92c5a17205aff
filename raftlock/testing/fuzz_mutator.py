"""Makes new inputs of old ones: bytes, lengths, pieces, and the trees that msgpack and JSON stand for.

It owns the ways to change an input. Everything that chance decides comes from the generator that it is given, so that
a seed is a run. It must not know what an input is for.
"""

import json
import math
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgpack

SIZE_MAX = 16 << 10
"""No input grows beyond this."""
_INTERESTING = (
    0, 1, 2, 15, 16, 31, 32, 127, 128, 255, 256, 4_095, 4_096, 65_535, 65_536, (1 << 31) - 1, 1 << 31,
    (1 << 32) - 2, (1 << 32) - 1, 1 << 32, (1 << 53) - 1, 1 << 53, (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
)  # fmt: skip
_NUMBERS = (
    b"0",
    b"-1",
    b"1e999",
    b"0.5",
    b"9" * 30,
    b"9" * 5_000,
    b"0x" + b"f" * 4_500,
    b"nan",
    b"inf",
)
_DIGITS = re.compile(rb"-?\d+")
_OPENERS = (b"\x91", b"\xdd\x00\x10\x00\x00", b"\xdc\x10\x00", b"\x81\xa1k", b"[", b'{"a":', b"a.")
_DEEP = (10, 600, 3_000)

Way = Callable[[bytes], bytes]


class Mutator:
    """Changes inputs. `tree` is how an input is read as a tree: "msgpack", "json" or not at all."""

    def __init__(self, rng: random.Random, *, tree: str = "", tokens: Sequence[bytes] = ()) -> None:
        self._rng = rng
        self._tree = tree
        self._tokens = tokens
        self._pool: Sequence[bytes] = (b"",)
        self._ways: list[Way] = [
            self._flip, self._byte, self._byte, self._length, self._length, self._insert, self._delete,
            self._repeat, self._overwrite, self._splice, self._number,
        ]  # fmt: skip
        if tokens:
            self._ways += [self._token] * 3
        if tree:
            self._ways += [self._change_tree] * 8
        self._rare: list[Way] = [self._inflate, self._inflate, self._nest, self._random]

    def mutate(self, data: bytes, pool: Sequence[bytes]) -> bytes:
        """Return another input, made of `data` and of pieces of the pool."""
        rng = self._rng
        self._pool = pool
        if rng.random() < 0.03:
            data = rng.choice(self._rare)(data)
        for _ in range(1 + (rng.random() < 0.5) + (rng.random() < 0.25) + rng.randrange(4) // 3):
            data = rng.choice(self._ways)(data)
        return data[:SIZE_MAX]

    # bytes

    def _range(self, data: bytes, size_max: int = 64) -> tuple[int, int]:
        begin = self._rng.randrange(len(data) + 1)
        return begin, min(len(data), begin + self._rng.randrange(1, size_max))

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return data
        at = self._rng.randrange(len(data))
        return data[:at] + bytes((data[at] ^ 1 << self._rng.randrange(8),)) + data[at + 1 :]

    def _byte(self, data: bytes) -> bytes:
        at = self._rng.randrange(len(data) + 1)
        return data[:at] + bytes((self._rng.randrange(256),)) + data[at + 1 :]

    def _length(self, data: bytes) -> bytes:
        """Write a number where there may be one: a small change of what stands there, or one of those that hurt."""
        rng = self._rng
        width = rng.choice((1, 2, 4, 8))
        at = rng.randrange(len(data) + 1)
        number = int.from_bytes(data[at : at + width], "big") + rng.choice((-2, -1, 1, 2, 256))
        if rng.random() < 0.6:
            number = rng.choice((*_INTERESTING, len(data), len(data) - at))
        written = (number % (1 << 8 * width)).to_bytes(width, "big")
        return data[:at] + written + data[at + width :]

    def _insert(self, data: bytes) -> bytes:
        at = self._rng.randrange(len(data) + 1)
        return data[:at] + self._rng.randbytes(self._rng.randrange(1, 9)) + data[at:]

    def _delete(self, data: bytes) -> bytes:
        begin, end = self._range(data)
        return data[:begin] + data[end:]

    def _repeat(self, data: bytes) -> bytes:
        begin, end = self._range(data)
        return data[:end] + data[begin:end] * self._rng.randrange(1, 5) + data[end:]

    def _overwrite(self, data: bytes) -> bytes:
        other = self._rng.choice(self._pool)
        begin, end = self._range(other, 256)
        at = self._rng.randrange(len(data) + 1)
        return data[:at] + other[begin:end] + data[at + end - begin :]

    def _splice(self, data: bytes) -> bytes:
        other = self._rng.choice(self._pool)
        at = self._rng.randrange(len(data) + 1)
        return data[:at] + other[self._rng.randrange(len(other) + 1) :]

    def _number(self, data: bytes) -> bytes:
        found = list(_DIGITS.finditer(data[:4_096]))
        if not found:
            return self._byte(data)
        match = self._rng.choice(found)
        number = self._rng.choice((*_NUMBERS, b"%d" % self._rng.choice(_INTERESTING)))
        return data[: match.start()] + number + data[match.end() :]

    def _token(self, data: bytes) -> bytes:
        begin, end = self._range(data, 16)
        if self._rng.random() < 0.5:
            end = begin
        return data[:begin] + self._rng.choice(self._tokens) + data[end:]

    # rarely

    def _inflate(self, data: bytes) -> bytes:
        """Repeat a piece until the input is large: what costs the square of its size is seen there."""
        begin, end = self._range(data, self._rng.choice((2, 5, 9, 64)))
        piece = self._rng.choice((data[begin:end] or b"\x00", b"\x00"))
        times = self._rng.choice((1_000, 4_000, SIZE_MAX)) // len(piece)
        return data[:end] + piece * times + data[end:]

    def _nest(self, data: bytes) -> bytes:
        at = self._rng.randrange(len(data) + 1)
        return data[:at] + self._rng.choice(_OPENERS) * self._rng.choice(_DEEP) + data[at:]

    def _random(self, _: bytes) -> bytes:
        return self._rng.randbytes(self._rng.randrange(200))

    # trees

    def _change_tree(self, data: bytes) -> bytes:
        try:
            value = _read_tree(self._tree, data)
            return _write_tree(self._tree, self._changed(value, 0))
        except Exception as error:  # noqa: BLE001 - not every input is a tree, and not every tree can be written
            del error
            return self._byte(data)

    def _changed(self, value: Any, depth: int) -> Any:
        rng = self._rng
        if isinstance(value, list | dict) and value and rng.random() < (0.95 if depth < 1 else 0.7):
            return self._inside(value, depth)
        kind = rng.randrange(6)
        if kind == 0 and type(value) is int:
            return value + rng.choice((-1, 1, -value * 2, 1 << 40))
        if kind == 1 and isinstance(value, str | bytes) and len(value) < 2_000:
            return value * 2 if rng.random() < 0.5 else value[: len(value) // 2]
        if kind == 2:
            return [value] * rng.choice((1, 2, 70, 1_001))
        if kind == 3:
            return {"k": value}
        return self._leaf()

    def _inside(self, value: Any, depth: int) -> Any:
        rng = self._rng
        if isinstance(value, dict):
            key = rng.choice(list(value))
            changed = self._changed(value[key], depth + 1)
            return {k: changed if k == key else v for k, v in value.items()}
        at = rng.randrange(len(value))
        kind = rng.randrange(8)
        if kind == 0:
            return value[:at] + value[at + 1 :]
        if kind == 1:
            return [*value[:at], self._leaf(), *value[at:]]
        if kind == 2:
            return value[: at + 1] + value[at:]
        return [*value[:at], self._changed(value[at], depth + 1), *value[at + 1 :]]

    def _leaf(self) -> Any:
        rng = self._rng
        kind = rng.randrange(7)
        if kind < 3:
            return (
                rng.choice(_INTERESTING) * rng.choice((1, 1, 1, -1)) if kind else rng.randrange(70)
            )
        if kind == 3:
            return rng.choice((None, True, False, math.inf, math.nan, 0.5, -0.0, 1e300))
        if kind == 4:
            return rng.choice(("", "a", "x" * 512, "x" * 513, "ä" * 256, "\ud800", "order:1"))
        if kind == 5 and self._tree == "msgpack":
            return rng.choice((b"", bytes(16), b"\xff" * 70, msgpack.ExtType(5, b"x")))
        return rng.choice(([], {}, [[]], [1, "a"], {"a": "b"}, [["order:1", 1]]))


def _read_tree(tree: str, data: bytes) -> Any:
    if tree == "json":
        return json.loads(data)
    return msgpack.unpackb(data, raw=False, strict_map_key=False, max_array_len=4_096)


def _write_tree(tree: str, value: Any) -> bytes:
    if tree == "json":
        return json.dumps(value).encode()
    packed: bytes = msgpack.packb(value, unicode_errors="surrogatepass")
    return packed
