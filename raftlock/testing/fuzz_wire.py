"""Decoders of what comes over a connection, as targets for the fuzzer: clients, members, HTTP, and the configuration."""

import json
from typing import Any

from raftlock.locks import LockTable
from raftlock.raft import (
    AppendEntries,
    AppendEntriesResult,
    InstallSnapshot,
    InstallSnapshotResult,
    Message,
    RequestVote,
    RequestVoteResult,
    TimeoutNow,
)
from raftlock.server import door, handshake, peer_codec
from raftlock.server.config import SETTINGS, ConfigError, ServerConfig, config_from, example, parse
from raftlock.server.http import bodies
from raftlock.server.http.problems import Problem
from raftlock.testing.fuzz_judge import Target
from raftlock.transport.frames import FramedProtocol, frame
from raftlock_wire.codec import pack, unpack
from raftlock_wire.entry import Entry, EntryKind, SnapshotMeta
from raftlock_wire.errors import BadField, BadFrame, FrameTooLarge
from raftlock_wire.ids import Index, NodeId, Term
from raftlock_wire.invariant import check
from raftlock_wire.membership import Member, Membership, cluster_id_of, decode_membership
from raftlock_wire.messages import CHECKS, Op, check_request

_TOKEN = 1_800_000_000_000_001
REQUESTS: tuple[tuple[Any, ...], ...] = (
    (1, 1, 1, 1, None, None, "example"),
    (2, 2, bytes(16), 10_000),
    (3, 3, 1, bytes(16)),
    (4, 4, 1),
    (5, 5, 1),
    (6, 6, 1, 0, 1, "order:1", "me", 10_000, 0, None),
    (6, 6, 1, 4_095, 9, "ä", "me", 0, 86_400_000, {"k": "v"}),
    (7, 7, 1, 0, 1),
    (8, 8, (("order:1", _TOKEN), ("b", 7))),
    (9, 9, "order:1", _TOKEN, 5_000, 17),
    (10, 10, "order:1", _TOKEN),
    (11, 11, "order:1", _TOKEN),
    (12, 12, "order:1", False),
    (13, 13, 0, "order:", "", 100, False),
    (13, 13, 2, 1, "", 1, True),
    (14, 14, "order:1", _TOKEN, "operator asked", True),
    (15, 15),
    (16, 16),
    (17, 17, 4, "4" * 32, "n4:7411", "n4:7401"),
    (18, 18, 4, "4" * 32),
    (19, 19, 4, "4" * 32),
    (20, 20, 1, 0, "order:1", "order:", "me", _TOKEN, "acquire", 0, 1, 100),
)
check({int(request[0]) for request in REQUESTS} == set(CHECKS), "every request is a seed")
MEMBERS = Membership(
    tuple(
        Member(NodeId(n), f"{n:032x}", f"10.0.0.{n}:7411", f"10.0.0.{n}:7401", n == 4)
        for n in (1, 2, 4)
    )
)
META = SnapshotMeta(Index(900), Term(7), 10, 20, MEMBERS.encode(), 70_000, bytes(32))
_SPLITS = (1, 3, 4_096)


# frames


class _Receiver(FramedProtocol):
    frame_size_max = 2_048

    def __init__(self) -> None:
        super().__init__()
        self.got: list[bytes] = []
        self.refused: FrameTooLarge | None = None

    def frame_received(self, payload: bytes) -> None:
        self.got.append(payload)

    def frame_refused(self, error: FrameTooLarge) -> None:
        check(self.refused is None, "a frame is refused once")
        self.refused = error
        self.discard_input()


def _frames(data: bytes) -> tuple[bytes, ...]:
    """Cut a stream, which arrives in pieces of several sizes: the payloads are the same."""
    found = [_received(data, size) for size in _SPLITS]
    check(found[0][0] == found[1][0] == found[2][0], "pieces make no difference")
    payloads, refused = found[0]
    if refused is not None:
        raise refused
    whole = b"".join(map(frame, payloads))
    check(data.startswith(whole), "payloads are what was sent")
    return payloads


def _received(data: bytes, size: int) -> tuple[tuple[bytes, ...], FrameTooLarge | None]:
    receiver = _Receiver()
    # Byte by byte is for short streams: each read is a call.
    size = max(size, len(data) // 256)
    for at in range(0, len(data), size):
        part = data[at : at + size]
        receiver.get_buffer(-1)[: len(part)] = part
        receiver.buffer_updated(len(part))
        if receiver.refused is not None:
            break
    return tuple(receiver.got), receiver.refused


def _frame_seeds() -> list[bytes]:
    frames = [frame(pack([request])) for request in REQUESTS]
    return [b"".join(frames), *frames, frame(bytes(2_048)), frame(bytes(2_049)), frame(b"") * 9]


# clients


def _request(data: bytes) -> tuple[Any, ...]:
    request: tuple[Any, ...] = unpack(data)
    check_request(request)
    return request


def _client_frame(data: bytes) -> door.Sorted:
    """Do what a node does with a client's frame: decode, check, sort; and what a follower then passes on."""
    requests = door.decode_frame(data)
    found = door.sort_out(data, requests, {1}, 1_000, "queue")
    passed = [*found.logged, *found.others]
    check(len(passed) + len(found.refused) == len(requests), "each is let in or refused, once")
    for request in passed:
        check_request(request)
    again = unpack(found.passed)
    check(sorted(map(repr, again)) == sorted(map(repr, passed)), "what is passed on was let in")
    return found


def _applied(data: bytes) -> Any:
    """Apply what the door lets in, as a leader's log does."""
    requests = door.decode_frame(data)
    found = door.sort_out(data, requests, {1, 2}, 1_000, "queue")
    table = LockTable()
    opening = [(int(Op.OPEN_SESSION), 1, bytes((n,)) * 16, 10_000) for n in (1, 2)]
    held = (int(Op.ACQUIRE), 1, 2, 0, 1, "order:1", "other", 9_000, 0, None)
    table.apply(1, 0, 0, (("", "", (int(Op.GENESIS), 0, _TOKEN, 60_000)),))
    table.apply(2, 0, 0, (("", "host", *opening, held),))
    applied = table.apply(3, 1_000, 1_000, (("", "host", *found.logged),))
    for info in found.others:
        if info[0] == Op.GET:
            table.get_info(info[2])
        elif info[0] == Op.LIST:
            table.list_page(info[2], info[3], info[4], info[5])
    # All of it goes into the snapshot, and comes back.
    loader, stream = LockTable.loader(), table.begin_snapshot()
    while (chunk := stream.next_chunk()) is not None:
        loader.feed(chunk)
    check(loader.finish().digest() == table.digest(), "a snapshot holds everything")
    return pack((applied.answers, applied.effects))


def _client_seeds() -> list[bytes]:
    return [pack([request]) for request in REQUESTS] + [pack(REQUESTS), pack(REQUESTS[5:11] * 20)]


# members


def _peer_seeds() -> list[bytes]:
    term, index = Term(7), Index(900)
    entries = (
        Entry(Index(901), term, EntryKind.NOOP, 10, 20, b""),
        Entry(Index(902), term, EntryKind.BATCH, 11, 21, pack([["", "h", REQUESTS[5]]])),
        Entry(Index(903), term, EntryKind.MEMBERSHIP, 12, 22, MEMBERS.encode()),
    )
    messages: tuple[Message, ...] = (
        RequestVote(term=term, last_log_index=index, last_log_term=term, pre_vote=True),
        RequestVoteResult(term=term, granted=True, asked_term=term),
        AppendEntries(
            term=term, leader_id=NodeId(1), prev_log_index=index, prev_log_term=term, entries=entries,
            leader_commit=index, round=5,
        ),
        AppendEntriesResult(term=term, success=False, match_index=index, conflict_term=term, round=5),
        InstallSnapshot(
            term=term, leader_id=NodeId(1), meta=META, offset=100, data=bytes(50), done=False, round=5
        ),
        InstallSnapshotResult(term=term, meta_index=index, meta_sha256=bytes(32), next_offset=5, round=5),
        TimeoutNow(term=term),
    )  # fmt: skip
    return [
        *(peer_codec.encode(message) for message in messages),
        peer_codec.encode_forward([(1, "", "h:1", pack([REQUESTS[5]])), (2, "p", "h:2", b"")]),
        peer_codec.encode_forward_result([(1, pack([1, (5, 0, True)]))]),
        peer_codec.encode_forward_closed([1, 2, 3]),
    ]


def _encode_peer(message: Any) -> bytes:
    return pack(message) if isinstance(message, tuple) else peer_codec.encode(message)


def _first_seeds() -> list[bytes]:
    cluster, first = cluster_id_of(MEMBERS), MEMBERS.encode()
    return [
        handshake.encode(message)
        for message in (
            handshake.PeerHello(
                1, NodeId(1), "1" * 32, NodeId(2), cluster, first, 60_000, 1, first
            ),
            handshake.HelloAnswer(False, "why", "2" * 32, 1, removed=True),
            handshake.BootstrapTell(NodeId(1), "1" * 32, "", "h:1", "h:2"),
            handshake.BootstrapSet(cluster, first, 60_000),
            handshake.BootstrapDone(True, ""),
            None,
        )
    ]


def _first(data: bytes) -> handshake.FirstFrame:
    """Decode a first frame, and decide on it as an empty node does."""
    message = handshake.decode(data)
    me = {"node_id": NodeId(2), "incarnation": f"{2:032x}", "cluster_id": None}
    if isinstance(message, handshake.PeerHello):
        handshake.judge_hello(message, handshake.Callee(NodeId(2), f"{2:032x}", None))
    elif isinstance(message, handshake.BootstrapSet):
        handshake.refuse_first(message.first_membership, message.cluster_id, **me)  # type: ignore[arg-type]
    return message


# HTTP, and the configuration


def _http(data: bytes) -> Any:
    body = bodies.decode(data)
    if "lockToken" in body:
        return bodies.grant(body)
    order = bodies.acquire_order(body)
    # It becomes an acquire of the protocol, which must let it in.
    wait_ms, metadata = order.wait_ms, order.metadata
    check_request((6, 1, 1, 0, 1, order.resource, order.owner, order.ttl_ms, wait_ms, metadata))
    return order


def _http_seeds() -> list[bytes]:
    full = {
        "resourceId": "order:1", "ttl": 1.5, "clientId": "me", "blocking": True, "timeout": 5,
        "metadata": {"k": "ä"},
    }  # fmt: skip
    grant = {"resourceId": "order:1", "lockToken": _TOKEN}
    return [json.dumps(body).encode() for body in (full, grant)] + [b'{"resourceId":"\\u00e4"}']


def _query(data: bytes) -> Any:
    text = data.decode("latin-1")
    path, _, query = text.partition("?")
    pairs = (part.partition("=") for part in query.split("&") if part)
    resource = bodies.resource_in_path(path)
    bodies.idempotency_key(path)
    bodies.bearer(path)
    return resource, bodies.page({name: value for name, _, value in pairs})


def _config(data: bytes) -> ServerConfig:
    return config_from(parse(data, where="raftlock.toml"))


def _encode_config(config: ServerConfig) -> bytes:
    lines = []
    for setting in SETTINGS:
        value = getattr(config, setting.name)
        # What JSON calls a string is one of TOML's, but for the one control character that JSON leaves as it is.
        text = str(value) if setting.kind is int else json.dumps(str(value), ensure_ascii=False)
        lines.append(f"{setting.name} = {text}".replace("\x7f", "\\u007f"))
    return "\n".join(lines).encode()


def _config_seeds() -> list[bytes]:
    text = example()
    short = "[node]\n" + 'node_id = 1\ndata_dir = "/d"\n'
    bare = [line.removeprefix("# ") for line in text.splitlines() if " = " in line]
    settings = "\n".join(line for line in bare if not line.endswith("."))
    return [text.encode(), short.encode(), settings.encode(), short[7:].encode()]


NESTED_MEMORY = 96 << 20
"""What msgpack takes, at most, of a frame that is nothing but nested headers of arrays that never come: it stops at
1,024 of them, and makes room for 10,000 values in each."""
_MSGPACK = (
    b"\xc0",
    b"\xc2",
    b"\xc3",
    b"\xca\x7f\x80\x00\x00",
    b"\xcb",
    b"\xd4\x05x",
    b"\xd6\xff\x00\x00\x00\x00",
)
_JSON = (
    b"null",
    b"true",
    b"1e999",
    b"-0",
    b"\\ud800",
    b'"resourceId":',
    b'"ttl":',
    b'"lockToken":',
    b"\xff\xfe",
)
_TOML = (
    b"[[", b"]]", b"'''", b'"""', b"\n", b"1979-05-27", b"07:32:00", b"0x", b"inf", b"\\U0010ffff", b" = ", b"{a=1}",
    b".", b"127.0.0.1:" + b"9" * 5_000,
)  # fmt: skip

WIRE_TARGETS = (
    Target(
        name="frames", seeds=_frame_seeds, run=_frames, refuses=(FrameTooLarge,), steps_flat=200_000
    ),
    Target(
        name="request", seeds=lambda: [pack(request) for request in REQUESTS], run=_request, refuses=(BadFrame, BadField),
        encode=pack, tree="msgpack", tokens=_MSGPACK, memory_flat=NESTED_MEMORY,
    ),
    Target(
        name="client-frame", seeds=_client_seeds, run=_client_frame, refuses=(BadFrame,), tree="msgpack",
        tokens=_MSGPACK, memory_flat=NESTED_MEMORY, steps_per_byte=200,
    ),
    Target(
        name="apply", seeds=_client_seeds, run=_applied, refuses=(BadFrame,), tree="msgpack", memory_flat=NESTED_MEMORY,
        steps_per_byte=400, steps_flat=400_000, memory_per_byte=400,
    ),
    Target(
        name="peer-first", seeds=_first_seeds, run=_first, refuses=(BadFrame,), encode=handshake.encode, tree="msgpack",
        tokens=_MSGPACK, memory_flat=1 << 20,
    ),
    Target(
        name="peer-message", seeds=_peer_seeds, run=peer_codec.decode, refuses=(BadFrame,), encode=_encode_peer,
        tree="msgpack", tokens=_MSGPACK, memory_flat=NESTED_MEMORY,
    ),
    Target(
        name="membership", seeds=lambda: [MEMBERS.encode(), pack([])], run=decode_membership, refuses=(BadFrame,),
        encode=Membership.encode, tree="msgpack", tokens=_MSGPACK, memory_flat=NESTED_MEMORY,
    ),
    Target(
        name="http-body", seeds=_http_seeds, run=_http, refuses=(Problem,), tree="json", tokens=_JSON
    ),
    Target(
        name="http-query", seeds=lambda: [b"order%3A1?prefix=a&limit=10&stale=true", b"%C3%A4?owner=b&cursor=c"],
        run=_query, refuses=(Problem,), tokens=(b"%", b"%ff", b"&", b"limit=", b"stale=", b"Bearer "),
    ),
    Target(
        name="config", seeds=_config_seeds, run=_config, refuses=(ConfigError,), encode=_encode_config, tokens=_TOML,
        steps_per_byte=400, memory_per_byte=1_000,
    ),
)  # fmt: skip
