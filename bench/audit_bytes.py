"""`python -m bench audit-bytes`: bytes that the audit takes for an operation, on a node's disk and in Parquet.

A mix is generated and goes through the real lock table, the real recorder and the real shipper's encoder, by entries of
1, 10 and 100 operations: at a low rate each operation is an entry of its own, under load many share one. Nothing is
timed. `--write` puts the figures where `raftlock audit estimate` reads them.
"""

import argparse
import random
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.report import add_common, count, table, write
from raftlock.audit import AuditLog, Recorded
from raftlock.audit.estimate import MEASURED, Measured
from raftlock.audit.format import encode_results
from raftlock.audit.parquet import encode_segment
from raftlock.audit.reader import Directory
from raftlock.locks import LockTable
from raftlock.storage.disk_os import OsDisk
from raftlock_wire.codec import pack
from raftlock_wire.entry import Entry, EntryKind
from raftlock_wire.ids import Index, Term
from raftlock_wire.messages import Op

HELP = "bytes an operation takes in the audit"
BATCHES = (1, 10, 100)
SESSIONS = 400
START_US = 1_795_600_800_000_000
"""The beginning of an hour."""
RATE = 20_000
HOT_LOCKS = 50
METADATA = {"region": "us-east-1", "job": "settle"}


class Mix:
    """Clients that acquire and release: 94 in 100 a lock of their own, the others one of 50, half of them waiting."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.table = LockTable()
        self._held: list[tuple[str, int]] = []
        self._n: dict[int, int] = {}
        self.operations = 0

    def opening(self) -> list[tuple[Any, ...]]:
        """Return the groups that begin: genesis, and a session each client."""
        opens = [
            ("", self._address(s), (int(Op.OPEN_SESSION), 1, self.rng.randbytes(16), 10_000))
            for s in range(1, SESSIONS + 1)
        ]
        return [("", "", (int(Op.GENESIS), 0, START_US, 60_000)), *opens]

    @staticmethod
    def _address(session: int) -> str:
        return f"10.{session % 7}.{session % 31}.{session % 199}:{30_000 + session * 7 % 20_000}"

    def next_request(self) -> tuple[Any, ...]:
        """Return the next group: one client's request, or what a leader adds."""
        self.operations += 1
        rng = self.rng
        if self._held and (len(self._held) > 500 or rng.random() < 0.5):
            place = rng.randrange(len(self._held))
            resource, token = self._held[place]
            self._held[place] = self._held[-1]
            self._held.pop()
            grant = self.table.lookup(resource)
            session = grant.session if grant is not None else 1
            if rng.random() < 0.01 and grant is not None:
                # Its client is gone: the lease runs out.
                self.operations -= 1
                return ("", "", (int(Op.EXPIRE_LOCK), 0, resource, token, grant.rev))
            return (
                "",
                self._address(session),
                (int(Op.RELEASE), rng.randrange(1 << 20), resource, token),
            )
        session = rng.randrange(1, SESSIONS + 1)
        self._n[session] = n = self._n.get(session, 0) + 1
        hot = rng.random() < 0.06
        resource = f"job:{rng.randrange(HOT_LOCKS)}" if hot else f"order:{rng.randrange(10**9):09d}"
        owner = f"checkout-{session % 40:02d}-7f9c{session:04x}@10.{session % 7}.0.{session % 199}"
        wait_ms = 5_000 if hot and rng.random() < 0.5 else 0
        metadata = METADATA if rng.random() < 0.2 else None
        request = (
            int(Op.ACQUIRE), rng.randrange(1 << 20), session, n % 64, n, resource, owner, 30_000, wait_ms, metadata,
        )  # fmt: skip
        return ("", self._address(session), request)

    def take(self, applied: Any) -> list[tuple[Any, ...]]:
        """Learn what was granted. Return the renewals that take offers up."""
        renewals: list[tuple[Any, ...]] = []
        for grant in applied.granted:
            if grant.offer:
                renewals.append(("", "", (int(Op.LOGGED_RENEW), 0, grant.resource, grant.token)))
                self._held.append((grant.resource, grant.token))
            elif grant.rev == self.table.applied_index and grant.wait_ms == 0:
                self._held.append((grant.resource, grant.token))
        return renewals


def measure(folder: Path, *, batch: int, operations: int, seed: int) -> Measured:
    """Return the bytes an operation, having written one segment and its Parquet."""
    mix = Mix(seed)
    (folder / "audit").mkdir(parents=True)
    log = AuditLog(OsDisk(folder / "audit"), cluster_id="0" * 64, keep=None)
    log.recover(snapshot_index=0, state=None)
    index, todo = 1, mix.opening()
    while True:
        last = mix.operations >= operations
        # The first entry of the next hour ends the segment.
        wall_us = START_US + (3_600_000_000 if last else int(index * batch / RATE * 1e6))
        applied = mix.table.apply(index, index, wall_us, tuple(todo))
        entry = Entry(Index(index), Term(1), EntryKind.BATCH, index, wall_us, pack(tuple(todo)))
        results = encode_results([*map(pack, applied.answers)], applied.effects)
        log.append([Recorded(entry, results, len(todo), mix.table.version)])
        if last:
            break
        todo = mix.take(applied)
        todo += [mix.next_request() for _ in range(batch)]
        index += 1
    [(_, _, name), *_] = Directory(folder / "audit").segments()
    data = (folder / "audit" / name).read_bytes()
    header, parquet = encode_segment(data, file=name)
    done = mix.operations
    return Measured(
        batch=batch,
        node_bytes=round(len(data) / done, 1),
        parquet_bytes=round(len(parquet) / done, 1),
        raw_bytes=round(header.size / done, 1),
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--operations",
        type=count,
        default=200_000,
        help="of each size of an entry (default: 200000)",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--write", action="store_true", help="put the figures where the estimate reads them"
    )
    add_common(parser, endpoints=False)


def run(options: argparse.Namespace) -> int:
    """Measure, print, and write if asked."""
    found = []
    for batch in BATCHES:
        with tempfile.TemporaryDirectory() as folder:
            found.append(
                measure(Path(folder), batch=batch, operations=options.operations, seed=options.seed)
            )
    rows = [
        (str(m.batch), str(m.raw_bytes), str(m.node_bytes), str(m.parquet_bytes)) for m in found
    ]
    print(table(("operations an entry", "content", "on a node", "Parquet"), rows))
    write(options, [asdict(one) for one in found])
    if options.write:
        head = f"# Bytes an operation, made by: python -m bench audit-bytes --write --operations {options.operations} --seed {options.seed}\n"
        MEASURED.write_text(head + "".join(one.as_toml() for one in found))
    return 0
