"""The tally agrees with the stories of the single locks, and stays small whatever comes."""

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from raftlock.audit.format import decode_records, encode_record
from raftlock.audit.names import rows_of
from raftlock.audit.story import EXPIRED, NOT_TAKEN_UP, Holding, Story, milliseconds
from raftlock.audit.tally import BINS_MAX, Names, Tally, Timeline, Use
from raftlock.cli.audit_report import as_text, as_values
from raftlock.cli.report_page import nice, page
from tests.unit.audit.kit import records


def rows(seed: int) -> list[dict[str, Any]]:
    """Return the rows of a random log."""
    return [
        row
        for recorded in records(seed)
        for record in decode_records(encode_record(recorded), file="x", offset=0)
        for row in rows_of(record)
    ]


@given(seed=st.integers(0, 30))
def test_it_agrees_with_the_stories(seed: int) -> None:
    """For each lock: grants, queued acquires, expiries and the time held are those that its story tells."""
    tally = Tally()
    tally.add(rows(seed))

    for name, use in tally.uses.top(10):
        story = list(Story().tell(row for row in rows(seed) if row.get("resource") == name))
        holds = [c for c in story if isinstance(c, Holding)]
        over = [(c.offered or c.since, c.until) for c in holds if c.until is not None]
        held_ms = sum(milliseconds(since or "", until) for since, until in over)
        assert (use.granted, use.queued, use.expired, round(use.held_ms, 3)) == (
            len(holds),
            len(story) - len(holds) + sum(c.offered is not None for c in holds),
            sum(c.end in (EXPIRED, NOT_TAKEN_UP) for c in holds),
            round(held_ms, 3),
        )
    told = sum(bin_["granted"] for bin_ in tally.timeline.bins)
    assert told == sum(use.granted for _, use in tally.uses.top(10))


@given(st.lists(st.integers(0, 10**6), min_size=1).map(sorted))
def test_a_timeline_keeps_every_count_in_few_bins(seconds: list[int]) -> None:
    """However long it is: nothing is lost, there are at most 240 bins, and each stands where it belongs."""
    timeline = Timeline()
    for one in seconds:
        timeline.add(float(one), "x")

    assert sum(b["x"] for b in timeline.bins) == len(seconds)
    assert len(timeline.bins) <= BINS_MAX
    for number, found in enumerate(timeline.bins):
        low = timeline.start + number * timeline.width_s
        assert found["x"] == sum(low <= one < low + timeline.width_s for one in seconds)


def test_names_beyond_the_bound_are_forgotten_and_it_is_said() -> None:
    """A busy name outlives a thousand that come once, the table stays small, and `cut` says that it was cut."""
    names: Names[Use] = Names(Use, lambda use: use.weight, size_max=10)
    for number in range(1_000):
        names["busy"].granted += 1
        names[f"once-{number}"].granted += 1

    assert (len(names) <= 20, names.cut, names.top(1)) == (
        True, True, [("busy", Use(granted=1_000))],
    )  # fmt: skip


def test_the_page_stands_alone_and_shows_names_as_text() -> None:
    """Nothing is fetched from anywhere, and a name that is HTML is shown as it is."""
    tally = Tally()
    evil = "<script>alert(1)</script>"
    tally.add([{**row, "resource": evil} if "resource" in row else row for row in rows(3)])

    text = page(tally, source="here", missing=[(3, 4)])

    assert evil not in text
    assert "&lt;script&gt;" in text
    assert re.findall(r"(?:src|href)=|https?://|@import|url\(", text) == []
    assert "The records 3 to 4 were found nowhere" in text


def test_text_and_values_have_the_same_locks() -> None:
    """The table names what the JSON does, in the same order; no records is one line."""
    tally = Tally()
    tally.add(rows(5))

    hot = [one["resource"] for one in as_values(tally, 3)["hot"]]
    lines = as_text(tally, 3).split("\n\n")[1].splitlines()

    assert [line.split()[0] for line in lines[1:]] == hot
    assert as_text(Tally(), 3) == "no records"
    assert "no records" in page(Tally(), source="here")


def test_an_axis_ends_at_a_round_number() -> None:
    """The smallest of the steps that is not below the value."""
    assert [nice(n) for n in (0, 4, 5, 79, 80, 81, 1_001)] == [4, 4, 8, 80, 80, 100, 2_000]
