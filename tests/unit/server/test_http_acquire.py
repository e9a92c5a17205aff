"""An acquire over HTTP against a scripted core: the smallest client of the contract, its retries and its leavings."""

import asyncio
from typing import Any

import pytest

from raftlock.server.http.acquiring import Granted
from raftlock.server.http.bodies import Order
from raftlock.server.http.gateway import Caller
from raftlock.server.http.lane import NotServed
from raftlock.server.http.problems import Problem
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status
from tests.unit.server.simulated import SESSION, TOKEN, ScriptedCore, gateway, run

CALLER = Caller(address="10.0.0.9:1", credentials=None)
GRANTED = (Status.OK, True, 0, TOKEN, 5)
QUEUED = (Status.QUEUED, False, 0, 1)
OFFERED = (0, int(Event.OFFERED), SESSION, 1, 0, 1, "r", TOKEN, 5)
TIMED_OUT = (0, int(Event.TIMEOUT), SESSION, 1, 0, 1)
NO_QUORUM = (Status.NO_QUORUM, False, "no leader is known")
UNKNOWN = (Status.UNKNOWN, False)
NOT_ATTACHED = (Status.BAD_REQUEST, False, "session", "7 is not attached on this connection")


def order(*, wait_s: int = 0, ttl_ms: int = 10_000) -> Order:
    return Order("r", "me", ttl_ms, wait_s * 1_000, None)


async def ends(task: "asyncio.Task[Any]", core: ScriptedCore) -> None:
    """Let a task and what it leaves in the background come to an end."""
    with pytest.raises((asyncio.CancelledError, Problem, NotServed)):
        await task
    while len(core.gone) < len(core.ports):
        await asyncio.sleep(0.01)


async def until_asked(core: ScriptedCore, name: str) -> None:
    while name not in core.names:
        await asyncio.sleep(0.001)


def info(*, session: int, token: int = TOKEN, state: int = 0) -> tuple[Any, ...]:
    return ("r", state, token, 5, "me", session, 0, 1, 10_000, 1, "", "", None, 0, 900)


def test_an_acquire_is_one_session_and_one_key() -> None:
    """A session of 60 s, the key (session, 0, 1), and a deadline counted from the sending, less 1 % and 5 ms."""

    async def main() -> None:
        core = ScriptedCore(acquire=[GRANTED])
        began_s = asyncio.get_running_loop().time()

        acquired = await gateway(core).acquire(order(), key=None, caller=CALLER)
        acquired.settle(heard=True)

        assert acquired.granted == Granted("r", TOKEN, began_s + 10 - 0.105, 10_000)
        assert [request[0:1] + request[2:] for request in core.asked[1:]] == [
            (Op.OPEN_SESSION, b"n" * 16, 60_000),
            (Op.ACQUIRE, SESSION, 0, 1, "r", "me", 10_000, 0, None),
        ]
        assert core.gone == core.ports

    run(main)


def test_what_was_not_taken_is_asked_again_with_the_same_key() -> None:
    """NO_QUORUM and UNKNOWN are attempts, not outcomes: the key goes out again until one is final."""

    async def main() -> None:
        core = ScriptedCore(acquire=[NO_QUORUM, UNKNOWN, GRANTED])

        acquired = await gateway(core).acquire(order(), key=None, caller=CALLER)

        assert acquired.granted.token == TOKEN
        assert core.names == ["open_session", "acquire", "acquire", "acquire"]
        assert len({request[2:5] for request in core.asked[2:]}) == 1

    run(main)


def test_nothing_is_withdrawn_that_was_never_taken() -> None:
    """When every attempt said NO_QUORUM the caller is told `not taken`, and no cancel goes out (R4)."""

    async def main() -> None:
        core = ScriptedCore(acquire=[NO_QUORUM])

        with pytest.raises(NotServed) as failed:
            await gateway(core).acquire(order(), key=None, caller=CALLER)

        assert (failed.value.unknown, failed.value.why) == (False, "no leader is known")
        assert set(core.names) == {"open_session", "acquire"}
        assert core.gone == core.ports

    run(main)


@pytest.mark.parametrize("answer", [None, UNKNOWN])
def test_a_lost_answer_is_unknown_and_is_withdrawn(answer: tuple[Any, ...] | None) -> None:
    """Without an answer the caller is told `unknown`, and the key is cancelled until that is answered (guarantee 7)."""

    async def main() -> None:
        core = ScriptedCore(
            acquire=[answer],
            cancel=[None, UNKNOWN, NO_QUORUM, (Status.CANCELLED, True, 0, 2, TOKEN)],
        )
        task = asyncio.create_task(gateway(core).acquire(order(), key=None, caller=CALLER))

        await ends(task, core)

        error = task.exception()
        assert isinstance(error, NotServed)
        assert error.unknown
        assert core.names.count("cancel") == 4
        assert core.asked[-1][2:] == (SESSION, 0, 1)

    run(main)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((Status.HELD, True, 0, "other", 9, 5_000_000), "held"),
        ((Status.TIMEOUT, True, 0), "timeout"),
        ((Status.CANCELLED, True, 0), "cancelled"),
        ((Status.NOT_HELD, True, 0, 12), "not-held"),
        ((Status.ENDING, True, 0, TOKEN), "ending"),
        ((Status.FORBIDDEN, True, "the session is another principal's"), "forbidden"),
        ((Status.QUOTA_EXCEEDED, True, "waiters", 100), "quota"),
        ((Status.BAD_REQUEST, True, "n", "used for another acquire"), "key-reused"),
        ((Status.BAD_REQUEST, True, "ttl_ms", "too long"), "bad-request"),
    ],
)
def test_each_refusal_is_a_problem_of_its_kind(answer: tuple[Any, ...], kind: str) -> None:
    """A final answer other than a grant is told as what it is; only ENDING has something to withdraw."""

    async def main() -> None:
        core = ScriptedCore(acquire=[answer])

        with pytest.raises(Problem) as refused:
            await gateway(core).acquire(order(), key=None, caller=CALLER)

        assert refused.value.kind == kind
        assert core.names[2:] == (["cancel"] if kind == "ending" else [])

    run(main)


def test_a_refusal_after_a_second_attempt_is_reported_when_cancelled() -> None:
    """A refusal at the door speaks of one attempt only: an earlier one is cancelled first (R4)."""

    async def main() -> None:
        core = ScriptedCore(
            acquire=[UNKNOWN, (Status.FORBIDDEN, False, "not you")],
            cancel=[UNKNOWN, (Status.CANCELLED, True, 0, 0, 0)],
        )

        with pytest.raises(Problem, match="forbidden"):
            await gateway(core).acquire(order(), key=None, caller=CALLER)

        assert core.names[1:] == ["acquire", "acquire", "cancel", "cancel"]

    run(main)


def test_an_offer_is_taken_up_before_it_is_reported() -> None:
    """QUEUED, then an OFFERED event: a renewal answered OK makes it held, and the deadline counts from it (L10)."""

    async def main() -> None:
        core = ScriptedCore(
            acquire=[QUEUED],
            renew=[UNKNOWN, (Status.OK, True, [(Status.OK, None, 5, 10_000, 9_900)])],
        )
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(gateway(core).acquire(order(wait_s=30), key=None, caller=CALLER))
        await until_asked(core, "acquire")
        await asyncio.sleep(3)
        core.push(core.ports[0], OFFERED)
        acquired = await task

        assert acquired.granted.token == TOKEN
        assert acquired.granted.deadline_s is not None
        # The attempt that was answered was sent 10 ms of backoff after the event.
        assert acquired.granted.deadline_s == pytest.approx(loop.time() + 10 - 0.105, abs=1e-6)
        assert core.names == ["open_session", "acquire", "renew", "renew"]

    run(main)


def test_an_offer_that_passed_on_is_no_grant() -> None:
    """An offer whose renewal says NOT_HELD is reported as not acquired, and leaves nothing to withdraw."""

    async def main() -> None:
        core = ScriptedCore(
            acquire=[(Status.OFFERED, True, 1, TOKEN, 5)],
            renew=[(Status.OK, True, [(Status.NOT_HELD, 77)])],
        )

        with pytest.raises(Problem) as refused:
            await gateway(core).acquire(order(wait_s=5), key=None, caller=CALLER)

        assert (refused.value.kind, refused.value.extra) == ("not-held", {"currentToken": 77})
        assert "cancel" not in core.names

    run(main)


def test_a_caller_who_hangs_up_leaves_nothing() -> None:
    """A waiting acquire whose caller left is cancelled in the background until that is answered."""

    async def main() -> None:
        core = ScriptedCore(
            acquire=[QUEUED], cancel=[NO_QUORUM, None, (Status.CANCELLED, True, 0, 1, 0)]
        )
        waiting = gateway(core)
        task = asyncio.create_task(waiting.acquire(order(wait_s=30), key=None, caller=CALLER))
        await until_asked(core, "acquire")
        await asyncio.sleep(1)
        task.cancel()
        await ends(task, core)

        assert core.names == ["open_session", "acquire", "cancel", "cancel", "cancel"]
        assert waiting.withdrawals == 0

    run(main)


def test_a_caller_with_a_key_may_come_again() -> None:
    """Under an Idempotency-Key nothing is cancelled for a caller who left: the same key may be succeeding elsewhere."""

    async def main() -> None:
        core = ScriptedCore(acquire=[QUEUED])
        task = asyncio.create_task(gateway(core).acquire(order(wait_s=30), key="k", caller=CALLER))
        await until_asked(core, "acquire")
        task.cancel()
        await ends(task, core)

        assert "cancel" not in core.names

    run(main)


def test_a_wait_that_passes_ends_in_an_answered_cancel() -> None:
    """When the wait is over it is withdrawn first; the caller hears `timeout` only when that is answered (R3, R5)."""

    async def main() -> None:
        core = ScriptedCore(acquire=[QUEUED], cancel=[UNKNOWN, (Status.CANCELLED, True, 0, 1, 0)])

        with pytest.raises(Problem, match="timeout"):
            await gateway(core).acquire(order(wait_s=2), key=None, caller=CALLER)

        assert core.names == ["open_session", "acquire", "cancel", "cancel"]

    run(main)


def test_a_cancel_without_an_answer_is_unknown() -> None:
    """When not even the cancel is answered in time the caller is told `unknown`, and it goes on behind his back."""

    async def main() -> None:
        core = ScriptedCore(
            acquire=[QUEUED], cancel=[None, None, None, None, (Status.CANCELLED, True, 0, 1, 0)]
        )
        task = asyncio.create_task(gateway(core).acquire(order(wait_s=1), key=None, caller=CALLER))

        await ends(task, core)

        assert isinstance(task.exception(), NotServed)
        assert core.names.count("cancel") == 5

    run(main)


def test_the_end_of_a_wait_with_a_key_is_the_logs() -> None:
    """Under a key the TIMEOUT of the log is awaited: one of two requests must not end the other's wait."""

    async def main() -> None:
        core = ScriptedCore(acquire=[QUEUED])
        task = asyncio.create_task(gateway(core).acquire(order(wait_s=1), key="k", caller=CALLER))
        await until_asked(core, "acquire")
        await asyncio.sleep(1.01)
        over_before_the_log_says_so = task.done()
        core.push(core.ports[0], TIMED_OUT)

        with pytest.raises(Problem, match="timeout"):
            await task

        assert not over_before_the_log_says_so
        assert "cancel" not in core.names

    run(main)


def test_lost_routes_are_asked_after() -> None:
    """After routes_lost an event may have been missed: the same key is asked again at once (R6)."""

    async def main() -> None:
        core = ScriptedCore(acquire=[QUEUED, (Status.OFFERED, True, 1, TOKEN, 5)])
        task = asyncio.create_task(gateway(core).acquire(order(wait_s=30), key=None, caller=CALLER))
        await until_asked(core, "acquire")
        core.push(core.ports[0], (0, int(Event.ROUTES_LOST)))
        acquired = await task

        assert acquired.granted.token == TOKEN
        assert core.names == ["open_session", "acquire", "acquire", "renew"]

    run(main)


def test_a_long_wait_keeps_its_session_alive_and_sees_what_it_missed() -> None:
    """While a caller waits his session is kept alive; a count that moved means that the key is asked again (L9)."""

    async def main() -> None:
        core = ScriptedCore(
            acquire=[QUEUED, (Status.OFFERED, True, 1, TOKEN, 5)],
            keep_alive=[(Status.OK, True, 0)] * 4 + [(Status.OK, True, 1)],
        )

        acquired = await gateway(core).acquire(order(wait_s=300), key=None, caller=CALLER)

        assert acquired.granted.token == TOKEN
        assert core.names == ["open_session", "acquire", *["keep_alive"] * 5, "acquire", "renew"]

    run(main)


@pytest.mark.parametrize(
    ("shown", "released"),
    [
        (info(session=SESSION), True),
        (info(session=SESSION, state=3), False),
        (info(session=8), False),
        (None, False),
    ],
)
@pytest.mark.parametrize("answer", [(Status.SESSION_EXPIRED, True), NOT_ATTACHED])
def test_an_expired_session_may_hide_a_grant(
    answer: tuple[Any, ...], shown: tuple[Any, ...] | None, released: bool
) -> None:
    """After SESSION_EXPIRED a grant under this very key is released; one under another key is left alone (R9)."""

    async def main() -> None:
        core = ScriptedCore(acquire=[answer], get=[(Status.OK, True, 0, shown)])

        with pytest.raises(Problem, match="cancelled"):
            await gateway(core).acquire(order(), key=None, caller=CALLER)

        assert core.names[2:] == (["get", "release"] if released else ["get"])

    run(main)


def test_with_a_key_an_expired_session_is_left_to_its_caller() -> None:
    """A grant under an Idempotency-Key may be one that the caller holds: nothing is released, the outcome is unknown."""

    async def main() -> None:
        core = ScriptedCore(acquire=[(Status.SESSION_EXPIRED, True)])

        with pytest.raises(NotServed) as failed:
            await gateway(core).acquire(order(), key="k", caller=CALLER)

        assert failed.value.unknown
        assert core.names == ["open_session", "acquire"]

    run(main)


def test_a_repeated_request_renews_what_it_is_told_of() -> None:
    """Under a key the OK may be of long ago: it is renewed, and the deadline counts from the renewal (guarantee 10)."""

    async def main() -> None:
        core = ScriptedCore(acquire=[GRANTED])

        acquired = await gateway(core).acquire(order(), key="k", caller=CALLER)

        assert core.names == ["open_session", "acquire", "renew"]
        assert acquired.granted.deadline_s is not None

    run(main)


def test_a_grant_that_came_too_late_is_renewed_before_it_counts() -> None:
    """An OK after the lease's own deadline says nothing about now: it is renewed (the client's algorithm)."""

    async def main() -> None:
        core = ScriptedCore(acquire=[None, GRANTED])

        await gateway(core).acquire(order(ttl_ms=1_000), key=None, caller=CALLER)

        assert core.names == ["open_session", "acquire", "acquire", "renew"]

    run(main)


def test_a_grant_nobody_heard_of_is_withdrawn() -> None:
    """A caller who was gone when his answer was made does not keep the lock."""

    async def main() -> None:
        core = ScriptedCore(acquire=[GRANTED])

        acquired = await gateway(core).acquire(order(), key=None, caller=CALLER)
        acquired.settle(heard=False)
        await until_asked(core, "cancel")
        await asyncio.sleep(0.01)

        assert core.gone == core.ports

    run(main)


def test_a_node_that_goes_away_leaves_the_outcome_unknown() -> None:
    """When the core ends the conversation under way, what was asked may yet take effect."""

    async def main() -> None:
        core = ScriptedCore(acquire=[None])
        task = asyncio.create_task(gateway(core).acquire(order(), key=None, caller=CALLER))
        await until_asked(core, "acquire")
        core.push(core.ports[0], (0, int(Event.GOODBYE), "stopping", "this node is being stopped"))
        await asyncio.sleep(0)
        core.ports[0].close()

        with pytest.raises(NotServed) as failed:
            await task

        assert (failed.value.unknown, failed.value.why) == (True, "this node is being stopped")
        assert core.gone == core.ports

    run(main)


def test_a_node_without_a_cluster_takes_nothing() -> None:
    """A node that lets no client in says why, and `not taken`."""

    async def main() -> None:
        core = ScriptedCore()
        core.refuse = "this node has no cluster yet"

        with pytest.raises(NotServed, match="no cluster") as failed:
            await gateway(core).acquire(order(), key=None, caller=CALLER)

        assert not failed.value.unknown

    run(main)


def test_a_keys_session_is_the_same_through_any_node_of_the_cluster() -> None:
    """The nonce follows from the key and the cluster alone, and no two of them share one."""

    async def main() -> None:
        nonces = []
        for cluster, key in (
            ("a", "k"),
            ("a", "k"),
            ("b", "k"),
            ("a", "l"),
            ("ak", ""),
            ("", "ak"),
        ):
            core = ScriptedCore(acquire=[GRANTED])
            acquired = await gateway(core, cluster_id=cluster).acquire(
                order(), key=key, caller=CALLER
            )
            acquired.settle(heard=True)
            nonces.append(core.asked[1][2])

        assert nonces[0] == nonces[1]
        assert len(set(nonces)) == 5

    run(main)
