"""What the command lines of the proofs have in common."""

import argparse


def positive_count(text: str) -> int:
    """Read a whole number of 1 or more; 1_000_000 and 1,000,000 are one too. Raise ArgumentTypeError."""
    try:
        count = int(text.replace("_", "").replace(",", ""))
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return count
