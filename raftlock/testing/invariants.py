"""What must hold in every simulated run, each with its name and what it states, and the error that one was broken.

It owns the names. The checks stand in raft_checks, table_checks, lease_checks and history; a failure names one of these.
"""

SAFETY: dict[str, str] = {
    "election safety": "a term has at most one leader (Raft 5.2)",
    "log matching": "entries of the same index and term are the same, and so is all before them (Raft 5.3)",
    "leader completeness": "a leader's log holds every entry that was committed before it was elected (Raft 5.4)",
    "state machine safety": "no two nodes commit different entries at one index (Raft 5.4.3)",
    "own term committed": "a leader commits by counting only entries of its own term (Raft 5.4.2)",
    "one change at a time": "no membership is appended before the one before it is committed (thesis 4.1, decision 18)",
    "a change of members is committed when it is answered": "OK says that nothing undoes it any more (R4)",
    "commit never back": "the commit index of a running node only grows",
    "votes durable before sent": "a vote, and a candidate's own term, are in both copies on the disk before it leaves",
    "synced before acknowledged": "when a write of the log is reported durable, nothing of log or vote is unsynced",
    "durable again": "what a start has read is on the disk before the node takes part (decision 12)",
    "durable on a majority": "what a leader commits is on the disks of a majority at that moment (decision 3)",
    "raised by all": "a version of the state machine is proposed only when every member's build knows it (decision 7)",
    "same digest": "nodes that applied the same index hold the same state (decision 6)",
    "snapshot is the state": "a snapshot is exactly the state at the index that it names (decision 14)",
    "recovery": "a node whose disk kept what it promised starts again (decision 12)",
    "rot is detected": "a node whose data was changed at rest below a seal does not start with another state",
    "incarnation refused": "no member takes a node whose data directory was replaced (decision 13)",
    "one holder": "no two clients believe in the same lock (guarantee 2)",
    "one grant": "at any index a resource has at most one grant or offer (guarantee 2)",
    "held when told": "a client is told that it holds a lock only while it may count on it (guarantee 10)",
    "tokens grow": "each grant has a larger token than every grant before it (guarantee 2)",
    "first in first out": "waiters of a resource are served in the order of the log (guarantee 5)",
    "never early": "no end of a lease takes effect before its holder's own deadline on its own clock (guarantee 3)",
    "deadline within the leader's": "no client counts on a lease for longer than the leader in office waits (guarantee 10)",
    "promises kept": "what a leader answered OK to a renewal or keep-alive of, its Expires do not end before (L3, L4)",
    "bounded late": "a lease that is not renewed ends within ttl + 250 ms of a healthy leader (guarantee 4)",
    "no orphans": "each lease and session of a serving leader is armed, or its end is on its way (guarantee 7)",
    "same key same grant": "one request key is granted at most once (guarantee 6)",
    "honest outcome": "what a client was told to have failed never takes effect afterwards (R4, guarantee 9)",
    "honest refusal": "an attempt that was called not taken is in no log, before or after (R4, R7)",
    "old keys are over": "an acquire whose n is below its slot's last one has no effect (R2)",
    "compare and set": "a change of ttl takes effect only on the rev that it names (semantics of change_ttl)",
    "audit verifies": "each node's audit is one unbroken chain, but for what a snapshot of the leader skipped (decision 15)",
    "same audit": "finished audit segments are the same bytes on every node (decision 15)",
    "linearizable reads": "get and check show a state between their request and their answer (guarantee 1)",
    "history": "what the clients saw fits one order of grants and ends (guarantee 1)",
    "bounded queues": "every queue, window and budget stays within its limit (decision 16)",
    "budgets return": "requests that were answered leave nothing counted as under way (decision 16)",
}
"""Exit code 129."""

LIVENESS: dict[str, str] = {
    "leader within bounded time": "after the faults stop, a leader serves within bounded time",
    "no spinning": "a node does not take turn after turn at once without doing anything (decision 17)",
    "audit goes on": "what was applied over more than one segment's span of wall time finishes audit segments",
    "all answered": "after the faults stop, every request of every client is answered",
    "all drained": "when nobody wants anything any more, no lock, waiter or session is left (guarantee 7)",
}
"""Exit code 128."""

INVARIANTS = {**SAFETY, **LIVENESS}


class Violation(AssertionError):
    """A promise was broken. The text says by whom, and the invariant says which."""

    def __init__(self, invariant: str, text: str) -> None:
        assert invariant in INVARIANTS, invariant
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant

    @property
    def kind(self) -> str:
        """Return "safety" or "liveness"."""
        return "liveness" if self.invariant in LIVENESS else "safety"
