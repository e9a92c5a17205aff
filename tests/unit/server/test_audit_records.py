"""Records that clients ask a node for: one page is read at a time, the line is bounded, and the loop is left alone."""

from typing import Any

import pytest

from raftlock.audit import AuditDamaged
from raftlock.server.http import records as http
from raftlock.server.http.problems import Problem
from raftlock.server.record_jobs import RecordsJob, RecordsRead, RecordsRunner
from raftlock.server.record_thread import PAGE_S, REST, SLICE_S, paced
from raftlock_wire import limits
from raftlock_wire.codec import pack, unpack
from raftlock_wire.messages import Op, check_request
from raftlock_wire.status import Status
from tests.unit.audit.kit import audit_on, records, sim_disk
from tests.unit.server.kit import Nodes

NOTHING = (None,) * 7
MOST_OF_ONE = limits.AUDIT_READS_PER_CONNECTION_MAX


def asks(request_id: int) -> tuple[Any, ...]:
    """Return a request for everything."""
    return (int(Op.AUDIT_READ), request_id, 1, 0, *NOTHING, 100)


def read_of(job: RecordsJob) -> RecordsRead:
    """Return an empty page for a job."""
    answer = (job.request[1], int(Status.OK), True, job.applied_index, [], 1, 0, True, [])
    return RecordsRead(Status.OK, pack([answer]), 0, 0)


def test_any_node_answers_by_itself_one_page_after_the_other() -> None:
    """A follower too: nothing is forwarded, and the second page is read when the first was answered."""
    nodes = Nodes(3)
    nodes.lead()
    follower = nodes.follower()
    conn = nodes.connect(follower)
    nodes.send(conn, asks(1), asks(2))
    nodes.run(2)
    first = list(nodes.record_jobs)
    nodes.drivers[follower].front.records.done(read_of(first[0]))
    nodes.run(1)
    second = nodes.record_jobs[len(first) :]
    nodes.drivers[follower].front.records.done(read_of(second[0]))
    nodes.run(1)

    assert [job.request[1] for job in (*first, *second)] == [1, 2]
    assert first[0].applied_index == nodes.drivers[follower].applied_index > 0
    assert [(m[0], m[1]) for m in nodes.took(conn)] == [(1, Status.OK), (2, Status.OK)]
    assert nodes.forwarded == []


def test_the_line_is_bounded_for_each_connection_and_in_all() -> None:
    """What is beyond is OVERLOADED, and who came before is answered."""
    nodes = Nodes(1)
    leader = nodes.lead()
    greedy, modest = nodes.connect(leader), nodes.connect(leader)
    nodes.send(greedy, *[asks(i) for i in range(1, MOST_OF_ONE + 3)])
    nodes.send(modest, asks(1))
    nodes.run(2)

    refused = [(m[0], m[1], m[4]) for m in nodes.took(greedy)]

    assert refused == [
        (MOST_OF_ONE + 1, Status.OVERLOADED, "queue"),
        (MOST_OF_ONE + 2, Status.OVERLOADED, "queue"),
    ]
    assert (nodes.took(modest), nodes.drivers[leader].queue_lengths()["audit_pages"]) == (
        [],
        MOST_OF_ONE + 1,
    )
    many = [nodes.connect(leader) for _ in range(limits.AUDIT_READS_MAX)]
    for conn in many:
        nodes.send(conn, asks(1))
    nodes.run(3)
    assert nodes.drivers[leader].queue_lengths()["audit_pages"] == limits.AUDIT_READS_MAX + 1
    assert nodes.took(many[-1])[0][:2] == (1, Status.OVERLOADED)


def test_nothing_is_read_for_who_is_gone() -> None:
    """A connection that closed leaves the line, and the next one is served."""
    nodes = Nodes(1)
    leader = nodes.lead()
    first, gone, last = (nodes.connect(leader) for _ in range(3))
    for number, conn in enumerate((first, gone, last), 1):
        nodes.send(conn, asks(number))
    nodes.run(2)
    nodes.drivers[leader].client_closed(gone)
    nodes.run(1)
    nodes.drivers[leader].front.records.done(read_of(nodes.record_jobs[0]))
    nodes.run(2)

    assert [job.request[1] for job in nodes.record_jobs] == [1, 3]
    assert nodes.drivers[leader].front.records.records == 0


def answered(read: RecordsRead) -> Any:
    """Return the one answer of a page."""
    (answer,) = unpack(read.encoded)
    return answer


def test_an_answer_is_encoded_as_any_other() -> None:
    """The bytes are those of `pack`, though their parts were put together."""
    disk = sim_disk()
    log = audit_on(disk)
    log.append(records())
    log.show()
    read = RecordsRunner(disk).run(RecordsJob(asks(7), 300))
    answer = answered(read)

    assert pack([answer]) == read.encoded
    assert (answer[:4], len(answer), len(answer[8])) == ((7, Status.OK, True, 300), 9, 100)
    assert (read.records, read.scanned > 0) == (100, True)


def test_what_cannot_be_read_is_an_answer() -> None:
    """No audit, a damaged one, a disk that fails: REFUSED with the cause. None of them ends the node."""

    class Broken:
        def __init__(self, error: Exception) -> None:
            self._error = error

        def list(self) -> list[str]:
            raise self._error

        def size(self, name: str) -> int:
            raise self._error

        def pread(self, name: str, offset: int, size: int) -> bytes:
            raise self._error

    damaged = AuditDamaged(file="f", offset=3, problem="torn")
    runners = (None, Broken(damaged), Broken(OSError(5, "Input/output error")))
    answers = [answered(RecordsRunner(files).run(RecordsJob(asks(7), 1))) for files in runners]

    assert [answer[:4] for answer in answers] == [
        (7, Status.REFUSED, True, "no_audit"),
        (7, Status.REFUSED, True, "unreadable"),
        (7, Status.REFUSED, True, "unreadable"),
    ]
    assert "f at offset 3: torn" in answers[1][4]


def test_the_thread_rests_for_longer_than_it_works() -> None:
    """After each slice, so that the loop waits for one at most; a page is over after half a second."""
    now, rested = 0.0, 0.0

    def rest(seconds: float) -> None:
        nonlocal now, rested
        now += seconds
        rested += seconds

    goes_on = paced(clock=lambda: now, rest=rest)
    steps = 0
    while goes_on():
        now += SLICE_S / 4
        steps += 1

    worked = steps * SLICE_S / 4
    assert REST * worked == pytest.approx(rested, rel=0.01)
    assert worked + rested == pytest.approx(PAGE_S, rel=0.02)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"lock": "a"}, "lock"),
        ({"resource": ""}, "resource"),
        ({"owner": "x" * 257}, "owner"),
        ({"operation": "x" * 33}, "operation"),
        ({"token": "0"}, "token"),
        ({"token": "-1"}, "token"),
        ({"since": "yesterday"}, "since"),
        ({"until": "9" * 9 + "d"}, "until"),
        ({"from": "0"}, "from"),
        ({"from": "1.2.3"}, "from"),
        ({"from": str(1 << 53)}, "from"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "ten"}, "limit"),
    ],
)
def test_a_wrong_query_is_named(query: dict[str, str], field: str) -> None:
    """With what is allowed."""
    with pytest.raises(Problem) as refused:
        http.records_page(query)

    assert (refused.value.extra["field"], bool(refused.value.extra["allowed"])) == (field, True)


def test_a_query_is_a_request_and_the_next_page_the_same_question() -> None:
    """Every field arrives, a time with and without its zone; the link of the next page has them all."""
    query = {
        "resource": "a", "prefix": "ü&", "owner": "o", "token": "7", "operation": "acquire",
        "since": "2026-11-25T13:00:00 01:00", "until": "2026-11-25", "from": "5.6", "limit": "9",
    }  # fmt: skip
    page = http.records_page(query)
    link = http.next_path(page, 8, 2)
    names = dict(part.split("=") for part in link.partition("?")[2].split("&"))

    check_request((int(Op.AUDIT_READ), 1, *page))
    assert page[:7] == (5, 6, "a", "ü&", "o", 7, "acquire")
    assert page[7:] == (1_795_608_000_000_000, 1_795_564_800_000_000, 9)
    assert (names["prefix"], names["from"], names["limit"]) == ("%C3%BC%26", "8.2", "9")
    assert names["since"] == "2026-11-25T12%3A00%3A00.000000Z"
