"""Asks over one connection: what it carries, and when it is silent and to be left."""

import random

from raftlock.client.asking import ATTEMPT_TIMEOUT_US, Ask, Asking
from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.unit.client.scripted import SESSION, SESSION_TTL_US, Scripted


def asking_at_zero() -> Asking:
    """Return one request under way, sent at time 0."""
    asking = Asking(random.Random(1))
    asking.got_connection()
    asking.start(Ask(build=lambda i: (12, i, "x", False), on_answer=lambda *_: True), 0)
    return asking


def test_a_connection_that_brings_nothing_is_silent() -> None:
    """An attempt that timed out, with nothing heard since it was sent, makes the connection silent."""
    asking = asking_at_zero()
    asking.tick(ATTEMPT_TIMEOUT_US - 1)
    before = asking.silent
    asking.tick(ATTEMPT_TIMEOUT_US)

    assert (before, asking.silent) == (False, True)


def test_a_connection_that_brings_other_things_is_slow_but_not_silent() -> None:
    """An overloaded node that answers others is not left: attaching elsewhere would add to its load."""
    asking = asking_at_zero()
    asking.heard(1)
    asking.tick(ATTEMPT_TIMEOUT_US)

    assert asking.silent is False


def test_silence_counts_from_the_last_word_or_the_oldest_attempt() -> None:
    """Whatever was heard ends it; while nothing is asked there is none."""
    asking = asking_at_zero()
    asking.start(Ask(build=lambda i: (12, i, "y", False), on_answer=lambda *_: True), 50)
    first = asking.silence_us(70)
    asking.heard(60)
    asking.answer((1, 0, True), 60)

    assert (first, asking.silence_us(70), asking_at_zero().silence_us(-1)) == (70, 10, 0)
    asking.answer((2, 0, True), 80)
    assert asking.silence_us(1_000_000) == 0


def test_a_probe_is_an_attempt_of_nobody() -> None:
    """Its answer counts as a word that was heard, and is nobody's answer."""
    asking = asking_at_zero()
    asking.outbox.clear()
    asking.probe()
    ((code, request_id),) = asking.outbox
    asking.answer((request_id, 0, True, {}), 5)

    assert (code, len(asking), asking.silence_us(9)) == (Op.NODE_STATUS, 1, 9)


def test_the_next_connection_begins_with_a_clean_record() -> None:
    """Silence belongs to the connection that was lost."""
    asking = asking_at_zero()
    asking.tick(ATTEMPT_TIMEOUT_US)
    asking.lost_connection(ATTEMPT_TIMEOUT_US)

    assert asking.silent is False


def test_what_names_a_session_goes_out_as_soon_as_the_connection_carries_it() -> None:
    """Over a new connection nothing is asked in a session's name before it is attached, and then at once."""
    client = Scripted()
    client.want()
    client.open()
    client.take(Op.ACQUIRE)
    client.disconnect()
    client.connect()
    before = client.take(Op.ATTACH), client.ops()

    client.answer(before[0], Status.OK, SESSION, SESSION_TTL_US // 1_000, 0)
    client.wait(0)

    assert (before[1], client.ops()) == ([], [Op.KEEP_ALIVE, Op.ACQUIRE])
