"""Chaos on real processes: nodes in network namespaces of their own, faults from a seed, histories that are checked."""
