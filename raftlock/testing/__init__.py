"""Simulated disk, network, clock and cluster around the production cores: shipped, so that users can replay a seed."""
