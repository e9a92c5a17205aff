"""`python -m chaos.planted_node NAME server …`: the product's own command, with one bug planted in it first.

The rig's known-bad check runs nodes by this. The product itself has no flag for it.
"""

import sys

from raftlock.cli.main import main
from raftlock.testing.mutants.bugs import BUGS
from raftlock.testing.mutants.planting import planted

if __name__ == "__main__":
    name = sys.argv.pop(1)
    with planted(BUGS[name]):
        main()
