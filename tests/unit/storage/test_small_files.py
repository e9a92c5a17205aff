"""The vote's two copies and the identity (decision 13)."""

import contextlib

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from raftlock.storage import Damaged, StorageError
from raftlock.storage.small_files import (
    IDENTITY,
    VOTES,
    Identity,
    VoteFile,
    read_identity,
    write_identity,
)
from raftlock.testing.disk import CrashPoint, Kept
from raftlock.testing.memory_disk import MemoryDisk, overwritten
from raftlock.testing.storage_run import MEMBERS
from raftlock_wire.codec import pack
from raftlock_wire.entry import HardState
from raftlock_wire.ids import NodeId, Term
from tests.unit.storage.kit import Diary, sim_disk

A, B = VOTES


def vote(term: int, voted_for: int) -> HardState:
    """Return a term and vote."""
    return HardState(Term(term), NodeId(voted_for))


def voted(disk: MemoryDisk, *votes: HardState) -> MemoryDisk:
    """Write votes on a new disk."""
    VoteFile.create(disk)
    votes_file, _ = VoteFile.recover(disk)
    for each in votes:
        votes_file.write(each)
    return disk


def test_a_vote_is_written_to_both_copies_one_after_the_other() -> None:
    """One copy is synced before the other is touched, so one is always whole."""
    disk = Diary()
    VoteFile.create(disk)
    votes, _ = VoteFile.recover(disk)
    disk.calls.clear()

    votes.write(vote(7, 2))

    assert disk.calls == [f"pwrite {A}", f"fdatasync {A}", f"pwrite {B}", f"fdatasync {B}"]


def test_the_last_vote_comes_back() -> None:
    """Of several, also of one term."""
    disk = voted(MemoryDisk(), vote(1, 0), vote(1, 3), vote(9, 0))

    assert VoteFile.recover(disk)[1] == vote(9, 0)


@pytest.mark.parametrize("name", VOTES)
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "missing", "foreign"])
def test_one_whole_copy_is_enough(name: str, damage: str) -> None:
    """Whatever happened to the other one, it is written again."""
    disk = voted(MemoryDisk(), vote(4, 2))
    content = disk.files[name]
    match damage:
        case "flipped":
            disk.files[name] = overwritten(content, 20, b"\xff")
        case "cut":
            disk.files[name] = content[:-1]
        case "empty":
            disk.files[name] = b""
        case "missing":
            disk.unlink(name)
        case _:
            body = b"RLVOTE99" + content[8:-4]
            disk.files[name] = body + crc32c(body).to_bytes(4, "big")

    found = VoteFile.recover(disk)[1]

    assert (found, disk.files[A]) == (vote(4, 2), disk.files[B])


def test_the_newer_copy_counts() -> None:
    """By its sequence number, not by its name or term."""
    for newer, older in ((A, B), (B, A)):
        disk = voted(MemoryDisk(), vote(8, 1))
        old = disk.files[older]
        VoteFile.recover(disk)[0].write(vote(9, 3))
        disk.files[older] = old

        assert (newer, VoteFile.recover(disk)[1]) == (newer, vote(9, 3))


def test_two_damaged_copies_are_refused() -> None:
    """Without a vote that can be trusted the node does not start, and both files are named."""
    disk = voted(MemoryDisk(), vote(4, 2))
    for name in VOTES:
        disk.files[name] = overwritten(disk.files[name], 0, b"?")

    with pytest.raises(Damaged, match="vote-a and vote-b at offset 0: neither copy"):
        VoteFile.recover(disk)


def test_a_start_replaces_the_newest_copy_last() -> None:
    """Neither copy is written over, for it may be the only whole one, or the only durable one."""
    orders = {}
    for damaged, whole in ((A, B), (B, A)):
        disk = Diary()
        voted(disk, vote(4, 2))
        disk.files[damaged] = disk.files[damaged][:10]
        disk.calls.clear()
        VoteFile.recover(disk)
        orders[whole] = [call for call in disk.calls if call.startswith(("pwrite", "rename"))]

    a, b = ([f"pwrite {name}.tmp", f"rename {name}.tmp {name}"] for name in VOTES)
    assert orders == {B: [*a, *b], A: [*b, *a]}


@pytest.mark.parametrize("power", [True, False], ids=["power cut", "process killed"])
@pytest.mark.parametrize("first", range(5))
@pytest.mark.parametrize("second", range(11))
def test_two_crashes_leave_a_whole_copy(first: int, second: int, power: bool) -> None:
    """Crash in a write, then cut the power in the start after it: the vote from before or the one after is there."""
    for seed in range(20):
        disk = sim_disk()
        disk.reseed(seed)
        VoteFile.create(disk)
        votes, _ = VoteFile.recover(disk)
        votes.write(vote(4, 2))
        disk.crash_after(first)
        with contextlib.suppress(CrashPoint):
            votes.write(vote(5, 3))
        if power:
            disk.crash()
        else:
            disk.end_process()
        disk.crash_after(second)
        with contextlib.suppress(CrashPoint):
            VoteFile.recover(disk)
        disk.crash()

        allowed = {vote(5, 3)} if first >= 4 else {vote(4, 2), vote(5, 3)}
        assert VoteFile.recover(disk)[1] in allowed


@pytest.mark.parametrize("seed", range(10))
def test_a_start_makes_a_vote_durable_that_only_the_cache_had(seed: int) -> None:
    """A vote that is read is never forgotten again, although its sync had failed (decision 12).

    Whether a failed sync has written anything is the disk's whim: some seeds must keep the vote in the cache alone.
    """
    disk = sim_disk(seed)
    VoteFile.create(disk)
    votes, _ = VoteFile.recover(disk)
    disk.fail_once("fdatasync")
    with pytest.raises(OSError, match="fdatasync"):
        votes.write(vote(5, 3))
    disk.end_process()

    seen = VoteFile.recover(disk)[1]
    disk.crash(Kept.NOTHING)

    assert VoteFile.recover(disk)[1] == seen


FULL = Identity(
    node_id=NodeId(1),
    incarnation="1" * 32,
    cluster_id="c" * 32,
    first_membership=MEMBERS,
    logged_renewal_ttl_ms=0,
)


@pytest.mark.parametrize("identity", [FULL, Identity(node_id=NodeId(9), incarnation="9" * 32)])
def test_an_identity_comes_back(identity: Identity) -> None:
    """With a cluster and without one."""
    disk = MemoryDisk()
    write_identity(disk, identity)

    assert read_identity(disk) == identity


def test_an_identity_is_replaced_as_a_whole() -> None:
    """A temporary file is synced before it takes the name, and the name before anything else is done."""
    disk = Diary()

    write_identity(disk, FULL)

    assert disk.calls == [
        "create identity.tmp",
        "pwrite identity.tmp",
        "fdatasync identity.tmp",
        "rename identity.tmp identity",
        "fsync_dir",
    ]


def identity_of(body: bytes) -> MemoryDisk:
    """Return a disk whose identity has this body, under a right checksum."""
    data = b"RLIDENT1" + body
    return MemoryDisk({IDENTITY: data + crc32c(data).to_bytes(4, "big")})


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "not msgpack"),
        (pack(7), "cannot unpack"),
        (pack([1, "i"]), "not enough values"),
        (pack(["1", "i", None, None, None]), "node_id is '1'"),
        (pack([True, "i", None, None, None]), "node_id is True"),
        (pack([1, b"i", None, None, None]), "incarnation is b'i'"),
        (pack([1, "i", 5, None, None]), "cluster_id is 5"),
        (pack([1, "i", None, 5, None]), "not a membership|not msgpack"),
        (pack([1, "i", None, None, "9"]), "logged_renewal_ttl_ms is '9'"),
    ],
)
def test_an_identity_of_other_fields_is_refused(body: bytes, problem: str) -> None:
    """Under a right checksum each field is checked, and what is wrong is said."""
    with pytest.raises(Damaged, match=rf"identity at offset 8: .*({problem})"):
        read_identity(identity_of(body))


@given(st.binary(max_size=120))
def test_any_body_of_an_identity_is_read_or_refused(body: bytes) -> None:
    """Whatever the bytes, the error is a typed one."""
    try:
        identity = read_identity(identity_of(body))
    except StorageError:
        return

    assert isinstance(identity, Identity)


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_bytes_of_votes_are_read_or_refused(a: bytes, b: bytes) -> None:
    """Whatever the bytes, the error is a typed one."""
    with pytest.raises(Damaged):
        VoteFile.recover(MemoryDisk({A: a, B: b}))
