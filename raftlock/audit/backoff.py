"""How long to wait after failures in a row."""

import random

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 60.0


class Backoff:
    """A random time up to a limit that doubles."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.failures = 0

    def next_s(self) -> float:
        """Count a failure and return the wait."""
        limit = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(self.failures, 16))
        self.failures += 1
        return self._rng.uniform(0, limit)

    def reset(self) -> None:
        """Count from nothing: it worked."""
        self.failures = 0
