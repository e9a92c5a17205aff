"""Names of peers: one lookup at a time, last known addresses, and no wait for a name server that is gone."""

import threading
from collections.abc import Iterator

import pytest

from raftlock.transport import resolver
from raftlock.transport.resolver import Resolver


class NameServer:
    """Answers a lookup when it is told to."""

    def __init__(self) -> None:
        self.answers: dict[str, list[str]] = {}
        self.asked = 0
        self.open = threading.Event()
        self.open.set()

    def lookup(self, host: str) -> list[str]:
        self.asked += 1
        self.open.wait(timeout=60)
        if host not in self.answers:
            raise OSError(f"no such name: {host}")
        return self.answers[host]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """A name server; nobody waits for it longer than a moment."""
    monkeypatch.setattr(resolver, "WAIT_S", 0.01)
    names = NameServer()
    yield names
    names.open.set()


async def test_an_address_is_not_looked_up(server: NameServer) -> None:
    """Numeric addresses, also in brackets, are returned as they are."""
    names = Resolver(server.lookup)

    found = [await names.addresses("127.0.0.1"), await names.addresses("[::1]")]

    assert (found, server.asked) == ([["127.0.0.1"], ["::1"]], 0)


async def test_a_name_is_resolved_anew_each_time(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that comes back with another address is found there."""
    monkeypatch.setattr(resolver, "WAIT_S", 60)
    names = Resolver(server.lookup)
    server.answers["n1"] = ["10.0.0.1"]
    before = await names.addresses("n1")
    server.answers["n1"] = ["10.0.0.9"]

    assert (before, await names.addresses("n1")) == (["10.0.0.1"], ["10.0.0.9"])


async def test_a_name_that_is_gone_keeps_its_last_addresses(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that fails does not part nodes that know each other."""
    monkeypatch.setattr(resolver, "WAIT_S", 60)
    names = Resolver(server.lookup)
    server.answers["n1"] = ["10.0.0.1"]
    await names.addresses("n1")
    server.answers.clear()

    assert await names.addresses("n1") == ["10.0.0.1"]


async def test_an_unknown_name_is_an_error(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that never had an address says so."""
    monkeypatch.setattr(resolver, "WAIT_S", 60)

    with pytest.raises(OSError, match="n1 cannot be resolved: no such name: n1"):
        await Resolver(server.lookup).addresses("n1")


async def test_lookups_do_not_pile_up(server: NameServer) -> None:
    """While the name server does not answer there is one lookup, however often a link tries."""
    server.open.clear()
    names = Resolver(server.lookup)
    for _ in range(20):
        with pytest.raises(OSError, match="no answer"):
            await names.addresses("n1")

    assert server.asked == 1
