"""Bugs of the client: deadlines, counts, offers, cancels, the looks after a session (guarantee 10; L8 to L11, R3, R4, R9)."""

from raftlock.testing.mutants.planting import Edit, Mutant

_SESSION = "raftlock.client.session:ClientSession"
_SESSIONS = "raftlock.client.sessions:Sessions"
_LEASES = "raftlock.client.leases:Leases"
_ACQUIRE = "raftlock.client.acquiring:Acquire"

BUGS: tuple[Mutant, ...] = (
    Mutant(
        name="a client that counts from the answer",
        breaks="the answer was under way while the lease ran (guarantee 10)",
        edits=(
            Edit(
                f"{_LEASES}._renewed",
                "deadline = sent_us + handle.ttl_us",
                "deadline = self._asking.now_us + handle.ttl_us",
            ),
        ),
        profiles=("network", "clock"),
    ),
    Mutant(
        name="a client that counts from its retry",
        breaks="a repeated acquire gets the recorded grant, which re-arms nothing (guarantee 10)",
        edits=(
            Edit(
                f"{_ACQUIRE}._granted",
                "deadline_us = ask.first_us + ttl_us",
                "deadline_us = ask.sent_us + ttl_us",
            ),
        ),
        directed="unit/client/test_client_deadlines.py::test_a_retried_acquire_counts_from_its_first_attempt",
    ),
    Mutant(
        name="a session counted from a retry",
        breaks="open_session answered again re-arms nothing (guarantee 10)",
        edits=(
            Edit(
                f"{_SESSIONS}.start",
                "ask.first_us + ttl_us - margin_us(ttl_us)",
                "sent_us + ttl_us - margin_us(ttl_us)",
            ),
        ),
        directed="unit/client/test_client_deadlines.py::test_a_session_counts_from_the_first_attempt_to_open_it",
    ),
    Mutant(
        name="a client without a margin",
        breaks="clocks differ in rate by up to 1 % (guarantee 10)",
        edits=(Edit("raftlock.client.handles:margin_us", "ttl_us // 100 + 5_000", "0"),),
        profiles=("clock",),
    ),
    Mutant(
        name="the longer ttl counted until the answer",
        breaks="a change to a shorter ttl counts from its sending on (L8)",
        edits=(Edit(f"{_LEASES}.change_ttl", "if ttl_us < handle.ttl_us:", "if ttl_us < 0:"),),
        profiles=("default", "network", "everything"),
    ),
    Mutant(
        name="an offer entered without a renewal",
        breaks="nobody holds an offer until its renewal is answered (L10)",
        edits=(
            Edit(
                f"{_ACQUIRE}._take_up",
                "    self._state = _State.TAKING_UP",
                "    self._state = _State.TAKING_UP\n"
                "    self._make_handle(token, 0, now_us + self.ttl_ms * 1_000, now_us)\n"
                "    return",
            ),
        ),
    ),
    Mutant(
        name="an answer older than what is known makes a handle",
        breaks="the lock was cut out of its session while the answer was under way (L9)",
        edits=(
            Edit(
                f"{_ACQUIRE}._answered",
                "if in_session and answer[3] < session.hi:",
                "if in_session and answer[3] < 0:",
            ),
            Edit(f"{_ACQUIRE}._take_up", "(count or 0) < self.session.hi", "(count or 0) < 0"),
        ),
        directed="unit/client/test_client_counts.py::test_a_grant_with_a_count_below_the_largest_met_makes_no_handle",
    ),
    Mutant(
        name="seen raised by any answer",
        breaks="a missed event is never noticed (L9)",
        edits=(
            Edit(
                f"{_SESSIONS}._met",
                "session.hi = max(session.hi, count)",
                "session.hi = session.seen = max(session.hi, count)",
            ),
        ),
        directed="unit/client/test_client_counts.py::test_a_gap_is_listed_before_anything_is_extended",
    ),
    Mutant(
        name="a keep-alive that extends before it looks",
        breaks="a lock that was cut out of the session counts as longer as it is (L9)",
        edits=(
            Edit(
                f"{_SESSIONS}._keep_alive",
                "        if answer[3] != session.seen:",
                "        session.alive_us = max(session.alive_us, alive_us)\n        if answer[3] != session.seen:",
            ),
        ),
        directed="unit/client/test_client_counts.py::test_a_gap_is_listed_before_anything_is_extended",
    ),
    Mutant(
        name="ENDING taken for OK",
        breaks="the handle of a lease that runs out is extended (L9)",
        edits=(
            Edit(
                f"{_LEASES}._renewed",
                "if status == Status.OK:",
                "if status in (Status.OK, Status.ENDING):",
            ),
        ),
    ),
    Mutant(
        name="a deadline that passes unnoticed",
        breaks="a client believes in a lock past its deadline (guarantee 10)",
        edits=(
            Edit(
                f"{_LEASES}.deadline_us",
                "return handle.own_deadline_us",
                "return handle.own_deadline_us + 100_000",
            ),
        ),
        profiles=("default", "clock"),
    ),
    Mutant(
        name="an answer of an ended session makes a handle",
        breaks="the session's deadline has passed, and the lock is nobody's (L9)",
        edits=(
            Edit(
                f"{_ACQUIRE}._make_handle",
                "not client.session_is(session) or client.now_us >= session.alive_us",
                "session is None",
            ),
        ),
        directed="sim/test_directed.py::test_an_answer_after_the_sessions_deadline_makes_no_handle",
    ),
    Mutant(
        name="an answer believed after its cancel",
        breaks="once a cancel was sent only its answer counts (R3)",
        edits=(
            Edit(
                f"{_ACQUIRE}._start",
                "self.client.asking.finish(self._ask)",
                "pass",
            ),
        ),
        profiles=("default", "network", "everything"),
    ),
    Mutant(
        name="a limit without a cancel",
        breaks="an acquire that may yet be granted is reported as over (R4)",
        edits=(
            Edit(
                f"{_ACQUIRE}._at_limit",
                "self._cancel(AcquireResult(status=Status.TIMEOUT), self.client.now_us)",
                "self._finish(AcquireResult(status=Status.TIMEOUT))",
            ),
        ),
    ),
    Mutant(
        name="a refusal at the door to a retry reported as final",
        breaks="an earlier attempt is still open, and may take effect (R4)",
        edits=(Edit(f"{_ACQUIRE}._refused", "if answer[2] or ask.attempts == 1:", "if True:"),),
        directed="unit/client/test_client_counts.py::test_a_refusal_of_a_second_attempt_is_cancelled_before_it_is_reported",
    ),
    Mutant(
        name="OVERLOADED reported while another attempt is open",
        breaks="only this attempt was not taken (R4)",
        edits=(
            Edit(
                f"{_ACQUIRE}._answered",
                "    if status in _RETRY:",
                "    if status is Status.OVERLOADED:\n"
                "        self._finish(AcquireResult(status=status))\n"
                "        return True\n"
                "    if status in _RETRY:",
            ),
        ),
        directed="sim/test_directed.py::test_what_is_not_final_is_not_reported",
    ),
    Mutant(
        name="UNKNOWN reported as not acquired",
        breaks="what was appended may be committed (R4)",
        edits=(
            Edit(
                f"{_ACQUIRE}._answered",
                "    if status in _RETRY:",
                "    if status is Status.UNKNOWN:\n"
                "        self._finish(AcquireResult(status=status))\n"
                "        return True\n"
                "    if status in _RETRY:",
            ),
        ),
        directed="sim/test_directed.py::test_what_is_not_final_is_not_reported",
    ),
    Mutant(
        name="SESSION_EXPIRED reported without looking",
        breaks="a grant with a lease of its own outlives its session (R9)",
        edits=(
            Edit(
                f"{_ACQUIRE}._look",
                "    self._state = _State.LOOKING",
                "    self._finish(self._report or AcquireResult(status=Status.SESSION_EXPIRED))\n"
                "    return\n"
                "    self._state = _State.LOOKING",
            ),
        ),
        directed="unit/client/test_client_counts.py::test_an_acquire_whose_session_expired_looks_for_its_grant",
    ),
    Mutant(
        name="another key's grant released by the look",
        breaks="only a grant under this very key is the client's own (R9)",
        edits=(Edit(f"{_ACQUIRE}._look", "tuple(info[5:8]) == key and ", ""),),
        directed="sim/test_directed.py::test_a_look_releases_no_grant_of_another_key",
    ),
    Mutant(
        name="a new acquire in a slot that is still open",
        breaks="a slot carries one acquire at a time: the one before it is forgotten (R1)",
        edits=(
            Edit(
                "raftlock.client.slots:Slots.take",
                "    if self._free:",
                "    if self._last_n:\n        slot = 0\n    elif self._free:",
            ),
        ),
    ),
)
