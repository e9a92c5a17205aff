"""Honest clients beside abusers, on real nodes: `python jepsen-style abuse`."""
