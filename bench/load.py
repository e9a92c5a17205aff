"""The load generator of `raftlock bench`, under the names that the benches use."""

from raftlock.client.load import LoadConnection, Tally, find_leader, run_load

__all__ = ["LoadConnection", "Tally", "find_leader", "run_load"]
