"""What can be wrong with bytes from a peer or a client. Each error says where, what, and what is allowed."""


class WireError(Exception):
    """Base of all errors about bytes that came over the wire."""


class FrameTooLarge(WireError):
    """A peer announced a frame larger than `size_max`."""

    def __init__(self, *, size: int, size_max: int) -> None:
        super().__init__(f"frame of {size} bytes exceeds {size_max}")
        self.size, self.size_max = size, size_max


class BadFrame(WireError):
    """The payload of a frame is not one msgpack array of messages, strictly encoded."""


class BadField(WireError):
    """A field of a message is not what the protocol allows: the request gets BAD_REQUEST."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem
