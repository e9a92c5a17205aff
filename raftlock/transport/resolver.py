"""Names of peers to addresses, without ever holding up the loop, other lookups, or the end of the process.

It owns the lookups of one name. It must not know what is called at the addresses.
"""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable

WAIT_S = 0.5
"""After so long the last known addresses are tried, while the lookup goes on."""


def system_lookup(host: str) -> list[str]:
    """Ask the system. It may take many seconds. Raise OSError if there is no such name."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Resolver:
    """Resolves one name anew each time: a container may come back with another address.

    The loop's own lookups share four threads and cannot be taken back. When the name server does not answer, each
    reconnect adds one, they queue for minutes, and links to members that are well wait behind them. Here a name has
    one lookup under way, in a daemon thread.
    """

    def __init__(self, lookup: Callable[[str], list[str]] = system_lookup) -> None:
        self._lookup = lookup
        self._pending: asyncio.Future[list[str]] | None = None
        self._known: list[str] = []

    async def addresses(self, host: str) -> list[str]:
        """Return the addresses of `host`; the last known ones if it cannot be resolved now. Raise OSError if none are."""
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(host.strip("[]")))]
        if self._pending is None or self._pending.done():
            self._pending = self._begin(host)
        try:
            async with asyncio.timeout(WAIT_S):
                self._known = await asyncio.shield(self._pending)
        except (OSError, TimeoutError) as error:
            if not self._known:
                raise OSError(
                    f"{host} cannot be resolved: {error if str(error) else 'no answer'}"
                ) from error
        return self._known

    def _begin(self, host: str) -> "asyncio.Future[list[str]]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[str]] = loop.create_future()
        # One that nobody waits for any more is no news.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())

        def work() -> None:
            result: list[str] | OSError
            try:
                result = self._lookup(host)
            except OSError as error:
                result = error
            # The loop may have ended meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, future, result)

        threading.Thread(target=work, name="raftlock-resolver", daemon=True).start()
        return future


def _settle(future: "asyncio.Future[list[str]]", result: list[str] | OSError) -> None:
    if future.done():
        return
    if isinstance(result, OSError):
        future.set_exception(result)
    else:
        future.set_result(result)
