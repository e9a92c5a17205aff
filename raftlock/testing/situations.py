"""The rare situations that a long run must have met: their names, and how often each happened.

It owns the names. Probes count them from outside; nothing in production code knows of them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

SITUATIONS: tuple[str, ...] = (
    # consensus
    "a leader is deposed with uncommitted entries",
    "a leader steps down because it hears no majority",
    "a leader steps down for a newer term",
    "entries of a deposed leader are cut off",
    "entries are cut off while the write that placed them is under way",
    "a leader is elected with entries that are not committed yet",
    "a term passes without a leader",
    "a pre-vote is refused by a voter that hears a leader",
    "a vote is refused to a log that is behind",
    "a message of an older leader arrives",
    "entries arrive that were there already",
    "a message from before a restart arrives",
    "leadership is handed over",
    "a hand-over is given up",
    "a node that crashed as leader leads again",
    "all nodes are down at once",
    "a follower installs a snapshot",
    "a follower's diverging log is dropped for a snapshot",
    "a snapshot's transfer outlives its leader",
    "a snapshot file goes while a peer reads it",
    "a snapshot is saved while commands change the table",
    "a snapshot begins while a membership change is under way",
    "a membership change is undone",
    "a learner becomes a voter",
    "a leader removes itself",
    # a change of version
    "the state machine's version is raised",
    "the version is raised while a member is down",
    "a node goes back to the older build before the switch",
    "a node of the older build ends after the switch",
    "a command of the next version is used",
    # disk and clocks
    "a start finds less of the log than was written",
    "a start finds two different copies of the vote",
    "a start is cut off by another crash",
    "a node ends because a sync failed",
    "a node is without room for the next segment",
    "a leader hands over because of its disk",
    "a node refuses to start on changed data",
    "a node with an emptied directory is refused",
    "a leader stalls for longer than the lease clock counts",
    "a leader's wall clock is behind its log",
    # leases
    "an Expire finds another rev",
    "an Expire finds another token or none",
    "an Expire of a session finds it over",
    "a renewal waits for a command on its lease",
    "a keep-alive waits for an Expire of its session",
    "a renewal is made again because its lease changed",
    "a new leader renews a lease that it has not armed yet",
    "a lease of the logged class is renewed",
    "a lease of the logged class ends after a change of leader",
    "an offer is taken up",
    "an offer is not taken up and passes on",
    "an offer outlives its leader",
    "a lock is cut out of its session",
    "an offer is set to end",
    "a renewal is answered ENDING",
    "a lock is taken away at once",
    "a change of ttl is refused for its rev",
    "a change of ttl moves a lease into the logged class",
    "a session ends with waiters",
    "an acquire meets a lock of an ended session",
    "a resource has more dead waiters than one command passes over",
    # requests
    "a cancel overtakes its acquire",
    "a cancel releases a grant",
    "a cancel removes a waiter",
    "a repeated acquire gets its recorded OK",
    "a repeated acquire gets its recorded OFFERED",
    "a repeated acquire finds its grant over",
    "a wait times out",
    "a WaitTimeout finds the wait over",
    "a session is opened twice with one nonce",
    "what was appended is answered UNKNOWN",
    "what was not appended is answered NO_QUORUM",
    "a follower loses the leader before an answer",
    "a new leader holds requests until it serves",
    "OVERLOADED for the queue",
    "OVERLOADED for the disk",
    "a quota is exceeded",
    # clients
    "a lost grant of an ended session is found and released",
    "a client counts its session as over before the server does",
    "a client misses an event and lists its session",
    "a client loses a lock at its own deadline",
    "a client learns that its lock was taken away",
    "a handle is frozen until its deadline",
    "a client sleeps past its lease",
)
"""Each must happen in a run of 1,000 seeds of profile everything."""

_KNOWN = frozenset(SITUATIONS)


class Situations:
    """Counts of one run."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def saw(self, name: str) -> None:
        """Count one."""
        assert name in _KNOWN, name
        self.counts[name] += 1


def table(counts: Mapping[str, int], seeds: Mapping[str, int]) -> list[str]:
    """Return the lines of a table: how often each happened, and in how many seeds."""
    width = max(map(len, SITUATIONS))
    return [
        f"{name:<{width}} {counts.get(name, 0):>8} {seeds.get(name, 0):>6}" for name in SITUATIONS
    ]


def missing(counts: Mapping[str, int]) -> list[str]:
    """Return the situations that never happened."""
    return [name for name in SITUATIONS if not counts.get(name)]


def total(runs: Iterable[Mapping[str, int]]) -> tuple[Counter[str], Counter[str]]:
    """Return the counts of many runs, and in how many of them each happened."""
    counts: Counter[str] = Counter()
    seeds: Counter[str] = Counter()
    for run in runs:
        counts.update(run)
        seeds.update(name for name, count in run.items() if count)
    return counts, seeds
