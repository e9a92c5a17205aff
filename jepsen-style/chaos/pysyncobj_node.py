"""One node of PySyncObj with one client in it: its ReplLockManager, our register, our history.

`python -m chaos.pysyncobj_node --own A --others B,C --folder DIR --seconds T --name N`. It is a library, so node and
client are one process. It has no fencing tokens: the register takes every write of who believes that it holds the lock.
"""

import argparse
import importlib
import random
import time
from pathlib import Path
from typing import Any

from chaos.history import Recorder
from chaos.register import Register

AUTO_UNLOCK_S = 10.0
"""Its lease: the manager prolongs it in a thread of its own."""
RESOURCES = ("account:0", "account:1")
LOOK_EVERY_S = 0.02
HOLD_S = (0.2, 8.0)
ANSWER_S = 2.0
TOKENLESS = 0


class Worker:
    """A client that locks, reads, waits, writes and releases, again and again."""

    def __init__(self, locks: Any, options: argparse.Namespace) -> None:
        self._locks = locks
        # Each life is a process of the history: what a killed one left open it never learns.
        self._name = f"{options.name}/{time.monotonic_ns()}"
        self._folder = Path(options.folder)
        self._recorder = Recorder(self._folder / f"history-{self._name.replace('/', '-')}.jsonl")
        self._rng = random.Random(self._name)
        self._until = time.monotonic() + options.seconds

    def run(self) -> None:
        """Work until the time is up."""
        while time.monotonic() < self._until:
            self._once(self._rng.choice(RESOURCES))
            time.sleep(self._rng.random() * LOOK_EVERY_S)

    def _once(self, resource: str) -> None:
        asked: dict[str, Any] = {"resource": resource, "owner": self._name, "wait_ms": 0}
        self._recorder.event(self._name, "invoke", "acquire", asked, None)
        try:
            held = self._locks.tryAcquire(resource, sync=True, timeout=ANSWER_S)
        except Exception as error:  # noqa: BLE001 - SyncObjException, which it exports nowhere public
            told = {"status": f"{type(error).__name__}: {error}"}
            self._recorder.event(self._name, "info", "acquire", told, None)
            return
        if not held:
            self._recorder.event(self._name, "fail", "acquire", {"status": "HELD"}, None)
            return
        # It has no tokens; the order in which holders were told is as good for the check of two holders.
        token = time.monotonic_ns()
        self._recorder.event(self._name, "ok", "acquire", {"status": "OK", "token": token}, None)
        believed_ns = self._work(resource)
        asked = {"resource": resource, "token": token, "held_until_ns": believed_ns}
        self._recorder.event(self._name, "invoke", "release", asked, None)
        self._locks.release(resource)
        self._recorder.event(self._name, "ok", "release", {"status": "OK"}, None)

    def _work(self, resource: str) -> int:
        """Hold the lock for a while and add one to the register. Return until when it was believed."""
        register = Register(self._folder / f"register-{resource.replace(':', '-')}")
        value = register.read(TOKENLESS)
        believed_ns = time.monotonic_ns()
        until = time.monotonic() + self._rng.uniform(*HOLD_S)
        while time.monotonic() < until:
            time.sleep(LOOK_EVERY_S)
            if not self._locks.isAcquired(resource):
                return believed_ns
            believed_ns = time.monotonic_ns()
        register.write(TOKENLESS, value + 1)
        return believed_ns


def main() -> None:
    """Read the command line, be a node, and work."""
    parser = argparse.ArgumentParser(prog="python -m chaos.pysyncobj_node", description=__doc__)
    for name in ("own", "others", "folder", "name"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    locks = importlib.import_module("pysyncobj.batteries").ReplLockManager(
        autoUnlockTime=AUTO_UNLOCK_S
    )
    library = importlib.import_module("pysyncobj")
    conf = library.SyncObjConf(autoTickPeriod=0.01, appendEntriesPeriod=0.02)
    node = library.SyncObj(options.own, options.others.split(","), conf, consumers=[locks])
    node.waitReady()
    Worker(locks, options).run()


if __name__ == "__main__":
    main()
