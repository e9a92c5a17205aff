"""Bugs planted in the production code, to see that the simulator is not blind: `python -m raftlock.testing.mutants`."""
