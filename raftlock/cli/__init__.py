"""The command `raftlock`."""
