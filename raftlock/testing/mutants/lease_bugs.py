"""Bugs of the leader's leases, reads and clock (rules L1 to L10, R4, R5)."""

from raftlock.testing.mutants.planting import Edit, Mutant

_DRIVER = "raftlock.server.driver:Driver"
_LEADING = "raftlock.server.leading:Leading"
_LEASES = "raftlock.server.leases:Leases"
_READS = "raftlock.server.reads:Reads"

BUGS: tuple[Mutant, ...] = (
    Mutant(
        name="a leader that serves from its election on",
        breaks="it answers reads and renewals before it has applied an entry of its own term (L5)",
        edits=(
            Edit(
                f"{_DRIVER}._elected",
                "    if not self.table.initialised:",
                "    self.leading.serving = self.table.initialised\n"
                "    self.leading.leases.start_arming(self.table)\n"
                "    if not self.table.initialised:",
            ),
        ),
        directed="unit/server/test_driver_failovers.py::test_a_new_leader_answers_nothing_before_it_has_applied_an_entry_of_its_own",
    ),
    Mutant(
        name="a renewal answered by a round already in flight",
        breaks="the majority answered before the renewal came, and may have voted since (L4)",
        edits=(
            Edit(
                f"{_READS}.add",
                "self._fresh.append(waiting)",
                "(self._asked[-1][1] if self._asked else self._fresh).append(waiting)",
            ),
        ),
        directed="unit/server/test_small_parts.py::test_what_comes_after_a_round_began_waits_for_the_next",
    ),
    Mutant(
        name="a renewal while an Expire of its lease is in flight",
        breaks="it is answered OK, and the Expire that is on its way ends the lease all the same (L3)",
        edits=(
            Edit(
                f"{_LEADING}._renew", "if self.leases.in_flight(item.token):", "if item.token < 0:"
            ),
        ),
        directed="unit/server/test_driver_leases.py::test_a_renewal_waits_for_the_expire_in_flight",
    ),
    Mutant(
        name="a keep-alive while an Expire of its session is in flight",
        breaks="it is answered OK, and the session ends (L3)",
        edits=(
            Edit(
                f"{_LEADING}._keep_alive", "if self.leases.in_flight(-session):", "if not session:"
            ),
        ),
        directed="unit/server/test_driver_leases.py::test_a_keep_alive_waits_for_the_expire_of_its_session",
    ),
    Mutant(
        name="leases counted from the highest applied stamp",
        breaks="a new leader's log may hold later stamps that are not applied yet (L7)",
        edits=(
            Edit(
                f"{_DRIVER}._elected",
                "self.leading.begin(stamp_us)",
                "self.leading.begin(self.table.stamp_us)",
            ),
        ),
        directed="sim/test_directed.py::test_a_new_leader_counts_leases_from_the_highest_stamp_of_its_log",
    ),
    Mutant(
        name="leases counted from the campaign",
        breaks="and not from the majority: renewals were confirmed meanwhile (L5)",
        edits=(
            Edit(
                f"{_DRIVER}._elected",
                "self.leading.begin(stamp_us)",
                "self.leading.begin(stamp_us - 100_000)",
            ),
        ),
        profiles=("default", "clock", "everything"),
    ),
    Mutant(
        name="a lease clock that is the node's own",
        breaks="it ran on while the cluster's stood still: leases of the logged class end early (L7)",
        edits=(
            Edit(
                "raftlock.server.lease_clock:LeaseClock.continue_from",
                "self._stamp_us = stamp_us",
                "self._stamp_us = max(self._stamp_us, stamp_us)",
            ),
        ),
        directed="unit/server/test_lease_clock.py::test_a_new_leader_goes_on_from_the_log",
    ),
    Mutant(
        name="a lease clock that starts again at zero",
        breaks="deadlines of the logged class lie in the future for ever (L7); stamps may not go back, and a check says so",
        edits=(
            Edit(
                "raftlock.server.lease_clock:LeaseClock.continue_from",
                "self._stamp_us = stamp_us",
                "self._stamp_us = 0",
            ),
        ),
    ),
    Mutant(
        name="deadlines kept when elected again",
        breaks="they are of an earlier term, and leases were renewed by others since (L1)",
        edits=(
            Edit(f"{_LEASES}.end", "self.locks.clear()", "pass"),
            Edit(f"{_LEASES}.end", "self.sessions.clear()", "pass"),
        ),
        directed="unit/server/test_leases.py::test_nothing_of_an_earlier_leadership_is_left",
    ),
    Mutant(
        name="a lease that counts from its grant after a failover",
        breaks="renewals that no log knows of are forgotten (L5)",
        edits=(
            Edit(
                f"{_LEASES}._arm_grant",
                "        from_us = now_us",
                "        from_us = grant.stamp_us",
            ),
        ),
    ),
    Mutant(
        name="a renewal that re-arms nothing",
        breaks="it is answered OK, and the lease ends at its first deadline (L4)",
        edits=(Edit(f"{_LEASES}.renew", "receipt_us + grant.ttl_ms * 1_000", "0"),),
    ),
    Mutant(
        name="a keep-alive that re-arms nothing",
        breaks="it is answered OK, and the session ends at its first deadline (L4)",
        edits=(Edit(f"{_LEASES}.keep_alive", "receipt_us + ttl_ms * 1_000", "0"),),
    ),
    Mutant(
        name="receipt taken from the start of a turn's wait",
        breaks="the clock is read before the input and not after it: a lease is armed too short (L4)",
        edits=(
            Edit(
                f"{_DRIVER}.turn",
                "    self.clock.read(now_us)",
                "    early_us = self.clock.stamp_us\n    self.clock.read(now_us)",
            ),
            Edit(
                f"{_DRIVER}.turn",
                "self.front.turn(self.table, stamp_us, now_us)",
                "self.front.turn(self.table, early_us, now_us)",
            ),
        ),
        profiles=("default", "clock"),
    ),
    Mutant(
        name="a logged lease renewed in memory only",
        breaks="after a failover it ends by the stamp of its last logged renewal (L6)",
        edits=(
            Edit(
                f"{_LEADING}._renew",
                "kind in (RenewalClass.OFFER, RenewalClass.LOGGED)",
                "kind is RenewalClass.OFFER",
            ),
            Edit(
                f"{_LEADING}._renew",
                "if kind is RenewalClass.OWN:",
                "if kind in (RenewalClass.OWN, RenewalClass.LOGGED):",
            ),
            Edit(
                f"{_LEADING}._renewed",
                "kind in (RenewalClass.OFFER, RenewalClass.LOGGED)",
                "kind is RenewalClass.OFFER",
            ),
        ),
        directed="unit/server/test_driver_failovers.py::test_a_renewal_of_the_logged_class_goes_through_the_log",
    ),
    Mutant(
        name="a first renewal of an offer that is not logged",
        breaks="it is answered OK, and the offer passes on to the next (L10)",
        edits=(
            Edit(
                f"{_LEADING}._renew",
                "kind in (RenewalClass.OFFER, RenewalClass.LOGGED)",
                "kind is RenewalClass.LOGGED",
            ),
            Edit(
                f"{_LEADING}._renewed",
                "kind in (RenewalClass.OFFER, RenewalClass.LOGGED)",
                "kind is RenewalClass.LOGGED",
            ),
        ),
    ),
    Mutant(
        name="an unlogged renewal that overtakes a change of ttl",
        breaks="it re-arms by the ttl that was, and is answered after the change (L3)",
        edits=(
            Edit(f"{_LEADING}.admit", "self.leases.command_begins(request[3])", "pass"),
            Edit(f"{_LEADING}._renewed", " and grant.rev != item.rev", " and grant.rev < 0"),
        ),
        directed="unit/server/test_driver_leases.py::test_a_renewal_waits_for_the_change_of_ttl_in_flight_and_keeps_its_receipt",
    ),
    Mutant(
        name="a refusal of a renewal answered without a round",
        breaks="a deposed leader says NOT_HELD of a grant that it has not heard of (L4)",
        edits=(
            Edit(
                f"{_LEADING}._renew",
                "    rev = 0",
                "    if kind is RenewalClass.NOT_HELD:\n"
                "        self._item_done(item, table.renewal_answer(item.resource, item.token))\n"
                "        return\n"
                "    rev = 0",
            ),
        ),
        directed="sim/test_directed.py::test_a_leader_that_hears_nobody_refuses_nobody",
    ),
    Mutant(
        name="a session refused by a leader of an older term",
        breaks="it has not heard of a session that its successor has opened (L4)",
        edits=(
            Edit(
                f"{_LEADING}._keep_alive",
                "    if view is not None and not view.ended:",
                "    if view is None:\n"
                "        self._send(read.origin, [self._answer(table, read, 0)])\n"
                "        return\n"
                "    if view is not None and not view.ended:",
            ),
        ),
        directed="sim/test_directed.py::test_a_leader_that_hears_nobody_refuses_nobody",
    ),
    Mutant(
        name="leases that end 50 ms early",
        breaks="the client's margin is eaten up (guarantee 3)",
        edits=(
            Edit(
                f"{_DRIVER}.turn",
                "self.leading.propose_due(self.table, stamp_us, self.front.handled_until_us(stamp_us))",
                "self.leading.propose_due(self.table, stamp_us + 50_000, stamp_us + 50_000)",
            ),
        ),
        profiles=("clock", "everything"),
    ),
    Mutant(
        name="an Expire that overtakes a renewal which waits for its turn",
        breaks="a lease that was renewed in time ends, because its client's frames waited behind others (L3)",
        edits=(
            Edit(
                f"{_LEADING}.propose_due",
                "due = self.leases.due(table, min(now_us, handled_until_us))",
                "due = self.leases.due(table, now_us)",
            ),
        ),
        directed="unit/server/test_driver_leases.py"
        "::test_a_renewal_that_waits_for_its_turn_comes_before_what_came_due_after_it",
    ),
    Mutant(
        name="nothing is ever expired",
        breaks="what a dead client held stays for ever (guarantee 4)",
        edits=(
            Edit(
                f"{_LEADING}.propose_due",
                "due = self.leases.due(table, min(now_us, handled_until_us))",
                "due = self.leases.due(table, 0)",
            ),
        ),
    ),
    Mutant(
        name="an Expire without effect that is not proposed again",
        breaks="the lease has no deadline any more, and never ends (L3)",
        edits=(
            Edit(
                f"{_LEASES}.expire_applied",
                "if item.key > 0:",
                "if item.key:\n        pass\n    elif item.key > 0:",
            ),
        ),
        directed="unit/server/test_leases.py::test_an_expire_without_effect_leaves_the_lease_due",
    ),
    Mutant(
        name="a new leader that arms no sessions",
        breaks="what dead clients hold in their sessions stays for ever (L5, guarantee 7)",
        edits=(
            Edit(
                f"{_LEASES}._arm",
                "if session not in self.sessions.deadlines and -session not in self._expiring:",
                "if session < 0:",
            ),
        ),
    ),
    Mutant(
        name="TIMEOUT said before it is applied",
        breaks="the acquire may be granted meanwhile (R5)",
        edits=(
            Edit(
                f"{_LEADING}.propose_due",
                "    for command in waits:",
                "    for command in waits:\n"
                "        view = table.session(command[2])\n"
                "        if view is not None:\n"
                "            self._push((0, int(Event.TIMEOUT), command[2], view.count + 1, *command[3:5]))",
            ),
        ),
    ),
    Mutant(
        name="what was appended called not taken",
        breaks="a leader that steps down answers NO_QUORUM for entries that its successor commits (R4)",
        edits=(
            Edit(f"{_LEADING}._give_up", "unknown(r[1]) if appended else no_quorum", "no_quorum"),
        ),
        directed="unit/server/test_driver_clients.py::test_what_was_appended_is_unknown_and_the_rest_was_not_taken",
    ),
    Mutant(
        name="a lost leader turned into OVERLOADED",
        breaks="a follower says of what it has sent on that it was not taken (R7)",
        edits=(
            Edit(
                "raftlock.server.clients:Clients.leader_lost",
                "[unknown(request_id) for request_id in origin.outstanding]",
                "[(request_id, int(Status.OVERLOADED), False, 50, 'queue') for request_id in origin.outstanding]",
            ),
        ),
        profiles=("network", "everything"),
    ),
)
