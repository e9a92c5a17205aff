"""The batcher: one batch a turn, in order, with the clients' own bytes, within its bounds (decisions 1 and 2)."""

from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.server import batcher as module
from raftlock.server.batcher import BATCH_COMMANDS_MAX, BATCH_SIZE_MAX, Batcher
from raftlock.server.origin import Origin
from raftlock_wire.codec import pack, unpack
from raftlock_wire.ids import NodeId
from raftlock_wire.messages import Op


def origin(number: int = 1, *, principal: str = "ops") -> Origin:
    """Return a connection."""
    return Origin(node=NodeId(0), conn_id=number, principal=principal, address=f"host:{number}")


def add(batcher: Batcher, of: Origin, *requests: tuple[object, ...]) -> None:
    """Add requests with their bytes."""
    body = b"".join(map(pack, requests))
    batcher.add(of, requests, body, ordinary=len(requests), plain=True)


def test_an_entry_holds_the_clients_own_bytes_behind_an_envelope() -> None:
    """No request is encoded anew: an encoding that nobody else would choose is in the log as it came (decision 2)."""
    batcher, of = Batcher(), origin()
    # Integers wider than they need to be.
    body = b"\x94\x0a\xcd\x00\x07\xa1r\xcf\x00\x00\x00\x00\x00\x00\x00\x09"
    batcher.add(of, ((10, 7, "r", 9),), body, ordinary=0, plain=True)

    batch = batcher.take()

    assert batch.data == b"\x91\x93" + pack("ops") + pack("host:1") + body
    assert (unpack(batch.data), bool(batcher)) == ((("ops", "host:1", (10, 7, "r", 9)),), False)


requests_of = st.lists(
    st.tuples(st.just(int(Op.RELEASE)), st.integers(1, 99), st.text(max_size=5), st.integers(1, 9)),
    min_size=1,
    max_size=20,
)


@settings(max_examples=200, deadline=None)
@given(groups=st.lists(requests_of, max_size=6), own=st.integers(0, 20))
def test_what_is_decoded_is_what_apply_takes(
    groups: list[list[tuple[object, ...]]], own: int
) -> None:
    """A follower that decodes the entry applies what the leader applies from memory, hooks beside (decision 6)."""
    batcher = Batcher()
    for number in range(own):
        batcher.command((int(Op.SWEEP_SESSION), 0, number), f"hook {number}")
    for number, requests in enumerate(groups):
        add(batcher, origin(number), *requests)

    batch = batcher.take()

    assert unpack(batch.data) == tuple(group.requests for group in batch.groups)
    assert [g.hooks for g in batch.groups if g.origin is None] == (
        [tuple(f"hook {n}" for n in range(own))] if own else []
    )
    assert all(len(g.hooks) == (0 if g.origin else len(g.requests) - 2) for g in batch.groups)


def test_the_leaders_own_commands_go_first() -> None:
    """Expiries of a turn are before its requests: a lease that is due is over for who asks now (L3)."""
    batcher = Batcher()
    add(batcher, origin(), (10, 1, "r", 9))
    batcher.command((32, 0, "r", 9, 3))

    assert [g.origin is None for g in batcher.take().groups] == [True, False]


def test_a_batch_ends_with_the_group_that_reaches_its_size() -> None:
    """What does not fit waits for the next entry, in order."""
    batcher = Batcher()
    for number in range(5):
        add(batcher, origin(number), (10, 1, "r" * (BATCH_SIZE_MAX // 3), 9))
    taken = []
    while batcher:
        taken.append([g.origin.conn_id for g in batcher.take().groups if g.origin])

    assert taken == [[0, 1, 2, 3][:3], [3, 4]]


def test_a_batch_is_bounded_in_commands() -> None:
    """Own commands and requests together: apply must not stall a turn (decision 17)."""
    batcher = Batcher()
    for number in range(BATCH_COMMANDS_MAX + 5):
        batcher.command((35, 0, number))
    add(batcher, origin(), (10, 1, "r", 9))
    sizes = []
    while batcher:
        sizes.append([len(g.requests) - 2 for g in batcher.take().groups])

    assert sizes == [[BATCH_COMMANDS_MAX], [5, 1]]


def test_each_connection_has_its_share_of_the_next_batch() -> None:
    """Who asks for one lock is in it, whatever a neighbour has sent before."""
    batcher, flood = Batcher(), origin(1)
    frame = [(10, number, "r", 9) for number in range(1, 513)]
    for _ in range(20):
        add(batcher, flood, *frame)
    add(batcher, origin(2), (10, 1, "q", 9))
    batches = []
    while batcher:
        batches.append([g.origin.conn_id for g in batcher.take().groups if g.origin])

    assert batches == [[1, 2, 1, 1, 1, 1, 1, 1, 1], [1] * 8, [1] * 4]


def test_an_empty_batcher_is_false() -> None:
    """A turn without requests appends nothing."""
    batcher = Batcher()
    before = bool(batcher)
    batcher.command((35, 0, 1))

    assert (before, bool(batcher)) == (False, True)


def test_drain_gives_back_everything() -> None:
    """When leadership is lost each request and each own command gets its end (R4)."""
    batcher, of = Batcher(), origin()
    batcher.command((37, 0, "r", 9), "hook")
    add(batcher, of, (10, 1, "r", 9))

    groups = batcher.drain()

    assert [(g.origin, g.requests[2:], g.hooks) for g in groups] == [
        (of, ((10, 1, "r", 9),), ()),
        (None, ((37, 0, "r", 9),), ("hook",)),
    ]
    assert (bool(batcher), batcher.drain()) == (False, [])


def test_an_envelope_of_the_leaders_own_has_no_principal() -> None:
    """Its commands are nobody's: they act by token and rev alone (L2)."""
    batcher = Batcher()
    batcher.command((35, 0, 1))

    assert (unpack(batcher.take().data), module._OWN_ENVELOPE) == (
        (("", "", (35, 0, 1)),),
        b"\xa0\xa0",
    )
