"""Grants that have been held for a while are packed, and nobody can tell."""

import random
from typing import Any

import pytest

from raftlock.locks import LockTable
from raftlock.locks.packing import YOUNG_MAX, Young, grant_of, packed
from raftlock.locks.records import Grant
from raftlock_wire.codec import Encoder
from raftlock_wire.messages import GrantState
from tests.model.logs import random_log
from tests.unit.locks.kit import Log


def grant(**changes: Any) -> Grant:
    """Return a grant with a metadata, so that each kind of field is in it."""
    made = Grant(
        resource="r",
        token=1 << 50,
        rev=7,
        state=GrantState.OFFERED,
        owner="ann",
        session=3,
        slot=4_095,
        n=1 << 40,
        ttl_ms=100,
        wait_ms=1,
        metadata={"why": "ünknown"},
        principal="p",
        address="10.0.0.1:5000",
        granted_wall_us=1 << 51,
        stamp_us=9,
        offer=True,
        cut=False,
    )
    return made._replace(**changes)


@pytest.mark.parametrize("state", GrantState)
def test_what_was_packed_comes_back_as_it_was(state: GrantState) -> None:
    """Each field, and the state as the enum that code compares with `is`."""
    before = grant(state=state)

    after = grant_of("r", packed(before, Encoder().pack))

    assert (after, type(after.state)) == (before, GrantState)


@pytest.mark.parametrize("bad", [tuple(grant())[:-1], grant(state=9), (*grant(), 1)])
def test_what_is_no_grant_is_not_packed(bad: Any) -> None:
    """A snapshot that holds something else is refused when it is loaded, not when the lock is looked at."""
    with pytest.raises(ValueError, match="not a grant"):
        packed(bad, Encoder().pack)


@pytest.mark.parametrize("seed", range(6))
def test_packed_or_not_answers_and_state_are_the_same(seed: int) -> None:
    """Of two tables that apply one log, one packs every grant after each entry: nothing that they say differs."""
    log = random_log(seed, 150)
    plain, packing = LockTable(), LockTable()
    packing.young = Young(0)
    rng = random.Random(seed)
    for entry in log:
        said = [plain.apply(*entry), packing.apply(*entry)]
        for _ in range(rng.randrange(3)):
            packing.settle()
        assert said[0].answers == said[1].answers
        assert said[0].effects == said[1].effects
        assert [said[0].granted, said[0].ended] == [said[1].granted, said[1].ended]

    assert plain.digest() == packing.digest()


def test_only_what_stays_is_packed() -> None:
    """A lock that is released among the next few thousand costs nothing for it; one that stays is packed."""
    log = Log()
    session = log.open()
    kept = log.acquire(session, "kept")
    log.table.young = Young(1)
    log.table.young.add([kept_grant(log, "kept")])
    log.acquire(session, "young", slot=1)

    log.table.settle()

    stored = {name: type(log.table.bucket(name)[name]) for name in ("kept", "young")}
    assert (kept[1], stored) == (0, {"kept": bytes, "young": Grant})


def kept_grant(log: Log, name: str) -> Grant:
    """Return the record in the table."""
    found = log.table.grant(name)
    assert found is not None
    return found


def test_a_grant_that_changed_since_is_not_packed_as_it_was() -> None:
    """What is young is looked up by identity: packing an older record would undo the change."""
    log = Log()
    log.acquire(log.open(), "r")
    old = kept_grant(log, "r")
    young = Young(0)
    young.add([old])
    log.table.bucket("r")["r"] = old._replace(rev=99)

    count = young.settle(log.table.buckets, 4_095)

    assert (count, kept_grant(log, "r").rev) == (0, 99)


def test_a_copy_of_a_table_shares_no_young_grants() -> None:
    """A copy's records are others: what is young in the one must not be packed into the other."""
    log = Log()
    log.acquire(log.open(), "r")

    copied = log.table.clone()

    assert (copied.young is log.table.young, copied.digest()) == (False, log.table.digest())
    assert YOUNG_MAX > 0
