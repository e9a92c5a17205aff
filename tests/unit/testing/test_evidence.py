"""What a long run of the simulator leaves beside the code."""

from typing import Any

from raftlock.testing.sim import evidence
from raftlock.testing.situations import SITUATIONS


def line(seed: int, *, failure: str = "", trace_hash: str = "ab") -> dict[str, Any]:
    """Return a line of a ledger."""
    return {
        "seed": seed,
        "failure": failure,
        "kind": "safety" if failure else "",
        "invariant": "election safety" if failure else "",
        "trace_hash": trace_hash,
        "events": 10,
        "elections": 2,
        "crashes": 1,
        "granted": 3,
        "simulated_us": 1_800_000_000,
        "took_s": 1.5,
        "situations": {SITUATIONS[0]: seed},
    }


def test_the_order_in_which_seeds_end_changes_nothing() -> None:
    """Jobs end as they like, and a ledger goes on later: the evidence is of the seeds."""
    lines = [line(seed, trace_hash=f"{seed:02x}") for seed in (3, 1, 2)]

    assert evidence("disk", "s", lines) == evidence("disk", "s", sorted(lines, key=lambda x: x["seed"]))  # fmt: skip


def test_evidence_has_totals_failures_and_what_was_never_met() -> None:
    """A failed seed is named with its invariant; each rare situation with its count and its number of seeds."""
    found = evidence("disk", "s", [line(1), line(2, failure="two leaders")])

    failed = [{"seed": 2, "kind": "safety", "invariant": "election safety", "failure": "two leaders"}]  # fmt: skip
    assert (found["seeds"], found["failed"], found["simulated_hours"]) == (2, failed, 1.0)
    assert (found["events"], found["granted"], found["first_seed"], found["last_seed"]) == (20, 6, 1, 2)  # fmt: skip
    assert found["situations"][SITUATIONS[0]] == [3, 2]
    assert found["never_met"] == list(SITUATIONS[1:])
    assert found["hash_of_all_traces"] != evidence("disk", "s", [line(1), line(2, trace_hash="ac")])["hash_of_all_traces"]  # fmt: skip
