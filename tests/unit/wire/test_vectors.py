"""wire/vectors/ is what the codec and the server make of it, whole, in pieces, and read by another decoder."""

from typing import Any

import pytest

from raftlock.server import door
from raftlock.transport.frames import FramedProtocol
from raftlock_wire.codec import array_body_offset, pack, split_array, unpack
from raftlock_wire.errors import BadFrame, FrameTooLarge
from raftlock_wire.limits import FRAME_SIZE_MAX
from raftlock_wire.messages import Event, Op, check_request
from raftlock_wire.status import Status
from tests.unit.wire import document as doc
from tests.unit.wire import vectors
from tests.unit.wire.dump import Piece, piece
from tests.unit.wire.samples import USUAL, Bad, bad_frames
from tests.unit.wire.served import Served, messages
from tests.unit.wire.vectors import Vector, from_json

DOCUMENT = doc.read()
FREE_TEXT = {"why", "problem", "values"}
"""Fields whose content is for people, or grows: the vectors hold examples of them."""


def _all(*names: str) -> list[Any]:
    return [
        pytest.param(vector, id=f"{name}: {vector['name']}")
        for name in names
        for vector in vectors.load(name)
    ]


def _payload(vector: Vector) -> bytes:
    return bytes.fromhex(vector["hex"])[4:]


class Frames(FramedProtocol):
    """Keeps what the parser of the transport hands on."""

    frame_size_max = FRAME_SIZE_MAX

    def __init__(self) -> None:
        super().__init__()
        self.got: list[bytes] = []
        self.refused: list[FrameTooLarge] = []

    def frame_received(self, payload: bytes) -> None:
        self.got.append(payload)

    def frame_refused(self, error: FrameTooLarge) -> None:
        self.refused.append(error)

    def feed(self, data: bytes) -> None:
        self.get_buffer(len(data))[: len(data)] = data
        self.buffer_updated(len(data))


def _masked(vector: Vector) -> Vector:
    """Return a vector without the text that is for people, and without the bytes that hold it."""
    message = vector["payload"][1]
    if message[0]:
        request = DOCUMENT.requests.get(vector["request"][0], DOCUMENT.requests[Op.CHECK])
        status = Status(message[1]).name
        rows = [
            row.names
            for row in (*request.answers, *DOCUMENT.any_answers)
            if row.status == status and len(row.names) == len(message) - 3
        ]
        names = ("", "", "", *rows[0])
    else:
        event = DOCUMENT.events.get(message[1])
        names = ("", "", *(event.names if event else ("", "field", "problem")))
    if not FREE_TEXT & set(names):
        return vector
    shown = ["" if n in FREE_TEXT else value for n, value in zip(names, message, strict=True)]
    return {**vector, "payload": [vector["payload"][0], shown], "hex": ""}


@pytest.mark.parametrize("name", sorted(vectors.FILES))
def test_the_files_are_what_the_generator_writes(name: str) -> None:
    """Nothing has drifted: `python -m tests.unit.wire.vectors` would write the same again."""
    kept, made = vectors.load(name), vectors.FILES[name]()
    if name in ("answers", "events"):
        kept, made = [_masked(v) for v in kept], [_masked(v) for v in made]

    assert kept == made


@pytest.mark.parametrize("vector", _all("requests"))
def test_a_good_request_is_encoded_and_taken(vector: Vector) -> None:
    """The codec gives the bytes of a request's meaning, reads them back, and the door lets them in."""
    said = from_json(vector["payload"])
    payload = _payload(vector)

    assert (pack(said), unpack(payload)) == (payload, said)
    assert door.decode_frame(payload) == said
    for request in said:
        check_request(request)


@pytest.mark.parametrize("vector", _all("encodings"))
def test_longer_formats_mean_the_same(vector: Vector) -> None:
    """Any format of msgpack is taken, and the parts of the frame are found in it."""
    said = from_json(vector["payload"])
    payload = _payload(vector)

    assert (door.decode_frame(payload), payload != pack(said)) == (said, True)
    assert [unpack(part) for part in split_array(payload)] == list(said)
    assert payload[array_body_offset(payload) :] == b"".join(split_array(payload))
    for request in said:
        check_request(request)


def _value(read: Piece) -> Any:
    if read.kind == "array":
        return tuple(map(_value, read.children))
    if read.kind == "map":
        pairs = list(map(_value, read.children))
        return dict(zip(pairs[::2], pairs[1::2], strict=True))
    return read.value


@pytest.mark.parametrize("vector", _all("requests", "answers", "events", "session"))
def test_another_decoder_reads_the_same(vector: Vector) -> None:
    """A reader that was written from the document alone finds what the vector says, and no byte more."""
    read, end = piece(_payload(vector))

    assert (_value(read), end) == (from_json(vector["payload"]), len(_payload(vector)))


@pytest.mark.parametrize("vector", _all("answers", "events", "session"))
def test_what_a_server_sent_is_decoded(vector: Vector) -> None:
    """The codec reads what a server sent, and would send it in the same bytes."""
    said = from_json(vector["payload"])

    assert (unpack(_payload(vector)), pack(said)) == (said, _payload(vector))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4_096])
def test_frames_are_found_however_the_stream_is_cut(size: int) -> None:
    """All good frames behind each other, byte by byte or in pieces, are the same frames; a rest of one is none."""
    good = [bytes.fromhex(v["hex"]) for n in ("requests", "answers") for v in vectors.load(n)]
    stream = b"".join(good) + good[0][:-1]
    whole, cut = Frames(), Frames()

    whole.feed(stream)
    for start in range(0, len(stream), size):
        cut.feed(stream[start : start + size])

    assert cut.got == whole.got == [frame[4:] for frame in good]
    cut.feed(good[0][-1:])
    assert cut.got[-1] == good[0][4:]


@pytest.mark.parametrize("vector", _all("requests"))
def test_a_frame_cut_short_or_with_a_byte_more_is_refused(vector: Vector) -> None:
    """No beginning of a good payload is one, nor is a good payload with something behind it."""
    payload = _payload(vector)
    cuts = range(len(payload)) if len(payload) < 500 else range(0, len(payload), 97)
    wrong = [*(payload[:cut] for cut in cuts), payload + b"\xc0", payload + payload]

    for data in wrong:
        with pytest.raises(BadFrame):
            door.decode_frame(data)


def _greeted(served: Served) -> int:
    connection = served.connect()
    served.ask(connection, *USUAL[Op.HELLO])
    served.ask(connection, Op.OPEN_SESSION, 2, bytes(16), 10_000)
    # The samples name session 5, which such a test does not want to open.
    served.drivers[1].clients.local[connection].attached.add(5)
    return connection


@pytest.fixture(scope="module")
def served() -> Served:
    """A cluster of one node that serves."""
    cluster = Served()
    cluster.until_served()
    return cluster


@pytest.mark.parametrize("vector", _all("invalid"))
def test_a_server_refuses_what_is_invalid_as_the_vector_says(
    served: Served, vector: Vector
) -> None:
    """A GOODBYE with its code and a closed connection; or BAD_REQUEST that names the field, and the connection lives."""
    stream = bytes.fromhex(vector["hex"])
    frames = Frames()
    frames.feed(stream)
    if frames.refused:
        assert (vector["goodbye"], frames.got) == ("frame_too_large", [])
        return
    connection = _greeted(served)

    said = messages(served.send(connection, frames.got[0]))

    if "goodbye" in vector:
        assert [m[:3] for m in said] == [(0, Event.GOODBYE, vector["goodbye"])]
        assert connection in served.closed
    else:
        assert [(m[1:4]) for m in said] == [(Status.BAD_REQUEST, False, vector["field"])]
        assert served.ask(connection, *USUAL[Op.GET])[1] == Status.OK


@pytest.mark.parametrize("bad", [pytest.param(b, id=b.name) for b in bad_frames()])
def test_a_bad_frame_is_refused_for_its_own_reason(bad: Bad) -> None:
    """The error says what the sample is there for, or is of the kind that msgpack has for it."""
    with pytest.raises(BadFrame) as caught:
        door.decode_frame(bad.payload)

    assert bad.cause in f"{caught.value} {type(caught.value.__cause__).__name__}"


def test_the_document_describes_each_file() -> None:
    """The table of vectors names the files that are there."""
    text = doc.PATH.read_text()
    files = {path.name for path in doc.VECTORS.iterdir()}

    assert files == {f"{name}.json" for name in vectors.FILES}
    assert [name for name in files if f"`{name}`" not in text] == []
