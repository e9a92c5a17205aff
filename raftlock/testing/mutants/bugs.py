"""All planted bugs in one list, each with a name of its own."""

from raftlock.testing.mutants import (
    client_bugs,
    disk_bugs,
    lease_bugs,
    member_bugs,
    raft_bugs,
    table_bugs,
    version_bugs,
)
from raftlock.testing.mutants.planting import Mutant

BUGS: dict[str, Mutant] = {
    mutant.name: mutant
    for module in (
        lease_bugs,
        table_bugs,
        client_bugs,
        raft_bugs,
        member_bugs,
        disk_bugs,
        version_bugs,
    )
    for mutant in module.BUGS
}


def share(count: int) -> list[str]:
    """Return `count` names spread evenly over the list, or all if there are fewer."""
    names = list(BUGS)
    count = min(count, len(names))
    return [names[position * len(names) // count] for position in range(count)]
