"""A server that answers OK to everything and does nothing: `python -m bench.stub PORT`. The load's own ceiling.

It decodes each request, since it must know its id, and encodes an answer of the shape that a node would give.
"""

import asyncio
import sys
from typing import Any

import msgpack
import uvloop

from raftlock_wire.limits import FRAME_MESSAGES_MAX, PROTOCOL_VERSION
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

_ACQUIRE, _RELEASE = int(Op.ACQUIRE), int(Op.RELEASE)
_OK = int(Status.OK)


class Stub(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._token = 1 << 50
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Answer all whole frames with one write."""
        buffer = self._buffer
        buffer += data
        answers: list[Any] = []
        start, end = 0, len(buffer)
        while end - start >= 4:
            after = start + 4 + int.from_bytes(buffer[start : start + 4], "big")
            if after > end:
                break
            for request in msgpack.unpackb(buffer[start + 4 : after], use_list=False):
                code = request[0]
                if code == _RELEASE:
                    answers.append((request[1], _OK, True))
                elif code == _ACQUIRE:
                    self._token += 1
                    answers.append((request[1], _OK, True, 0, self._token, 1))
                else:
                    answers.append(self._rare(request))
            start = after
        del buffer[:start]
        assert self._transport is not None
        for first in range(0, len(answers), FRAME_MESSAGES_MAX):
            payload = msgpack.packb([1, *answers[first : first + FRAME_MESSAGES_MAX]])
            self._transport.write(len(payload).to_bytes(4, "big") + payload)

    def _rare(self, request: tuple[Any, ...]) -> tuple[Any, ...]:
        if request[0] == Op.HELLO:
            return (request[1], _OK, True, PROTOCOL_VERSION, "stub", 1, {}, {})
        if request[0] == Op.OPEN_SESSION:
            return (request[1], _OK, True, 1, request[3], 0)
        return (request[1], _OK, True, 0)


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port)
    print(f"stub ready: {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
