"""Pages of a node's records: whatever ends a page, all pages together are the same, and they are the union's."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.audit import AuditDamaged, AuditLog, CutRule
from raftlock.audit.format import BLOCK_HEADER_SIZE
from raftlock.audit.pages import Bounds, Page, PageReader, Place
from raftlock.audit.question import Cost, Question
from raftlock.audit.reader import Directory
from raftlock.audit.remote import Remote, last_rows
from raftlock.audit.union import Disk, rows
from raftlock.storage.disk_os import OsDisk
from raftlock_wire.codec import unpack
from tests.unit.audit.kit import CLUSTER, records
from tests.unit.audit.ship_kit import START_US, files_of_days, node
from tests.unit.audit.test_union import running

START = datetime.fromtimestamp(START_US / 1e6, UTC)
FILES = sorted(files_of_days().items())
Row = dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    """A node that has everything, with a segment under way."""
    return running(tmp_path_factory.mktemp("pages") / "audit")


QUESTIONS = st.builds(
    Question,
    resource=st.sampled_from((None, "a", "b", "nobody")),
    prefix=st.sampled_from((None, "a")),
    operation=st.sampled_from((None, "acquire", "expire")),
    since=st.none() | st.integers(0, 3_000).map(lambda m: START + timedelta(minutes=m)),
    until=st.none() | st.integers(0, 3_000).map(lambda m: START + timedelta(minutes=m)),
)


@st.composite
def bounds(draw: st.DrawFn) -> Bounds:
    """Any bounds, also a clock that is always over."""
    rng = random.Random(draw(st.integers(0, 1 << 20)))
    patience = draw(st.sampled_from((0.0, 0.5, 0.99, 1.0)))
    return Bounds(
        records=draw(st.integers(1, 40)),
        size=draw(st.integers(1, 4_000)),
        scan_size=draw(st.integers(1, 6_000)),
        files=draw(st.integers(1, 8)),
        goes_on=lambda: rng.random() < patience,
    )


def pages_of(directory: Directory, question: Question, of: Callable[[], Bounds]) -> Iterator[Page]:
    """Ask for page after page, with a reader that may not remember the one before."""
    place, complete, reader = Place(1), False, PageReader(directory)
    while not complete:
        page = reader.read(question, place, of())
        assert page.complete or page.next > place
        place, complete = page.next, page.complete
        yield page


def decoded(page: Page) -> list[Row]:
    """Return a page's rows."""
    return [unpack(row) for row in page.rows]


def asked_of(directory: Directory, of: Bounds) -> "Callable[[Question, int, int], Any]":
    """Return what asks this directory as a node is asked."""
    reader = PageReader(directory)

    class Answered:
        def __init__(self, page: Page) -> None:
            self.applied_index = 300
            self.spans, self.complete, self.records = page.spans, page.complete, decoded(page)
            self.next_index, self.next_position = page.next

    return lambda question, index, position: Answered(
        reader.read(question, Place(index, position), of)
    )


def as_wire(found: list[Row]) -> list[Row]:
    """Return rows as they come over the network: lists are tuples there."""
    return [{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()} for row in found]


@settings(max_examples=80, deadline=None)
@given(question=QUESTIONS, of=bounds())
def test_wherever_pages_end_the_records_are_the_same(
    whole: Directory, question: Question, of: Bounds
) -> None:
    """All rows that the disk tells, once and in order; the spans are all of its indexes, each once."""
    expected = as_wire(list(rows(question, Cost(), archive=None, nodes=[Disk(whole)])))
    everything = Cost()
    list(rows(Question(), everything, archive=None, nodes=[Disk(whole)]))

    pages = list(pages_of(whole, question, lambda: of))

    assert [row for page in pages for row in decoded(page)] == expected
    covered = [i for page in pages for first, last in page.spans for i in range(first, last + 1)]
    assert covered == list(range(1, everything.index + 1))


@settings(max_examples=40, deadline=None)
@given(question=QUESTIONS, of=bounds(), seed=st.integers(0, 1 << 20))
def test_nodes_far_away_are_a_source_like_disks(
    tmp_path_factory: pytest.TempPathFactory, question: Question, of: Bounds, seed: int
) -> None:
    """Two nodes with holes, asked for pages: the same rows and the same missing indexes as of their disks."""
    rng = random.Random(seed)
    where = tmp_path_factory.mktemp("far")
    nodes = [
        node(where / str(i), {name: data for name, data in FILES if rng.random() < 0.7})
        for i in range(2)
    ]
    near, far = Cost(), Cost()

    on_disk = list(rows(question, near, archive=None, nodes=[*map(Disk, nodes)]))
    asked = rows(question, far, archive=None, nodes=[Remote(asked_of(n, of)) for n in nodes])

    assert (list(asked), far.missing) == (as_wire(on_disk), near.missing)


@settings(max_examples=40, deadline=None)
@given(lines=st.integers(0, 30), resource=st.sampled_from((None, "a", "nobody")), of=bounds())
def test_the_last_rows_are_the_last(
    whole: Directory, lines: int, resource: str | None, of: Bounds
) -> None:
    """As many as asked for, or all there are; what comes next begins behind them."""
    question = Question(resource=resource)
    everything = as_wire(list(rows(question, Cost(), archive=None, nodes=[Disk(whole)])))

    found, place = last_rows(asked_of(whole, of), question, lines)

    assert found == (everything[-lines:] if lines else [])
    assert decoded(PageReader(whole).read(question, Place(*place), Bounds())) == []


def one_segment(folder: Path, *, block_size: int) -> Directory:
    """Return a directory with one segment under way that has everything."""
    folder.mkdir()
    rule = CutRule(block_size=block_size, segment_size=1 << 30, span_us=1 << 60)
    log = AuditLog(OsDisk(folder), cluster_id=CLUSTER, rule=rule, keep=None)
    log.recover(snapshot_index=0, state=None)
    log.append(records())
    log.show()
    return Directory(folder)


def test_a_page_in_the_middle_reads_little(tmp_path: Path) -> None:
    """A page that begins late in a segment decodes a few blocks to find its own, not all before it."""
    whole = one_segment(tmp_path / "audit", block_size=700)
    read: list[int] = []

    class Counting(Directory):
        def pread(self, name: str, offset: int, size: int) -> bytes:
            data = super().pread(name, offset, size)
            read.append(len(data) if size > BLOCK_HEADER_SIZE else 0)
            return data

    PageReader(Counting(whole.path)).read(Question(), Place(1), Bounds())
    total = sum(read)
    read.clear()
    page = PageReader(Counting(whole.path)).read(Question(), Place(290), Bounds())

    assert page.spans[0][0] == 290
    assert sum(read) < total / 3


def test_the_block_that_is_not_full_is_told(tmp_path: Path) -> None:
    """Where nothing fills a block, everything is in it."""
    page = PageReader(one_segment(tmp_path / "audit", block_size=1 << 30)).read(
        Question(), Place(1), Bounds(records=1 << 30, size=1 << 30)
    )

    assert (page.complete, page.spans) == (True, [(1, len(records()))])


def test_the_last_rows_are_looked_for_back_to_the_first(whole: Directory) -> None:
    """A record of long ago is found, however few are asked for."""
    everything = as_wire(list(rows(Question(), Cost(), archive=None, nodes=[Disk(whole)])))
    last_of = {row["token"]: row for row in everything if row.get("token")}
    oldest = min(last_of.values(), key=lambda row: int(row["index"]))

    found, _ = last_rows(asked_of(whole, Bounds()), Question(token=oldest["token"]), 1)

    assert (found, oldest["index"] < 250) == ([oldest], True)


def test_what_grows_is_there_in_the_next_page(tmp_path: Path) -> None:
    """The same place asked again has what came since; a segment that was finished meanwhile goes on under its name."""
    files = dict(FILES)
    name, data = FILES[0]
    directory = node(tmp_path, {name: data})
    reader = PageReader(directory)
    first = reader.read(Question(), Place(1), Bounds())
    for other, content in list(files.items())[1:3]:
        (directory.path / other).write_bytes(content)

    second = reader.read(Question(), first.next, Bounds())

    last = int(FILES[2][0][27:47])
    assert (first.complete, first.spans) == (True, [(1, int(name[27:47]))])
    assert second.spans == [(first.next.index, last)]


def test_a_damaged_segment_is_named(tmp_path: Path) -> None:
    """With file and offset; what is before it can be read, as often as it is asked for."""
    name, data = FILES[1]
    broken = bytearray(data)
    broken[400] ^= 1
    directory = node(tmp_path, {FILES[0][0]: FILES[0][1], name: bytes(broken)})
    reader = PageReader(directory)

    for _ in range(2):
        with pytest.raises(AuditDamaged, match=name):
            reader.read(Question(), Place(1), Bounds())
    assert reader.read(Question(), Place(1), Bounds(files=1)).rows
