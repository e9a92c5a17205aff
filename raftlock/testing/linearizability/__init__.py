"""Checks histories of locks for linearizability (Wing and Gong 1993; Lowe 2017), resource by resource.

`python -m raftlock.testing.linearizability FILE` reads a history as JSON lines and says what it breaks. It shares no
code with what it checks: it sees only what clients saw.
"""

from raftlock.testing.linearizability.check import Report, check_history
from raftlock.testing.linearizability.history import (
    HistoryError,
    Operation,
    Outcome,
    operations,
    read_history,
)
from raftlock.testing.linearizability.search import Limits, Verdict

__all__ = [
    "HistoryError",
    "Limits",
    "Operation",
    "Outcome",
    "Report",
    "Verdict",
    "check_history",
    "operations",
    "read_history",
]
