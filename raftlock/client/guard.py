"""The other half of fencing: the side that keeps a resource refuses smaller tokens than it has seen."""

import threading
from collections import OrderedDict


class StaleToken(Exception):
    """A smaller token than one that was seen: its holder has been overtaken and must not write."""

    def __init__(self, resource: str, token: int, highest: int) -> None:
        super().__init__(
            f"token {token} for {resource!r} is below {highest}, which was seen already"
        )
        self.resource, self.token, self.highest = resource, token, highest


class FencingGuard:
    """Remembers the highest token of each resource. Safe for threads.

    It is as good as its memory: a guard in a process forgets at a restart. Where the resource is a database, keep the
    token in the same row and compare it in the same transaction; this class shows the rule.
    """

    def __init__(self, *, resources_max: int = 1_000_000) -> None:
        """Remember up to `resources_max` resources; beyond it, a token below the highest forgotten one is refused."""
        self._lock = threading.Lock()
        self._highest: OrderedDict[str, int] = OrderedDict()
        self._resources_max = resources_max
        self._floor = 0

    def check(self, resource: str, token: int) -> None:
        """Accept `token` and remember it, or raise StaleToken."""
        with self._lock:
            highest = self._highest.get(resource, self._floor)
            if token < highest:
                raise StaleToken(resource, token, highest)
            self._highest[resource] = token
            self._highest.move_to_end(resource)
            if len(self._highest) > self._resources_max:
                # Tokens grow over all resources, so the floor refuses nothing that is newer than what was forgotten.
                _, forgotten = self._highest.popitem(last=False)
                self._floor = max(self._floor, forgotten)

    def highest(self, resource: str) -> int | None:
        """Return the highest token seen for a resource, or None."""
        with self._lock:
            return self._highest.get(resource)
