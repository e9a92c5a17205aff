"""The integer types that must not be mixed up. They cost nothing at run time."""

from typing import NewType

NodeId = NewType("NodeId", int)
"""A member of the cluster: 1 to 65,535, chosen by the operator. 0 means "no node"."""

Term = NewType("Term", int)
"""A Raft term. 0 before the first election."""

Index = NewType("Index", int)
"""A position in the log, 1-based. 0 is the position before the first entry."""

SessionId = NewType("SessionId", int)
"""A client session, 1-based, given by the log."""

FencingToken = NewType("FencingToken", int)
"""The number of a grant. Larger than that of every grant before it; fits in 53 bits (rule T1)."""

NO_NODE = NodeId(0)
NO_TERM = Term(0)
NO_INDEX = Index(0)
