"""What the examples of FORMAT.md stand for, written by the production code. The test compares; a person may print them:
`python -m tests.storage.format_examples`.
"""

from raftlock.storage import Store, StoreConfig
from raftlock.storage.records import SEGMENT_HEADER_SIZE
from raftlock.testing.memory_disk import MemoryDisk
from raftlock_wire.entry import Entry, EntryKind, HardState, Write
from raftlock_wire.ids import Index, NodeId, Term
from raftlock_wire.membership import Member, Membership

MEMBERS = Membership((Member(NodeId(1), "a" * 32, "h:1", "h:2"),))


def examples() -> dict[str, bytes]:
    """Return the examples by their names: one small run through the Store."""
    disk = MemoryDisk()
    Store.format(disk, node_id=NodeId(1), incarnation="a" * 32)
    store, _ = Store.open(disk, node_id=NodeId(1), config=StoreConfig(segment_size=4096))
    store.set_cluster(cluster_id="c" * 32, membership=MEMBERS, logged_renewal_ttl_ms=60_000)
    entry = Entry(Index(1), Term(2), EntryKind.BATCH, 5, 6, b"hi")
    store.write([Write(1, HardState(Term(2), NodeId(3)), (entry,))])
    store.seal()
    writer = store.begin_snapshot(
        index=Index(1), term=Term(2), stamp_us=5, wall_us=6, membership=b""
    )
    writer.append(b"abc")
    writer.finish()
    segment = disk.files["wal-0000000000000001.log"]
    record_end = SEGMENT_HEADER_SIZE + 33 + 37 + 2
    return {
        "segment header": segment[:SEGMENT_HEADER_SIZE],
        "record of one entry": segment[SEGMENT_HEADER_SIZE:record_end],
        "seal behind it": segment[record_end : record_end + 33],
        "vote": disk.files["vote-a"],
        "identity": disk.files["identity"],
        "snapshot of one chunk": disk.files["snapshot-00000000000000000001-0000000000000002.snap"],
    }


if __name__ == "__main__":
    for name, data in examples().items():
        print(f"| {name:<24} | `{data.hex(' ', -4)}` |")  # noqa: T201
