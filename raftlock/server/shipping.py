"""The shipper of a node: a process of its own, started again when it dies, and told whether this node leads.

A thread owns the process. The loop only notes whether the node leads, and reads what the thread has counted: neither a
crash of the shipper nor a slow store takes a moment of it.
"""

import contextlib
import json
import logging
import os
import random
import select
import subprocess
import sys
import threading
import time
from typing import Any

from raftlock.audit import AUDIT_DIRECTORY
from raftlock.audit.backoff import Backoff
from raftlock.audit.worker import FAILURES, LEAD, STAND_BY, Order
from raftlock.server.config import ServerConfig
from raftlock.telemetry import logs

log = logging.getLogger("raftlock.shipping")

STEADY_S = 60.0
"""A shipper that lived so long is started again at once: the failures before it do not count."""
LINE_SIZE_MAX = 64 << 10
READ_SIZE = 64 << 10
COMPLAIN_EVERY_S = 60.0
"""A failure of the same kind is logged at most so often; the metrics count all."""


def shipper_command(config: ServerConfig) -> list[str]:
    """Return the command of a node's shipper."""
    order = Order(
        directory=str(config.data_dir / AUDIT_DIRECTORY),
        url=config.audit_tier,
        endpoint=config.audit_endpoint,
        region=config.audit_region,
        every_s=config.audit_every_s,
    )
    return [sys.executable, "-m", "raftlock.audit.worker", json.dumps(order._asdict())]


class Shipping:
    """Keeps a node's shipper running. The loop calls start, lead and stop; everything else is the thread's."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._backoff = Backoff(random.Random())
        self._thread = threading.Thread(target=self._run, name="raftlock-shipping", daemon=True)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._ending = False
        self._process: subprocess.Popen[bytes] | None = None
        self._told: bool | None = None
        self._complained: dict[str, float] = {}
        self.leads = False
        """Whether this node's shipper is the one that ships."""
        self.pid = 0
        """0: it does not run."""
        self.restarts = 0
        self.shipped = 0
        self.failures = dict.fromkeys(FAILURES, 0)
        self.passed_s = 0.0
        """When a whole pass last ended; 0: none has."""
        self.stands: dict[str, int] | None = None
        """What the store lacks of this node's segments, as the shipper last said; None: it has not said it yet."""
        self.missing = 0
        """Entries that neither the store nor this node has, which keep a day open."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def lead(self, *, leads: bool) -> None:
        """Note whether this node leads."""
        if leads != self.leads:
            self.leads = leads
            self._wake()

    def stop(self) -> None:
        """End the shipper, which may be killed at any moment, and the thread."""
        self._ending = True
        if self._thread.is_alive():
            self._wake()
            self._thread.join()

    def _wake(self) -> None:
        # A full pipe wakes the thread as well.
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"w")

    # the thread

    def _run(self) -> None:
        while not self._ending:
            began_s = time.monotonic()
            code = self._one_life()
            if self._ending:
                break
            if time.monotonic() - began_s >= STEADY_S:
                self._backoff.reset()
            wait_s = self._backoff.next_s()
            logs.event(
                log, "shipper_ended", level=logging.WARNING, code=code, again_in_s=round(wait_s, 1)
            )
            until_s = time.monotonic() + wait_s
            while not self._ending and (left_s := until_s - time.monotonic()) > 0:
                select.select([self._wake_read], [], [], left_s)
                self._drain()
            self.restarts += 1

    def _one_life(self) -> int:
        """Start a shipper and follow it to its end. Return its exit code; negative: the signal that ended it."""
        try:
            # Without preexec_fn this is a vfork: a large node is not copied, nor stopped for longer than an exec. A
            # group of its own: Ctrl-C at a terminal is for the node, which ends its shipper.
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
            )
        except OSError as error:
            logs.event(log, "ship_failed", level=logging.WARNING, kind="start", why=str(error))
            return -1
        with process:
            assert process.stdin is not None
            os.set_blocking(process.stdin.fileno(), False)
            self._process, self._told, self.pid = process, None, process.pid
            logs.event(log, "shipper_started", pid=process.pid)
            try:
                self._follow(process)
            finally:
                process.kill()
                self._process, self.pid = None, 0
        return process.returncode

    def _follow(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        output, rest = process.stdout.fileno(), b""
        while not self._ending:
            self._tell(process)
            ready, _, _ = select.select([output, self._wake_read], [], [])
            if self._wake_read in ready:
                self._drain()
            if output in ready:
                data = os.read(output, READ_SIZE)
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    # A library may print something.
                    if line.startswith(b'{"event"'):
                        self._take(line)
                if not data or len(rest) > LINE_SIZE_MAX:
                    return

    def _tell(self, process: "subprocess.Popen[bytes]") -> None:
        leads = self.leads
        if leads == self._told:
            return
        self._told = leads
        assert process.stdin is not None
        line = (LEAD if leads else STAND_BY) + "\n"
        try:
            os.write(process.stdin.fileno(), line.encode())
        except BlockingIOError:
            # It has not read thousands of these: it hangs.
            process.kill()
        except BrokenPipeError:
            # It has ended: its output says so next.
            return
        logs.event(log, "ships" if leads else "ships_not")

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, READ_SIZE)

    def _take(self, line: bytes) -> None:
        """Take a line that the shipper said."""
        said: dict[str, Any] = json.loads(line)
        match said["event"]:
            case "shipped":
                self.shipped += 1
                logs.event(log, "shipped", key=said["key"])
            case "failed":
                self._failed(said["kind"], said["why"])
            case "stands":
                self.stands = {n: said[n] for n in ("segments", "size", "since_us", "there")}
                self.missing = said.get("missing", self.missing)
                if said["passed"]:
                    self.passed_s = time.time()

    def _failed(self, kind: str, why: str) -> None:
        self.failures[kind] += 1
        now_s = time.monotonic()
        if now_s - self._complained.get(kind, -COMPLAIN_EVERY_S) >= COMPLAIN_EVERY_S:
            self._complained[kind] = now_s
            logs.event(log, "ship_failed", level=logging.WARNING, kind=kind, why=why)
