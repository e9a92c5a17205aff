"""Other systems, as real servers on loopback, driven with the same work: acquire and release of leases on many names."""
