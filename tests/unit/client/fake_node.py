"""A node of one thread on a real socket, that grants everything until a test tells it otherwise."""

import itertools
import socket
import threading
from typing import Any

from raftlock_wire.codec import pack, unpack
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

SESSION_TTL_MS = 10_000


class FakeNode:
    """Answers as a leader with nobody else in the cluster would. What it was asked is kept in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, tuple[Any, ...]]] = []
        """(number of the connection, request)"""
        self.silent = False
        """Takes requests and answers none."""
        self.renewals = Status.OK
        """The answer to each lease of a renewal."""
        self.queues = False
        """Every acquire waits."""
        self.leader: FakeNode | None = None
        """Whom it names as the leader, if not itself."""
        self._news = threading.Condition()
        self._tokens = itertools.count(1_000)
        self._sessions = itertools.count(1)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def endpoint(self) -> str:
        """Return its address."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Close the listener and every connection."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            connection.close()
        for thread in self._threads:
            thread.join(10)

    def seen(self, op: Op) -> list[tuple[Any, ...]]:
        """Return the requests of this code so far."""
        return [request for _, request in self.asked if request[0] == op]

    def wait_for(self, op: Op, count: int = 1) -> None:
        """Wait until so many requests of this code came."""
        with self._news:
            came = self._news.wait_for(lambda: len(self.seen(op)) >= count, timeout=60)
        assert came, f"{count} of {op.name} did not come, but {self.asked}"

    def wait_for_end(self, connection: int) -> None:
        """Wait until the client has closed a connection, in every process that has it."""
        self._threads[connection + 1].join(60)
        assert not self._threads[connection + 1].is_alive()

    def connections_with(self, op: Op) -> set[int]:
        """Return over which connections requests of this code came."""
        return {number for number, request in self.asked if request[0] == op}

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            number = len(self._connections)
            self._connections.append(connection)
            self._threads.append(
                threading.Thread(target=self._serve, args=(connection, number), daemon=True)
            )
            self._threads[-1].start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            with connection.makefile("rb") as stream:
                while header := stream.read(4):
                    for request in unpack(stream.read(int.from_bytes(header, "big"))):
                        self._take(connection, number, request)
        except OSError:
            return

    def _take(self, connection: socket.socket, number: int, request: tuple[Any, ...]) -> None:
        with self._news:
            self.asked.append((number, request))
            self._news.notify_all()
        if self.silent:
            return
        payload = pack((1, (request[1], *self._answer(request))))
        connection.sendall(len(payload).to_bytes(4, "big") + payload)

    def _answer(self, request: tuple[Any, ...]) -> tuple[Any, ...]:
        ok = int(Status.OK)
        match Op(request[0]):
            case Op.HELLO:
                if self.leader is not None:
                    nodes = ((1, self.leader.endpoint), (2, self.endpoint))
                    return (ok, True, 1, "cluster", 2, nodes, {})
                return (ok, True, 1, "cluster", 1, ((1, self.endpoint),), {})
            case Op.OPEN_SESSION:
                return (ok, True, next(self._sessions), SESSION_TTL_MS, 0)
            case Op.ATTACH:
                return (ok, True, SESSION_TTL_MS, 1, 0)
            case Op.KEEP_ALIVE:
                return (ok, True, 0)
            case Op.ACQUIRE if self.queues:
                return (int(Status.QUEUED), False, 0, 1)
            case Op.ACQUIRE:
                return (ok, True, 0, next(self._tokens), 1)
            case Op.RENEW:
                return (ok, True, tuple((int(self.renewals), 0, 1) for _ in request[2]))
            case Op.GET:
                return (int(Status.NOT_HELD), True, 0, None)
            case Op.CANCEL:
                return (ok, True, None)
            case _:
                return (ok, True)
