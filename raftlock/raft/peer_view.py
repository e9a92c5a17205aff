"""What a leader knows of the other members, for who asks: how far each is, and when it was heard."""

from typing import NamedTuple

from raftlock.raft.state import Mode, RaftState
from raftlock_wire.ids import Index, NodeId


class PeerView(NamedTuple):
    """One other member, as its leader sees it."""

    node_id: NodeId
    match_index: Index
    behind: int
    """Entries of the leader's log that it is not known to have."""
    heard_us: int | None
    """How long ago it answered; None: it has not, in this term."""
    keeps_up: bool
    """Whether entries are sent to it as they come, and it was heard within an election timeout."""


def peer_views(state: RaftState, now_us: int) -> list[PeerView]:
    """Return a view of each peer, in order of their ids; none where this node does not lead."""
    found = []
    for peer in sorted(state.progress):
        progress = state.progress[peer]
        # A term, and a member's time in it, begin with the assumption that it was heard just now: that is no answer.
        answered = progress.round > 0 or progress.match_index > 0
        heard_us = max(0, now_us - progress.heard_us) if answered else None
        keeps_up = (
            progress.mode is Mode.REPLICATE
            and heard_us is not None
            and heard_us <= state.config.election_min_us
        )
        behind = max(0, state.log.last_index - progress.match_index)
        found.append(PeerView(peer, progress.match_index, behind, heard_us, keeps_up))
    return found
