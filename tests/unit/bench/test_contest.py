"""The contest of many clients for one lock, against waiters of this process."""

import asyncio

from bench.contest import after_release, contest


class Fair:
    """A waiter on a lock of the loop, which is handed over in order."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock

    async def lock(self) -> None:
        """See Waiter."""
        await self._lock.acquire()

    async def unlock(self) -> None:
        """See Waiter."""
        self._lock.release()
        await asyncio.sleep(0)

    async def close(self) -> None:
        """See Waiter."""


class Broken(Fair):
    """A waiter that cannot release."""

    async def unlock(self) -> None:
        """See Waiter."""
        self._lock.release()
        raise ConnectionResetError("gone")


async def test_contest_counts_grants_and_their_shares() -> None:
    """A fair lock gives all the same, to one; nothing fails."""
    lock = asyncio.Lock()

    found = await contest([Fair(lock) for _ in range(4)], 0.05)

    shares = found["grants_max"] - found["grants_min"]
    assert (shares <= 1, found["jain"] > 0.99, found["errors"]) == (True, True, [])
    assert found["handovers_per_second"] > 0


async def test_contest_says_what_went_wrong_and_ends() -> None:
    """A client that fails ends the contest for all; what it met is in the result."""
    found = await contest([Broken(asyncio.Lock()), Fair(asyncio.Lock())], 300.0)

    assert found["errors"] == ["ConnectionResetError('gone')"]


async def test_after_release_times_the_one_that_waits() -> None:
    """Each round is one sample, from the call of the release."""
    lock = asyncio.Lock()

    found = await after_release(Fair(lock), Fair(lock), rounds=3)

    assert (found["count"], found["max_ms"] < 1_000) == (3, True)
