"""Names of shipped objects, and the manifests that list them: one for each day, each with the hash of the one before.

Pure functions: a manifest is a function of the objects of its day, so that every shipper writes the same bytes. It must
not know stores.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from raftlock.audit.format import ZERO_DIGEST, AuditDamaged, Header
from raftlock.audit.tiers import Listed

RECORDS = "records/"
MANIFESTS = "manifests/"
CLUSTER_KEY = "cluster.json"
FORMAT = 1
_ITEM = (str, int, int, int, str)
NO_MANIFEST = ZERO_DIGEST.hex()
"""What the first manifest follows."""
_KEY = re.compile(
    r"records/day=(\d{4}-\d\d-\d\d)/hour=(\d\d)/(\d{20})-(\d{20})-([0-9a-f]{64})\.parquet"
)
_MANIFEST = re.compile(r"manifests/day=(\d{4}-\d\d-\d\d)\.json")


class Shipped(NamedTuple):
    """An object of records, by its name."""

    first: int
    last: int
    segment: str
    """The digest of the segment that it was made from, in hex."""
    day: str
    hour: int
    key: str
    size: int


class Item(NamedTuple):
    """An object as a manifest names it."""

    key: str
    first: int
    last: int
    size: int
    sha256: str


class Manifest(NamedTuple):
    """What a day holds, said when it was over."""

    cluster: str
    day: str
    previous: str
    """The SHA-256 of the manifest before, as stored."""
    objects: tuple[Item, ...]

    @property
    def first(self) -> int:
        """Return the day's first index."""
        return self.objects[0].first

    @property
    def last(self) -> int:
        """Return the day's last index."""
        return self.objects[-1].last


class Missing(NamedTuple):
    """Indexes that the store lacks between two objects: the day cannot be closed."""

    first: int
    last: int
    day: str


def day_of(wall_us: int) -> str:
    """Return the UTC day of a time."""
    return f"{datetime.fromtimestamp(wall_us // 1_000_000, UTC):%Y-%m-%d}"


def day_prefix(day: str) -> str:
    """Return what the keys of a day's objects begin with."""
    return f"{RECORDS}day={day}/"


def key_of(header: Header) -> str:
    """Return the name of the object of a segment: no two segments share one, and every node finds the same."""
    hour = header.first_wall_us // 3_600_000_000 % 24
    digest = header.digest.hex()
    name = f"{header.first:020d}-{header.last:020d}-{digest}.parquet"
    return f"{day_prefix(day_of(header.first_wall_us))}hour={hour:02d}/{name}"


def parse_key(listed: Listed) -> Shipped | None:
    """Return what an object's name says; None if it is not of the audit."""
    match = _KEY.fullmatch(listed.key)
    if match is None:
        return None
    day, hour, first, last, segment = match.groups()
    return Shipped(int(first), int(last), segment, day, int(hour), listed.key, listed.size)


def shipped(listing: Iterable[Listed]) -> list[Shipped]:
    """Return the objects of records in a listing, in the order of the log."""
    return sorted(one for one in map(parse_key, listing) if one is not None)


def manifest_key(day: str) -> str:
    """Return the name of a day's manifest."""
    return f"{MANIFESTS}day={day}.json"


def manifest_day(key: str) -> str | None:
    """Return the day that a manifest's name says; None if it is no manifest."""
    match = _MANIFEST.fullmatch(key)
    return None if match is None else match[1]


def encode_cluster(cluster: str) -> bytes:
    """Return the object that says whose records a place holds."""
    return _json({"cluster": cluster, "format": FORMAT})


def encode_manifest(manifest: Manifest) -> bytes:
    """Return a manifest's bytes: one form only."""
    values = manifest._asdict() | {
        "format": FORMAT,
        "first": manifest.first,
        "last": manifest.last,
        "objects": [item._asdict() for item in manifest.objects],
    }
    return _json(values)


def decode_manifest(data: bytes, *, file: str) -> Manifest:
    """Decode a manifest. Raise AuditDamaged for anything but the bytes that `encode_manifest` makes."""
    try:
        values: Mapping[str, Any] = json.loads(data)
        items = tuple(Item(**one) for one in values["objects"])
        manifest = Manifest(values["cluster"], values["day"], values["previous"], items)
        same = encode_manifest(manifest) == data and _fits(manifest)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise AuditDamaged(file=file, offset=0, problem=f"it is no manifest: {error}") from error
    if not same or manifest_key(manifest.day) != file:
        raise AuditDamaged(file=file, offset=0, problem="it is not what a shipper writes")
    return manifest


def _fits(manifest: Manifest) -> bool:
    """Return whether every field is of its type: those who verify count with them."""
    texts = all(type(text) is str for text in manifest[:3])
    return texts and all(tuple(map(type, one)) == _ITEM for one in manifest.objects)


def whole_days(
    objects: Sequence[Shipped], *, after: int | None
) -> Iterator[tuple[str, list[Shipped]] | Missing]:
    """Return the days that are over and hold all their indexes, the oldest first, and what stops the next.

    `objects` are those of days without a manifest; `after` is the last index that has one. The newest day is never
    over: a day is when a later one has an object that goes on where it ends.
    """
    if after is not None and objects and objects[0].first != after + 1:
        yield Missing(after + 1, objects[0].first - 1, objects[0].day)
        return
    days = [(day, list(found)) for day, found in groupby(objects, key=lambda one: one.day)]
    for (day, found), (_, following) in pairwise(days):
        for one, following_one in pairwise([*found, following[0]]):
            if following_one.first != one.last + 1:
                yield Missing(one.last + 1, following_one.first - 1, day)
                return
        yield day, found


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, sort_keys=True, indent=1) + "\n").encode()
