"""Ships a node's finished segments to a tier, each once, and closes days with manifests.

It keeps nothing: what is there is seen by listing, so it may be killed at any moment, and several may run at once. It
reads the node's files and never writes or deletes one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from raftlock.audit.backoff import Backoff
from raftlock.audit.format import AuditDamaged, Header, decode_header
from raftlock.audit.manifest import (
    CLUSTER_KEY,
    MANIFESTS,
    NO_MANIFEST,
    RECORDS,
    Item,
    Manifest,
    Missing,
    Shipped,
    day_of,
    day_prefix,
    decode_manifest,
    encode_cluster,
    encode_manifest,
    key_of,
    manifest_day,
    manifest_key,
    parse_key,
    shipped,
    whole_days,
)
from raftlock.audit.parquet import encode_segment, origin_of, read_schema
from raftlock.audit.reader import Directory
from raftlock.audit.tiers import Listed, Tier, TierUnavailable, sha256_of


class AuditConflict(Exception):
    """The store holds something else under a name of ours, or records of these indexes with another digest.

    Nothing was overwritten. Somebody has to look: one of the two is not what the cluster recorded.
    """


class Lag(NamedTuple):
    """Finished segments of this node that the store lacks."""

    segments: int = 0
    size: int = 0
    since_us: int = 0
    """The last record's time in the oldest of them; 0: there is none."""


@dataclass(slots=True)
class Found:
    """What a pass found and did."""

    shipped: list[str] = field(default_factory=list)
    """Keys of objects that this pass wrote."""
    there: int = 0
    """Segments of this node that the store has."""
    closed: list[str] = field(default_factory=list)
    """Days whose manifests this pass wrote."""
    damages: list[AuditDamaged] = field(default_factory=list)
    """Segments that are not whole on this node: not shipped."""
    older: int = 0
    """Segments from before the store's first object, whose day is closed: not shipped."""
    missing: list[Missing] = field(default_factory=list)
    """Indexes that keep a day open."""


class Shipper:
    """One node's shipper. One thread at a time may call it."""

    def __init__(self, directory: Directory, tier: Tier) -> None:
        self._directory = directory
        self._tier = tier
        self._headers: dict[str, Header] = {}
        self._keys: dict[str, str] = {}
        """Of local segments, by file name."""
        self._there: set[str] = set()
        """Keys that were seen in the store. What is removed there later, `verify` notices."""
        self._manifests: dict[str, tuple[Manifest, str]] = {}
        """Those that were read, by key, with the hash of their bytes."""
        self._closed: list[str] = []
        """Keys of all manifests, the oldest first."""
        self._cluster = ""

    def run_once(
        self,
        *,
        holes_only: bool = False,
        goes_on: Callable[[], bool] = lambda: True,
        told: Callable[[str], None] = lambda _: None,
    ) -> Found:
        """Ship what is missing and close what is over. Raise AuditConflict, TierUnavailable or TierRefused.

        `holes_only`: ship only what the store has gone past, which whoever ships lacks, and close nothing. `goes_on` is
        asked before each segment, `told` gets the key of each that this wrote.
        """
        found = Found()
        names = self._look(found)
        if not names:
            return found
        self._claim(self._headers[names[0]].cluster_id)
        self._list_manifests()
        self._list_days(names)
        newest = self._newest() if holes_only else None
        for name in names:
            if self._keys[name] in self._there:
                found.there += 1
            elif self._is_older(self._headers[name]):
                found.older += 1
            elif newest is not None and self._headers[name].first > newest:
                # Whoever leads is about to ship it.
                break
            elif not goes_on():
                return found
            else:
                self._ship(name, found, told)
        if not holes_only:
            self._close(found)
        return found

    def _newest(self) -> int:
        """Return the last index of what was seen in the store; 0: nothing."""
        return max((one.last for one in map(_named, self._there) if one is not None), default=0)

    def lag(self) -> Lag:
        """Return what the store lacks now, by listing. Raise TierUnavailable or TierRefused."""
        names = self._look(Found())
        self._list_manifests()
        self._list_days(names)
        if self._closed:
            self._manifest(self._closed[0])
        return self.waiting()[0]

    def waiting(self) -> tuple[Lag, int]:
        """Return what the store lacks and how many segments it has, as far as passes have seen: it is not asked."""
        first = 0
        if self._closed and self._closed[0] in self._manifests:
            first = self._manifests[self._closed[0]][0].first
        names = self._look(Found())
        there = sum(self._keys[name] in self._there for name in names)
        waiting = [
            name
            for name in names
            if self._keys[name] not in self._there and self._headers[name].last >= first
        ]
        if not waiting:
            return Lag(), there
        size = sum(self._directory.size(name) for name in waiting)
        return Lag(len(waiting), size, self._headers[waiting[0]].last_wall_us), there

    def _look(self, found: Found) -> list[str]:
        """Return the names of the finished segments, the oldest first, with their headers known."""
        names = [name for _, _, name in self._directory.segments()]
        for name in set(self._headers) - set(names):
            del self._headers[name], self._keys[name]
        for name in names:
            if name not in self._headers:
                try:
                    header = decode_header(self._directory.head(name), file=name)
                except FileNotFoundError:
                    # The node deleted it at its limits, between the list and this.
                    continue
                except AuditDamaged as damage:
                    found.damages.append(damage)
                    continue
                self._headers[name], self._keys[name] = header, key_of(header)
        return [name for name in names if name in self._headers]

    def _claim(self, cluster: str) -> None:
        """Note whose records the place holds. Raise AuditConflict if it is another cluster's."""
        if self._cluster == cluster:
            return
        data = encode_cluster(cluster)
        if not self._tier.put_new(CLUSTER_KEY, data) and self._tier.read(CLUSTER_KEY) != data:
            problem = f"is of another cluster than {cluster[:16]}...: use a prefix for each cluster"
            raise AuditConflict(f"{self._tier.url}{CLUSTER_KEY} {problem}")
        self._cluster = cluster

    def _list_manifests(self) -> None:
        keys = (listed.key for listed in self._tier.list(MANIFESTS))
        self._closed = [key for key in keys if manifest_day(key) is not None]

    def _manifest(self, key: str) -> tuple[Manifest, str]:
        """Return a manifest and the hash of its bytes. Raise AuditConflict if it is none."""
        if key not in self._manifests:
            data = self._tier.read(key)
            try:
                self._manifests[key] = decode_manifest(data, file=key), sha256_of(data)
            except AuditDamaged as damage:
                raise AuditConflict(f"{self._tier.url}{damage}") from damage
        return self._manifests[key]

    def _list_days(self, names: list[str]) -> None:
        unknown = [name for name in names if self._keys[name] not in self._there]
        for day in sorted({day_of(self._headers[name].first_wall_us) for name in unknown}):
            self._there |= {one.key for one in shipped(self._tier.list(day_prefix(day)))}

    def _is_older(self, header: Header) -> bool:
        """Return whether the store begins behind this segment, in a day that is closed."""
        return bool(self._closed) and header.last < self._manifest(self._closed[0])[0].first

    def _ship(self, name: str, found: Found, told: Callable[[str], None]) -> None:
        header, key = self._headers[name], self._keys[name]
        self._check_closed_day(header, key)
        self._check_alone(key)
        try:
            _, data = encode_segment(self._directory.read(name), file=name)
        except FileNotFoundError:
            return
        except AuditDamaged as damage:
            found.damages.append(damage)
            return
        created = put(self._tier, key, data)
        self._there.add(key)
        if created:
            found.shipped.append(key)
            told(key)
        else:
            found.there += 1
        # Once more: another node may have shipped something else of these indexes meanwhile.
        self._check_alone(key)

    def _check_closed_day(self, header: Header, key: str) -> None:
        """Raise AuditConflict if the day's manifest has other objects for these indexes."""
        closed = manifest_key(day_of(header.first_wall_us))
        if closed not in self._closed:
            return
        if key not in {item.key for item in self._manifest(closed)[0].objects}:
            raise AuditConflict(f"{self._tier.url}{closed} is written, and does not name {key}")

    def _check_alone(self, key: str) -> None:
        """Raise AuditConflict if the store has another object of some of the same indexes, in the same hour."""
        ours = parse_key(Listed(key, 0))
        assert ours is not None
        for one in shipped(self._tier.list(key.rpartition("/")[0] + "/")):
            if one.key != key and one.first <= ours.last and ours.first <= one.last:
                raise AuditConflict(f"{self._tier.url}{one.key} is there, and this node has {key}")

    def _close(self, found: Found) -> None:
        previous, after, closed_until = NO_MANIFEST, None, ""
        if self._closed:
            manifest, previous = self._manifest(self._closed[-1])
            after, closed_until = manifest.last, manifest.day
        if not self._open_days(closed_until):
            return
        behind = f"{RECORDS}day={closed_until}~" if closed_until else ""
        objects = shipped(self._tier.list(RECORDS, after=behind))
        for day in whole_days(objects, after=after):
            if isinstance(day, Missing):
                found.missing.append(day)
                return
            name, of_day = day
            manifest = Manifest(self._cluster, name, previous, tuple(map(self._item, of_day)))
            data = encode_manifest(manifest)
            if put(self._tier, manifest_key(name), data):
                found.closed.append(name)
            previous = sha256_of(data)
            self._closed.append(manifest_key(name))

    def _open_days(self, closed_until: str) -> bool:
        """Return whether there is more than one day without a manifest among what was seen: one may be over."""
        seen = {one.day for one in map(_named, self._there) if one is not None}
        return len([day for day in seen if day > closed_until]) > 1

    def _item(self, one: Shipped) -> Item:
        hashes = self._tier.hashes(one.key) - {""}
        if len(hashes) > 1:
            raise AuditConflict(f"{self._tier.url}{one.key} has {len(hashes)} versions that differ")
        sha256 = next(iter(hashes), None) or sha256_of(self._tier.read(one.key))
        return Item(one.key, one.first, one.last, one.size, sha256)


def _named(key: str) -> Shipped | None:
    return parse_key(Listed(key, 0))


def put(tier: Tier, key: str, data: bytes) -> bool:
    """Write an object unless it is there. Return whether this wrote it. Raise AuditConflict if what is there differs."""
    sha256 = sha256_of(data)
    created = tier.put_new(key, data)
    # After a put that worked, too: a bucket with versions takes a second object of a name.
    hashes = tier.hashes(key)
    if not hashes:
        raise TierUnavailable(f"{tier.url}{key} is not there after it was written")
    if hashes != {sha256} and not (len(hashes) == 1 and _is_of_the_same(tier, key, data)):
        raise AuditConflict(f"{tier.url}{key} is there with other content; it was left as it is")
    return created


def _is_of_the_same(tier: Tier, key: str, data: bytes) -> bool:
    """Return whether what is there is ours without its note, or of the same segment by another version of the writer."""
    there = tier.read(key)
    if there == data:
        return True
    if not key.startswith(RECORDS):
        return False
    try:
        theirs = origin_of(read_schema(there, file=key), file=key)
    except AuditDamaged:
        return False
    ours = origin_of(read_schema(data, file=key), file=key)
    return theirs.writer != ours.writer and theirs._replace(writer="") == ours._replace(writer="")


def run_with_patience(
    shipper: Shipper,
    *,
    backoff: Backoff,
    attempts_max: int | None,
    complain: Callable[[TierUnavailable, float], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Found:
    """Do one whole pass, over outages of the store. Raise TierUnavailable after so many attempts."""
    while True:
        try:
            found = shipper.run_once()
        except TierUnavailable as error:
            wait_s = backoff.next_s()
            if attempts_max is not None and backoff.failures >= attempts_max:
                raise
            complain(error, wait_s)
            sleep(wait_s)
        else:
            backoff.reset()
            return found
