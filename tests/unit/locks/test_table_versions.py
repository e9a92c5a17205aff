"""The version of the state machine in the table: raised by the log, from the next entry on, and never guessed (decision 7)."""

import pytest

from raftlock.locks import LockTable, SnapshotLoader, UnknownCommand, UnknownVersion
from raftlock.testing.next_version import NEXT, PASS_OVER, WITH_NEXT
from raftlock_wire.messages import Op
from tests.unit.locks.kit import Log


def log_of(table: LockTable) -> Log:
    """Return a log with its genesis in a table that knows the next version too, or not."""
    log = Log()
    log.table, log.index = table, 0
    log.do(Op.GENESIS, 1_000, 60_000)
    return log


def upgraded() -> Log:
    """Return a log whose node knows the next version, and has not switched."""
    return log_of(LockTable(WITH_NEXT))


def snapshot_of(table: LockTable) -> list[bytes]:
    """Return the chunks of a snapshot."""
    stream = table.begin_snapshot()
    chunks = []
    while (chunk := stream.next_chunk()) is not None:
        chunks.append(chunk)
    return chunks


def loaded(chunks: list[bytes], loader: SnapshotLoader) -> LockTable:
    """Return the table that a node makes of a snapshot."""
    for chunk in chunks:
        loader.feed(chunk)
    return loader.finish()


def test_a_build_that_knows_more_keeps_to_the_version_in_force() -> None:
    """Before the switch an upgraded node and one that is not hold the same state at the same index."""
    new, old = upgraded(), Log()
    for log in (new, old):
        log.open()
        log.open()

    assert (new.table.version, new.table.digest()) == (1, old.table.digest())


def test_a_command_of_a_later_version_stops_a_node_that_could_carry_it_out() -> None:
    """It is not defined at its index, whatever the build knows."""
    with pytest.raises(UnknownCommand, match=f"command {PASS_OVER} at index 2, version 1"):
        upgraded().entry(("", "", (PASS_OVER, 0)))


def test_a_version_is_in_force_from_the_next_entry_on() -> None:
    """One entry is interpreted by one version, the one that its index has: the sessions 1 and 2, then 3, then 5."""
    log = upgraded()
    log.open()
    raises = (int(Op.SET_VERSION), 0, NEXT)
    opens = (int(Op.OPEN_SESSION), 7, b"2" * 16, 10_000)
    log.entry(("", "", raises, opens))

    sessions = [log.table.session_counter, log.open(nonce=3), log.open(nonce=4)]

    assert (log.table.version, sessions) == (NEXT, [2, 3, 5])


@pytest.mark.parametrize("version", [1, NEXT])
def test_a_version_that_is_not_higher_changes_nothing(version: int) -> None:
    """Two leaders in a row may each have logged it."""
    log = upgraded()
    log.do(Op.SET_VERSION, NEXT)

    answer = log.do(Op.SET_VERSION, version)

    assert (answer, log.table.version) == ((0, 0, True), NEXT)


def test_a_node_that_does_not_know_the_version_stops_and_says_what_to_do() -> None:
    """It never goes on by the rules that it knows."""
    log = Log()

    with pytest.raises(UnknownVersion) as stopped:
        log.do(Op.SET_VERSION, NEXT)

    assert str(stopped.value) == (
        "version 2 of the state machine is in force from index 2 on, and this build knows 1 alone: "
        "start a build that knows it, on the same data directory"
    )


def test_a_snapshot_of_an_unknown_version_is_not_loaded() -> None:
    """The error names the version, and the index at which the snapshot has it."""
    log = upgraded()
    log.do(Op.SET_VERSION, NEXT)
    chunks = snapshot_of(log.table)

    with pytest.raises(UnknownVersion) as stopped:
        loaded(chunks, LockTable.loader())

    assert (stopped.value.version, stopped.value.index, stopped.value.known) == (NEXT, 2, [1])


def test_a_node_that_loads_a_snapshot_goes_on_by_its_version() -> None:
    """Rules and commands are those of the version in the snapshot, not of the first one."""
    log = upgraded()
    log.do(Op.SET_VERSION, NEXT)
    other = Log()
    other.table = loaded(snapshot_of(log.table), LockTable.loader(WITH_NEXT))
    other.index = log.index
    for one in (log, other):
        one.open(nonce=9)
        one.entry(("", "", (PASS_OVER, 0)))

    assert (other.table.version, other.table.digest()) == (NEXT, log.table.digest())
