"""What applying a command did beyond its answer: the lock table notes it, the audit records it.

It lives here because the table and the audit handle it and do not know each other. Only what no answer says is noted,
and never on the hot path: every node must note the same, whichever way a command took through the table.
"""

from enum import IntEnum


class Effect(IntEnum):
    """Codes of effects: [code, group, position, *fields], where group and position name the command in its entry."""

    ENDED = 1
    """[1, group, position, resource, token, owner, session]: a grant ended, other than by its own release"""
    OFFERED = 2
    """[2, group, position, resource, token, owner, session, slot, n]: a waiter came to its turn"""
    UNQUEUED = 3
    """[3, group, position, resource, owner, session, slot, n]: a wait ended without an offer"""
    SESSION_ENDED = 4
    """[4, group, position, session, principal, address]"""
