"""The node: the pure driver and its parts, and the wiring that joins them to sockets, threads and files."""
