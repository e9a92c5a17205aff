"""Length-prefixed frames on an asyncio transport: the one parser for clients and peers.

It owns the cutting of a byte stream into payloads. It must not know what a payload says.
"""

import asyncio
from typing import Final

from raftlock_wire.errors import FrameTooLarge
from raftlock_wire.limits import FRAME_HEADER_SIZE

# One buffer for all connections of the loop: a read is parsed before the next one starts, and what is left of an
# incomplete frame is copied out. 10,000 idle connections then cost no buffers.
_SCRATCH: Final = bytearray(256 << 10)
_SCRATCH_VIEW: Final = memoryview(_SCRATCH)


def read_view(size: int) -> memoryview:
    """Return the shared buffer for reads of at most `size` bytes."""
    return _SCRATCH_VIEW[:size]


def frame(payload: bytes) -> bytes:
    """Return `payload` behind its length."""
    return len(payload).to_bytes(4, "big") + payload


class FramedProtocol(asyncio.BufferedProtocol):
    """Cut what arrives into payloads, and hand each to `frame_received`."""

    frame_size_max: int = 0
    """Set by the subclass."""
    read_view: memoryview = _SCRATCH_VIEW
    """What one read may fill."""

    def __init__(self) -> None:
        self._partial = bytearray()
        self.discarding = False
        """Whether what still arrives is thrown away."""

    def discard_input(self) -> None:
        """Throw away whatever arrives from now on."""
        self.discarding = True

    def frame_received(self, payload: bytes) -> None:
        """Take one payload. It is the receiver's own copy."""
        raise NotImplementedError

    def frame_refused(self, error: FrameTooLarge) -> None:
        """Learn that the peer announced a frame over the limit. Nothing more will be parsed."""
        raise NotImplementedError

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the shared buffer for one read (asyncio.BufferedProtocol)."""
        del sizehint
        return self.read_view

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what one read brought (asyncio.BufferedProtocol)."""
        if self.discarding:
            return
        if self._partial:
            self._partial += _SCRATCH_VIEW[:nbytes]
            with memoryview(self._partial) as view:
                used = self._parse(view, len(view))
            del self._partial[:used]
            return
        used = self._parse(_SCRATCH_VIEW, nbytes)
        if used < nbytes:
            self._partial += _SCRATCH_VIEW[used:nbytes]

    def _parse(self, view: memoryview, end: int) -> int:
        """Hand on every whole frame in view[:end]. Return how many bytes they took; all of them after a refusal."""
        start = 0
        while end - start >= FRAME_HEADER_SIZE and not self.discarding:
            size = int.from_bytes(view[start : start + FRAME_HEADER_SIZE], "big")
            if size > self.frame_size_max:
                self.frame_refused(FrameTooLarge(size=size, size_max=self.frame_size_max))
                return end
            after = start + FRAME_HEADER_SIZE + size
            if after > end:
                break
            self.frame_received(bytes(view[start + FRAME_HEADER_SIZE : after]))
            start = after
        return end if self.discarding else start
