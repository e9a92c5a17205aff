"""`python jepsen-style`: break a real cluster from a seed, and check what its clients were told.

Exit codes: 0 every check passed; 1 one did not; 77 this machine cannot do it.
"""

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from chaos import network
from chaos.conductor import Conductor, Options

EXIT_CANNOT = 77


def main() -> int:
    """Read the command line and run. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python jepsen-style", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.5, help="of faults (default: 2.5)")
    parser.add_argument("--seed", type=int, help="of the schedule of faults (default: a fresh one)")
    parser.add_argument("--nodes", type=int, default=3, choices=(3, 5))
    parser.add_argument("--workers", type=int, default=2, help="client processes (default: 2)")
    parser.add_argument("--clients", type=int, default=5, help="clients in each (default: 5)")
    parser.add_argument("--only", action="append", default=[], help="this fault alone; repeatable")
    parser.add_argument(
        "--folder", type=Path, help="where to leave report, histories and logs (default: a new one)"
    )
    options = parser.parse_args()
    why = network.enter()
    if why:
        print(f"this machine forbids network namespaces: {why}")
        return EXIT_CANNOT
    folder = options.folder or Path(tempfile.mkdtemp(prefix="raftlock-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"--folder: {folder} is not empty")
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}: SEED={seed} repeats the schedule; all that is left is in {folder}")
    conductor = Conductor(
        Options(
            seed=seed,
            seconds=options.minutes * 60,
            nodes=options.nodes,
            workers=options.workers,
            clients=options.clients,
            folder=folder.resolve(),
            only=tuple(options.only),
        )
    )
    passed = conductor.run()
    print(f"report: {folder / 'report.html'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
