"""Pages of the audit from one node, whoever leads, over a blocking connection of its own.

Where several nodes fill in what one lacks, each must be asked by itself; `AsyncClient` goes where the leader is.
"""

import contextlib
import random
import socket
import time
from typing import Any

from raftlock.client.arguments import host_and_port
from raftlock.client.asking import BACKOFF_MAX_US, BACKOFF_MIN_US
from raftlock.client.connection import ANSWER_SIZE_MAX, CONNECT_TIMEOUT_S, framed
from raftlock.client.errors import Unavailable, refusal
from raftlock.client.records import AuditPage, AuditQuestion, audit_page, audit_request
from raftlock.client.session import ClientSession
from raftlock_wire import limits
from raftlock_wire.codec import unpack
from raftlock_wire.errors import BadFrame
from raftlock_wire.status import Status

_AGAIN = frozenset({int(Status.NO_QUORUM), int(Status.OVERLOADED), int(Status.UNKNOWN)})


class NodePages:
    """One node. It connects when it is asked, and stays connected."""

    def __init__(self, address: str, *, timeout_s: float, cluster_id: str | None = None) -> None:
        """Raise ValueError for an address that is none. An answer is waited for `timeout_s` seconds.

        With `cluster_id` a node of another cluster refuses.
        """
        self.address = address
        self._cluster_id = cluster_id
        self._host_and_port = host_and_port(address)
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._next_id = 2

    def close(self) -> None:
        """Let the connection go."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def page(
        self,
        question: AuditQuestion,
        *,
        from_index: int = 1,
        from_position: int = 0,
        limit: int = limits.AUDIT_PAGE_MAX,
    ) -> AuditPage:
        """Return a page. Raise Unavailable when the node does not answer in time, Refused for what it refuses."""
        build = audit_request(
            question, from_index=from_index, from_position=from_position, limit=limit
        )
        until = time.monotonic() + self._timeout_s
        backoff_s = BACKOFF_MIN_US / 1e6
        try:
            while True:
                answer = self._ask(build(self._next_id), until)
                if answer[1] == Status.OK:
                    return audit_page(answer)
                if answer[1] not in _AGAIN or time.monotonic() + backoff_s >= until:
                    raise refusal(Status(answer[1]), tuple(answer[3:]))
                # Jitter, so that those who were refused together do not come back together.
                time.sleep(backoff_s * (0.5 + random.random()))
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_US / 1e6)
        except (OSError, BadFrame) as error:
            self.close()
            raise Unavailable(f"{self.address}: {error}") from error
        except Unavailable:
            self.close()
            raise

    def _ask(self, request: tuple[Any, ...], until: float) -> tuple[Any, ...]:
        self._next_id += 1
        if self._socket is None:
            self._socket = self._connected(until)
        self._socket.sendall(framed([request]))
        return self._answer(request[1], until)

    def _connected(self, until: float) -> socket.socket:
        patience_s = min(CONNECT_TIMEOUT_S, self._left_s(until))
        self._socket = socket.create_connection(self._host_and_port, timeout=patience_s)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code, request_id, version_min, version_max, _, *rest = ClientSession.hello(
            "raftlock-records"
        )
        hello = (code, request_id, version_min, version_max, self._cluster_id, *rest)
        self._socket.sendall(framed([hello]))
        answer = self._answer(hello[1], until)
        if answer[1] != Status.OK:
            raise Unavailable(f"{self.address} refused the hello: {answer[3:]}")
        return self._socket

    def _answer(self, request_id: int, until: float) -> tuple[Any, ...]:
        while True:
            size = int.from_bytes(self._receive(limits.FRAME_HEADER_SIZE, until), "big")
            if size > ANSWER_SIZE_MAX:
                raise Unavailable(f"{self.address}: what answered is not a raftlock node")
            frame = unpack(
                self._receive(size, until), array_count_max=limits.FRAME_MESSAGES_MAX + 1
            )
            for message in frame[1:]:
                if message[0] == request_id:
                    answer: tuple[Any, ...] = message
                    return answer
                if message[0] == 0 and len(message) == 4:
                    raise Unavailable(f"{self.address}: {message[3]}")

    def _receive(self, size: int, until: float) -> bytes:
        assert self._socket is not None
        parts = bytearray()
        while len(parts) < size:
            self._socket.settimeout(self._left_s(until))
            part = self._socket.recv(min(size - len(parts), 1 << 16))
            if not part:
                raise ConnectionResetError("the node closed the connection")
            parts += part
        return bytes(parts)

    def _left_s(self, until: float) -> float:
        # A timeout of 0 would mean: do not block at all.
        return max(0.001, until - time.monotonic())
