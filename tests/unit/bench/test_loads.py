"""The loads against the stub and scripted answers: what they send, what they count, and that they end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgpack

from bench.contended import Contender, Contest
from bench.open_loop import OpenTally, open_loop
from bench.peers.etcd import acquire_request, outcome, release_request
from bench.peers.protobuf import chunk, fields, number, varint
from bench.stub import Stub
from raftlock.client.lean import OWN_IDS, LeanConnection, open_all
from raftlock.client.load import Tally, run_load
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status


@contextlib.asynccontextmanager
async def serving(protocol: type[asyncio.Protocol]) -> AsyncIterator[str]:
    """Serve a protocol on a free port of this loop."""
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Electing(Stub):
    """A stub whose first three answers to OPEN_SESSION are that there is no leader."""

    asked: list[bytes] = []

    def _rare(self, request: tuple[Any, ...]) -> tuple[Any, ...]:
        if request[0] == Op.OPEN_SESSION:
            self.asked.append(request[2])
            if len(self.asked) <= 3:
                return (request[1], int(Status.NO_QUORUM), False, "no leader")
        return super()._rare(request)


class Hesitant(Stub):
    """A stub that takes every request at the second attempt only."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[Any] = set()

    def data_received(self, data: bytes) -> None:
        """Refuse each load request once."""
        size = int.from_bytes(data[:4], "big")
        requests = msgpack.unpackb(data[4 : 4 + size], use_list=False)
        new = [r for r in requests if r not in self._seen and r[1] < OWN_IDS]
        if not new:
            super().data_received(data)
            return
        self._seen.update(new)
        payload = msgpack.packb([1, *((r[1], int(Status.NO_QUORUM), False, "") for r in new)])
        assert self._transport is not None
        self._transport.write(len(payload).to_bytes(4, "big") + payload)


async def test_sessions_open_through_an_election() -> None:
    """NO_QUORUM while a session opens is asked again, with the same nonce, until there is a leader."""
    Electing.asked.clear()
    async with serving(Electing) as endpoint:
        connection, *_ = await open_all(endpoint, lambda _: LeanConnection(), 1)
        connection.close()

    assert (len(Electing.asked), len(set(Electing.asked)), connection.session) == (4, 1, 1)


async def test_load_counts_operations_and_ends() -> None:
    """A load does as its tally says, and leaves nothing in flight."""
    async with serving(Stub) as endpoint:
        tally, took = await run_load(endpoint, connections=3, depth=4, seconds=0.2, warmup=0.05)

    assert (tally.operations > 0, tally.operations == len(tally.latencies)) == (True, True)
    assert (took >= 0.2, tally.statuses, tally.token_errors) == (True, {}, 0)


async def test_load_repeats_what_was_not_taken() -> None:
    """A refusal that is not final is counted and sent again as it was: nothing is acquired twice, nothing is lost."""
    async with serving(Hesitant) as endpoint:
        tally, _ = await run_load(endpoint, connections=1, depth=2, seconds=0.3, warmup=0.01)

    assert (tally.operations > 0, list(tally.statuses), tally.token_errors) == (
        True,
        ["NO_QUORUM"],
        0,
    )


async def test_keep_alive_beside_the_load_takes_no_answers_from_it() -> None:
    """The answer to a keep-alive in front of the load's own in one frame leaves those to the load."""
    got: list[int] = []

    class Listening(LeanConnection):
        def answered(self, messages: list[tuple[Any, ...]]) -> None:
            got.extend(message[0] for message in messages)

    connection = Listening()
    connection._own_in_flight = 1
    payload = msgpack.packb([1, (OWN_IDS + 2, 0, True, 0), (5, 0, True), (6, 0, True)])
    connection.data_received(len(payload).to_bytes(4, "big") + payload)

    assert got == [5, 6]


async def test_open_loop_sends_what_its_rate_says() -> None:
    """At 1,000/s for half a second it sends every operation of the schedule, and each has its answer."""
    tally = OpenTally()
    async with serving(Stub) as endpoint:
        await open_loop(endpoint, rate=1_000.0, connections=2, seconds=0.5, tally=tally)

    assert (len(tally.latencies), tally.statuses, tally.overflowed) == (tally.sent, {}, False)
    assert tally.sent == 501
    # The times are the schedule's, a millisecond apart, and not those of the sending.
    ordered = sorted(tally.intended)
    assert round(ordered[-1] - ordered[0], 6) == round((tally.sent - 1) / 1_000, 6)


async def test_open_loop_counts_a_pause_of_the_server() -> None:
    """An operation that was refused for a while has the latency of the whole while."""
    tally = OpenTally()
    async with serving(Hesitant) as endpoint:
        await open_loop(endpoint, rate=20.0, connections=1, seconds=0.3, tally=tally)

    assert (min(tally.latencies) >= 0.019, tally.statuses["NO_QUORUM"] == tally.sent) == (
        True,
        True,
    )


class Sent(Contender):
    """A contender whose requests are noted and go nowhere."""

    def __init__(self, contest: Contest) -> None:
        super().__init__("r", contest)
        self.session = 7
        self.frames: list[tuple[Any, ...]] = []

    def send(self, frame: Any) -> None:
        """Note the requests, less their fields."""
        self.frames += [tuple(request[:2]) for request in frame]


async def test_contender_takes_an_offer_up_once_and_releases() -> None:
    """The offer of its own acquire is renewed, then released, then the next acquire follows; another's is ignored."""
    contest = Contest()
    contender = Sent(contest)
    contender.acquire()
    offer = (0, int(Event.OFFERED), 7, 1, 0, 1, "r", 40, 3)
    contender.answered([(1, int(Status.QUEUED), False, 0, 2)])
    contender.answered([(*offer[:5], 99, "r", 39, 3), offer, offer])
    contender.answered([(2, int(Status.OK), True, [(int(Status.OK), 1, 3, 10_000, 9_000)])])
    contender.answered([(3, int(Status.OK), True)])

    assert contender.frames == [
        (int(Op.ACQUIRE), 1),
        (int(Op.RENEW), 2),
        (int(Op.RELEASE), 3),
        (int(Op.ACQUIRE), 1),
    ]
    assert ([s.token for s in contest.served], contender.grants, contest.token_errors) == (
        [40],
        1,
        0,
    )


async def test_contest_sees_a_token_that_does_not_grow() -> None:
    """Two grants with the same token are an error of the service, and counted."""
    contest = Contest()
    for _ in range(2):
        contender = Sent(contest)
        contender.acquire()
        contender.answered([(1, int(Status.OK), True, 0, 40, 3)])

    assert contest.token_errors == 1


# etcd's bytes


def test_etcd_requests_are_the_bytes_of_its_schema() -> None:
    """Encoded by hand from etcd's rpc.proto: compare (target CREATE, key, create_revision), then the operation."""
    compare, put = "0a0710011a016b2800", "120e120c0a016b120562656e63681805"
    assert acquire_request(b"k", 5).hex() == compare + put
    assert release_request(b"k", 300).hex() == "0a0810011a016b28ac0212051a030a016b"


def test_etcd_outcome_reads_header_and_success() -> None:
    """A response holds the revision in its header and whether the comparison was true; false is left out."""
    header = chunk(1, number(1, 1 << 63) + number(3, 77))

    assert [outcome(header + number(2, 1)), outcome(header)] == [(True, 77), (False, 77)]


def test_protobuf_round_trip() -> None:
    """Numbers of all sizes and chunks come back by their fields."""
    values = {1: 0, 2: 127, 3: 128, 4: (1 << 64) - 1, 5: b"", 6: b"x" * 300}
    encoded = b"".join(
        chunk(f, v) if isinstance(v, bytes) else number(f, v) for f, v in values.items()
    )

    assert (fields(encoded), varint(300).hex()) == (values, "ac02")


def test_tally_without_answers_has_zeros() -> None:
    """A load that had no answer shows no latency instead of failing."""
    assert Tally().percentiles_ms(0.5, 1.0) == [0.0, 0.0]
