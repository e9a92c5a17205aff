"""HTTP on a node: locks for curl, metrics and health."""
