"""What a node says of itself: the table of metrics, their text, plain counters for the core, and the log."""
