"""Whether a directory of audit segments is whole: every hash, the chain, no gap that is not noted, nothing twice.

It reads through a port of two calls, so that the simulator checks its nodes with the same code.
"""

from dataclasses import dataclass, field
from typing import Protocol

from raftlock.audit.format import (
    BLOCK_MAGIC,
    HEADER_SIZE,
    ZERO_DIGEST,
    AuditDamaged,
    Header,
    decode_block,
    decode_gap,
    decode_header,
    decode_pending,
    decode_records,
    next_content,
    parse_name,
)
from raftlock.audit.log import PENDING


class Source(Protocol):
    """A directory to read."""

    def list(self) -> list[str]:
        """Return the names of all files, sorted."""

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raise FileNotFoundError if it is gone."""


@dataclass(slots=True)
class Report:
    """What was found."""

    segments: int = 0
    entries: int = 0
    commands: int = 0
    first: int = 0
    """Of the first segment; 0: there is none."""
    last: int = 0
    digest: bytes = ZERO_DIGEST
    """Of the last finished segment: the same on every node at the same `last`."""
    open_last: int = 0
    """The last index that the segment under way shows; 0: nothing."""
    gaps: list[tuple[int, int, str]] = field(default_factory=list)
    damages: list[AuditDamaged] = field(default_factory=list)


def verify(source: Source) -> Report:
    """Verify everything, the oldest first; go on behind damage, so that all of it is named."""
    report = Report()
    names = source.list()
    beginning = True
    for name in names:
        parsed = parse_name(name)
        if parsed is None:
            continue
        first, last, suffix = parsed
        try:
            if suffix == "seg":
                _segment(source.read(name), name, (first, last), report, beginning=beginning)
            else:
                _gap(source.read(name), name, (first, last), report, beginning=beginning)
        except FileNotFoundError:
            # The node deleted it, and all before it, as too old while this was read.
            beginning = True
            continue
        except AuditDamaged as damage:
            report.damages.append(damage)
            report.digest, report.last = b"", last
        beginning = False
    for name in names:
        if name.endswith(".open"):
            _open(source, name, report)
    _pending(source, report)
    return report


def _follows(
    report: Report, *, name: str, first: int, previous: bytes | None, beginning: bool
) -> None:
    """Check that a file follows the one before. After damage its digest is not known, and nothing follows wrongly."""
    if beginning:
        report.first = first
        return
    if first != report.last + 1:
        what = f"{report.last + 1} to {first - 1} are missing"
        if first <= report.last:
            what = f"{first} to {report.last} are there twice"
        raise AuditDamaged(file=name, offset=0, problem=f"the one before ends elsewhere: {what}")
    if previous is not None and report.digest and previous != report.digest:
        problem = f"it follows {previous.hex()[:16]}..., and the one before is {report.digest.hex()[:16]}..."
        raise AuditDamaged(file=name, offset=0, problem=problem)


def _segment(
    data: bytes, name: str, named: tuple[int, int], report: Report, *, beginning: bool
) -> None:
    header = decode_header(data, file=name)
    if (header.first, header.last) != named:
        problem = f"it says that it holds {header.first} to {header.last}"
        raise AuditDamaged(file=name, offset=0, problem=problem)
    if header.first == 1 and header.previous != ZERO_DIGEST:
        raise AuditDamaged(file=name, offset=0, problem="it is the first and follows another one")
    _follows(report, name=name, first=header.first, previous=header.previous, beginning=beginning)
    check_content(data, header, name)
    report.segments += 1
    report.entries += header.last - header.first + 1
    report.commands += header.commands
    report.last, report.digest = header.last, header.digest


def check_content(data: bytes, header: Header, name: str) -> None:
    content, offset, index, size = ZERO_DIGEST, HEADER_SIZE, header.first, 0
    wall_us = header.first_wall_us
    view = memoryview(data)
    for _ in range(header.blocks):
        raw, after = decode_block(view, offset, file=name)
        content = next_content(content, raw)
        size += len(raw)
        for record in decode_records(raw, file=name, offset=offset):
            if record.entry.index != index:
                problem = f"entry {record.entry.index} stands where {index} belongs"
                raise AuditDamaged(file=name, offset=offset, problem=problem)
            index, wall_us = index + 1, record.entry.wall_us
        offset = after
    found = (content, size, index - 1, wall_us)
    if found != (header.content, header.size, header.last, header.last_wall_us):
        problem = "the content is not what the header says"
        raise AuditDamaged(file=name, offset=HEADER_SIZE, problem=problem)
    if offset != len(data):
        problem = f"{len(data) - offset} bytes follow the last block"
        raise AuditDamaged(file=name, offset=offset, problem=problem)


def _gap(
    data: bytes, name: str, named: tuple[int, int], report: Report, *, beginning: bool
) -> None:
    gap = decode_gap(data, file=name)
    if (gap.first, gap.last) != named:
        problem = f"it says that it is of {gap.first} to {gap.last}"
        raise AuditDamaged(file=name, offset=0, problem=problem)
    _follows(report, name=name, first=gap.first, previous=None, beginning=beginning)
    report.gaps.append((gap.first, gap.last, gap.reason))
    report.last, report.digest = gap.last, gap.digest


def _open(source: Source, name: str, report: Report) -> None:
    """Look at the segment under way: each block must be whole and follow.

    Its last block may be on its way, or torn by a crash until the node has started again: that is no damage.
    """
    try:
        data = source.read(name)
    except FileNotFoundError:
        # It was finished while this was read.
        return
    index = report.last + 1
    if name != f"audit-{index:020d}.open":
        problem = f"the segment under way should begin at {index}"
        report.damages.append(AuditDamaged(file=name, offset=0, problem=problem))
        return
    offset = HEADER_SIZE
    try:
        while offset < len(data):
            raw, after = decode_block(data, offset, file=name)
            for record in decode_records(raw, file=name, offset=offset):
                if record.entry.index != index:
                    problem = f"entry {record.entry.index} stands where {index} belongs"
                    raise AuditDamaged(file=name, offset=offset, problem=problem)
                index += 1
            offset = after
    except AuditDamaged as damage:
        if _block_follows(data, offset + 1, name):
            report.damages.append(damage)
    report.open_last = index - 1


def _block_follows(data: bytes, start: int, name: str) -> bool:
    """Return whether a whole block stands somewhere behind."""
    at = data.find(BLOCK_MAGIC, start)
    while at >= 0:
        try:
            decode_block(data, at, file=name)
        except AuditDamaged:
            at = data.find(BLOCK_MAGIC, at + 1)
        else:
            return True
    return False


def _pending(source: Source, report: Report) -> None:
    """Count what the block that is not full yet shows. It is a convenience for readers, and no part of the chain."""
    try:
        found = decode_pending(source.read(PENDING))
    except FileNotFoundError:
        return
    if found is not None and found[2]:
        for record in decode_records(found[2], file=PENDING, offset=0):
            report.open_last = max(report.open_last, record.entry.index)
