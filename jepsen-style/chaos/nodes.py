"""The nodes as real processes: started in their namespaces, killed, paused, damaged, and asked how they are."""

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from chaos.network import die_with_parent
from chaos.shell import ToolFailed, run
from chaos.wiring import Places

DISK_MIB = 192
"""Each node's data lies on a file system of its own, so that it can be full."""
RIG = Path(__file__).resolve().parent.parent
FAULTS_SOURCE = Path(__file__).with_name("faults.c")
BAD_WORDS = ("Traceback", "InvariantViolation")


class Nodes:
    """All nodes of one run, by their ids."""

    def __init__(
        self,
        network: Places,
        folder: Path,
        *,
        planted: str = "",
        program: Sequence[str] = ("-m", "raftlock.cli.main"),
        settings: Mapping[str, str] | None = None,
        snapshot_log_size: int = 8 << 20,
    ) -> None:
        """`program` runs a node unless a bug is `planted`; `settings` are RAFTLOCK_… and other variables for all."""
        self.network = network
        self.folder = folder
        self._program = ("-m", "chaos.planted_node", planted) if planted else tuple(program)
        self._settings = dict(settings or {})
        self._snapshot_log_size = snapshot_log_size
        self.ids = network.node_ids
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.paused: set[int] = set()
        self.refused: set[int] = set()
        """Nodes that must not start, because their disk was damaged on purpose."""
        self.unexpected: list[str] = []
        """Ends of processes that no fault explains."""
        self._faults = self._build_faults()
        self.has_disks = False

    @property
    def endpoints(self) -> list[str]:
        """Return the client addresses."""
        return [self.endpoint(node_id) for node_id in self.ids]

    def endpoint(self, node_id: int) -> str:
        """Return a node's client address."""
        return self.network.addresses(node_id).client

    def _build_faults(self) -> Path | None:
        """Build what lets a node's wall clock and disk go wrong; None without a C compiler."""
        library = self.folder / "faults.so"
        try:
            run("cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(FAULTS_SOURCE), "-ldl")
        except ToolFailed:
            return None
        return library

    @property
    def has_faults(self) -> bool:
        """Return whether clocks can jump and disks be slow."""
        return self._faults is not None

    def data(self, node_id: int) -> Path:
        """Return where a node keeps its data."""
        return self.folder / f"disk-{node_id}" / "data"

    def log(self, node_id: int) -> Path:
        """Return a node's log."""
        return self.folder / f"node-{node_id}.log"

    # life

    def make_disks(self) -> None:
        """Give each node a small file system of its own, on a loop device; without one, a plain folder."""
        self.has_disks = "disk full" not in self.network.left_out
        for node_id in self.ids:
            mount = self.folder / f"disk-{node_id}"
            mount.mkdir(parents=True)
            if not self.has_disks:
                continue
            image = self.folder / f"disk-{node_id}.img"
            try:
                with image.open("wb") as file:
                    file.truncate(DISK_MIB << 20)
                run("mkfs.ext4", "-q", "-m", "0", str(image))
                run("mount", "-o", "loop", str(image), str(mount))
            except ToolFailed:
                self.has_disks = False

    def bootstrap(self, *flags: str) -> None:
        """Start all nodes and make them a cluster. `flags` go to the command that does it."""
        for node_id in self.ids:
            self.set_clock(node_id, 0)
            self.slow_disk(node_id, 0)
            self.start(node_id)
        listed = ",".join(f"{n}={self.network.addresses(n).peer}" for n in self.ids)
        run(
            sys.executable, "-m", "raftlock.cli.main", "bootstrap",
            "--nodes", listed, "--wait", "20", *flags,
        )  # fmt: skip

    def start(self, node_id: int) -> None:
        """Start a node."""
        environment = dict(os.environ) | self._settings
        if self._faults is not None:
            environment |= {
                "LD_PRELOAD": str(self._faults),
                "WALL_OFFSET": str(self._clock(node_id)),
                "SLOW_SYNC_MS": str(self._sync(node_id)),
            }
        where = self.network.addresses(node_id)
        listen = ["--listen-host", where.listen_host] if where.listen_host else []
        with self.log(node_id).open("ab") as log:
            self._processes[node_id] = subprocess.Popen(
                [
                    *self.network.prefix(node_id),
                    sys.executable, *self._program, "server",
                    "--node-id", str(node_id), "--data-dir", str(self.data(node_id)),
                    "--client", where.client, "--peer", where.peer, "--http", where.http, *listen,
                    "--segment-size", str(4 << 20), "--snapshot-log-size", str(self._snapshot_log_size),
                ],
                stdout=log, stderr=log, env=environment, cwd=RIG, preexec_fn=die_with_parent,
            )  # fmt: skip

    @property
    def pids(self) -> dict[int, int]:
        """Return the process of each node that runs."""
        return {node_id: process.pid for node_id, process in self._processes.items()}

    def is_up(self, node_id: int) -> bool:
        """Return whether a node's process runs. An end that nothing explains is kept as a failure."""
        process = self._processes.get(node_id)
        if process is None:
            return False
        code = process.poll()
        if code is None:
            return True
        del self._processes[node_id]
        if node_id not in self.refused:
            self.unexpected.append(
                f"node {node_id} ended by itself with code {code}; see {self.log(node_id)}"
            )
        return False

    def kill(self, node_id: int) -> None:
        """kill -9."""
        if self.is_up(node_id):
            process = self._processes.pop(node_id)
            process.kill()
            process.wait()
            self.paused.discard(node_id)

    def terminate(self, node_id: int) -> None:
        """Stop a node in order."""
        self.resume(node_id)
        if self.is_up(node_id):
            process = self._processes.pop(node_id)
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.unexpected.append(f"node {node_id} did not stop within 15 s of SIGTERM")
                process.kill()
                process.wait()

    def pause(self, node_id: int) -> None:
        """SIGSTOP."""
        if self.is_up(node_id):
            self._processes[node_id].send_signal(signal.SIGSTOP)
            self.paused.add(node_id)

    def resume(self, node_id: int) -> None:
        """SIGCONT."""
        if node_id in self.paused:
            self.paused.discard(node_id)
            with contextlib.suppress(KeyError, ProcessLookupError):
                self._processes[node_id].send_signal(signal.SIGCONT)

    def heal(self) -> None:
        """Resume and start what is not running."""
        for node_id in list(self.paused):
            self.resume(node_id)
        for node_id in self.ids:
            if not self.is_up(node_id):
                self.start(node_id)

    def stop(self) -> None:
        """End all nodes."""
        for node_id in list(self._processes):
            self.resume(node_id)
        for node_id in list(self._processes):
            self.terminate(node_id)

    # faults of one machine

    def _clock(self, node_id: int) -> Path:
        return self.folder / f"clock-{node_id}"

    def _sync(self, node_id: int) -> Path:
        return self.folder / f"sync-{node_id}"

    def set_clock(self, node_id: int, offset_s: int) -> None:
        """Let a node's wall clock jump; its monotonic clock goes on."""
        _replace(self._clock(node_id), f"{offset_s}\n")

    def slow_disk(self, node_id: int, ms: int) -> None:
        """Let each sync of a node take so much longer."""
        _replace(self._sync(node_id), f"{ms}\n")

    def fill_disk(self, node_id: int) -> None:
        """Leave no room on a node's disk."""
        ballast = self.folder / f"disk-{node_id}" / "ballast"
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
                file.flush()

    def free_disk(self, node_id: int) -> None:
        """Make room again."""
        (self.folder / f"disk-{node_id}" / "ballast").unlink(missing_ok=True)

    def damage(self, node_id: int, rng: random.Random, *, cut: bool) -> tuple[Path, bytes] | None:
        """Flip a bit in the log of a node that is down, or cut the log's file. Return what to put back."""
        segments = sorted(self.data(node_id).glob("wal-*.log"))
        if not segments:
            return None
        file = segments[0]
        whole = file.read_bytes()
        if cut:
            with file.open("r+b") as opened:
                opened.truncate(rng.randrange(len(whole) // 2, len(whole)))
        else:
            # In the first records: what follows shows that it is damage, and not a torn tail.
            place = rng.randrange(40, 200)
            changed = bytearray(whole)
            changed[place] ^= 1 << rng.randrange(8)
            file.write_bytes(changed)
        return file, whole

    def refuses_to_start(self, node_id: int) -> bool:
        """Start a damaged node and return whether it refuses, as it must."""
        self.refused.add(node_id)
        self.start(node_id)
        try:
            code = self._processes[node_id].wait(timeout=20)
        except subprocess.TimeoutExpired:
            code = None
            self._processes[node_id].kill()
            self._processes[node_id].wait()
        del self._processes[node_id]
        self.refused.discard(node_id)
        return code == 1

    def bad_words(self) -> list[str]:
        """Return lines of the logs that must never be there."""
        return [
            f"{self.log(node_id).name}: {line}"
            for node_id in self.ids
            for line in self.log(node_id).read_text(errors="replace").splitlines()
            if any(word in line for word in BAD_WORDS)
        ]


def _replace(path: Path, text: str) -> None:
    """Replace a file as a whole: its readers never see half of it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)
