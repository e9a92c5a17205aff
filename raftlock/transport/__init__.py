"""Bytes in and out: frames over TCP, under uvloop. It knows connections and frames, and not what they mean."""
