"""Directories that nobody wrote: whatever they hold, a start ends in a state or in a StorageError."""

import tracemalloc

from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from raftlock.storage import StorageError, Store
from raftlock.storage.records import SegmentHeader, encode_record, encode_segment_header
from raftlock.testing.memory_disk import MemoryDisk, overwritten
from raftlock.testing.storage_run import CONFIG, NODE, record

FILES = record().unsealed.files
NAMES = st.sampled_from(sorted(FILES))
SIZE = sum(map(len, FILES.values()))


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, bytes]:
    """Draw the recorded directory with a few things done to it: overwritten, cut, lengthened, moved, removed."""
    files = dict(FILES)
    for _ in range(draw(st.integers(1, 4))):
        name = draw(NAMES)
        content = files.get(name, b"")
        offset = draw(st.integers(0, len(content)))
        match draw(st.integers(0, 5)):
            case 0:
                files[name] = overwritten(content, offset, draw(st.binary(max_size=64)))
            case 1:
                files[name] = content[:offset]
            case 2:
                files[name] = content + draw(st.binary(max_size=64))
            case 3:
                files[draw(NAMES)] = content
            case 4:
                files.pop(name, None)
            case _:
                other = files.get(draw(NAMES), b"")
                files[name] = overwritten(content, offset, other[:512])
    return files


def start(files: dict[str, bytes]) -> bool:
    """Start twice on a directory. Return whether it was accepted; then both starts found the same."""
    disk = MemoryDisk(files)
    try:
        if not Store.is_formatted(disk):
            return False
        _, first = Store.open(disk, node_id=NODE, config=CONFIG)
    except StorageError as error:
        assert str(error)
        return False
    _, second = Store.open(disk, node_id=NODE, config=CONFIG)
    assert first == second
    return True


@given(damaged())
def test_a_damaged_directory_is_opened_or_refused(files: dict[str, bytes]) -> None:
    """No other error than a StorageError, and what is accepted is accepted for good."""
    start(files)


@given(
    st.lists(
        st.tuples(st.binary(max_size=120), st.integers(0, 4), st.integers(1, 3), st.integers(0, 3)),
        max_size=5,
    ),
    st.integers(0, 3),
    st.integers(0, 10_000),
)
def test_a_forged_log_is_opened_or_refused(
    parts: list[tuple[bytes, int, int, int]], number: int, size: int
) -> None:
    """The same with right checksums over anything: numbers, kinds, sizes and payloads."""
    content, seed = encode_segment_header(SegmentHeader(number, size, 0)), 0
    for payload, record_number, segment, kind in parts:
        data, seed = encode_record(
            payload, number=record_number, segment=segment, kind=kind, seed=seed
        )
        content += data
    files = {name: data for name, data in FILES.items() if not name.startswith(("wal-", "snap"))}

    start(files | {"wal-0000000000000001.log": content.ljust(size, b"\0")})


@given(st.binary(max_size=300), st.booleans())
def test_forged_small_files_are_opened_or_refused(body: bytes, whole: bool) -> None:
    """Identity, votes and snapshots of any bytes, also under a right checksum."""
    for name in ("identity", "vote-a", next(n for n in FILES if n.startswith("snapshot-"))):
        data = FILES[name][:8] + body
        start(FILES | {name: data + crc32c(data).to_bytes(4, "big") if whole else data})


def test_a_start_takes_memory_in_proportion() -> None:
    """Sizes that lie, in every u32 of the directory, make a start take no more than a few times what is on the disk."""
    worst = 0
    tracemalloc.start()
    try:
        for name, content in FILES.items():
            for offset in range(0, min(len(content), 120), 3):
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                start(FILES | {name: overwritten(content, offset, b"\xff\xff\xff\xfe")})
                worst = max(worst, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()

    assert worst < 4 * SIZE
