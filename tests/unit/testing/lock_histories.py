"""Histories made by a lock that keeps its promises, for the checker to accept, and to be broken on purpose."""

import random
from dataclasses import dataclass, field
from typing import Any

SECOND = 1_000_000_000


@dataclass
class HonestLock:
    """One lock, as simple as it can be: every operation happens at one moment."""

    holder: int = 0
    deadline_ns: int = 0
    token: int = 100
    rng: random.Random = field(default_factory=random.Random)

    def at(self, now_ns: int, call_ns: int, f: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Do an operation at `now_ns` and return the answer's value. What has run out ends now or later."""
        if self.holder and now_ns >= self.deadline_ns and self.rng.random() < 0.7:
            self.holder = 0
        return getattr(self, f)(call_ns, asked)

    def acquire(self, call_ns: int, asked: dict[str, Any]) -> dict[str, Any]:
        if self.holder:
            return {"status": "HELD", "holder_token": self.holder}
        self.token += 1
        self.holder = self.token
        self.deadline_ns = call_ns + asked["ttl_ms"] * 1_000_000
        return {"status": "OK", "token": self.token, "deadline_ns": self.deadline_ns}

    def renew(self, call_ns: int, asked: dict[str, Any]) -> dict[str, Any]:
        if self.holder != asked["token"]:
            return {"status": "NOT_HELD", "holder_token": self.holder}
        self.deadline_ns = max(self.deadline_ns, call_ns + asked["ttl_ms"] * 1_000_000)
        return {"status": "OK", "token": self.holder, "deadline_ns": self.deadline_ns}

    def release(self, call_ns: int, asked: dict[str, Any]) -> dict[str, Any]:
        if self.holder != asked["token"]:
            return {"status": "NOT_HELD", "holder_token": self.holder, "attempts": 1}
        self.holder = 0
        return {"status": "OK", "attempts": 1}

    def check(self, call_ns: int, asked: dict[str, Any]) -> dict[str, Any]:
        if self.holder != asked["token"]:
            return {"status": "NOT_HELD", "holder_token": self.holder}
        return {"status": "OK", "token": self.holder}

    def get(self, call_ns: int, asked: dict[str, Any]) -> dict[str, Any]:
        return {"status": "OK", "holder_token": self.holder}


def honest_history(
    seed: int, *, processes: int, count: int, unknown: float = 0.0
) -> list[dict[str, Any]]:
    """Return the events of `count` operations by `processes`, which overlap; some lose their answers."""
    rng = random.Random(seed)
    lock = HonestLock(rng=rng)
    plan: list[tuple[int, int, int, int]] = []
    free_at = dict.fromkeys(range(processes), 0)
    for _ in range(count):
        process = min(free_at, key=lambda p: (free_at[p], rng.random()))
        call = free_at[process] + rng.randint(1, SECOND // 20)
        point = call + rng.randint(1, SECOND // 5)
        end = point + rng.randint(1, SECOND // 5)
        free_at[process] = end
        plan.append((point, call, end, process))
    mine: dict[int, int] = {}
    events: list[tuple[int, dict[str, Any]]] = []
    for point, call, end, process in sorted(plan):
        token = mine.get(process, 0)
        f = rng.choice(["renew", "release", "check", "get"]) if token else "acquire"
        asked: dict[str, Any] = {"resource": "r", "ttl_ms": rng.choice([100, 300, 1_000])}
        if f not in ("acquire", "get"):
            asked["token"] = token
        told = lock.at(point, call, f, asked)
        if f == "acquire" and told["status"] == "OK":
            mine[process] = told["token"]
        elif f == "release" or (f == "renew" and told["status"] != "OK"):
            mine.pop(process, None)
        kind = "ok" if told["status"] == "OK" else "fail"
        common = {"process": process, "f": f, "node": 1}
        events.append((call, {**common, "type": "invoke", "value": asked, "time_ns": call}))
        if rng.random() < unknown:
            mine.pop(process, None)
            events.append((end, {**common, "type": "info", "value": {}, "time_ns": end}))
        else:
            events.append((end, {**common, "type": kind, "value": told, "time_ns": end}))
    return [event for _, event in sorted(events, key=lambda item: item[0])]
