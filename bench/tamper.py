"""`python -m bench tamper`: what `raftlock audit verify` says of an audit that somebody changed.

A log of three days is made and shipped to a directory. Then one thing at a time is done to a copy of the node's segments
or of the store, and the command is run on it. It must say nothing of what is whole, and name each change.
"""

import argparse
import io
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner

from bench.audit_bytes import START_US, Mix
from bench.report import add_common, table, write
from raftlock.audit import AuditLog, CutRule, Recorded
from raftlock.audit.format import (
    HEADER_SIZE,
    ZERO_DIGEST,
    decode_block,
    decode_header,
    encode_block,
    encode_results,
    next_content,
)
from raftlock.audit.manifest import MANIFESTS, RECORDS, decode_manifest, encode_manifest
from raftlock.audit.parquet import SCHEMA
from raftlock.audit.reader import Directory
from raftlock.audit.shipper import Shipper
from raftlock.audit.tiers import FileTier, sha256_of
from raftlock.cli.main import main
from raftlock.storage.disk_os import OsDisk
from raftlock_wire.codec import pack
from raftlock_wire.entry import Entry, EntryKind
from raftlock_wire.ids import Index, Term

HELP = "what audit verify says of an audit that was changed"
RULE = CutRule(block_size=8 << 10, segment_size=24 << 10)
ENTRIES, STEP_US, BATCH = 400, 10 * 60_000_000, 6
"""An entry each ten minutes: it goes over three days, and two of them are closed."""


class Case(NamedTuple):
    """One thing that somebody does."""

    name: str
    where: str
    """`node` or `store`."""
    do: Callable[[Path], None]


class Said(NamedTuple):
    """What the command said."""

    case: str
    where: str
    exit_code: int
    words: str


def make(folder: Path) -> str:
    """Make a node's segments and the store in a folder. Return the digest of the newest manifest, as one would note it."""
    mix, index = Mix(1), 1
    audit = folder / "node" / "audit"
    audit.mkdir(parents=True)
    log = AuditLog(OsDisk(audit), cluster_id="c" * 64, rule=RULE, keep=None)
    log.recover(snapshot_index=0, state=None)
    todo = mix.opening()
    for index in range(1, ENTRIES + 1):
        wall_us = START_US + index * STEP_US
        applied = mix.table.apply(index, index, wall_us, tuple(todo))
        entry = Entry(Index(index), Term(1), EntryKind.BATCH, index, wall_us, pack(tuple(todo)))
        results = encode_results([*map(pack, applied.answers)], applied.effects)
        log.append([Recorded(entry, results, len(todo), mix.table.version)])
        todo = mix.take(applied)
        todo += [mix.next_request() for _ in range(BATCH)]
    log.close()
    tier = FileTier(folder / "store")
    tier.root.mkdir()
    Shipper(Directory(audit), tier).run_once()
    return sha256_of(_manifests(folder)[-1].read_bytes())


# what is done


def _segments(folder: Path) -> list[Path]:
    return sorted((folder / "node" / "audit").glob("*.seg"))


def _objects(folder: Path) -> list[Path]:
    return sorted((folder / "store" / RECORDS).rglob("*.parquet"))


def _manifests(folder: Path) -> list[Path]:
    return sorted((folder / "store" / MANIFESTS).glob("*.json"))


AT = 4
"""Which segment or object is changed: of the first day, which is closed, and neither its first nor its last."""


def _segment(folder: Path) -> Path:
    return _segments(folder)[AT]


def _object(folder: Path) -> Path:
    return _objects(folder)[AT]


def _flip(file: Callable[[Path], Path]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        data = bytearray(file(folder).read_bytes())
        data[len(data) // 2] ^= 1
        file(folder).write_bytes(data)

    return do


def _remove(file: Callable[[Path], Path]) -> Callable[[Path], None]:
    return lambda folder: file(folder).unlink()


def _truncate(file: Callable[[Path], Path]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        data = file(folder).read_bytes()
        file(folder).write_bytes(data[: len(data) * 2 // 3])

    return do


def _swap(files: Callable[[Path], list[Path]]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        one, two = files(folder)[AT : AT + 2]
        one_data, two_data = one.read_bytes(), two.read_bytes()
        one.write_bytes(two_data)
        two.write_bytes(one_data)

    return do


def _rewrite_segment(folder: Path) -> None:
    """Make one owner another in every record, and each hash of the segment's own fit."""
    file = _segment(folder)
    data = file.read_bytes()
    header = decode_header(data[:HEADER_SIZE], file=file.name)
    content, offset, blocks = ZERO_DIGEST, HEADER_SIZE, []
    for _ in range(header.blocks):
        raw, offset = decode_block(data, offset, file=file.name)
        raw = raw.replace(b"checkout-0", b"checkout-9")
        content = next_content(content, raw)
        blocks.append(encode_block(raw))
    file.write_bytes(header._replace(content=content).encode() + b"".join(blocks))


def _altered(data: bytes) -> bytes:
    """Return an object of the same form in which each owner is another."""
    found = pq.read_table(io.BytesIO(data))
    owners = pa.array(["somebody"] * found.num_rows, pa.string())
    sink = pa.BufferOutputStream()
    pq.write_table(found.set_column(SCHEMA.names.index("owner"), "owner", owners), sink)
    return bytes(sink.getvalue().to_pybytes())


def _alter_object(folder: Path) -> None:
    file = _object(folder)
    file.write_bytes(_altered(file.read_bytes()))


def _rewrite_object(folder: Path) -> None:
    """Alter an object, and the manifest of its day so that its hash fits."""
    _alter_object(folder)
    _fit_manifest(folder, _manifests(folder)[0], _object(folder))


def _fit_manifest(folder: Path, file: Path, changed: Path) -> None:
    manifest = decode_manifest(file.read_bytes(), file=MANIFESTS + file.name)
    key, data = changed.relative_to(folder / "store").as_posix(), changed.read_bytes()
    items = tuple(
        item._replace(sha256=sha256_of(data), size=len(data)) if item.key == key else item
        for item in manifest.objects
    )
    file.write_bytes(encode_manifest(manifest._replace(objects=items)))


def _rewrite_all(folder: Path) -> None:
    """Alter an object, and write every manifest anew: nothing in the store contradicts it."""
    _rewrite_object(folder)
    previous = ""
    for file in _manifests(folder):
        manifest = decode_manifest(file.read_bytes(), file=MANIFESTS + file.name)
        if previous:
            file.write_bytes(encode_manifest(manifest._replace(previous=previous)))
        previous = sha256_of(file.read_bytes())


CASES = (
    Case("nothing", "node", lambda _: None),
    Case("flipped bit", "node", _flip(_segment)),
    Case("removed segment", "node", _remove(_segment)),
    Case("swapped order", "node", _swap(_segments)),
    Case("rewritten segment, fresh hash", "node", _rewrite_segment),
    Case("truncated file", "node", _truncate(_segment)),
    Case("nothing", "store", lambda _: None),
    Case("flipped bit", "store", _flip(_object)),
    Case("removed object", "store", _remove(_object)),
    Case("swapped order", "store", _swap(_objects)),
    Case("altered object", "store", _alter_object),
    Case("rewritten object, fresh hash", "store", _rewrite_object),
    Case("truncated object", "store", _truncate(_object)),
    Case("removed manifest", "store", lambda folder: _manifests(folder)[0].unlink()),
    Case("all manifests rewritten", "store, --anchor", _rewrite_all),
    Case("one object rewritten", "store, --compare", _rewrite_all),
)


def say(case: Case, folder: Path, anchor: str) -> Said:
    """Do one thing in a folder, and return what the command says of it."""
    case.do(folder)
    node, store = str(folder / "node"), (folder / "store").as_uri()
    where = {
        "node": ["--data", node],
        "store": ["--from", store],
        "store, --anchor": ["--from", store, "--anchor", anchor],
        "store, --compare": ["--from", store, "--compare", "--data", node],
    }[case.where]
    done = CliRunner().invoke(main, ["audit", "verify", *where])
    words = (done.stderr or done.stdout).strip().splitlines()[0].removeprefix("raftlock: ")
    return Said(case.name, case.where, done.exit_code, _short(words, folder))


def _short(words: str, folder: Path) -> str:
    """Return the words without this run's folder, and with names of files as short as people say them."""
    words = re.sub(rf"(file://)?{re.escape(str(folder))}\S*?(/node/audit: |/store/)", "", words)
    return re.sub(r"0{8,}(\d+)-0{8,}(\d+)(-[0-9a-f]{64})?", r"\1-\2", words)


def caught(said: Said) -> bool:
    """Return whether the command said what it should."""
    return said.exit_code == (0 if said.case == "nothing" else 1)


def measure() -> list[Said]:
    """Do everything, each on a fresh copy."""
    found = []
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / "whole"
        anchor = make(whole)
        for number, case in enumerate(CASES):
            copy = Path(place) / f"copy-{number}"
            shutil.copytree(whole, copy)
            found.append(say(case, copy, anchor))
    return found


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_common(parser, endpoints=False)


def run(options: argparse.Namespace) -> int:
    """Do it and print the table. Return 1 if something was not caught."""
    found = measure()
    rows: list[tuple[Any, ...]] = [(s.case, s.where, s.exit_code, s.words) for s in found]
    print(table(("what was done", "verify of", "exit code", "what it says"), rows))
    write(options, [said._asdict() for said in found])
    missed = [said for said in found if not caught(said)]
    print(f"{len(missed)} not caught" if missed else "all caught")
    return 1 if missed else 0
