"""The command `python -m raftlock.testing.fuzz`: the kept corpus and a share of fresh inputs, and that it finds bugs."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgpack
import pytest
from crc32c import crc32c

from raftlock.audit.format import (
    AuditDamaged,
    Gap,
    decode_block,
    decode_gap,
    decode_results,
    encode_block,
    encode_gap,
)
from raftlock.audit.manifest import decode_manifest
from raftlock.server import handshake, peer_codec
from raftlock.server.config import ConfigError, config_from, parse
from raftlock.storage import Damaged, snapshots
from raftlock.storage.records import SegmentHeader
from raftlock.storage.small_files import VOTES, VoteFile
from raftlock.storage.snapshots import SnapshotFiles
from raftlock.testing.fuzz import TARGETS, Batch, Progress, batches, main, run_batch
from raftlock.testing.fuzz_corpus import FILE_SIZE_MAX, Corpus
from raftlock.testing.fuzz_judge import CHANGED, CRASH, LARGE, SLOW, Target, judge
from raftlock.testing.fuzz_wire import MEMBERS
from raftlock.testing.memory_disk import MemoryDisk
from raftlock.transport.frames import FramedProtocol
from raftlock_wire import codec
from raftlock_wire.errors import BadField, BadFrame
from raftlock_wire.membership import decode_membership
from raftlock_wire.messages import check_request

KEPT = Corpus(Path(__file__).parent / "corpus")


@pytest.mark.parametrize("name", TARGETS)
def test_every_kept_input_is_taken_or_refused_as_documented(name: str) -> None:
    """One input of each kind that a long run has met, the larger ones measured."""
    kept = KEPT.inputs(name)

    problems = {
        (judged.problem, judged.detail)
        for number, data in enumerate(kept)
        if (judged := judge(TARGETS[name], data, measured=number % 7 == 0)).problem
    }

    assert (problems, len(kept) > 0) == (set(), True)


@pytest.mark.parametrize("name", TARGETS)
def test_fresh_inputs_are_taken_or_refused_as_documented(name: str) -> None:
    """A share of what the command does: a few hundred inputs, each made of the kept ones."""
    ran = run_batch(Batch(name, 7, 0, 400, KEPT.inputs(name)[:50]))

    assert ran.failures == ()


def test_a_seed_is_a_run() -> None:
    """The same seed and corpus give the same inputs, and another seed gives others."""
    runs = [run_batch(Batch("request", seed, 0, 300)).kinds for seed in (1, 1, 2)]

    assert (runs[0] == runs[1], runs[0] == runs[2]) == (True, False)


def test_the_kept_corpus_is_small() -> None:
    """At most 300 KiB, with a file for each decoder and none besides."""
    files = {
        file.stem: file.stat().st_size for file in (Path(__file__).parent / "corpus").iterdir()
    }

    assert (set(files), sum(files.values()) <= 300 << 10) == (set(TARGETS), True)


# what was found once


@pytest.mark.parametrize(
    "member",
    [[float("inf"), "", "", "", False], ["7", "", "", "", False], [7, None, "", "", False], [7, "", "", "", 1],
     [0, "", "", "", False], [70_000, "", "", "", False], [1, "", "", False]],
)  # fmt: skip
def test_a_member_is_of_the_right_types_or_bad(member: list[Any]) -> None:
    """A number, three texts and a bool, as they are: nothing is converted, and infinity is no OverflowError."""
    with pytest.raises(BadFrame, match="not a membership"):
        decode_membership(msgpack.packb([member]))


@pytest.mark.parametrize("depth", [10, 900, 1_000, 1_015])
@pytest.mark.parametrize(
    "request_", [b"\x94\x0c\x01%s\x00\xc2", b"\x93\x08\x01%s\x00", b"\x92%s\x00\x01"]
)
def test_a_nest_in_a_request_is_refused(request_: bytes, depth: int) -> None:
    """It is a BadField like any other: msgpack reads deeper nests than Python can show, and the node lives on."""
    with pytest.raises(BadField):
        check_request(codec.unpack(request_ % (b"\x91" * depth)))


def test_a_member_stands_in_a_membership_once() -> None:
    """Two of one id would count as one voter or as two, as it comes."""
    with pytest.raises(BadFrame, match="twice"):
        decode_membership(msgpack.packb([[1, "a", "b", "c", False]] * 2))


@pytest.mark.parametrize("term", [-1, 1 << 63])
def test_a_members_number_fits_the_log(term: int) -> None:
    """What the log could not write closes the link, and does not end the node later."""
    with pytest.raises(BadFrame, match="not 0 to"):
        peer_codec.decode(msgpack.packb([peer_codec.TIMEOUT_NOW, term]))


def test_the_membership_of_a_snapshot_is_looked_at_when_it_arrives() -> None:
    """Not in the turn that installs it, which could only end the node."""
    meta = [9, 2, 7, 8, b"\x91\x01", 100, bytes(32)]
    with pytest.raises(BadFrame, match="not a membership"):
        peer_codec.decode(
            msgpack.packb([peer_codec.INSTALL_SNAPSHOT, 1, 1, meta, 0, b"", False, 1])
        )


def test_a_long_first_frame_is_refused() -> None:
    """One who is not known yet announces no long array."""
    with pytest.raises(BadFrame, match="exceeds max_array_len"):
        handshake.decode(msgpack.packb([64] * 17))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("node_id = " + "9" * 5_000, "the limit"),
        ("node_id = " + "[" * 5_000, "nested too deeply"),
        ("a" + ".a" * 3_000 + " = 1", "line 1 has 3000 dots"),
        ("#" + " " * 70_000, "larger than 65536 bytes"),
        ("node_id = 1\n\xff", "config: here: "),
    ],
)
def test_a_configuration_that_is_none_is_told_in_a_line(text: str, problem: str) -> None:
    """A ConfigError that names the file, whatever Python's parser raises, and soon."""
    with pytest.raises(ConfigError, match=problem):
        parse(text.encode("latin-1"), where="here")


@pytest.mark.parametrize(
    "values",
    [{"node_id": int("f" * 4_500, 16)}, {"node_id": 1, "client_address": "h:" + "9" * 5_000}],
    ids=["number", "port"],
)
def test_a_value_too_long_to_be_shown_is_not_shown(values: dict[str, Any]) -> None:
    """Python writes and reads no number of more than 4,300 digits; the field is named all the same."""
    with pytest.raises(ConfigError, match=r"^(node_id|client_address): .{1,150}$"):
        config_from({"data_dir": "/d", **values})


@pytest.mark.parametrize("results", [b"\x01", b"\x91\x90", b"\x92\x90\x01"])
def test_results_of_a_batch_are_a_pair_or_bad(results: bytes) -> None:
    """BadFrame, as its docstring says."""
    with pytest.raises(BadFrame):
        decode_results(results)


def test_a_block_says_no_size_that_lz4_cannot_have() -> None:
    """A few bytes that promise 128 MiB are damage, and nothing is allocated for them."""
    block = encode_block(b"abc")
    packed = block[16:]
    head = block[:4] + struct.pack(">II", 1 << 27, len(packed))
    forged = head + struct.pack(">I", crc32c(packed, crc32c(head))) + packed

    with pytest.raises(AuditDamaged, match="a block of 134217728 bytes"):
        decode_block(forged, 0, file="x")


def test_a_gap_holds_what_a_gap_says() -> None:
    """Also under a right checksum: two indexes, a digest and a text."""
    forged = encode_gap(Gap("1", 9, bytes(32), "why"))  # type: ignore[arg-type]
    with pytest.raises(AuditDamaged, match="what a gap says"):
        decode_gap(forged, file="gap")


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"objects": 1}', b"9" * 5_000])
def test_a_manifest_that_is_none_is_damage(data: bytes) -> None:
    """Whatever the JSON parser raises."""
    with pytest.raises(AuditDamaged, match="it is no manifest"):
        decode_manifest(data, file="manifests/day=2026-11-25.json")


def test_a_vote_whose_number_has_no_next_is_not_whole() -> None:
    """Also under a right checksum: it could not be written again."""
    data = struct.pack(">8sQQQ", b"RLVOTE01", (1 << 64) - 1, 3, 2)
    copy = data + crc32c(data).to_bytes(4, "big")
    with pytest.raises(Damaged, match="neither copy"):
        VoteFile.recover(MemoryDisk(dict.fromkeys(VOTES, copy)))


# what it must find


def _unchecked_length(data: bytes) -> SegmentHeader | None:
    """Read a segment's header without a look at how much there is."""
    _, number, size, seed, _ = struct.unpack_from(">8sQQII", data)
    return SegmentHeader(number, size, seed)


def _no_except(data: bytes, *, array_count_max: int = 4_096) -> Any:
    """Decode msgpack, and forget what it raises."""
    return msgpack.unpackb(data, raw=False, use_list=False, max_array_len=array_count_max)


def _quadratic(self: SnapshotFiles, meta: Any) -> Any:
    """Sum up all sizes for each chunk."""
    spans = list(snapshots._spans(self._disk, snapshots.file_name(meta)))
    for offset, _ in spans:
        for begin, size in spans:
            offset += begin + size
        yield bytes(offset & 1)


_PARSE = FramedProtocol._parse


def _all_at_once(self: FramedProtocol, view: memoryview, end: int) -> int:
    """Make room for what a frame announces, before its size is looked at."""
    bytearray(int.from_bytes(view[: min(4, end)], "big") & 0x3F_FFFF)
    return _PARSE(self, view, end)


def _converted(data: bytes) -> Any:
    """Take any number for a node's id, and encode another one."""
    values = codec.unpack(data)
    try:
        return MEMBERS._replace(
            members=tuple(MEMBERS.members[0]._replace(node_id=v[0] + 0.5) for v in values)
        )
    except (TypeError, IndexError, KeyError) as error:
        raise BadFrame("no membership") from error


def _with(name: str, run: Callable[[bytes], Any]) -> Any:
    target = TARGETS[name]
    replaced = {field: getattr(target, field) for field in Target.__slots__} | {"run": run}
    return patch.dict(TARGETS, {name: Target(**replaced)})


@pytest.mark.parametrize(
    ("bug", "name", "problem", "seen"),
    [
        (patch("raftlock.storage.wal.decode_segment_header", _unchecked_length), "wal-segment", CRASH, "struct.error"),
        (patch("raftlock.server.handshake.unpack", _no_except), "peer-first", CRASH, "ExtraData"),
        (patch.object(SnapshotFiles, "chunks", _quadratic), "snapshot-file", SLOW, "steps"),
        (patch.object(FramedProtocol, "_parse", _all_at_once), "frames", LARGE, "at the peak"),
        (_with("membership", _converted), "membership", CHANGED, "became"),
    ],
    ids=["length", "except", "quadratic", "memory", "round trip"],
)  # fmt: skip
def test_a_planted_bug_is_found(bug: Any, name: str, problem: str, seen: str) -> None:
    """Within 3,000 inputs; and the input that shows it still does when it was made smaller."""
    with bug:
        # What is slow or large is so for the test, too.
        inputs = 500 if problem in (SLOW, LARGE) else 3_000
        failures = [
            f for f in run_batch(Batch(name, 0, 0, inputs)).failures if f.problem == problem
        ]
        again = [judge(TARGETS[name], f.data, measured=True).problem for f in failures]
        told = " ".join(f.detail for f in failures)

    assert (seen in told or seen.removeprefix("struct.") in told, set(again)) == (True, {problem})


# the command


def test_it_prints_a_table_and_goes_on_from_its_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a ledger holds is not run again; the summary has the sums, and new kinds are kept."""
    arguments = [
        "--target", "vote", "--target", "identity", "--resume", str(tmp_path / "ledger"), "--summary",
        str(tmp_path / "summary.json"), "--corpus", str(tmp_path / "corpus"), "--keep",
    ]  # fmt: skip
    codes = [main([*arguments, "--inputs", "200"]), main([*arguments, "--inputs", "200"])]
    printed = capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())

    assert codes == [0, 0]
    assert ("(200 now" in printed, "(0 now" in printed) == (True, True)
    assert (summary["inputs"], list(summary["targets"])) == (200, ["vote", "identity"])
    assert Corpus(tmp_path / "corpus").inputs("vote") != ()


def test_a_failing_input_is_saved_printed_and_judged_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, both times, and the file is the one that is named."""
    with patch("raftlock.server.handshake.unpack", _no_except):
        failed = main(["--target", "peer-first", "--inputs", "400", "--failures", str(tmp_path)])
        printed = capsys.readouterr().out
        file = next(tmp_path.iterdir())
        again = main(["--target", "peer-first", "--input", str(file)])

    assert (failed, str(file) in printed, again) == (1, True, 1)
    assert main(["--target", "peer-first", "--input", str(file)]) == 0


def test_half_a_line_of_a_ledger_is_dropped(tmp_path: Path) -> None:
    """A run that was cut off goes on behind its last whole line."""
    ledger = tmp_path / "ledger"
    batch = Batch("vote", 0, 0, 10)
    Progress(ledger).add(run_batch(batch))
    ledger.write_text(ledger.read_text() + '{"source": "x"')

    progress = Progress(ledger)

    assert (progress.has(batch), ledger.read_text().count("\n")) == (True, 1)


def test_batches_are_of_all_targets_in_turn() -> None:
    """The numbers add up, and no batch is there twice."""
    made = list(batches(["a", "b", "c"], inputs=32_000, seed=1))

    assert (sum(b.inputs for b in made), len({b[:3] for b in made})) == (32_000, len(made))
    assert [b.target for b in made[:4]] == ["a", "b", "c", "a"]


def test_the_corpus_stops_growing(tmp_path: Path) -> None:
    """Its files have a bound, and it comes back as it was saved."""
    corpus = Corpus(tmp_path)
    corpus.add("x", {str(n): bytes(1_000) + bytes((n,)) for n in range(100)})
    corpus.save()

    assert 0 < (tmp_path / "x.txt").stat().st_size <= FILE_SIZE_MAX
    assert set(Corpus(tmp_path).inputs("x")) == set(corpus.inputs("x"))


@pytest.mark.parametrize(
    "arguments", [["--inputs", "0"], ["--jobs", "x"], ["--keep"], ["--corpus", "/nowhere"]]
)
def test_bad_arguments_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With what is wrong."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert (caught.value.code, arguments[0] in capsys.readouterr().err) == (2, True)


def test_an_error_without_a_word_is_a_failure() -> None:
    """A refusal says what was wrong."""

    def run(_: bytes) -> None:
        raise BadFrame

    target = Target(name="x", seeds=lambda: [b""], run=run, refuses=(BadFrame,))
    assert judge(target, b"", measured=False).problem == CRASH
