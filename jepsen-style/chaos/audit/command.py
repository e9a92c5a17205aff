"""`python jepsen-style audit`: every acknowledged logged operation is in the audit once, whatever happened meanwhile.

Three real nodes ship their audit while leaders are killed, cut off and paused, the store is away for minutes and
shippers are killed -9. Clients write down each logged operation and what they were told. At the end the audit, what was
shipped and what is only on the nodes' disks, must say exactly that. The store is a real S3 where RAFTLOCK_S3_SERVER
names a program that starts one, and a directory otherwise. Exit codes: 0 all agreed; 1 something did not; 77 this machine
cannot do it.
"""

import argparse
import json
import os
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path

from chaos import network
from chaos.audit.judge import AGREE, PLANTED
from chaos.audit.run import NODES, AuditRun, Options
from chaos.audit.store import make_store
from chaos.checks import Check
from chaos.proxies import ProxyNetwork
from chaos.wiring import Wiring

OPERATIONS = 1_000_000
EXIT_CANNOT = 77


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python jepsen-style audit", description=__doc__)
    parser.add_argument(
        "--operations",
        type=int,
        default=OPERATIONS,
        help="acknowledged logged operations (default: 1000000)",
    )
    parser.add_argument(
        "--seconds", type=float, default=7_200.0, help="end after so long anyway (default: 7200)"
    )
    parser.add_argument(
        "--rate", type=float, default=2_000.0, help="operations a second at most (default: 2000)"
    )
    parser.add_argument("--seed", type=int, help="of names and faults (default: a fresh one)")
    parser.add_argument(
        "--logged-renewal-ttl", type=float, default=60.0, metavar="SECONDS",
        help="as for `raftlock bootstrap`; 0: every renewal is logged, and compared (default: 60)",
    )  # fmt: skip
    parser.add_argument(
        "--away",
        type=float,
        default=120.0,
        help="seconds that the store is away each time, about (default: 120)",
    )
    parser.add_argument(
        "--segment-size", type=int, default=8, metavar="MIB",
        help="content of an audit segment; the product's is 64, and smaller ones have more seams (default: 8)",
    )  # fmt: skip
    parser.add_argument("--processes", type=int, default=2, help="of clients (default: 2)")
    parser.add_argument("--clients", type=int, default=8, help="in each (default: 8)")
    parser.add_argument(
        "--depth", type=int, default=16, help="operations in flight of each (default: 16)"
    )
    parser.add_argument("--proxies", action="store_true", help="no namespaces")
    parser.add_argument(
        "--plant",
        default="",
        choices=["", *PLANTED],
        help="spoil one record before the comparison: passes if that check, and no other, fails",
    )
    parser.add_argument("--folder", type=Path, help="where everything is left (default: a new one)")
    return parser


def main(argv: list[str]) -> int:
    """Run it. Return the exit code."""
    parser = _arguments()
    options = parser.parse_args(argv)
    proxies = options.proxies
    if not proxies and (why := network.enter()):
        print(f"this machine forbids network namespaces: {why}; proxies between the nodes instead")
        proxies = True
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="raftlock-audit-run-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"--folder: {folder} is not empty")
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    wiring: Wiring
    try:
        wiring = (ProxyNetwork if proxies else network.Network)(range(1, NODES + 1))
    except OSError as error:
        print(f"this machine has no loopback addresses for proxies: {error}")
        return EXIT_CANNOT
    store = make_store(folder, "127.0.0.1" if proxies else network.LAB)
    print(f"seed {seed}; the store is {store.how}; all that is left is in {folder}", flush=True)
    run = AuditRun(
        Options(
            seed=seed, operations=options.operations, seconds=options.seconds, rate=options.rate,
            logged_renewal_ttl=options.logged_renewal_ttl,
            segment_size=options.segment_size << 20, processes=options.processes,
            clients=options.clients, depth=options.depth, away_s=options.away,
            plant=options.plant, folder=folder,
        ),
        wiring,
        store,
    )  # fmt: skip
    load_before = os.getloadavg()
    checks = run.run()
    results = {**run.results, "load_before": load_before, "load_after": os.getloadavg()}
    results["checks"] = {check.name: check.problems for check in checks}
    (folder / "audit.json").write_text(json.dumps(results, indent=1) + "\n")
    for check in checks:
        print(f"{'passed' if check.passed else 'FAILED':>7}  {check.name}: {check.says}")
        for problem in check.problems[:10]:
            print(f"         {problem}")
        if len(check.problems) > 10:
            print(f"         and {len(check.problems) - 10} more")
    print(
        json.dumps(
            {k: v for k, v in results.items() if k not in ("checks", "load_before", "load_after")}
        )
    )
    return verdict(checks, plant=options.plant)


def verdict(checks: Sequence[Check], *, plant: str) -> int:
    """Return the exit code: with a planted record the comparison must fail, and nothing else may."""
    failed = [check.name for check in checks if not check.passed]
    return 0 if failed == ([AGREE] if plant else []) else 1
