"""`python jepsen-style`: break a real cluster from a seed, and check what its clients were told.

Exit codes: 0 every check passed; 1 one did not; 77 this machine cannot do it. Three more modes have their own
--help: `python jepsen-style abuse` (honest clients beside dishonest ones), `python jepsen-style audit` (what clients were
told is on record, once) and `python jepsen-style known-bad` (the rig must find planted bugs, and what is wrong with a
system that is known to fail).
"""

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from chaos import known_bad, network
from chaos.abuse import command as abuse
from chaos.audit import command as audit
from chaos.conductor import Conductor, Options
from raftlock.testing.mutants.bugs import BUGS

EXIT_CANNOT = 77
MODES = {"abuse": abuse.main, "audit": audit.main, "known-bad": known_bad.main}


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python jepsen-style", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.5, help="of faults (default: 2.5)")
    parser.add_argument("--seed", type=int, help="of the schedule of faults (default: a fresh one)")
    parser.add_argument("--nodes", type=int, default=3, choices=(3, 5))
    parser.add_argument("--workers", type=int, default=2, help="client processes (default: 2)")
    parser.add_argument("--clients", type=int, default=5, help="clients in each (default: 5)")
    parser.add_argument("--only", action="append", default=[], help="this fault alone; repeatable")
    parser.add_argument(
        "--proxies", action="store_true", help="TCP proxies on the loopback device, no namespaces"
    )
    parser.add_argument(
        "--planted",
        metavar="BUG",
        default="",
        choices=["", *BUGS],
        help="plant this bug in nodes and clients first; python -m raftlock.testing.mutants --list",
    )
    parser.add_argument(
        "--folder", type=Path, help="where to leave report, histories and logs (default: a new one)"
    )
    return parser


def main() -> int:
    """Read the command line and run. Return the exit code."""
    if len(sys.argv) > 1 and sys.argv[1] in MODES:
        return MODES[sys.argv[1]](sys.argv[2:])
    parser = _arguments()
    options = parser.parse_args()
    proxies = options.proxies
    if not proxies and (why := network.enter()):
        print(f"this machine forbids network namespaces: {why}; proxies between the nodes instead")
        proxies = True
    folder = options.folder or Path(tempfile.mkdtemp(prefix="raftlock-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"--folder: {folder} is not empty")
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}: SEED={seed} repeats the schedule; all that is left is in {folder}")
    try:
        conductor = Conductor(
            Options(
                seed=seed,
                seconds=options.minutes * 60,
                nodes=options.nodes,
                workers=options.workers,
                clients=options.clients,
                folder=folder.resolve(),
                only=tuple(options.only),
                proxies=proxies,
                planted=options.planted,
            )
        )
    except OSError as error:
        print(f"this machine has no loopback addresses for proxies: {error}")
        return EXIT_CANNOT
    passed = conductor.run()
    print(f"report: {folder / 'report.html'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
