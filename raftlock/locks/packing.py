"""Grants that have been held for a while, as bytes: a third of a record's memory, and nothing for the collector.

A bucket holds a grant as a record while it is young, and packed after that; which of them is no part of the state. What
is packed is what a snapshot holds of the grant, behind its resource, so that a snapshot of packed grants only joins them.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any
from zlib import crc32

from raftlock.locks.records import Grant
from raftlock_wire.codec import Encoder, array_header, unpack_own
from raftlock_wire.messages import GrantState

Packed = bytes
Stored = Grant | Packed

_new = tuple.__new__
_FIELDS = len(Grant._fields)
_HEAD = array_header(_FIELDS)
_REST_HEAD = array_header(_FIELDS - 1)
_REST_AT = len(_REST_HEAD)
_STATES = {int(state): state for state in GrantState}
YOUNG_MAX = 16_384
"""Grants that stay records: most locks are released before as many others were granted, and never packed."""
SETTLE_SLICE = 4_000
"""Grants looked at in one call of `settle`, but for the rest of an entry: some milliseconds."""


def packed(grant: Sequence[Any], encode: Callable[[Any], bytes]) -> Packed:
    """Return a grant, or what a snapshot holds of one, as a bucket keeps it. Raise ValueError if it is none."""
    if len(grant) != _FIELDS or grant[3] not in _STATES:
        raise ValueError(f"not a grant: {grant!r:.120}")
    return encode(grant[1:])[_REST_AT:]


def grant_of(resource: str, stored: Stored) -> Grant:
    """Return the grant of a resource from what its bucket keeps."""
    if type(stored) is not bytes:
        return stored  # type: ignore[return-value]  # mypy does not narrow by `type(...) is`, the faster test
    token, rev, state, *rest = unpack_own(_REST_HEAD + stored)
    return _new(Grant, (resource, token, rev, _STATES[state], *rest))


def encode_grants(items: Sequence[tuple[str, Stored]]) -> bytes:
    """Return the encoding of an array of grants, as a snapshot has it."""
    encode = Encoder().pack
    parts = [
        (_HEAD, encode(resource), stored) if type(stored) is bytes else (encode(tuple(stored)),)
        for resource, stored in items
    ]
    return array_header(len(parts)) + b"".join(chain.from_iterable(parts))


class Young:
    """The grants of the last entries, in order: those that are still there when enough others came are packed."""

    def __init__(self, count_max: int | None = None) -> None:
        self._count_max = YOUNG_MAX if count_max is None else count_max
        self._encode = Encoder().pack
        self._entries: deque[Sequence[Grant]] = deque()
        self._count = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "Young":
        # A copy's grants are other records: they stay young until they change.
        return Young(self._count_max)

    def add(self, grants: Sequence[Grant]) -> None:
        """Take the grants that an entry made or changed."""
        self._entries.append(grants)
        self._count += len(grants)

    def settle(self, buckets: Sequence[dict[str, Stored]], mask: int) -> int:
        """Pack the oldest of what is beyond the bound: a slice a call. Return how many were packed."""
        looked_at = count = 0
        while self._count > self._count_max and looked_at < SETTLE_SLICE:
            grants = self._entries.popleft()
            self._count -= len(grants)
            looked_at += len(grants)
            for grant in grants:
                resource = grant[0]
                bucket = buckets[crc32(resource.encode()) & mask]
                # What was released, or changed since, is another record or none.
                if bucket.get(resource) is grant:
                    bucket[resource] = self._encode(grant[1:])[_REST_AT:]
                    count += 1
        return count


def grants_in(bucket: Mapping[str, Stored]) -> list[Grant]:
    """Return the grants of a bucket."""
    return [grant_of(resource, stored) for resource, stored in bucket.items()]
