"""verify catches what was changed, and names the file."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.audit.format import HEADER_SIZE, decode_header, parse_name
from raftlock.audit.verify import verify
from tests.unit.audit.kit import twin_files


class Files:
    """A directory in memory."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = dict(files)

    def list(self) -> list[str]:
        """See Source."""
        return sorted(self.files)

    def read(self, name: str) -> bytes:
        """See Source."""
        if name not in self.files:
            raise FileNotFoundError(name)
        return self.files[name]


def whole() -> Files:
    """Return what a node has that nothing happened to."""
    return Files(twin_files())


def test_a_whole_directory_verifies() -> None:
    """Nothing is wrong with what nobody touched."""
    report = verify(whole())

    assert (report.damages, report.segments, report.gaps) == ([], len(twin_files()), [])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_is_caught(data: st.DataObject) -> None:
    """Any bit of any finished segment: the file is named."""
    source = whole()
    name = data.draw(st.sampled_from(sorted(source.files)))
    content = bytearray(source.files[name])
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    source.files[name] = bytes(content)

    assert [damage.file for damage in verify(source).damages] == [name]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_truncated_or_longer_segment_is_caught(data: st.DataObject) -> None:
    """A file that ends early, or goes on, is named."""
    source = whole()
    name = data.draw(st.sampled_from(sorted(source.files)))
    content = source.files[name]
    size = data.draw(st.integers(0, len(content) - 1))
    source.files[name] = data.draw(st.sampled_from((content[:size], content + b"\0")))

    assert [damage.file for damage in verify(source).damages] == [name]


def _removed(source: Files, names: list[str]) -> str:
    del source.files[names[4]]
    return names[5]


def _swapped(source: Files, names: list[str]) -> str:
    source.files[names[4]], source.files[names[5]] = source.files[names[5]], source.files[names[4]]
    return names[4]


def _rewritten(source: Files, names: list[str]) -> str:
    """Change a record and make every hash of its own segment fit again."""
    header = decode_header(source.files[names[4]], file=names[4])
    forged = header._replace(content=bytes(32), commands=header.commands + 1)
    source.files[names[4]] = forged.encode() + source.files[names[4]][HEADER_SIZE:]
    return names[4]


def _forged_header(source: Files, names: list[str]) -> str:
    """Change only what the content does not say, with a fresh digest: the next one does not follow it."""
    header = decode_header(source.files[names[4]], file=names[4])
    forged = header._replace(commands=header.commands + 1)
    source.files[names[4]] = forged.encode() + source.files[names[4]][HEADER_SIZE:]
    return names[5]


def _twice(source: Files, names: list[str]) -> str:
    header = decode_header(source.files[names[4]], file=names[4])
    again = f"audit-{header.first:020d}-{header.last + 1:020d}.seg"
    forged = header._replace(last=header.last + 1)
    source.files[again] = forged.encode() + source.files[names[4]][HEADER_SIZE:]
    return again


@pytest.mark.parametrize("change", [_removed, _swapped, _rewritten, _forged_header, _twice])
def test_tampering_is_caught(change: object) -> None:
    """A removed, swapped, rewritten or doubled segment is named, where it first shows."""
    source = whole()
    first_wrong = change(source, source.list())  # type: ignore[operator]

    damages = verify(source).damages

    assert damages[0].file == first_wrong
    assert re.search(r"^audit-\d+-\d+\.seg at offset \d+: .", str(damages[0]))


def test_what_was_deleted_as_too_old_is_no_damage() -> None:
    """A chain may begin late: the first segment that is there says which one it follows."""
    source = whole()
    names = source.list()
    for name in names[:3]:
        del source.files[name]

    report = verify(source)

    parsed = parse_name(names[3])
    assert parsed is not None
    assert (report.damages, report.first) == ([], parsed[0])
