"""A client of a few lines on a blocking socket: what goes over the wire, without our client in between."""

import socket
import struct
from typing import Any

import msgpack


class RawClient:
    """One connection. Requests are sent as they are given; answers come back as tuples."""

    def __init__(self, endpoint: str, *, hello: bool = True) -> None:
        host, _, port = endpoint.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=20)
        self.port = int(self._socket.getsockname()[1])
        """Its own end."""
        self._file = self._socket.makefile("rb")
        self._next_id = 1
        if hello:
            self.hello = self.ask(1, 1, 1, None, None, "raw")

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._file.close()
        self._socket.close()

    def send_bytes(self, data: bytes) -> None:
        """Send anything."""
        self._socket.sendall(data)

    def send(self, code: int, *fields: Any) -> int:
        """Send one request in a frame of its own. Return its id."""
        request_id = self._next_id
        self._next_id += 1
        payload = msgpack.packb([[code, request_id, *fields]])
        self.send_bytes(struct.pack(">I", len(payload)) + payload)
        return request_id

    def frame(self) -> tuple[Any, ...] | None:
        """Return the next frame as (leader_id, message, ...); None at the end of the connection."""
        head = self._file.read(4)
        if len(head) < 4:
            return None
        payload = self._file.read(struct.unpack(">I", head)[0])
        return tuple(msgpack.unpackb(payload, use_list=False))

    def rest(self) -> bytes:
        """Return whatever comes until the end of the connection."""
        return self._file.read()

    def answer(self, request_id: int) -> tuple[Any, ...]:
        """Return the answer to a request, without its id. Pushed events and other answers are left out."""
        while (frame := self.frame()) is not None:
            for message in frame[1:]:
                if message[0] == request_id:
                    return tuple(message[1:])
        raise ConnectionResetError("the server closed the connection")

    def ask(self, code: int, *fields: Any) -> tuple[Any, ...]:
        """Send a request and return its answer: (status, final, ...)."""
        return self.answer(self.send(code, *fields))

    def ask_until_final(self, code: int, *fields: Any) -> tuple[Any, ...]:
        """Ask again until the answer is final."""
        while True:
            answer = self.ask(code, *fields)
            if answer[1]:
                return answer
