"""Connections to nodes by name: each name resolved anew, each of its addresses tried."""

import asyncio
from collections.abc import Callable

from raftlock.transport.resolver import Resolver


class Dialer:
    """Connects to host:port. It keeps a Resolver for each host that it was asked for; they are few and come from us."""

    def __init__(self) -> None:
        self._resolvers: dict[str, Resolver] = {}

    async def connect(
        self, factory: Callable[[], asyncio.BaseProtocol], endpoint: str
    ) -> asyncio.BaseTransport:
        """Connect to the first address that takes it. Raise the last one's OSError if none does."""
        host, _, port = endpoint.rpartition(":")
        addresses = await self._resolvers.setdefault(host, Resolver()).addresses(host)
        loop = asyncio.get_running_loop()
        for address in addresses[:-1]:
            try:
                transport, _ = await loop.create_connection(factory, address, int(port))
            except OSError:
                continue
            return transport
        transport, _ = await loop.create_connection(factory, addresses[-1], int(port))
        return transport
