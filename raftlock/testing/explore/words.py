"""What acts, frames and messages say, for people who read a counterexample."""

from raftlock.raft import Message
from raftlock.testing.explore.lease_client import Act
from raftlock_wire.codec import unpack
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status


def act_in_words(act: Act) -> str:
    """Say what an application does."""
    if act.verb != "acquire":
        return f"{act.verb} {act.resource}"
    kind = f"with {act.ttl_ms} ms" if act.ttl_ms else "in its session"
    return f"acquire {act.resource} {kind}" + (", waiting" if act.wait_ms else "")


def requests_in(frame: bytes) -> str:
    """Say what a client sends."""
    said = []
    for request in unpack(frame):
        fields = " ".join(str(f) for f in request[2:] if f is not None)
        said.append(f"{Op(request[0]).name} {fields}")
    return "; ".join(said)


def answers_in(frame: bytes) -> str:
    """Say what a client gets."""
    said = []
    for message in unpack(frame, array_count_max=1 << 20)[1:]:
        if message[0]:
            name, fields = Status(message[1]).name, message[3:]
        else:
            name, fields = f"event {Event(message[1]).name}", message[2:]
        said.append(f"{name} {' '.join(map(str, fields))}".strip())
    return "; ".join(said)


def message_in_words(message: Message) -> str:
    """Say what a member sends."""
    fields = {name: getattr(message, name) for name in type(message).__dataclass_fields__}
    if "entries" in fields:
        fields["entries"] = "+".join(f"{e.index}:{e.term}" for e in fields["entries"]) or "none"
    said = ", ".join(f"{name} {value}" for name, value in fields.items() if value is not False)
    return f"{type(message).__name__}({said})"
