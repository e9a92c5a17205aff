"""An event loop in a thread of its own, and how other threads ask things of it.

It owns the thread and what is called on it. It must not know what the coroutines are about.
"""

import asyncio
import os
import selectors
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from raftlock.client.errors import ClientClosed

Value = TypeVar("Value")
WAIT_SLICE_S = 0.5
"""On Windows a thread that waits hears Ctrl-C only between two waits; on all systems it sees that the loop is gone."""


class _Call(Generic[Value]):
    """One coroutine on the loop, and the thread that waits for its end. All but `done` is touched on the loop only."""

    def __init__(
        self,
        work: Callable[[], Coroutine[Any, Any, Value]],
        unwanted: Callable[[Value], None] | None,
    ) -> None:
        self._work = work
        self._unwanted = unwanted
        self._task: asyncio.Task[Value] | None = None
        self._left = False
        self.done = threading.Event()
        self.error: BaseException | None = None
        self.value: Value | None = None

    def begin(self) -> None:
        """Start the coroutine."""
        self._task = asyncio.get_running_loop().create_task(self._work())
        self._task.add_done_callback(self._ended)

    def leave(self) -> None:
        """Learn that nobody waits any more (Ctrl-C, a signal handler that raised): what it yields is given back."""
        self._left = True
        if self.done.is_set():
            self._give_back()
        elif self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[Value]) -> None:
        if task.cancelled():
            self.error = ClientClosed("the client was closed meanwhile")
        elif (error := task.exception()) is not None:
            self.error = error
        else:
            self.value = task.result()
        self.done.set()
        if self._left:
            self._give_back()

    def _give_back(self) -> None:
        if self._unwanted is not None and self.error is None:
            assert self.value is not None
            self._unwanted(self.value)


class LoopThread:
    """A loop that runs in a daemon thread until it is stopped. Its calls come from any other thread."""

    def __init__(self, name: str) -> None:
        self._selector: selectors.BaseSelector | None = None
        self._loop = self._new_loop()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        """Return asyncio's own loop. On systems that fork its selector is ours to let go of in a child."""
        if sys.platform == "win32":
            return asyncio.new_event_loop()
        self._selector = selectors.DefaultSelector()
        return asyncio.SelectorEventLoop(self._selector)

    def _main(self) -> None:
        try:
            self._loop.run_forever()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.wait(tasks))
        finally:
            self._loop.close()

    def run(
        self,
        work: Callable[[], Coroutine[Any, Any, Value]],
        *,
        unwanted: Callable[[Value], None] | None = None,
    ) -> Value:
        """Run a coroutine on the loop and wait for what it returns. Raise ClientClosed if the loop is stopped.

        If the wait is interrupted the coroutine is cancelled; what it may have returned by then goes to `unwanted`.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a call from the client's own thread would wait for itself")
        call = _Call(work, unwanted)
        waited = False
        try:
            # Within the try: the coroutine may have begun before a signal handler raises at the end of this line.
            self.post(call.begin)
            while not call.done.wait(WAIT_SLICE_S):
                if not self._thread.is_alive() and not call.done.is_set():
                    raise ClientClosed("the client is closed")
            waited = True
        finally:
            if not waited and self._thread.is_alive():
                self.post(call.leave)
        if call.error is not None:
            raise call.error
        return call.value  # type: ignore[return-value]

    def post(self, function: Callable[[], None]) -> None:
        """Call a function on the loop soon, without waiting. Raise ClientClosed after its end."""
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError as error:
            raise ClientClosed("the client is closed") from error

    def stop(self) -> None:
        """End the loop: coroutines under way are cancelled. Wait for the thread."""
        self.post(self._loop.stop)
        self._thread.join()

    def let_go(self, file_numbers: list[int]) -> None:
        """In a forked child: leave the loop, and the open files given, to the parent.

        The thread does not exist here, but its files do. The selector is one object in the kernel for both processes:
        a change of it here, even from the clean-up of a coroutine, would deafen the parent. So its number, and those
        of the connections, are made to mean /dev/null: whoever closes or writes them later does no harm.
        """
        # Epoll, kqueue and /dev/poll have a number of their own; select and poll have no object in the kernel.
        fileno = getattr(self._selector, "fileno", None)
        if fileno is not None:
            file_numbers = [*file_numbers, fileno()]
        null = os.open(os.devnull, os.O_RDWR)
        for number in file_numbers:
            os.dup2(null, number, inheritable=False)
        os.close(null)


class Callbacks:
    """Calls functions one after another in a thread that lives as long as there is something to call.

    Not on the loop: a function that blocks there would hold up the renewals and deadlines of every other lock.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._running = False

    def call(self, function: Callable[[], None]) -> None:
        """Call a function soon."""
        with self._mutex:
            self._waiting.append(function)
            if self._running:
                return
            self._running = True
        self._start()

    def _start(self) -> None:
        threading.Thread(target=self._drain, name="raftlock-callbacks", daemon=True).start()

    def _drain(self) -> None:
        while True:
            with self._mutex:
                if not self._waiting:
                    self._running = False
                    return
                function = self._waiting.popleft()
            returned = False
            try:
                function()
                returned = True
            finally:
                if not returned:
                    # threading.excepthook reports it; the others are called all the same.
                    self._start()
