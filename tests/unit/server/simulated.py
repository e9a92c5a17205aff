"""An event loop in simulated time, and a core that answers by script: what HTTP's own code is tested with."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from raftlock.server.http.gateway import Gateway
from raftlock_wire.codec import pack, unpack
from raftlock_wire.messages import Op, check_request
from raftlock_wire.status import Status

Result = TypeVar("Result")
Request = tuple[Any, ...]
Answer = tuple[Any, ...]

SESSION, TOKEN = 7, 1_000


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still while it works, and jumps to the next timer when it has nothing to do."""

    def __init__(self) -> None:
        super().__init__(_JumpingSelector(self))
        self.now_s = 100.0

    def time(self) -> float:
        """Return the simulated time."""
        return self.now_s


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        """Jump instead of waiting. With no timer at all nothing could ever happen: that is a failed test."""
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everything waits for something that never comes"
            self._loop.now_s += max(0.0, timeout)
        return ready


def run(main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a test in simulated time."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main())


class ScriptedCore:
    """A node's core that answers each operation by its script, and remembers what it was asked.

    A script is a list of what to answer, one an attempt, the last one for ever: fields after the request id; None for
    no answer at all. An element (event, answer) with `events` pushes events too.
    """

    def __init__(self, **scripts: list[Any]) -> None:
        self.scripts: dict[str, list[Any]] = {
            "open_session": [(Status.OK, True, SESSION, 60_000, 0)],
            "renew": [(Status.OK, True, [(Status.OK, None, 5, 10_000, 9_900)])],
            "cancel": [(Status.CANCELLED, True, 0, 1, 0)],
            "keep_alive": [(Status.OK, True, 0)],
            "release": [(Status.OK, True)],
            **scripts,
        }
        self.asked: list[Request] = []
        self.ports: list[Any] = []
        self.gone: list[Any] = []
        self.refuse = ""

    @property
    def names(self) -> list[str]:
        """Return the operations asked for, but for the hello."""
        return [Op(request[0]).name.lower() for request in self.asked[1:]]

    def attach(self, port: Any) -> str:
        """See Core."""
        if not self.refuse:
            port.tag = len(self.ports) + 1
            self.ports.append(port)
        return self.refuse

    def client_frame(self, connection: Any, payload: bytes) -> None:
        """See Core. The answer comes in a later turn of the loop, as the real one does."""
        assert connection in self.ports
        assert connection not in self.gone
        for request in unpack(payload):
            check_request(request)
            self.asked.append(request)
            if request[0] == Op.HELLO:
                continue
            script = self.scripts[Op(request[0]).name.lower()]
            answer = script.pop(0) if len(script) > 1 else script[0]
            if answer is not None:
                self.push(connection, (request[1], *answer))

    def client_disconnected(self, connection: Any) -> None:
        """See Core."""
        self.gone.append(connection)

    @staticmethod
    def push(port: Any, message: Answer) -> None:
        """Send an answer or an event."""
        asyncio.get_running_loop().call_soon(port.send, pack([1, message]))


def gateway(core: ScriptedCore, *, cluster_id: str = "cluster") -> Gateway:
    """Return a gateway to a scripted core, in the running loop's time."""
    return Gateway(
        core,
        cluster_id=lambda: cluster_id,
        clock=asyncio.get_running_loop().time,
        jitter=lambda: 0.5,
        nonces=lambda: b"n" * 16,
    )
