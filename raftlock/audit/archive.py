"""Whether what was shipped is whole: each object's hash, each manifest, the chain of both, nothing missing or added.

It reads everything through a Tier. It must not write.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from raftlock.audit.format import HEADER_SIZE, AuditDamaged, decode_header
from raftlock.audit.manifest import (
    CLUSTER_KEY,
    MANIFESTS,
    NO_MANIFEST,
    RECORDS,
    Item,
    Manifest,
    Shipped,
    decode_manifest,
    encode_cluster,
    key_of,
    manifest_day,
    manifest_key,
    shipped,
)
from raftlock.audit.parquet import Origin, encode_segment, origin_of, read_schema
from raftlock.audit.reader import Directory
from raftlock.audit.tiers import Tier, sha256_of


@dataclass(slots=True)
class ArchiveReport:
    """What was found."""

    objects: int = 0
    size: int = 0
    first: int = 0
    """Of the first object; 0: there is none."""
    last: int = 0
    manifests: int = 0
    digest: str = NO_MANIFEST
    """Of the newest manifest: it stands for every day up to that one."""
    closed_until: str = ""
    open_objects: int = 0
    """Objects of days without a manifest: checked against their own notes, and by the chain of segments, only."""
    compared: int = 0
    """Segments of a node that were compared byte by byte."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """(key, what is wrong)."""


def verify_archive(
    tier: Tier,
    *,
    since: str = "",
    anchor: str = "",
    look: Callable[[str], None] = lambda _: None,
) -> ArchiveReport:
    """Verify everything, the oldest first; go on behind damage, so that all of it is named.

    `since`: objects of days before it are not looked for (they expired). `anchor`: a digest noted earlier, which must
    be one of the chain's. `look` is told each key. Raise TierUnavailable or TierRefused.
    """
    report = ArchiveReport()
    manifests = _manifests(tier, report, anchor)
    objects = [one for one in shipped(tier.list(RECORDS)) if one.day >= since]
    named = {item.key: item for m in manifests if m.day >= since for item in m.objects}
    _compare_names(objects, named, report, manifests)
    origins: dict[str, Origin] = {}
    for one in objects:
        look(one.key)
        origin = _object(tier, one, named.get(one.key), report)
        if origin is not None:
            origins[one.key] = origin
    _chain(objects, origins, report)
    clusters = {o.cluster for o in origins.values()} | {m.cluster for m in manifests}
    _one_cluster(tier, clusters, report)
    return report


def compare_with_node(tier: Tier, directory: Directory, report: ArchiveReport) -> None:
    """Compare what was shipped with a node's segments: made again from each, an object must be the same bytes.

    Objects by another version of the writer must say that they are of the same segment.
    """
    there = {one.key for one in shipped(tier.list(RECORDS))}
    for _, _, name in directory.segments():
        key = ""
        try:
            data = directory.read(name)
            key = key_of(decode_header(data[:HEADER_SIZE], file=name))
            if key not in there:
                continue
            _, ours = encode_segment(data, file=name)
            theirs = tier.read(key)
            report.compared += 1
            if theirs != ours and _writer(theirs, key) == _writer(ours, key):
                report.problems.append((key, "it is not what this node's segment gives"))
        except FileNotFoundError:
            # Deleted meanwhile: on the node by its limits, or in the store by its rules.
            continue
        except AuditDamaged as damage:
            report.problems.append((key or name, damage.problem))


def _writer(data: bytes, key: str) -> str:
    return origin_of(read_schema(data, file=key), file=key).writer


def _manifests(tier: Tier, report: ArchiveReport, anchor: str) -> list[Manifest]:
    """Return the manifests, having checked that each follows the one before."""
    found: list[Manifest] = []
    digests: set[str] = set()
    last: int | None = None
    for listed in tier.list(MANIFESTS):
        if manifest_day(listed.key) is None:
            report.problems.append((listed.key, "it is no manifest"))
            continue
        data = tier.read(listed.key)
        try:
            manifest = decode_manifest(data, file=listed.key)
        except AuditDamaged as damage:
            report.problems.append((listed.key, damage.problem))
            report.digest = sha256_of(data)
            last = None
            continue
        if manifest.previous != report.digest:
            problem = f"it follows {manifest.previous[:16]}..., and the one before is {report.digest[:16]}..."
            report.problems.append((listed.key, problem))
        elif last is not None and manifest.first != last + 1:
            problem = f"it begins at {manifest.first}, and the one before ends at {last}"
            report.problems.append((listed.key, problem))
        report.digest, last = sha256_of(data), manifest.last
        digests.add(report.digest)
        found.append(manifest)
    report.manifests = len(found)
    report.closed_until = found[-1].day if found else ""
    if anchor and anchor not in digests:
        report.problems.append((MANIFESTS, f"none has the digest {anchor[:16]}... that was noted"))
    return found


def _compare_names(
    objects: Iterable[Shipped],
    named: dict[str, Item],
    report: ArchiveReport,
    manifests: Iterable[Manifest],
) -> None:
    keys = {one.key for one in objects}
    days = {manifest.day for manifest in manifests}
    for key in named.keys() - keys:
        report.problems.append((key, "a manifest names it, and it is not there"))
    for one in objects:
        if one.key in named:
            item = named[one.key]
            if (item.first, item.last, item.size) != (one.first, one.last, one.size):
                report.problems.append(
                    (one.key, "it is not of the range and size that its manifest says")
                )
            continue
        if one.day in days:
            report.problems.append((one.key, "the manifest of its day does not name it"))
        elif one.day <= report.closed_until:
            problem = f"{manifest_key(one.day)} is missing, and later days have theirs"
            report.problems.append((one.key, problem))
        else:
            report.open_objects += 1
    report.problems.sort()


def _object(tier: Tier, one: Shipped, item: Item | None, report: ArchiveReport) -> Origin | None:
    """Check one object. Return what it says of itself, if its content is what was written."""
    report.objects += 1
    report.size += one.size
    try:
        data = tier.read(one.key)
    except FileNotFoundError:
        report.problems.append((one.key, "it went away while this was read"))
        return None
    noted = {item.sha256} if item is not None else tier.hashes(one.key) - {""}
    if noted and noted != {sha256_of(data)}:
        who = "its manifest" if item is not None else "the note at its writing"
        report.problems.append((one.key, f"the content is not what {who} says"))
        # Not parsed: pyarrow ends the process on some damaged footers.
        return None
    try:
        origin = origin_of(read_schema(data, file=one.key), file=one.key)
    except AuditDamaged as damage:
        report.problems.append((one.key, damage.problem))
        return None
    if (origin.first, origin.last, origin.segment) != (one.first, one.last, one.segment):
        report.problems.append((one.key, "its metadata is not what its name says"))
    return origin


def _one_cluster(tier: Tier, clusters: set[str], report: ArchiveReport) -> None:
    """Check that all is of the cluster whose place it is."""
    try:
        claim = tier.read(CLUSTER_KEY)
    except FileNotFoundError:
        report.problems.append((CLUSTER_KEY, "it is not there"))
        return
    others = sorted(cluster for cluster in clusters if encode_cluster(cluster) != claim)
    if others:
        problem = f"there are records of another cluster, {others[0][:16]}..."
        report.problems.append((CLUSTER_KEY, problem))


def _chain(objects: list[Shipped], origins: dict[str, Origin], report: ArchiveReport) -> None:
    """Check that each object's segment follows the one before: by their names, and by what they say of themselves."""
    if objects:
        report.first, report.last = objects[0].first, objects[-1].last
    for before, one in pairwise(objects):
        origin = origins.get(one.key)
        if one.first > before.last + 1:
            problem = f"{before.last + 1} to {one.first - 1} are missing before it"
        elif one.first <= before.last:
            problem = f"{one.first} to {min(one.last, before.last)} are there twice"
        elif origin is not None and origin.previous != before.segment:
            problem = "its segment does not follow that of the object before"
        else:
            continue
        report.problems.append((one.key, problem))
