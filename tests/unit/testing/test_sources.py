"""What a program is made of, and so when the evidence of a long run has become old."""

import sys
from subprocess import run

from raftlock.testing.sources import source_id, sources_of

SIMULATOR = "raftlock.testing.sim"


def test_all_that_a_program_loads_is_its_source() -> None:
    """Every module of ours that the simulator has loaded when it runs a seed is among those that are hashed."""
    program = (
        "import sys; from raftlock.testing.run import run_seed; import raftlock.testing.sim; run_seed(0, 'everything');"
        "print(*(n for n in sys.modules if n.partition('.')[0] in ('raftlock', 'raftlock_wire')))"
    )
    done = run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert set(done.stdout.split()) <= set(sources_of(SIMULATOR))


def test_a_program_is_not_made_of_what_it_never_imports() -> None:
    """The cores, the client's session and the audit are the simulator's; the command line and HTTP are not."""
    found = set(sources_of(SIMULATOR))

    assert {"raftlock.raft.core", "raftlock.locks.table", "raftlock_wire.codec"} <= found
    assert {"raftlock.server.driver", "raftlock.client.session", "raftlock.audit.log"} <= found
    assert not {
        name for name in found if name.startswith(("raftlock.cli.", "raftlock.server.http"))
    }


def test_the_hash_is_of_what_it_says() -> None:
    """The same source has the same hash, and another program has another one."""
    assert source_id(SIMULATOR) == source_id(SIMULATOR) != source_id("raftlock.testing.explore")
    assert len(source_id(SIMULATOR)) == 12
