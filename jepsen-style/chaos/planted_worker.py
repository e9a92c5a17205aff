"""`python -m chaos.planted_worker NAME …`: a worker whose clients have one bug planted in them."""

import sys

from chaos.worker import main
from raftlock.testing.mutants.bugs import BUGS
from raftlock.testing.mutants.planting import planted

if __name__ == "__main__":
    name = sys.argv.pop(1)
    with planted(BUGS[name]):
        main()
