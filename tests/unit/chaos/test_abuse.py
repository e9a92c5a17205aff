"""What an abuse run says: its figures, its verdicts, its page; and the table of what is known to be bad."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "jepsen-style"))

from chaos.abuse.abuser import ABUSES
from chaos.abuse.page import as_json, page, text
from chaos.abuse.verdicts import MEMORY_GROWTH_MIB, Phase, Sample, percentile, read_samples, row
from chaos.abuse.watching import Usage, counted
from chaos.checks import Check
from chaos.known_bad import KNOWN, found_in
from chaos.nemesis import Nemesis
from chaos.nodes import Nodes
from chaos.wiring import Loopback
from raftlock.testing.mutants.bugs import BUGS
from raftlock.testing.mutants.planting import codes

BEFORE = Phase("before", 0.0, 10.0, Usage(50.0, 30))


def calls(outcomes: list[str], ms: float = 5.0) -> list[Sample]:
    """Return calls that were due from second 10 on."""
    return [Sample("acquire", 10.0 + n / 100, ms, outcome) for n, outcome in enumerate(outcomes)]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.0, 1.0)]
)
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    """The smallest that no more than the rest is above."""
    assert percentile([float(n) for n in range(100, 0, -1)], share) == expected


def test_a_call_counts_where_it_was_due() -> None:
    """One that was due in a stall belongs to it, however late it was answered; failures are counted by their kind."""
    phase = Phase("random bytes", 10.0, 20.0, Usage(60.0, 40))
    samples = [
        Sample("acquire", 9.99, 1.0, "answered"),
        *calls(["answered", "Unavailable"], 9_000.0),
    ]

    found = row(phase, samples, BEFORE)

    assert (found.calls, found.p99_ms, found.failed, found.passed) == (
        2, 9_000.0, {"Unavailable": 1}, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("usage", "outcomes", "ended", "problem"),
    [
        (Usage(60.0), ["answered", "WRONG: not held"], (), "1 x WRONG: not held"),
        (Usage(50.0 + 97), ["answered"], (), "a node's memory grew by 97 MiB; 96 MiB are allowed"),
        (Usage(60.0), ["Unavailable"], (), "no call of an honest client was answered"),
        (Usage(60.0), ["answered"], ("node 2 ended",), "node 2 ended"),
    ],
)
def test_what_is_judged_is_no_time(
    usage: Usage, outcomes: list[str], ended: tuple[str, ...], problem: str
) -> None:
    """A wrong answer, memory, nobody served, a node that ended: each fails a phase."""
    phase = Phase("slow-loris", 10.0, 20.0, usage, problems=ended)

    assert row(phase, calls(outcomes), BEFORE).problems == (problem,)


def test_each_abuse_has_a_bound_for_memory() -> None:
    """What has none would not be judged by it."""
    assert set(MEMORY_GROWTH_MIB) == {*ABUSES, "a peer that lies"}


def test_counters_are_compared_with_those_before() -> None:
    """Over all nodes; what did not grow, and what is no counter of refusals, is left out."""
    before = [{'raftlock_refusals_total{reason="bad_frame"}': 3.0}, {}]
    after = [
        {'raftlock_refusals_total{reason="bad_frame"}': 5.0, "raftlock_term": 9.0},
        {
            'raftlock_refusals_total{reason="bad_frame"}': 1.0,
            'raftlock_client_connections_total{outcome="refused"}': 4.0,
        },
    ]

    assert counted(before, after) == {"refused: bad_frame": 3, "connections refused": 4}


def test_a_sample_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    """The honest clients may be killed at the end."""
    file = tmp_path / "samples.jsonl"
    file.write_text('{"f": "renew", "due_s": 1.5, "ms": 2.0, "is": "answered"}\n{"f": "ren')

    assert read_samples(file) == [Sample("renew", 1.5, 2.0, "answered")]


def test_table_page_and_json_say_the_same() -> None:
    """What is wrong stands in each of them; the page fetches nothing, and what abusers say is text in it."""
    phase = Phase(
        "random bytes", 10.0, 20.0, Usage(60.0), abuser={"<script>": 1}, problems=("node 2 ended",)
    )
    samples = calls(["answered", "Unavailable"])
    rows, checks = [row(phase, samples, BEFORE)], [Check("nodes", "no crash", ["a traceback"])]

    written = [text(rows, checks), page(rows, checks, samples), str(as_json(rows, checks))]

    assert [all(part in one for part in ("node 2 ended", "a traceback")) for one in written] == [
        True
    ] * 3
    assert [part in written[1] for part in ("<script>", "http://", "https://")] == [False] * 3


# known to be bad


def test_undecided_is_no_finding() -> None:
    """A bug counts as found when a check says what is wrong, not when it gave up or a node stopped."""
    place = Path("x")
    nothing = found_in(
        "b", {"linearizable": ["undecided: r"], "nodes": ["node 1 ended"]}, 1, 0.5, place
    )
    found = found_in("b", {"no two holders": ["for 9 ms"], "linearizable": []}, 1, 0.5, place)

    assert (nothing.by, found.by, found.first) == ((), ("no two holders",), "for 9 ms")


def test_each_known_bug_can_be_planted_under_faults_that_there_are(tmp_path: Path) -> None:
    """The product changes, and its bugs must follow."""
    places = Loopback([1, 2, 3])
    nemesis = Nemesis(places, Nodes(places, tmp_path), lambda: 1)  # type: ignore[arg-type]

    assert all(codes(BUGS[known.name]) for known in KNOWN)
    assert {fault for known in KNOWN for fault in known.faults} <= set(nemesis.all_names)
