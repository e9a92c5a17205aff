"""Values that are not allowed: each gets an answer that names the field, the value and the range.

docs/faults.md has the table of these tests.
"""

from typing import Any

import msgpack
import pytest

from raftlock.client import AsyncClient
from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.e2e.conftest import Cluster
from tests.e2e.raw import RawClient
from tests.e2e.scrape import grows
from tests.e2e.strangers import send_frame

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


ACQUIRE = (Op.ACQUIRE, 1, 0, 1, "name", "owner", 10_000, 0, None)


def acquire_with(position: int, value: Any) -> tuple[Any, ...]:
    """Return an acquire with one other field."""
    fields = list(ACQUIRE)
    fields[position] = value
    return tuple(fields)


@pytest.mark.parametrize(
    ("request_", "field", "allowed"),
    [
        (acquire_with(4, ""), "resource", "1 to 512"),
        (acquire_with(4, "x" * 513), "resource", "1 to 512"),
        (acquire_with(4, "é" * 257), "resource", "1 to 512"),
        (acquire_with(4, 7), "resource", "1 to 512"),
        (acquire_with(5, ""), "owner", "1 to 256"),
        (acquire_with(5, "x" * 257), "owner", "1 to 256"),
        (acquire_with(6, 99), "ttl_ms", "100 to 86400000"),
        (acquire_with(6, 86_400_001), "ttl_ms", "100 to 86400000"),
        (acquire_with(6, -1), "ttl_ms", "100 to 86400000"),
        (acquire_with(6, 1.5), "ttl_ms", "100 to 86400000"),
        (acquire_with(6, True), "ttl_ms", "100 to 86400000"),
        (acquire_with(7, -1), "wait_ms", "0 to 86400000"),
        (acquire_with(7, 86_400_001), "wait_ms", "0 to 86400000"),
        (acquire_with(8, {"k": "x" * 1_024}), "metadata", "exceed 1024"),
        (acquire_with(8, {"k": 1}), "metadata", "text to text"),
        (acquire_with(8, "text"), "metadata", "map of text to text"),
        (acquire_with(2, 4_096), "slot", "0 to 4095"),
        (acquire_with(3, 0), "n", "1 to 9007199254740991"),
        ((Op.OPEN_SESSION, b"short", 10_000), "nonce", "16 bytes"),
        ((Op.OPEN_SESSION, bytes(16), 999), "ttl_ms", "1000 to 300000"),
        ((Op.RENEW, []), "leases", "1 to 1000"),
        ((Op.RELEASE, "name", 0), "token", "1 to 9007199254740991"),
        ((Op.LIST, 0, "", "", 1_001, False), "limit", "1 to 1000"),
        ((Op.FORCE_RELEASE, "name", 1, "", True), "reason", "1 to 1024"),
        ((99,), "code", "not a known request"),
        ((Op.GET, "name"), "request", "elements"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_range(
    steady: Cluster, request_: tuple[Any, ...], field: str, allowed: str
) -> None:
    """BAD_REQUEST says which field and what is allowed; the connection stays, and serves on."""
    with (
        grows(
            steady.http(1),
            'raftlock_refusals_total{reason="bad_request"}',
        ),
        RawClient(steady.endpoint(1)) as client,
    ):
        status, final, named, problem = client.ask(*request_)
        after = client.ask_until_final(Op.GET, "after", False)

    assert (status, final, named) == (Status.BAD_REQUEST, False, field)
    assert allowed in problem
    assert after[0] == Status.OK


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resource": ""}, "resource: 0 bytes of UTF-8 are not within 1 to 512"),
        ({"resource": "x" * 513}, "resource: 513 bytes of UTF-8 are not within 1 to 512"),
        ({"ttl": 0.05}, "ttl: 0.05 is not within 0.1 to 86400 seconds"),
        ({"ttl": 86_401}, "ttl: 86401 is not within 0.1 to 86400 seconds"),
        ({"wait": -1}, "wait: -1 is not within 0 to 86400 seconds"),
        ({"owner": "x" * 257}, "owner: 257 bytes of UTF-8 are not within 1 to 256"),
        ({"metadata": {"k": "x" * 1_024}}, "metadata: 1030 bytes encoded exceed 1024"),
    ],
)
async def test_our_client_refuses_it_before_it_is_sent(
    steady: Cluster, arguments: dict[str, Any], message: str
) -> None:
    """The client names the field and the range in the caller's units."""
    async with AsyncClient(steady.endpoints) as client:
        with pytest.raises(ValueError) as raised:
            await client.acquire(**{"resource": "name", **arguments})

    assert str(raised.value) == message


def test_a_frame_of_mixed_requests_is_answered_one_by_one(steady: Cluster) -> None:
    """A wrong request beside good ones spoils none of them."""
    with (
        grows(
            steady.http(1),
            'raftlock_refusals_total{reason="bad_request"}',
        ),
        RawClient(steady.endpoint(1)) as client,
    ):
        batch = [[Op.GET, 11, "a", False], [Op.GET, 12, "", False], [Op.GET, 13, "c", False]]
        send_frame(client, msgpack.packb(batch))
        answers: dict[int, int] = {}
        while len(answers) < 3:
            frame = client.frame()
            assert frame is not None
            answers |= {message[0]: message[1] for message in frame[1:]}

    assert answers == {11: Status.OK, 12: Status.BAD_REQUEST, 13: Status.OK}
