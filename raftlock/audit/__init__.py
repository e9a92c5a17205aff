"""The audit log: the committed log with its results, in segments that are the same bytes on every node (decision 15).

FORMAT.md has the bytes. `format`, `chain`, `log` and `verify` are pure: they reach the system through ports, and run in
the simulator. `reader` reads a directory beside a running node, `names` says what a record means.
"""

from raftlock.audit.chain import CutRule
from raftlock.audit.format import AuditDamaged, Recorded, encode_results
from raftlock.audit.log import AUDIT_DIRECTORY, AuditDisk, AuditLog, Finished, Keep

__all__ = [
    "AUDIT_DIRECTORY",
    "AuditDamaged",
    "AuditDisk",
    "AuditLog",
    "CutRule",
    "Finished",
    "Keep",
    "Recorded",
    "encode_results",
]
