"""How many files this process may open, and so how many clients it may hold."""

import resource

from raftlock_wire import limits

FILES_RESERVED = 512
"""File descriptors that clients may not use up: for the log, snapshots, peers and the HTTP port."""


def connections_max() -> int:
    """Return how many clients this process may hold, as its limit on open files allows."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return limits.CONNECTIONS_MAX
    return max(1, min(limits.CONNECTIONS_MAX, files - FILES_RESERVED))


def raise_file_limit() -> None:
    """Allow this process as many open files as connections may need, as far as the hard limit lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.CONNECTIONS_MAX + FILES_RESERVED
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
